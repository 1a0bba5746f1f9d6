"""The words a person types: commands, options, and how results look on a terminal. No logic.

Every command is a module of its own, imported when it is called, so that `daulat --help` never
waits for PyTorch.
"""

from daulat.cli.app import main

__all__ = ["main"]
