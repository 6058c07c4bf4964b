"""The built-in fidelity shapes, one a file; the docstring of each class is its definition."""
