"""How people may call tasks, routers and certificates: by what can be a file's name. Not models' names."""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


def is_name(text: str) -> bool:
    """Up to 64 letters, digits, '.', '_' and '-', and none of these three at the ends."""
    return _NAME.fullmatch(text) is not None
