"""A script for each claim about speed; `python -m benchmarks.<name> --help`."""
