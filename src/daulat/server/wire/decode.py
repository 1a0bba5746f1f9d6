"""From bytes to a checked type; a fault becomes one of our errors, with the field's path.

The decoder's own messages are precise and may quote the client's value: they are cut to a few
words, and they go to that client only.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, TypeVar

import msgspec

from daulat.errors import DaulatError, RequestError, UnknownFieldError, UnsupportedFieldError
from daulat.server.wire.fields import (
    PARTS_REFUSED,
    REFUSED,
    REFUSED_IN_MESSAGES,
    ROLES_REFUSED,
    Left,
)

T = TypeVar("T")

_LONGEST = 160  # characters of the decoder's message that a client sees
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_WHERE = re.compile(
    r"^(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?$",
    re.DOTALL,
)
_VALUE = re.compile(r"^Invalid enum value '(?P<value>.*)'$", re.DOTALL)

_REFUSED = {field.name: field for field in REFUSED}
_REFUSED_IN_MESSAGES = {field.name: field for field in REFUSED_IN_MESSAGES}


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
        raise _explain(str(error)) from None
    except msgspec.DecodeError as error:
        raise RequestError(f"The body is not sound JSON: {str(error)[:_LONGEST]}.") from None
    except UnicodeDecodeError:
        raise RequestError(
            "The body is not sound JSON: it holds bytes that are not UTF-8."
        ) from None
    except RecursionError:
        raise RequestError("The body is nested too deeply: no field needs that.") from None


def _explain(message: str) -> DaulatError:
    found = _WHERE.match(message)
    what, path = (found["what"], found["path"] or "") if found else (message, "")
    path = path.lstrip(".")
    unknown = _UNKNOWN.match(what)
    if unknown:
        return _unknown(unknown["name"], path)
    refused = _refused(path) or _refused_value(what, path)
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


def _unknown(name: str, path: str) -> DaulatError:
    param = _join(path, name[:64])
    if name in PARTS_REFUSED and ".content[" in path:
        return _part(name, path)
    return UnknownFieldError(
        f"Unknown field `{param}`: leave it out (docs/api.md lists the fields).", param=param
    )


def _refused(path: str) -> DaulatError | None:
    top = re.split(r"[.\[]", path, maxsplit=1)[0]
    if top in _REFUSED:
        return unsupported(_REFUSED[top], top)
    inside = re.match(r"^messages\[\d+\]\.(\w+)", path)
    if inside and inside[1] in _REFUSED_IN_MESSAGES:
        return unsupported(_REFUSED_IN_MESSAGES[inside[1]], inside[0])
    return None


def _refused_value(what: str, path: str) -> DaulatError | None:
    found = _VALUE.match(what)
    if not found:
        return None
    if path.endswith(".role") and found["value"] in ROLES_REFUSED:
        message = f"Messages of the role `{found['value']}` are not taken yet: leave them out."
        return UnsupportedFieldError(message, param=path)
    if path.endswith(".type") and found["value"] in PARTS_REFUSED:
        return _part(found["value"], path.removesuffix(".type"))
    return None


def _part(kind: str, path: str) -> UnsupportedFieldError:
    return UnsupportedFieldError(
        f"Content of the type `{kind}` is not taken: this server reads text parts only.", param=path
    )


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
