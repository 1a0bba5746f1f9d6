"""The pages a person sees: chat and spend, served with their own scripts, style and words.

They talk to the same HTTP interface as every other client and know nothing more than it does;
they are served to anyone who can reach the server and carry no secret. Not here: that interface
(`server`).
"""

from daulat.console.pages import OPEN_PATHS, routes

__all__ = ["OPEN_PATHS", "routes"]
