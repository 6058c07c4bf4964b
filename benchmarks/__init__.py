"""Benchmarks, one script per claim about speed; `python -m benchmarks.<name> --help`."""
