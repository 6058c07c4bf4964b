"""The stages of a run: each turns what earlier ones left into its own output."""
