"""The pages a person sees: one chat page, served with its own script, style and words.

The page talks to the same HTTP interface as every other client and knows nothing more than they do;
it is served to anyone who can reach the server and carries no secret. Not here: that interface
(`server`).
"""

from daulat.console.pages import OPEN_PATHS, routes

__all__ = ["OPEN_PATHS", "routes"]
