"""Grading workers behind the `Verifier` role."""
