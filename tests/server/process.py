"""The server as a process: `python process.py HOME native|scripted`. Prints its URL when ready.

With `scripted`, the hall has an endpoint that does what the last message says, so that what a model
does rarely (fail in the middle, be busy, never end) can be asked for. All else is the real house.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from daulat.endpoints.native import CAPABILITIES
from daulat.errors import BusyError, RequestError
from daulat.flow import Hall
from daulat.house import House, open_house
from daulat.server import logs
from daulat.server.run import serve
from daulat.settings import Settings, load
from daulat.values.answer import (
    CallPiece,
    Done,
    Embeddings,
    Event,
    Finish,
    Moderations,
    Piece,
    Timings,
    Usage,
)
from daulat.values.plan import THIS_MACHINE, Caller, Capability, EndpointCard, Step
from daulat.values.request import (
    ChatRequest,
    EmbeddingRequest,
    GenerationRequest,
    ModerationRequest,
)

_TIMINGS = Timings(queued=0.25, first_token=0.5, decode=1.0)


ALL: frozenset[Capability] = CAPABILITIES | {"images", "dimensions", "moderations"}


class ScriptedEndpoint:
    """Does what the last message (or the first prompt) says; echoes all else word by word.

    `tell` answers with the request itself, as JSON; `call` calls each tool that it is given.
    """

    card = EndpointCard("scripted", THIS_MACHINE, "open", capabilities=ALL)

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
        said = SCRIPTS.get(text)
        if said and isinstance(request, ChatRequest):
            for event in said(request):
                yield event
            yield Done(Usage(30, 9, 10, 5, 4), _TIMINGS)
            return
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

    async def moderate(self, request: ModerationRequest, step: Step) -> Moderations:
        if request.inputs[0] == "never":
            await asyncio.sleep(3600)
        if request.inputs[0] == "defect":
            raise ZeroDivisionError("a secret detail")
        flagged = [{"flagged": "bad" in text, "categories": {}} for text in request.inputs]
        return Moderations(tuple(flagged), "judge-1")

    async def close(self) -> None:
        pass


def _tell(request: ChatRequest) -> Iterator[Event]:
    yield Piece(0, json.dumps(dataclasses.asdict(request)))
    yield Finish(0, "stop")


def _think(request: ChatRequest) -> Iterator[Event]:
    yield Piece(0, "Let me ", kind="thought")
    yield Piece(0, "see.", kind="thought")
    yield Piece(0, "It ")
    yield Piece(0, "is so.")
    yield Finish(0, "stop")


def _decline(request: ChatRequest) -> Iterator[Event]:
    yield Piece(0, "I will ", kind="refusal")
    yield Piece(0, "not.", kind="refusal")
    yield Finish(0, "stop")


def _call(request: ChatRequest) -> Iterator[Event]:
    assert request.tools
    yield Piece(0, "I ask.")
    for i, tool in enumerate(request.tools.tools):
        yield CallPiece(0, i, f"call-{i}", tool.name)
        yield CallPiece(0, i, arguments='{"city": ')
        yield CallPiece(0, i, arguments='"Jakarta"}')
    yield Finish(0, "tool_calls")


def _cut_call(request: ChatRequest) -> Iterator[Event]:
    yield Piece(0, "I ask.")
    yield CallPiece(0, 0, "call-0", "weather")
    yield CallPiece(0, 0, arguments='{"city": "Ja')
    yield Finish(0, "length")


def _stopped(request: ChatRequest) -> Iterator[Event]:
    yield Piece(0, "until here")
    yield Finish(0, "stop", request.sampling.stop[0])


def _filtered(request: ChatRequest) -> Iterator[Event]:
    yield Piece(0, "half")
    yield Finish(0, "content_filter")


def _form(request: ChatRequest) -> Iterator[Event]:
    assert request.structure
    yield Piece(0, '{"city": "Jakarta", ')
    yield Piece(0, '"people": 10}')
    yield Finish(0, "stop")


SCRIPTS = {
    "tell": _tell,
    "think": _think,
    "decline": _decline,
    "call": _call,
    "cut call": _cut_call,
    "stopped": _stopped,
    "filtered": _filtered,
    "form": _form,
}


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
