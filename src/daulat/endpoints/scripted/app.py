"""The scripted upstream as an ASGI application: which path is which vendor's, and a request's way.

Plain ASGI, without a framework's layers: it stands in for upstreams in benchmarks, on the same cores as what
is measured. Not here: the server (`server`), the vendors' words (`wires`).
"""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import msgspec

from daulat.endpoints.scripted.access import Door
from daulat.endpoints.scripted.ask import Ask, Json, Kind, TroubleError
from daulat.endpoints.scripted.breaking import streamed, whole, without_answer
from daulat.endpoints.scripted.faults import Chosen, UnknownFaultError, named
from daulat.endpoints.scripted.ledger import Entry, Ledger, Requests
from daulat.endpoints.scripted.places import PATHS, Place, places
from daulat.endpoints.scripted.program import (
    Line,
    Program,
    Receive,
    Send,
    plain,
    run,
)
from daulat.endpoints.scripted.reply import Usage, reply, told
from daulat.endpoints.scripted.script import Answer, Script
from daulat.endpoints.scripted.wires import Target, vectors
from daulat.endpoints.scripted.wires.anthropic import hear

MAX_BODY: Final = 64 * 1024 * 1024
_MOST_FAILING: Final = 100_000
_encode: Final = msgspec.json.encode

# Faults that are an error's status: which error.
_STATUS: Final[Mapping[str, Kind]] = {
    "error_500": "server_error",
    "error_503": "unavailable",
    "rate_limited": "rate_limited",
    "overloaded_529": "overloaded",
    "context_length": "context_length",
}
_AT_FIRST: Final[Mapping[str, Kind]] = {
    "rate_limited_then_ok": "rate_limited",
    "error_500_then_ok": "server_error",
    "auth_expired": "unauthorized",
}
_RETRY: Final = [(b"retry-after", b"1")]


