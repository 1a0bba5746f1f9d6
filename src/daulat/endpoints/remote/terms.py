"""What the dialects of several vendors share: refusals by name, pictures, and what a status means.

Two wishes are not refused where a protocol has no words for them, because any answer satisfies them:
`detail` of a picture (how closely to look) and `user` (the client's name for its end user, which stays in
the record here).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import msgspec

from daulat.errors import (
    UnsupportedFieldError,
    UpstreamAccessError,
    UpstreamAnswerError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamRequestError,
    UpstreamUnavailableError,
)
from daulat.values.request import (
    ChatRequest,
    EmbeddingRequest,
    GenerationRequest,
    Image,
    Message,
    Sampling,
    Structure,
    Tool,
)

T = TypeVar("T")

WORDS = 300
"""The most characters of an upstream's own words in a message of ours."""
LONGEST_WAIT = 86_400.0

_SAMPLING = (
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "logit_bias",
    "logprobs",
    "ignore_eos",
    "n",
)
_DEFAULTS = Sampling()
_DATA = re.compile(r"data:(?P<kind>[a-zA-Z0-9.+-]+/[a-zA-Z0-9.+-]+);base64,(?P<data>.*)", re.DOTALL)
_ACCESS = frozenset({401, 402, 403})
_BUSY = frozenset({429, 529})
_PASSING = frozenset({408, 425})


# --- requests -------------------------------------------------------------------------------------


def refusal(param: str, vendor: str, why: str = "") -> UnsupportedFieldError:
    """The error for what a protocol has no words for."""
    reason = f" ({why})" if why else ""
    message = f"{vendor} has no way to say `{param}`{reason}: leave it out, or ask another model."
    return UnsupportedFieldError(message, param=param)


def check_sampling(sampling: Sampling, sayable: Collection[str], vendor: str) -> None:
    """Raises UnsupportedFieldError: a field of sampling that is asked for and is not in `sayable`."""
    for name in _SAMPLING:
        if name not in sayable and getattr(sampling, name) != getattr(_DEFAULTS, name):
            raise refusal(name, vendor)


def chat(request: GenerationRequest, vendor: str) -> ChatRequest:
    """Raises UnsupportedFieldError: a completion, where there are conversations only."""
    if isinstance(request, ChatRequest):
        return request
    raise refusal("prompt", vendor, "it has conversations only")


def texts(request: EmbeddingRequest, vendor: str) -> list[str]:
    """Raises UnsupportedFieldError: an input of token ids."""
    found = [text for text in request.inputs if isinstance(text, str)]
    if len(found) != len(request.inputs):
        raise refusal("input", vendor, "token ids; it takes texts")
    return found


def any_object(structure: Structure) -> bool:
    """Whether any JSON object will do."""
    return (
        structure.kind == "json" and not structure.name and structure.source == {"type": "object"}
    )


def schema_of(structure: Structure, vendor: str) -> Mapping[str, Any]:
    """The JSON schema of an answer.

    Raises:
        UnsupportedFieldError: it is to have a form of another kind.
    """
    if structure.kind == "json" and isinstance(structure.source, Mapping):
        return structure.source
    raise refusal(structure.param, vendor)


def parameters(tool: Tool) -> dict[str, Any]:
    """A tool's parameters as a schema that says that they are an object, as they always are."""
    return {"type": "object", **(tool.parameters or {})}


def arguments(text: str) -> dict[str, Any]:
    """The arguments of a call as an object; they were checked where the request came in."""
    return json.loads(text) if text.strip() else {}


def parts(message: Message, at: int) -> Iterator[tuple[str | Image, str]]:
    """Texts and pictures in order, each with the name of its place; texts that say nothing are left out."""
    for place, part in enumerate(message.parts):
        if part != "":
            yield part, f"messages[{at}].content[{place}]"
    if not message.parts and message.content:
        yield message.content, f"messages[{at}].content"


def picture(image: Image, param: str, vendor: str) -> tuple[str, str] | None:
    """Media type and base64 of a `data:` URL; None: it is an address.

    Raises:
        UnsupportedFieldError: a `data:` URL that is not base64 of a picture.
    """
    if not image.url.startswith("data:"):
        return None
    found = _DATA.fullmatch(image.url)
    try:
        if found is None or not found["kind"].startswith("image/"):
            raise ValueError
        base64.b64decode(found["data"], validate=True)
    except (ValueError, binascii.Error):
        raise refusal(param, vendor, "a data URL other than base64 of a picture") from None
    return found["kind"], found["data"]


def short_id(given: str, allowed: re.Pattern[str]) -> str:
    """The id of a call where it is one that an upstream takes, else one that stands for it.

    The same id gives the same one each time, so call and result still belong together.
    """
    if allowed.fullmatch(given):
        return given
    return "call_" + hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def body(value: Mapping[str, Any]) -> bytes:
    """A request's JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8", "replace"
    )


# --- answers --------------------------------------------------------------------------------------


def read(decoder: msgspec.json.Decoder[T], data: bytes | str, vendor: str) -> T:
    """One JSON document of an upstream.

    Raises:
        UpstreamAnswerError: it is not JSON, or not of the form.
    """
    try:
        # The decoder does not look into texts that it passes over.
        return decoder.decode(data.decode() if isinstance(data, bytes) else data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(vendor, "its answer is not of its protocol") from error


def bad(vendor: str, why: str) -> UpstreamAnswerError:
    """The error for an answer that cannot be used; the upstream may charge for it all the same."""
    return UpstreamAnswerError(f"{vendor}: {why}. Try again, or ask another model.", billable=True)


def by_status(
    status: int, vendor: str, words: str = "", retry_after: float | None = None
) -> UpstreamError:
    """What a status other than 2xx means.

    Args:
        words: the upstream's own, which are shown where the request is at fault.
    """
    if status in _ACCESS:
        message = (
            f"{vendor} does not take the key that it was asked with ({status}). Check the key."
        )
        return UpstreamAccessError(message)
    if status in _BUSY:
        message = f"{vendor} is at its limit ({status}). Try again later."
        return UpstreamBusyError(message, retry_after=retry_after)
    if status >= 500 or status in _PASSING:
        message = f"{vendor} failed ({status}). Try again later."
        return UpstreamUnavailableError(message, retry_after=retry_after)
    if status >= 400:
        said = f": {shown(words)}" if words else ""
        return UpstreamRequestError(f"{vendor} refuses the request ({status}){said}")
    return bad(vendor, f"it answered with the status {status}")


def shown(words: str) -> str:
    """An upstream's own words on one line, not too long."""
    line = " ".join(words.split())
    return line if len(line) <= WORDS else line[: WORDS - 1] + "…"


def waiting(headers: Mapping[str, str]) -> float | None:
    """Seconds that `retry-after` asks for (RFC 9110, 10.2.3); a date is taken relative to `date`."""
    asked = headers.get("retry-after", "").strip()
    try:
        if asked.replace(".", "", 1).isdigit():
            return min(float(asked), LONGEST_WAIT)
        until = parsedate_to_datetime(asked)
        wait = (until - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(wait, 0.0), LONGEST_WAIT)
