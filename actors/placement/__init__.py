"""Which processes a run starts, where they are placed, and which models they load."""
