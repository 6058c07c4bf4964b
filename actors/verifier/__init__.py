"""Grading workers behind the `Verifier` role: answers in, one verdict for each out."""
