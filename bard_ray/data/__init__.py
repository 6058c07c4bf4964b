"""Questions and teacher chains: the synthetic task, data sets, and the prompt a student sees."""
