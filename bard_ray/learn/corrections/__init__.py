"""The built-in off-policy corrections: one file with one dataclass each."""
