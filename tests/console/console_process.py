"""The server with its page as a process: `python console_process.py HOME native|scripted`.

Prints its URL when it answers. With `scripted`, the hall has an endpoint that does what the last
message says; house, server, wire and page are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from daulat.console import routes
from daulat.endpoints.native import CAPABILITIES
from daulat.errors import BusyError, ContextLengthError, RequestError
from daulat.flow import Hall
from daulat.house import House, open_house
from daulat.server.run import serve
from daulat.settings import Settings, load
from daulat.values.answer import Done, Embeddings, Event, Finish, Piece, Timings, Usage
from daulat.values.plan import THIS_MACHINE, Caller, EndpointCard, Step
from daulat.values.request import ChatRequest, EmbeddingRequest, GenerationRequest

_TIMINGS = Timings(queued=0.25, first_token=0.5, decode=1.0)


class ScriptedEndpoint:
    """Echoes the last message in small pieces, but for a few words that ask for something else."""

    card = EndpointCard("scripted", THIS_MACHINE, "open", capabilities=CAPABILITIES)

    def __init__(self) -> None:
        self._refused = 0

    async def generate(
        self, request: GenerationRequest, step: Step, caller: Caller
    ) -> AsyncGenerator[Event, None]:
        assert isinstance(request, ChatRequest)
        text = request.messages[-1].content
        if text == "busy" and self._refused < 1:
            self._refused += 1
            raise BusyError("The queue is full: try again.", retry_after=2)
        if text == "too long":
            raise ContextLengthError(
                "Tiny has a context of 2048 tokens, and this request needs 9214. Shorten it."
            )
        if text == "late":
            await asyncio.sleep(4)
        if text == "count":
            text = f"{len(request.messages)} messages, temperature {request.sampling.temperature}"
        if text == "endless":
            text = "\n\n".join(f"Paragraph {number} of a long answer." for number in range(4000))
        for start in range(0, len(text), 3):
            yield Piece(0, text[start : start + 3])
            await asyncio.sleep(0.002)
            if text == "break in the middle" and start > 6:
                raise RequestError("The model broke.")
        yield Finish(0, "length" if text == "limit" else "stop")
        yield Done(Usage(31, 5), _TIMINGS)

    async def embed(self, request: EmbeddingRequest, step: Step) -> Embeddings:
        return Embeddings(((1.0, 0.0),) * len(request.inputs), Usage(3), _TIMINGS)

    async def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def opened(settings: Settings, kind: str) -> AsyncGenerator[House, None]:
    async with open_house(settings) as house:
        house.keys.preset(os.environ["DAULAT_API_KEY"])
        yield _scripted(house) if kind == "scripted" else house


def _scripted(house: House) -> House:
    endpoint = ScriptedEndpoint()
    endpoints = {endpoint.card.name: endpoint}
    hall = Hall(house.catalogue, house.keys, house.record, endpoints, "tests")
    return dataclasses.replace(house, hall=hall)


def main(home: str, kind: str) -> None:
    settings = load(Path(home))
    serve(
        lambda: opened(settings, kind),
        settings,
        pages=routes(settings),
        on_ready=lambda url: print(url, flush=True),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
