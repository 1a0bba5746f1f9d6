"""The smallest instance of a JSON schema, for answers that must fit one.

It knows the keywords that structured answers use (types, enum, const, required, items, bounds, formats,
$ref, anyOf, oneOf, allOf). Not here: validation, patterns.
"""

from __future__ import annotations

import math
from typing import Any, Final, cast

from daulat.endpoints.scripted.ask import Json

_DEPTH: Final = 32
_FORMATS: Final = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "a@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance(schema: object, root: Json | None = None, depth: int = 0) -> Any:
    """A value that fits; null where the schema is too deep or says nothing."""
    if not isinstance(schema, dict) or depth > _DEPTH:
        return None
    schema = cast("Json", schema)
    root = schema if root is None else root
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    narrower = _narrower(schema, root)
    if narrower is not None:
        return instance(narrower, root, depth + 1)
    return _of_type(_type(schema), schema, root, depth)


def _narrower(schema: Json, root: Json) -> Json | None:
    """The schema that stands behind a reference, a choice of several, or a union; None: it is plain."""
    if "$ref" in schema:
        return _found(root, str(schema["$ref"]))
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return {**_without(schema, union), **schema[union][0]}
    return _merged(schema, root) if schema.get("allOf") else None


def _without(schema: Json, name: str) -> Json:
    return {key: value for key, value in schema.items() if key != name}


def _merged(schema: Json, root: Json) -> Json:
    whole = _without(schema, "allOf")
    for part in schema["allOf"]:
        found = _found(root, str(part["$ref"])) if "$ref" in part else part
        properties = {**whole.get("properties", {}), **found.get("properties", {})}
        required = [*whole.get("required", ()), *found.get("required", ())]
        whole |= found
        if properties or required:
            whole |= {"properties": properties, "required": required}
    return whole


def _found(root: Json, pointer: str) -> Json:
    place: Any = root
    for step in pointer.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        place = cast("Json", place).get(name) if isinstance(place, dict) else None
    return cast("Json", place) if isinstance(place, dict) else {}


def _type(schema: Json) -> str:
    told = schema.get("type")
    if isinstance(told, list):
        told = cast("list[str]", told)[0] if told else None
    if isinstance(told, str):
        return told.lower()  # Google writes OBJECT
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else "null"


def _of_type(kind: str, schema: Json, root: Json, depth: int) -> Any:
    match kind:
        case "object":
            known = schema.get("properties", {})
            return {
                name: instance(known.get(name, {}), root, depth + 1)
                for name in schema.get("required", ())
            }
        case "array":
            item = schema.get("items", {})
            least = min(int(schema.get("minItems", 0)), 1000)
            return [instance(item, root, depth + 1) for _ in range(least)]
        case "string":
            text = _FORMATS.get(schema.get("format", ""), "word")
            text = text.ljust(min(int(schema.get("minLength", 0)), 10_000), "x")
            return text[: max(int(schema.get("maxLength", len(text))), 0)]
        case "integer" | "number":
            number = _number(schema)
            return math.ceil(number) if kind == "integer" or number == int(number) else number
        case "boolean":
            return True
        case _:
            return None


def _number(schema: Json) -> float:
    step = float(schema.get("multipleOf", 1))
    least = float(schema.get("minimum", schema.get("exclusiveMinimum", -math.inf)))
    most = float(schema.get("maximum", schema.get("exclusiveMaximum", math.inf)))
    number = min(max(0.0, least), most)
    number = math.ceil(number / step) * step if number >= least > -math.inf else number
    if number > most:
        return (least + most) / 2
    if number == schema.get("exclusiveMinimum"):
        number = number + step if number + step < most else (number + most) / 2
    if number == schema.get("exclusiveMaximum"):
        number -= step
    return number
