"""Mathematical answers: reader, exact comparison, and math-verify for undecided cases."""
