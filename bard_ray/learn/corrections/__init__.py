"""The off-policy corrections that come with the project: one file, one dataclass each."""
