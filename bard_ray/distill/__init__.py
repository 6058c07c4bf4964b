"""From teacher chains to budget-labelled rows for supervised fine-tuning."""
