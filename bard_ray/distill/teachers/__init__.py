"""Backends of teachers, one per file."""
