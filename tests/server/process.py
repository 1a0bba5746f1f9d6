"""The server as a process: `python process.py HOME native|scripted`. Prints its URL when ready.

With `scripted`, the hall has an endpoint that does what the last message says, so that what a model
does rarely (fail in the middle, be busy, never end) can be asked for. All else is the real house.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from daulat.endpoints.native import CAPABILITIES
from daulat.errors import BusyError, RequestError
from daulat.flow import Hall
from daulat.house import House, open_house
from daulat.server import logs
from daulat.server.run import serve
from daulat.settings import Settings, load
from daulat.values.answer import Done, Embeddings, Event, Finish, Piece, Timings, Usage
from daulat.values.plan import THIS_MACHINE, Caller, EndpointCard, Step
from daulat.values.request import ChatRequest, EmbeddingRequest, GenerationRequest

_TIMINGS = Timings(queued=0.25, first_token=0.5, decode=1.0)


class ScriptedEndpoint:
    """Does what the last message (or the first prompt) says; echoes all else word by word."""

    card = EndpointCard("scripted", THIS_MACHINE, "open", capabilities=CAPABILITIES)

    async def generate(
        self, request: GenerationRequest, step: Step, caller: Caller
    ) -> AsyncGenerator[Event, None]:
        text = (
            request.messages[-1].content
            if isinstance(request, ChatRequest)
            else str(request.prompts[0])
        )
        if text == "busy":
            raise BusyError("The queue is full: try again.", retry_after=7)
        if text == "refuse":
            raise RequestError("No.", param="messages")
        if text == "defect":
            raise ZeroDivisionError("a secret detail")
        if text == "never":
            await asyncio.sleep(3600)
        yield Piece(0, "first ")
        if text == "break":
            raise RequestError("Broken.")
        if text == "broken":
            raise ZeroDivisionError("a secret detail")
        if text == "hang":
            await asyncio.sleep(3600)
        if text == "slow":
            await asyncio.sleep(1.5)
        for word in text.split():
            yield Piece(0, word + " ")
        for choice in range(_choices(request)):
            yield Finish(choice, "stop")
        yield Done(Usage(3, 5), _TIMINGS)

    async def embed(self, request: EmbeddingRequest, step: Step) -> Embeddings:
        if request.inputs[0] == "never":
            await asyncio.sleep(3600)
        return Embeddings(((1.0, 0.0),) * len(request.inputs), Usage(3), _TIMINGS)

    async def close(self) -> None:
        pass


def _choices(request: GenerationRequest) -> int:
    prompts = 1 if isinstance(request, ChatRequest) else len(request.prompts)
    return prompts * request.sampling.n


@contextlib.asynccontextmanager
async def opened(settings: Settings, kind: str) -> AsyncGenerator[House, None]:
    async with open_house(settings) as house:
        house.keys.preset(os.environ["DAULAT_API_KEY"])
        if kind == "scripted":
            endpoint = ScriptedEndpoint()
            endpoints = {endpoint.card.name: endpoint}
            hall = Hall(house.catalogue, house.keys, house.record, endpoints, "tests")
            yield dataclasses.replace(house, hall=hall)
        else:
            yield house


def main(home: str, kind: str) -> None:
    settings = load(Path(home))
    logs.configure(settings.log.level, settings.log.format)
    serve(
        lambda: opened(settings, kind),
        settings,
        on_ready=lambda url: print(url, flush=True),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
