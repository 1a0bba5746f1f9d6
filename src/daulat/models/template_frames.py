"""How the process that renders chat templates and the one that owns it talk: a length, then JSON.

A module of its own, so that the owner need not import Jinja.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct(">I")
"""Bytes of the JSON behind it."""
MAX_MESSAGE = 500
"""Characters of a template's own error text that are passed on."""
