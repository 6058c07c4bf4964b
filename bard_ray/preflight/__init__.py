"""Every check that runs before an actor starts, and the memory plan."""
