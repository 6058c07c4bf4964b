"""Stages of curation, one a file."""
