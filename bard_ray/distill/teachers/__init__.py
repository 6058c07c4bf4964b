"""Backends of teachers: one plug-in a file."""
