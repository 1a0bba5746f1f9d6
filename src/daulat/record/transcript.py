"""What the record keeps of an exchange, as JSON: the request, the answer, and the figures.

Contents (texts) are apart from the body (figures), so that they can be left out or removed. A Daulat key
that somebody pasted into a text is masked: the record must never hold one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final, Protocol, cast

from daulat.errors import InternalError
from daulat.guard.keys import mask
from daulat.values.answer import (
    CallPiece,
    CallPieces,
    Done,
    Embeddings,
    Event,
    Finish,
    FinishReason,
    Kind,
    Moderations,
    Piece,
    Usage,
)
from daulat.values.money import shown
from daulat.values.plan import Caller, Plan, Step
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    GenerationRequest,
    Image,
    Message,
    ModerationRequest,
    Part,
    Request,
    Sampling,
    Structure,
    Toolbox,
    ToolCall,
)

Json = Mapping[str, Any]

AUDITED: Final = "auto.audited"
"""The kind of an entry that says what an audit found; its subject is the exchange that it is about."""
AUDITING: Final = "an audit of "
"""How the reason of a plan begins that asks a second model for an audit: nobody's own request."""
RESTING: Final = "left_alone"
"""What an attempt is said to have ended with that never asked its endpoint."""


class Ended(Protocol):
    """How an attempt ended; `money` in `values.money`'s amounts, None where nobody knows."""

    @property
    def number(self) -> int: ...
    @property
    def step(self) -> Step: ...
    @property
    def error(self) -> str | None: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def money(self) -> int | None: ...


KINDS: Mapping[type, str] = {
    ChatRequest: "chat",
    CompletionRequest: "completion",
    EmbeddingRequest: "embedding",
    ModerationRequest: "moderation",
}


def opened(
    request: Request,
    caller: Caller,
    plan: Plan,
    instance: str,
    data_class: str = "",
    found: Mapping[str, int] | None = None,
    declared: str = "",
) -> tuple[Json, Json]:
    """Body and contents of `exchange.opened`.

    Args:
        data_class: the class of its texts; empty: nobody judged it.
        found: how many findings of each kind its texts have.
        declared: the class that the client gave it; empty: none.
    """
    body: dict[str, Any] = {
        "kind": KINDS[type(request)],
        "key": caller.id,
        "model": plan.steps[0].model,
        "model_digest": plan.steps[0].model_digest,
        "plan": {"steps": [_step(step) for step in plan.steps], "reason": plan.reason},
        "instance": instance,
    }
    if plan.steps[0].adapter:
        body["adapter"] = plan.steps[0].adapter
        body["adapter_digest"] = plan.steps[0].adapter_digest
    if isinstance(request, ChatRequest | CompletionRequest):
        body["sampling"] = _sampling(request.sampling)
    if data_class:
        body["class"] = data_class
    if found:
        body["found"] = dict(found)
    if declared:
        body["declared"] = declared
    if request.user is not None:
        body["user"] = mask(request.user)
    return body, {"request": _request(request)}


class Transcript:
    """Gathers a streamed answer and says whether it is whole."""

    def __init__(self, request: GenerationRequest) -> None:
        prompts = len(request.prompts) if isinstance(request, CompletionRequest) else 1
        count = prompts * request.sampling.n
        self._said: dict[Kind, list[list[str]]] = {
            kind: [[] for _ in range(count)] for kind in ("text", "thought", "refusal")
        }
        self._calls = [CallPieces() for _ in range(count)]
        self._reasons: list[FinishReason | None] = [None] * count
        self._done: Done | None = None

    @property
    def text(self) -> str:
        """The first choice's text, as far as it came."""
        return "".join(self._said["text"][0])

    def add(self, event: Event) -> None:
        """Take the next event.

        Raises:
            InternalError: an event that cannot come here, or `Done` with a choice unfinished.
        """
        if self._done is not None:
            raise InternalError("The endpoint went on after the end of its answer.")
        match event:
            case Piece():
                self._said[event.kind][event.choice].append(event.text)
            case CallPiece():
                self._calls[event.choice].add(event)
            case Finish():
                self._reasons[event.choice] = event.reason
            case Done():
                if None in self._reasons:
                    raise InternalError("The endpoint ended before its answer was complete.")
                self._done = event

    def closed(self, status: str, error: str | None) -> tuple[Json, Json]:
        """Body and contents of `exchange.closed`, whole answer or not."""
        body: dict[str, Any] = {"status": status, "finish_reasons": list(self._reasons)}
        if error is not None:
            body["error"] = error
        if self._done is not None:
            body["usage"] = _flat(self._done.usage)
            body["timings"] = _rounded(_flat(self._done.timings))
        return body, {"answer": self._answer()}

    def _answer(self) -> Json:
        texts, thoughts, refusals = (
            [mask("".join(parts)) for parts in said] for said in self._said.values()
        )
        calls = [[_call(call) for call in pieces.whole()] for pieces in self._calls]
        rest = {"tool_calls": calls, "thoughts": thoughts, "refusals": refusals}
        return {"choices": texts, **{name: found for name, found in rest.items() if any(found)}}


def conversation(request: Json) -> tuple[Message, ...]:
    """The messages of a chat, out of the contents that `opened` gave."""
    return tuple(
        Message(
            role=message["role"],
            content=message["content"],
            name=message.get("name"),
            tool_calls=tuple(ToolCall(**call) for call in message.get("tool_calls", ())),
            tool_call_id=message.get("tool_call_id"),
            parts=tuple(
                part if isinstance(part, str) else Image(part["url"], part.get("detail"))
                for part in message.get("parts", ())
            ),
        )
        for message in request["messages"]
    )


