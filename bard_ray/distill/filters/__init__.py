"""Filters of the data pipeline, one per file."""