class ScriptedApp:
    """The application of one script: `await app(scope, receive, send)`.

    Args:
        script: what to answer.
        strict: refuse fields that the vendor does not have, as it does; False takes any field.
    """

    def __init__(self, script: Script, *, strict: bool = True) -> None:
        self.script = script
        self._strict = strict
        self._door = Door(script.access)
        self._places: dict[str, tuple[Place, Target]] = {}
        self.reset()

    def reset(self) -> None:
        """Begin again: books, turns, draws and tokens as at the start."""
        self.ledger = Ledger(self.script.kept)
        self.requests = Requests(self.script.kept)
        self._number = 0
        self._turn = 0
        self._random = random.Random(self.script.seed)  # noqa: S311 - draws of a rehearsal
        self._failing: OrderedDict[bytes, tuple[Chosen, int]] = OrderedDict()
        self._known = places()
        self._places.clear()
        self._door.clear()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        line = Line(scope, receive, send)
        body = await _read(receive)
        entry = Entry("", "")
        if body is None:
            program = plain(413, b'{"error":{"message":"The body is over 64 MiB."}}')
        else:
            path: str = scope["path"]
            own = self._own(path, scope["method"], body)
            program = own or self._answer(scope, path, body, entry)
        await run(program, line, entry)

    def _own(self, path: str, method: str, body: bytes) -> Program | None:
        """The paths that are no vendor's answers: the books, and tokens."""
        match method, path:
            case "GET", "/scripted/ledger":
                return plain(200, _encode(self.ledger.body()))
            case "GET", "/scripted/requests":
                return plain(200, _encode(self.requests.body()))
            case "POST", "/scripted/reset":
                self.reset()
                return plain(200, b"{}")
            case "POST", "/token":
                status, told_ = self._door.google(body)
                return plain(status, _encode(told_))
            case "POST", "/identity/token":
                status, told_ = self._door.ibm(body)
                return plain(status, _encode(told_))
            case _:
                return None

    def _answer(self, scope: dict[str, Any], path: str, body: bytes, entry: Entry) -> Program:
        place, target = self._placed(path)
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if place.work == "models" and _header(headers, b"anthropic-version"):
            place = self._known["messages"]
            place = replace(place, work="models")
        self._number += 1
        self.ledger.add(entry)
        entry.id = f"{self._number:08x}"
        entry.protocol = place.protocol
        entry.model = target.model
        self.requests.add(entry.id, scope, body)
        query: str = scope["query_string"].decode("latin-1")
        target = replace(target, query=query) if query else target
        try:
            program = self._worked(place, target, scope["method"], headers, body, entry)
        except TroubleError as trouble:
            program = self._refused(place, target, trouble)
        name = b"request-id" if place.protocol == "anthropic" else b"x-request-id"
        program.headers = [*program.headers, (name, entry.id.encode())]
        return program

    def _placed(self, path: str) -> tuple[Place, Target]:
        found = self._places.get(path)
        if found is None:
            found = self._found(path)
            if len(self._places) < 1000:
                self._places[path] = found
        return found

    def _found(self, path: str) -> tuple[Place, Target]:
        for pattern, name in PATHS:
            match = pattern.fullmatch(path)
            if match:
                place = self._known[name]
                model = match.groupdict().get("model", "")
                target = Target(
                    model=unquote(model),
                    stream=place.stream,
                    azure=place.protocol == "azure",
                    strict=self._strict,
                    dimensions=self.script.dimensions,
                )
                return place, target
        return Place("openai", self._known["chat"].wire, "unknown"), Target()

    def _refused(self, place: Place, target: Target, trouble: TroubleError) -> Program:
        status, body = place.wire.error(trouble, target)
        return plain(status, body, headers=_RETRY if trouble.kind == "rate_limited" else ())

    def _worked(
        self,
        place: Place,
        target: Target,
        method: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        entry: Entry,
    ) -> Program:
        if place.work == "unknown" or method != ("GET" if place.work == "models" else "POST"):
            raise TroubleError("unknown_route")
        self._door.check(place.protocol, headers, target.query)
        if place.work == "models":
            return plain(200, _encode(vectors.MODELS.get(place.protocol, vectors.MODELS["openai"])))
        _check_version(place, target, headers)
        asked = _parsed(body)
        if place.work == "moderate":
            return plain(200, vectors.moderation(asked, target))
        if place.work == "count":
            ask = hear(asked, target, counting=True)
            return plain(200, _encode({"input_tokens": ask.prompt_tokens}))
        if place.embed is not None:
            return self._embedded(place, target, asked, body, entry)
        ask = place.wire.ask(asked, target)
        entry.model, entry.stream = ask.model, ask.stream
        fault = self._befallen(ask.model, place, body, entry)
        if ask.prompt_tokens > self.script.context:
            raise TroubleError("context_length")
        return self._answered(place, target, ask, fault, entry)

    def _answered(
        self, place: Place, target: Target, ask: Ask, fault: Chosen | None, entry: Entry
    ) -> Program:
        script = self.script
        if fault is not None:
            if fault.name == "content_filter" and fault.k == 0 and target.azure:
                raise TroubleError("blocked")
            if fault.name == "error_event_mid_stream" and not ask.stream:
                _status, told_ = place.wire.error(TroubleError("server_error"), target)
                return plain(200, told_)
            instead = without_answer(fault, ask.stream)
            if instead is not None:
                return instead
        answer = reply(script, ask, self._turned(), fault)
        if ask.stream:
            tiny = fault is not None and fault.name == "split_tool_name"
            frames = place.wire.frames(ask, answer, entry.id, target, tiny)
            program = streamed(frames, script.delays, fault)
        else:
            if fault is not None and fault.name == "ends_without_done":
                answer.finish = None
            made = place.wire.whole(ask, answer, entry.id, target)
            spoken = answer.usage.completion - answer.usage.reasoning
            program = whole(made, spoken, script.delays, fault)
        program.usage = answer.usage
        return program

    def _embedded(
        self, place: Place, target: Target, asked: Json, body: bytes, entry: Entry
    ) -> Program:
        assert place.embed is not None  # noqa: S101 - asked before
        wanted = place.embed(asked, target)
        entry.model = wanted.model
        fault = self._befallen(wanted.model, place, body, entry)
        instead = without_answer(fault, False) if fault else None
        if instead is not None:
            return instead
        said = told(Usage(prompt=wanted.tokens), fault)
        made = wanted.body(said.prompt if isinstance(said, Usage) else None)
        program = whole(made, 0, self.script.delays, fault)
        program.usage = Usage(prompt=wanted.tokens)
        return program

    def _turned(self) -> Answer | None:
        """The answer whose turn it is."""
        answers = self.script.answers
        if not answers:
            return None
        self._turn += 1
        return answers[(self._turn - 1) % len(answers)]

    def _befallen(self, model: str, place: Place, body: bytes, entry: Entry) -> Chosen | None:
        """The fault of this request.

        Raises:
            TroubleError: it is an error's status, or the model's name names no fault.
        """
        try:
            _name, fault = named(model)
        except UnknownFaultError as error:
            raise TroubleError("invalid", str(error), "model") from error
        key = b""
        if fault is None and self.script.chances:
            key = _key(place, body)
            fault = self._failing[key][0] if key in self._failing else self._drawn()
        if fault is None:
            return None
        entry.fault = str(fault)
        if fault.name in _STATUS:
            raise TroubleError(_STATUS[fault.name])
        if fault.name in _AT_FIRST and self._fails(key or _key(place, body), fault):
            raise TroubleError(_AT_FIRST[fault.name])
        return fault

    def _fails(self, key: bytes, fault: Chosen) -> bool:
        """Whether the same request has failed fewer times than it shall; then it begins anew."""
        times = 1 if fault.name == "auth_expired" else fault.k
        _fault, failed = self._failing.pop(key, (fault, 0))
        if failed >= times:
            return False
        self._failing[key] = (fault, failed + 1)
        while len(self._failing) > _MOST_FAILING:
            self._failing.popitem(last=False)
        return True

    def _drawn(self) -> Chosen | None:
        point = self._random.random()
        for chance in self.script.chances:
            point -= chance.probability
            if point < 0:
                return chance.fault
        return None


