"""The stages of a run; each turns the outputs of earlier stages into its own output."""
