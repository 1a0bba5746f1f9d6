"""Which JSON schemas can be held to: a table of keywords, and what is done with each.

A schema goes through here before the grammar library sees it. The library passes over keywords that
it does not know; a client that sent one would believe it enforced. So a keyword is enforced, or it
describes only (and is taken out), or the schema is refused by the keyword's path.

The vocabulary is that of JSON Schema 2020-12. Not here: from schema to grammar (`grammars`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

from daulat.errors import RequestError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 48
MAX_SCHEMAS = 5000
MAX_VALUES = 10_000  # of all enums together
MAX_COUNT = 100_000  # in minLength, maxItems and the like
MAX_PATTERN = 2048
MAX_REPEAT = 5000
MAX_MULTIPLE = 20_000  # all multipleOf multiplied: the automaton has a state for each remainder

JSON = Mapping[str, Any]

_ANNOTATIONS = frozenset(
    (
        "title",
        "description",
        "default",
        "examples",
        "example",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$schema",
        "$comment",
        "discriminator",
    )
)
_TYPES = frozenset(("string", "number", "integer", "boolean", "null", "object", "array"))
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
)
_REPEAT = re.compile(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}")


def checked(schema: JSON, param: str) -> JSON:
    """The schema with all that is enforced and nothing else.

    An object that lists `properties` and does not say what else it may have is closed: what is
    written then holds the listed properties only, which the schema allows.

    Args:
        param: the request's field that holds the schema.

    Raises:
        RequestError: a keyword or value that cannot be held to; `param` is its path.
    """
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (ValueError, RecursionError):
        raise RequestError(
            f"`{param}` is nested too deeply or has a number that is not finite: simplify it.",
            param=param,
        ) from None
    if size > MAX_BYTES:
        raise RequestError(
            f"`{param}` has {size} characters; a schema may have {MAX_BYTES}.", param=param
        )
    walk = _Walk()
    made = walk.schema(schema, param, 0)
    assert isinstance(made, dict)  # noqa: S101 - a mapping gives a mapping
    return _closed(made) if walk.closes else made


def check_pattern(pattern: str, param: str) -> None:
    """Bounds on a regular expression; its syntax is the library's affair.

    Raises:
        RequestError: too long, or it repeats something too often.
    """
    if len(pattern) > MAX_PATTERN:
        raise RequestError(
            f"`{param}` has {len(pattern)} characters; a regular expression may have "
            f"{MAX_PATTERN}.",
            param=param,
        )
    if any(int(n) > MAX_REPEAT for pair in _REPEAT.findall(pattern) for n in pair if n):
        raise RequestError(
            f"`{param}` repeats something more than {MAX_REPEAT} times: repeat it less often.",
            param=param,
        )


@dataclass(slots=True)
class _Walk:
    """One walk through one schema, with what it counts.

    Attributes:
        closes: objects may be closed: nothing in the schema joins objects or compares them.
    """

    schemas: int = 0
    values: int = 0
    multiple: int = 1
    closes: bool = True
    path: list[str] = field(default_factory=list[str])

    def schema(self, schema: Any, param: str, depth: int) -> dict[str, Any] | bool:
        """One schema, cleaned."""
        self.schemas += 1
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise _wrong(param, "a schema: an object, true or false")
        if depth > MAX_DEPTH:
            raise RequestError(f"`{param}` is more than {MAX_DEPTH} levels deep.", param=param)
        if self.schemas > MAX_SCHEMAS:
            raise RequestError(
                f"`{param}`: a schema may have {MAX_SCHEMAS} parts, this one has more.",
                param=param,
            )
        known = cast("JSON", schema)
        made: dict[str, Any] = {}
        for name, value in known.items():
            where = f"{param}.{name[:64]}"
            if name in _ANNOTATIONS or name.startswith("x-") or (name == "$id" and depth == 0):
                continue
            keyword = _KEYWORDS.get(name)
            if keyword is None:
                raise _unsupported(name, where)
            made[name] = keyword(self, value, where, depth + 1)
        self._together(made, param)
        return made

    def _together(self, schema: JSON, param: str) -> None:
        """What two keywords of one schema mean together."""
        joined = schema.keys() & {"anyOf", "$ref"} and schema.keys() & {"properties", "required"}
        if joined or schema.keys() & {"allOf", "oneOf"}:
            self.closes = False
        required = cast("list[str]", schema.get("required", ()))
        if schema.get("minProperties", 0) > max(1, len(set(required))):
            raise RequestError(
                f"`{param}.minProperties` cannot be held to beyond the number of `required` "
                "properties: list them there.",
                param=f"{param}.minProperties",
            )
        for pattern in schema.get("patternProperties", ()):
            _check_apart(pattern, schema.get("properties", {}), f"{param}.patternProperties")


def _check_apart(pattern: str, properties: JSON, param: str) -> None:
    try:
        both = [name for name in properties if re.search(pattern, name)]
    except re.error:
        raise _wrong(param, "an object whose names are regular expressions") from None
    if both:
        raise RequestError(
            f"`{param}`: the property `{both[0][:64]}` is listed in `properties` and matches a "
            "pattern too: let each name have one schema.",
            param=param,
        )


# --- keywords -------------------------------------------------------------------------------------

_Keyword = Callable[[_Walk, Any, str, int], Any]


def _one(walk: _Walk, value: Any, where: str, depth: int) -> Any:
    if isinstance(value, list):
        raise RequestError(
            f"`{where}` is a list, as older drafts had it: use `prefixItems`.", param=where
        )
    return walk.schema(value, where, depth)


def _several(walk: _Walk, value: Any, where: str, depth: int) -> Any:
    if not isinstance(value, list) or not value:
        raise _wrong(where, "a list of schemas, at least one")
    items = cast("list[Any]", value)
    return [walk.schema(item, f"{where}[{i}]", depth) for i, item in enumerate(items)]


def _named(walk: _Walk, value: Any, where: str, depth: int) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object of schemas")
    items = cast("JSON", value)
    return {name: walk.schema(item, f"{where}.{name[:64]}", depth) for name, item in items.items()}


def _patterns(walk: _Walk, value: Any, where: str, depth: int) -> Any:
    made = _named(walk, value, where, depth)
    for pattern in made:
        check_pattern(pattern, where)
    return made


def _type(_walk: _Walk, value: Any, where: str, _depth: int) -> Any:
    names: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name in _TYPES for name in names):
        raise _wrong(where, f"one or several of {', '.join(sorted(_TYPES))}")
    return cast("Any", value)


def _enum(walk: _Walk, value: Any, where: str, _depth: int) -> Any:
    if not isinstance(value, list) or not value:
        raise _wrong(where, "a list of at least one value")
    walk.values += len(cast("list[Any]", value))
    if walk.values > MAX_VALUES:
        raise RequestError(
            f"`{where}`: the enums of a schema may have {MAX_VALUES} values together.", param=where
        )
    return cast("list[Any]", value)


def _anything(_walk: _Walk, value: Any, _where: str, _depth: int) -> Any:
    return value


def _names(_walk: _Walk, value: Any, where: str, _depth: int) -> Any:
    items: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [None]
    if not all(isinstance(name, str) for name in items):
        raise _wrong(where, "a list of names")
    return items


def _count(_walk: _Walk, value: Any, where: str, _depth: int) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise _wrong(where, f"a whole number from 0 to {MAX_COUNT}")
    return value


def _number(_walk: _Walk, value: Any, where: str, _depth: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 2**53:
        raise _wrong(where, "a number up to 2^53")
    return value


def _multiple(walk: _Walk, value: Any, where: str, _depth: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise _wrong(where, "a number above 0")
    _, digits, exponent = Decimal(str(value)).normalize().as_tuple()
    whole = int("".join(map(str, digits))) * 10 ** max(int(exponent), 0)
    walk.multiple = math.lcm(walk.multiple, whole)
    if walk.multiple > MAX_MULTIPLE or int(exponent) < -9:
        raise RequestError(
            f"`{where}` cannot be held to: the factors of a schema may have {MAX_MULTIPLE} as "
            "their least common multiple, and 9 digits behind the point.",
            param=where,
        )
    return value


def _pattern(_walk: _Walk, value: Any, where: str, _depth: int) -> Any:
    if not isinstance(value, str):
        raise _wrong(where, "a regular expression")
    check_pattern(value, where)
    return value


def _format(_walk: _Walk, value: Any, where: str, _depth: int) -> Any:
    if value not in _FORMATS:
        raise RequestError(
            f"`{where}`: the format {str(value)[:40]!r} cannot be held to (known are "
            f"{', '.join(sorted(_FORMATS))}): use `pattern`.",
            param=where,
        )
    return value


def _reference(_walk: _Walk, value: Any, where: str, _depth: int) -> Any:
    if not isinstance(value, str) or not value.startswith("#"):
        raise RequestError(
            f"`{where}` points outside of the schema: put what it points to into `$defs`.",
            param=where,
        )
    return value


_KEYWORDS: Mapping[str, _Keyword] = {
    **dict.fromkeys(("items", "additionalProperties"), _one),
    **dict.fromkeys(("anyOf", "allOf", "oneOf", "prefixItems"), _several),
    **dict.fromkeys(("properties", "$defs", "definitions"), _named),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _count),
    **dict.fromkeys(("minProperties", "maxProperties"), _count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    "patternProperties": _patterns,
    "type": _type,
    "enum": _enum,
    "const": _anything,
    "required": _names,
    "multipleOf": _multiple,
    "pattern": _pattern,
    "format": _format,
    "$ref": _reference,
}


def _closed(schema: Any) -> Any:
    """The schema with its objects closed, as far as they can be."""
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for name, value in cast("dict[str, Any]", schema).items():
        if name in {"items", "additionalProperties"}:
            made[name] = _closed(value)
        elif name in {"anyOf", "prefixItems"}:
            made[name] = [_closed(item) for item in value]
        elif name in {"properties", "patternProperties", "$defs", "definitions"}:
            made[name] = {key: _closed(item) for key, item in value.items()}
        else:
            made[name] = value
    names = made.get("properties", {}).keys()
    known = made.keys() & {"additionalProperties", "patternProperties"}
    if names and not known and names >= set(made.get("required", ())):
        made["additionalProperties"] = False
    return made


def _wrong(param: str, what: str) -> RequestError:
    return RequestError(f"`{param}` must be {what}.", param=param)


def _unsupported(name: str, where: str) -> RequestError:
    advice = 'use `"type": ["…", "null"]`' if name == "nullable" else "leave it out"
    return RequestError(
        f"`{where}`: the keyword `{name[:40]}` is not supported, and is not passed over in "
        f"silence: {advice} (docs/structured.md lists the keywords).",
        param=where,
    )
