"""Tool calls out of an upstream's deltas: as servers send them, not as the documentation says.

An index may be missing or the same for all, an id may come late, again or never, a name may come in pieces
or again and again. What goes out keeps `CallPiece`'s promise: the first piece of a call has its id and its
whole name. So a call is held back until its arguments begin.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from daulat.endpoints.remote.terms import bad
from daulat.values.answer import CallPiece

MAX_CALLS: Final = 128
MAX_NAME: Final = 1024


class FunctionBody(msgspec.Struct):
    """`arguments`: text, or an object where a server forgets to make it one."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallBody(msgspec.Struct):
    """A part of a call, or a whole one."""

    index: int | None = None
    id: str | None = None
    function: FunctionBody | None = None


@dataclass(slots=True)
class _Call:
    """One call. `place`: of those that went out; None: it is held back."""

    index: int | None
    id: str = ""
    name: str = ""
    waiting: list[str] = field(default_factory=list[str])
    begun: bool = False
    place: int | None = None


class Calls:
    """The calls of one choice.

    Args:
        known: the names of the request's tools.
        seed: what ids are made from where the upstream gives none.
    """

    def __init__(self, choice: int, known: Iterable[str], seed: str, label: str) -> None:
        self._choice = choice
        self._known = frozenset(known)
        self._seed = seed
        self._label = label
        self._calls: list[_Call] = []
        self._sent = 0

    def __len__(self) -> int:
        return len(self._calls)

    def feed(self, part: CallBody, *, without_id: bool = False) -> Iterator[CallPiece]:
        """What this part lets go out.

        Args:
            without_id: no id will come, so none is waited for.

        Raises:
            UpstreamAnswerError: more calls, or a longer name, than any answer has.
        """
        function = part.function or FunctionBody()
        call = self._of(part, function)
        call.id = call.id or (part.id or "")[:MAX_NAME]
        if without_id:
            call.id = call.id or self._made_id(call)
        if function.name and not call.begun:
            self._name(call, function.name)
        text = _text(function.arguments)
        if not text:
            return
        call.begun = True
        if call.place is not None:
            yield CallPiece(self._choice, call.place, arguments=text)
            return
        call.waiting.append(text)
        if call.id and call.name:
            yield from self._release(call)

    def end(self) -> Iterator[CallPiece]:
        """Whatever is held back; a call without arguments has the empty object.

        Raises:
            UpstreamAnswerError: a call without a name.
        """
        for call in self._calls:
            if not call.begun:
                call.begun = True
                if call.place is not None:
                    yield CallPiece(self._choice, call.place, arguments="{}")
                    continue
                call.waiting.append("{}")
            if call.place is None:
                yield from self._release(call)

    def _of(self, part: CallBody, function: FunctionBody) -> _Call:
        """The call that the part belongs to: one that is there, or a new one."""
        last = self._calls[-1] if self._calls else None
        found = last
        if part.index is not None:
            found = next((c for c in reversed(self._calls) if c.index == part.index), None)
        other_id = bool(found and part.id and found.id and part.id != found.id)
        # Some servers give each part an id of its own, or each call the index 0: a name tells.
        if found is None or (function.name and (other_id or (part.index is None and found.begun))):
            if len(self._calls) >= MAX_CALLS:
                raise bad(self._label, f"it calls more than {MAX_CALLS} tools at once")
            found = _Call(part.index)
            self._calls.append(found)
        return found

    def _name(self, call: _Call, part: str) -> None:
        longer = call.name + part
        if part == call.name and not any(one.startswith(longer) for one in self._known):
            return  # the whole name once more
        if len(longer) > MAX_NAME:
            raise bad(self._label, "it calls a tool by a name that is too long")
        call.name = longer

    def _release(self, call: _Call) -> Iterator[CallPiece]:
        """Its head, behind those of the calls before it."""
        for earlier in self._calls[: self._calls.index(call)]:
            if earlier.place is None and earlier.name and earlier.id:
                yield self._head(earlier)
        yield self._head(call)

    def _head(self, call: _Call) -> CallPiece:
        if not call.name:
            raise bad(self._label, "it calls a tool without a name")
        call.id = call.id or self._made_id(call)
        call.place = self._sent
        self._sent += 1
        arguments = "".join(call.waiting)
        call.waiting.clear()
        return CallPiece(self._choice, call.place, call.id, call.name, arguments)

    def _made_id(self, call: _Call) -> str:
        seed = f"{self._seed}:{self._choice}:{self._calls.index(call)}"
        return "call_" + hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _text(arguments: str | dict[str, Any] | None) -> str:
    if isinstance(arguments, dict):
        return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return arguments or ""
