"""Runs a command where there is no network but this machine, and counts what wanted out.

    python tools/offline.py python -m pytest tests/gateway

The command gets a network namespace of its own (Linux, as `unshare --map-root-user --net` makes it): loopback,
and one interface that has the default route and leads nowhere. Each packet to anywhere else, a question for a
name too, goes into that interface and is counted. Before the command, one packet is sent there on purpose, so
that a count of nought means something.

Exit code: the command's; 1 where it went well and packets wanted out; 77 where the kernel or a missing program
(`unshare`, `ip`) forbids all this.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

FORBIDDEN = 77
_INSIDE = "--inside"
_OUT = "out0"
_ANYWHERE = ("198.51.100.1", 9)  # a block for documentation (RFC 5737)


def main() -> int:
    """The exit code."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    if sys.argv[1] == _INSIDE:
        return _inside(sys.argv[2:])
    again = [sys.executable, __file__, _INSIDE, *sys.argv[1:]]
    # Root keeps its users: a database server that is started becomes another.
    unshare = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net"]
    try:
        forbidden = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return _forbidden("there is no `unshare` here")
    if forbidden.returncode:
        return _forbidden(forbidden.stderr.strip())
    return subprocess.run([*unshare, *again], check=False).returncode


def _inside(command: list[str]) -> int:
    try:
        _interfaces()
    except (OSError, subprocess.CalledProcessError) as error:
        return _forbidden(str(error))
    before = _packets()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.sendto(b"?", _ANYWHERE)
    if _packets() != before + 1:
        return _forbidden(f"packets into {_OUT} are not counted")
    code = subprocess.run(command, check=False).returncode
    wanted = _packets() - before - 1
    print(f"Packets that wanted out: {wanted}", file=sys.stderr)
    return code or (1 if wanted else 0)


def _interfaces() -> None:
    """Loopback, and a way out that leads nowhere: a dummy, or a pair whose other end nobody hears."""
    _ip("link", "set", "lo", "up")
    try:
        _ip("link", "add", _OUT, "type", "dummy")
    except subprocess.CalledProcessError:
        _ip("link", "add", _OUT, "type", "veth", "peer", "name", "nowhere")
        _quiet("nowhere")
        _ip("link", "set", "nowhere", "up")
    _quiet(_OUT)
    _ip("address", "add", "203.0.113.1/24", "dev", _OUT)
    _ip("link", "set", _OUT, "arp", "off", "up")
    _ip("route", "add", "default", "dev", _OUT)


def _quiet(interface: str) -> None:
    """An interface speaks IPv6 of itself, which would be counted."""
    Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1", encoding="ascii")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _packets() -> int:
    for line in Path("/proc/self/net/dev").read_text(encoding="ascii").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == _OUT:
            return int(numbers.split()[9])
    raise OSError(f"there is no {_OUT}")


def _forbidden(why: str) -> int:
    print(f"No network namespace can be had here ({why}).", file=sys.stderr)
    return FORBIDDEN


if __name__ == "__main__":
    sys.exit(main())
