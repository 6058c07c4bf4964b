"""The built-in rewards, one per file; the docstring of each class is its definition."""
