"""The built-in rewards, one a file; the docstring of each class is its definition."""
