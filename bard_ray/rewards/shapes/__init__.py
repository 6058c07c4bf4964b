"""The built-in fidelity shapes, one per file; the docstring of each class is its definition."""
