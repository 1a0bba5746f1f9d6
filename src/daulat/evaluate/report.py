"""A comparison as JSON, `report.json`: every figure, by names that stay (schema `daulat.comparison/1`).

The fields are those of `comparing.Comparison` and of the statistics' own types, in their order. A number that
is not bounded (an interval's end) is null, as is what nobody knows. docs/compare.md lists them. Not here:
tables for people.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, cast

from daulat.evaluate.comparing import Comparison


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The report."""
    told = cast("dict[str, Any]", plain(comparison))
    return {"schema": told.pop("schema"), **told}


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in cast("list[Any]", value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
