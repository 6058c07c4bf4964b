"""Formats of data sets, one per file; a format turns a row into a question and teacher chains."""
