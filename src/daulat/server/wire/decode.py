"""From bytes to a checked type; a fault becomes one of our errors, with the field's path.

The decoder's own messages are precise and may quote the client's value: they are cut to a few
words, and they go to that client only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from daulat.errors import DaulatError, RequestError, UnknownFieldError, UnsupportedFieldError
from daulat.server.wire.common import Incoming
from daulat.server.wire.fields import Left, Tables

T = TypeVar("T", bound=Incoming)

_LONGEST = 160  # characters of the decoder's message that a client sees
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_WHERE = re.compile(
    r"^(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?$",
    re.DOTALL,
)
_STEP = re.compile(r"\.?(?P<name>[A-Za-z_]\w*)|\[(?P<place>\d+)\]")


@cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


def decode(body: bytes, kind: type[T]) -> T:
    """The request in `body`.

    Raises:
        UnknownFieldError, UnsupportedFieldError: a field by name in `param`.
        RequestError: not JSON, or a value out of its bounds (`param` is its path).
    """
    try:
        return _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        raise _explain(str(error), body, kind.tables) from None
    except msgspec.DecodeError as error:
        raise RequestError(f"The body is not sound JSON: {str(error)[:_LONGEST]}.") from None
    except UnicodeDecodeError:
        raise RequestError(
            "The body is not sound JSON: it holds bytes that are not UTF-8."
        ) from None
    except RecursionError:
        raise RequestError("The body is nested too deeply: no field needs that.") from None


def _explain(message: str, body: bytes, tables: Tables) -> DaulatError:
    found = _WHERE.match(message)
    what, path = (found["what"], found["path"] or "") if found else (message, "")
    path = path.lstrip(".")
    refused = _refused_kind(body, path, tables)
    if refused:
        return refused
    unknown = _UNKNOWN.match(what)
    if unknown:
        param = _join(path, unknown["name"][:64])
        return UnknownFieldError(
            f"Unknown field `{param}`: leave it out (docs/api.md lists the fields).", param=param
        )
    refused = _refused(path, tables)
    if refused:
        return refused
    missing = _MISSING.match(what)
    if missing:
        param = _join(path, missing["name"])
        return RequestError(f"The field `{param}` is missing: add it.", param=param)
    where = f"`{path}`" if path else "the body"
    if found and found["key"]:
        where = f"a key of {where}"
    return RequestError(f"At {where}: {_shorten(what)}.", param=path or None)


def _refused(path: str, tables: Tables) -> DaulatError | None:
    top = re.split(r"[.\[]", path, maxsplit=1)[0]
    for one in tables.refused:
        if one.name == top:
            return unsupported(one, top)
    for where, fields in tables.inside:
        inside = re.match(rf"^({where.pattern})\.(\w+)", path)
        for one in fields:
            if inside and inside[2] == one.name:
                return unsupported(one, inside[0])
    return None


def _refused_kind(body: bytes, path: str, tables: Tables) -> DaulatError | None:
    """The decoder complains of whatever field of such an object comes first: this says what it is."""
    for place, value in _on_the_way(body, path):
        for kinds in tables.kinds:
            tag = value.get(kinds.tag)
            if not kinds.where.fullmatch(place) or not isinstance(tag, str):
                continue
            if tag not in kinds.taken and (kinds.refused is None or tag in kinds.refused):
                param = f"{place}.{kinds.tag}" if kinds.tag == "role" else place
                return UnsupportedFieldError(
                    f"`{param}`: {kinds.what} of the {kinds.tag} `{tag[:64]}` cannot be honoured: "
                    f"{kinds.instead}.",
                    param=param,
                )
    return None


def _on_the_way(body: bytes, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects that a path leads through, with their own paths."""
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for step in _STEP.finditer(path):
        try:
            value = cast("Any", value)[step["name"] or int(step["place"])]
        except (KeyError, IndexError, TypeError):
            return
        if isinstance(value, dict):
            yield path[: step.end()], cast("dict[str, Any]", value)


def unsupported(field: Left, param: str) -> UnsupportedFieldError:
    """The error for a field of the table of refused ones."""
    return UnsupportedFieldError(
        f"`{param}` cannot be honoured. {field.why} Leave it out (taken: {field.neutral}).",
        param=param,
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shorten(text: Any) -> str:
    text = str(text)
    text = text[:1].lower() + text[1:]
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
