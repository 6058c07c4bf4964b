"""Weight transfer from the learner to the engines: the flat layout, and how vLLM loads it."""
