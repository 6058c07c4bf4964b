"""Compressors: one plug-in a file."""
