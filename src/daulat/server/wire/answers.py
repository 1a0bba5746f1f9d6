"""The small answers: errors, models, health."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from daulat.server.wire.common import Outgoing


class ErrorDetail(Outgoing, frozen=True, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(Outgoing, frozen=True, kw_only=True):
    error: ErrorDetail


class ModelPassport(Outgoing, frozen=True, kw_only=True):
    """The extension object `daulat` of a model; `daulat models show` prints the whole passport.

    The last three are an adapter's.
    """

    kind: str
    digest: str
    format: str
    licence: str
    source: str
    revision: str
    base: str | UnsetType = UNSET
    base_digest: str | UnsetType = UNSET
    rank: int | UnsetType = UNSET


class Model(Outgoing, frozen=True, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    daulat: ModelPassport


class ModelList(Outgoing, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Model]


class Health(Outgoing, frozen=True, kw_only=True):
    status: Literal["ok"] = "ok"
    version: str
