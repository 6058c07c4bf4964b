"""Compressors, one per file."""