def reply(answer: Json) -> Message:
    """What was answered, as the conversation goes on with it: the first choice, without its thoughts."""
    calls = answer.get("tool_calls", [[]])[0]
    text = answer["choices"][0] + answer.get("refusals", [""])[0]
    return Message("assistant", text, tool_calls=tuple(ToolCall(**call) for call in calls))


def moderated(answer: Moderations) -> tuple[Json, Json]:
    """Body and contents of a moderation's `exchange.closed`."""
    results = [dict(result) for result in answer.results]
    return {"status": "ok"}, {"answer": {"model": answer.model, "results": results}}


def embedded(answer: Embeddings) -> tuple[Json, Json]:
    """Body and contents of an embedding's `exchange.closed`: vectors are not kept, they can be made anew."""
    body = {
        "status": "ok",
        "usage": _flat(answer.usage),
        "timings": _rounded(_flat(answer.timings)),
        "vectors": len(answer.vectors),
    }
    return body, {}


def attempted(number: int, step: Step, ended: Sequence[Ended], currency: str) -> Json:
    """Body of `exchange.attempted`: another attempt begins, after those that have ended."""
    return {
        "attempt": number,
        "step": _step(step),
        "ended": [_ended(one, currency) for one in ended],
    }


def spent(ended: Sequence[Ended], continued: Sequence[tuple[int, Step]], currency: str) -> Json:
    """What `exchange.closed` says of attempts that cost something or were not the only one."""
    told: dict[str, Any] = {}
    if len(ended) > 1 or any(one.money != 0 or one.usage.counted for one in ended):
        told["attempts"] = [_ended(one, currency) for one in ended]
    if continued:
        told["continued"] = [{"after": at, "step": _step(step)} for at, step in continued]
    return told


def _ended(one: Ended, currency: str) -> Json:
    told: dict[str, Any] = {
        "attempt": one.number,
        "endpoint": one.step.endpoint,
        "model": one.step.model_id,
        "usage": {name: value for name, value in _flat(one.usage).items() if value},
        "cost": None if one.money is None else f"{shown(one.money)} {currency}",
    }
    return told | {"error": one.error} if one.error else told


def _step(step: Step) -> Json:
    """What has no adapter says nothing of one."""
    return {key: value for key, value in _flat(step).items() if value}


def _request(request: Request) -> Json:
    match request:
        case ChatRequest():
            messages = [_message(message) for message in request.messages]
            asked = {**_tools(request.tools), **_structure(request.structure)}
            kept = {"kept": _masked(request.kept)} if request.kept else {}
            return {"messages": messages, **_stops(request.sampling), **asked, **kept}
        case CompletionRequest():
            prompts = [_text(prompt) for prompt in request.prompts]
            asked = {**_stops(request.sampling), **_structure(request.structure)}
            return {"prompts": prompts, "echo": request.echo, **asked}
        case EmbeddingRequest() | ModerationRequest():
            return {"inputs": [_text(text) for text in request.inputs]}


def _stops(sampling: Sampling) -> Json:
    return {"stop": [mask(text) for text in sampling.stop]} if sampling.stop else {}


def _message(message: Message) -> dict[str, Any]:
    fields = {
        "content": message.content,
        "name": message.name,
        "tool_call_id": message.tool_call_id,
    }
    masked = {key: mask(value) for key, value in fields.items() if value is not None}
    lists = {
        "tool_calls": [_call(call) for call in message.tool_calls],
        "parts": [_part(part) for part in message.parts],
    }
    return {"role": message.role, **masked, **{name: some for name, some in lists.items() if some}}


def _part(part: Part) -> str | Json:
    if isinstance(part, str):
        return mask(part)
    return {"url": mask(part.url), **({"detail": part.detail} if part.detail else {})}


def _call(call: ToolCall) -> Json:
    return {name: mask(text) for name, text in _flat(call).items()}


def _tools(box: Toolbox | None) -> Json:
    return {} if box is None else {"tools": _masked(asdict(box))}


def _structure(structure: Structure | None) -> Json:
    return {} if structure is None else {"structure": _masked(asdict(structure))}


def _masked(value: Any) -> Any:
    """Plain JSON with every text in it masked."""
    match value:
        case str():
            return mask(value)
        case Mapping():
            items = cast("Mapping[str, Any]", value).items()
            return {mask(name): _masked(item) for name, item in items}
        case list() | tuple():
            return [_masked(item) for item in cast("Sequence[Any]", value)]
        case _:
            return value


def _text(prompt: str | tuple[int, ...]) -> str | list[int]:
    return mask(prompt) if isinstance(prompt, str) else list(prompt)


def _sampling(sampling: Sampling) -> dict[str, Any]:
    """Only what was not left at its default: the defaults are the API's."""
    changed = {k: v for k, v in _flat(sampling).items() if v != _USUAL[k]}
    if "logit_bias" in changed:
        changed["logit_bias"] = {str(k): v for k, v in changed["logit_bias"].items()}
    if "stop" in changed:
        # Part of the request's text, so among its contents: here only how many there were.
        changed["stop"] = len(sampling.stop)
    return changed


_NAMES: dict[type, tuple[str, ...]] = {}


def _flat(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that holds no other; `asdict` would copy each."""
    kind = cast("type[Any]", type(value))
    if kind not in _NAMES:
        _NAMES[kind] = tuple(field.name for field in fields(kind))
    return {name: getattr(value, name) for name in _NAMES[kind]}


_USUAL = _flat(Sampling())


def _rounded(times: Mapping[str, float]) -> dict[str, float]:
    return {name: round(seconds, 6) for name, seconds in times.items()}
