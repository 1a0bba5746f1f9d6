"""Papers about a model: what it is, where it came from, what it needs."""
