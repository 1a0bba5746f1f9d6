"""The lock of the door, and which addresses are of this machine or of a private network.

The lock is one for the process: whoever goes through the door asks `check` first.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from daulat.errors import NetworkError


@dataclass(slots=True)
class _Lock:
    shut: bool = False


_LOCK: Final = _Lock()
_SHARED: Final = ipaddress.ip_network("100.64.0.0/10")
"""Between a provider and its customers (RFC 6598); overlay networks such as Tailscale number hosts in it."""


def set_lock(shut: bool) -> None:
    """Shut the door to all that is not this machine, or open it."""
    _LOCK.shut = shut


def check(host: str, what: str = "") -> None:
    """Go on only if that host may be reached at all.

    Args:
        what: wants to reach it, for the message.

    Raises:
        NetworkError: the lock is on, and the host is not this machine.
    """
    if _LOCK.shut and not is_loopback(host):
        raise NetworkError(
            f"The lock is on (policy.lock in daulat.toml): {what or host} is not reached, "
            "because nothing may leave this machine."
        )


def is_loopback(host: str) -> bool:
    """Whether a host, as a URL has it, is this machine: `localhost`, 127.0.0.0/8, ::1."""
    if host.lower().rstrip(".") == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def is_private(address: str) -> bool:
    """Whether a numeric address is this machine's or of a private network; false for a name."""
    found = _address(address)
    if found is None:
        return False
    shared = found.version == 4 and found in _SHARED
    return shared or found.is_private


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
