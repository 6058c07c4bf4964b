"""Formats of data sets, one a file: how a row becomes a question and its teacher chains."""
