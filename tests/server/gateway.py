"""A server process with two endpoints elsewhere, both scripted upstreams over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import Server, running

from daulat.endpoints import scripted

SETTINGS = """
[endpoints.first]
kind = "compatible"
url = "{first}/v1"
key = "env:DAULAT_API_KEY"
place = "us"
retries = 1
models = ["m", "down", "gone", "dies", "slow", "vectors"]
[endpoints.first.names]
m = "scripted"
vectors = "scripted"
down = "scripted+error_500"
gone = "scripted+error_503"
dies = "scripted+dies_mid_stream@5"
slow = "scripted+headers_slow"
[endpoints.first.prices.m]
input = 3
output = 12

[endpoints.second]
kind = "compatible"
url = "{second}/v1"
key = "env:DAULAT_API_KEY"
place = "own-network"
models = ["m"]
names = {{ m = "scripted" }}
capabilities = ["chat", "tools", "json", "json_schema", "n", "seed", "continue"]
[endpoints.second.prices.m]
input = 1
output = 2

[routes.fallback]
to = ["first/down", "second/m"]
[routes.resumed]
to = ["first/dies", "second/m"]
[routes.hedged]
to = ["first/slow", "second/m"]
hedge_seconds = 0.1

[policy.classes.internal]
places = ["*"]
[policy.classes.personal]
places = ["own-network"]

{more}
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The server, and what stands behind it."""

    server: Server
    first: scripted.Upstream
    second: scripted.Upstream


@contextmanager
def gateway(home: Path, more: str = "") -> Iterator[Gateway]:
    """All three processes for the time of the context."""
    home.mkdir(mode=0o700, exist_ok=True)
    script = scripted.Script(words=12)
    with scripted.running(script) as first, scripted.running(script, strict=False) as second:
        text = SETTINGS.format(first=first.url, second=second.url, more=more)
        with running(home, "native", text) as server:
            yield Gateway(server, first, second)
