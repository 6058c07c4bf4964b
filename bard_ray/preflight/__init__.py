"""All checks that run before an actor starts, and the memory plan."""
