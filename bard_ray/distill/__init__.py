"""From teacher chains to budget-labeled rows for supervised fine-tuning."""