def app(script: Script | None = None, *, strict: bool = True) -> ScriptedApp:
    """The scripted upstream as an ASGI application; without a script it echoes.

    Faults that cut connections need `scripted.serve` or `scripted.running`: another server only sees a
    `ConnectionError`.

    Raises:
        SettingsError: the script's public key is no key.
    """
    return ScriptedApp(script or Script(), strict=strict)


def _key(place: Place, body: bytes) -> bytes:
    return hashlib.blake2b(place.protocol.encode() + b"\0" + body, digest_size=16).digest()


def _header(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _check_version(place: Place, target: Target, headers: list[tuple[bytes, bytes]]) -> None:
    if place.protocol == "anthropic" and not _header(headers, b"anthropic-version"):
        raise TroubleError("invalid", "anthropic-version: header is required")
    query = parse_qs(target.query)
    # Azure's versioned paths name the deployment; /openai/v1 needs no version.
    if target.azure and target.model and not query.get("api-version"):
        raise TroubleError("unknown_route", "Resource not found")
    if place.stream and place.protocol in ("gemini", "vertex") and query.get("alt") != ["sse"]:
        raise TroubleError("invalid", "Only `alt=sse` streams are scripted.", "alt")


def _parsed(body: bytes) -> Json:
    try:
        asked = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        words = "We could not parse the JSON body of your request."
        raise TroubleError("invalid", words) from error
    if not isinstance(asked, dict):
        raise TroubleError("invalid", "The JSON body of your request must be an object.")
    return asked  # pyright: ignore[reportUnknownVariableType]


async def _read(receive: Receive) -> bytes | None:
    """The body; None where it is too large."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            return None
    return b"".join(parts)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
