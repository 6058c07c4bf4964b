"""Budget allocations, one per file."""
