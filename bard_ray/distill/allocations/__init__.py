"""Which budgets a question is taught at: one plug-in a file."""
