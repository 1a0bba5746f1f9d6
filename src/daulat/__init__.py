"""Daulat: own your AI. One endpoint, an open model on your own machine, a record you can verify."""

__version__ = "0.1.0"
