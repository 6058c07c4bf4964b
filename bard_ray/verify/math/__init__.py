"""Mathematical answers: reader, exact comparison, and math-verify for what they leave open."""
