"""Two ways to have a conversation answered: in this process, or by a running server.

An answer is handed out piece by piece; Ctrl-C while it comes cancels it and raises
KeyboardInterrupt.
Not here: the person typing (`conversation`), what both ways have in common (`ending`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Generator, Mapping
from typing import Any

from daulat.cli import first
from daulat.cli.ending import End, OnPiece
from daulat.errors import AuthenticationError, ModelNotFoundError, NetworkError, UnavailableError
from daulat.house import House, open_house
from daulat.net import transfer
from daulat.settings import Settings
from daulat.values.answer import Done, Piece
from daulat.values.plan import Caller
from daulat.values.request import ChatRequest, Message, Sampling

# Whoever sits at this machine's terminal holds the home, and with it all that a key could protect.
TERMINAL = Caller("terminal", "terminal")


class LocalTalk:
    """Through the hall, in this process."""

    def __init__(self, house: House, runner: asyncio.Runner) -> None:
        self._house = house
        self._runner = runner

    def names(self) -> tuple[str, ...]:
        hall = self._house.hall
        models = tuple(entry.name for entry in hall.models(TERMINAL))
        return models + tuple(entry.id for entry in hall.adapters(TERMINAL))

    def prepare(self, model: str) -> None:
        first.fetch(self._house.settings, model)
        self._runner.run(first.warm(self._house, model))

    def answer(
        self, model: str, messages: tuple[Message, ...], sampling: Sampling, on_piece: OnPiece
    ) -> End:
        request = ChatRequest(model, messages, sampling, stream=True)
        return self._runner.run(self._answer(request, on_piece))

    async def _answer(self, request: ChatRequest, on_piece: OnPiece) -> End:
        exchange = await self._house.hall.open(TERMINAL, request)
        async with contextlib.aclosing(exchange.events()) as events:
            async for event in events:
                if isinstance(event, Piece):
                    on_piece(event.text)
                elif isinstance(event, Done):
                    count = event.usage.completion_tokens
                    speed = event.timings.tokens_per_second(count)
                    return End(exchange.id, exchange.step.place, count, speed)
        raise UnavailableError("The answer broke off. Ask again.")


class RemoteTalk:
    """Through a running server's HTTP interface, with the key in DAULAT_API_KEY."""

    def __init__(self, url: str) -> None:
        secret = os.environ.get("DAULAT_API_KEY")
        if not secret:
            raise AuthenticationError(
                "A running server needs a key: set DAULAT_API_KEY to the one that it printed."
            )
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._headers = {"Authorization": f"Bearer {secret}"}

    def names(self) -> tuple[str, ...]:
        found = transfer.get_json(f"{self._url}/models", headers=self._headers)
        return tuple(str(model["id"]) for model in found["data"])

    def prepare(self, model: str) -> None:
        names = self.names()
        if model not in names:
            raise ModelNotFoundError(
                f"The server has no model {model}. It has: {', '.join(names) or 'none'}."
            )

    def answer(
        self, model: str, messages: tuple[Message, ...], sampling: Sampling, on_piece: OnPiece
    ) -> End:
        body = {
            "model": model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **_given(sampling),
        }
        end: End | None = None
        with contextlib.closing(
            transfer.stream_json(f"{self._url}/chat/completions", body, headers=self._headers)
        ) as chunks:
            for chunk in chunks:
                for choice in chunk.get("choices", ()):
                    on_piece(choice["delta"].get("content") or "")
                end = _end(chunk) or end
        if end is None:
            raise NetworkError("The server's answer broke off. Ask again.")
        return end


@contextlib.contextmanager
def local(settings: Settings) -> Generator[LocalTalk, None, None]:
    """The house in this process, for as long as the context is open."""
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        try:
            house = runner.run(stack.enter_async_context(open_house(settings)))
            yield LocalTalk(house, runner)
        finally:
            runner.run(stack.aclose())


def _given(sampling: Sampling) -> dict[str, Any]:
    usual = Sampling()
    names = ("max_tokens", "temperature", "top_p", "seed")
    values = {name: getattr(sampling, name) for name in names}
    return {name: v for name, v in values.items() if v != getattr(usual, name)}


def _end(chunk: Mapping[str, Any]) -> End | None:
    origin, usage = chunk.get("daulat"), chunk.get("usage")
    if not origin or not usage:
        return None
    return End(
        origin["record"],
        origin["place"],
        usage["completion_tokens"],
        origin["timings"]["tokens_per_second"],
    )
