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


class PriceBody(Outgoing, frozen=True, kw_only=True):
    """Decimal numbers of the currency's units for a million tokens."""

    input: str
    output: str
    cached: str
    currency: str


class Answerer(Outgoing, frozen=True, kw_only=True):
    """An endpoint that answers for a name; `price` is left out where nobody knows it."""

    endpoint: str
    place: str
    owner: Literal["open", "closed"]
    price: PriceBody | UnsetType = UNSET


class ModelPassport(Outgoing, frozen=True, kw_only=True):
    """The extension object `daulat` of a model; `daulat models show` prints the whole passport.

    `base`, `base_digest` and `rank` are an adapter's. A name that stands for models elsewhere has the kind
    `elsewhere` and `answers`, who answers for it in order; nobody tells the rest, which is empty.
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
    answers: list[Answerer] | UnsetType = UNSET


class Model(Outgoing, frozen=True, kw_only=True):
    """`owned_by`: `daulat` for this machine's models, else the first endpoint that answers; `created` is 0
    where nobody tells it."""

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
