"""The routes that ask no model: whether the server is up, what it is, what it offers; see `routes`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import UNSET
from starlette.responses import Response

from daulat import __version__
from daulat.errors import ModelNotFoundError
from daulat.flow import Answering
from daulat.models.adapters import AdapterEntry
from daulat.models.catalogue import ModelEntry
from daulat.server.answering import json_response
from daulat.server.calls import Call
from daulat.server.metrics import CONTENT_TYPE
from daulat.server.wire.answers import (
    Answerer,
    Health,
    Model,
    ModelList,
    ModelPassport,
    PriceBody,
)
from daulat.values.money import Price, shown


async def health(call: Call) -> Response:
    return json_response(call, Health(version=__version__))


async def description(call: Call) -> Response:
    return Response(call.description, media_type="application/json")


async def metrics(call: Call) -> Response:
    # The numbers are read from the record and the engine too: not on the event loop.
    text = await asyncio.to_thread(call.metrics.text)
    return Response(text, headers={"content-type": CONTENT_TYPE})


async def models(call: Call) -> Response:
    return json_response(call, ModelList(data=await _offered(call)))


async def model(call: Call) -> Response:
    name: str = call.scope["path_params"]["model"]
    for one in await _offered(call):
        if one.id == name:
            return json_response(call, one)
    raise ModelNotFoundError(
        f"There is no model `{name[:256]}`: GET /v1/models lists those there are.", param="model"
    )


async def _offered(call: Call) -> list[Model]:
    """The models that the key may use, their adapters, then names that stand for models elsewhere. Manifests
    are read: not on the event loop."""

    def read() -> list[Model]:
        models = [_model(entry) for entry in call.hall.models(call.known)]
        return models + [_adapter(entry) for entry in call.hall.adapters(call.known)]

    here = await asyncio.to_thread(read)
    names = {one.id for one in here}
    currency = call.hall.setup.currency
    away = call.hall.elsewhere(call.known)
    return here + [_away(name, who, currency) for name, who in away if name not in names]


def _away(name: str, answering: Sequence[Answering], currency: str) -> Model:
    return Model(
        id=name,
        created=0,
        owned_by=answering[0][0].name,
        daulat=ModelPassport(
            kind="elsewhere",
            digest="",
            format="",
            licence="",
            source="",
            revision="",
            answers=[
                Answerer(
                    endpoint=card.name,
                    place=card.place,
                    owner=card.owner,
                    price=_price(offer.price, currency) if offer and offer.price else UNSET,
                )
                for card, offer in answering
            ],
        ),
    )


def _price(price: Price, currency: str) -> PriceBody:
    rates = price.rates
    return PriceBody(
        input=shown(rates.input * 10**6),
        output=shown(rates.output * 10**6),
        cached=shown(rates.cached * 10**6),
        currency=currency,
    )


def _adapter(entry: AdapterEntry) -> Model:
    return Model(
        id=entry.id,
        created=int(entry.created),
        owned_by="daulat",
        daulat=ModelPassport(
            kind="adapter",
            digest=entry.digest,
            format="peft",
            licence=entry.licence,
            source=entry.source,
            revision="",
            base=entry.base,
            base_digest=entry.base_digest,
            rank=entry.rank,
        ),
    )


def _model(entry: ModelEntry) -> Model:
    return Model(
        id=entry.name,
        created=int(entry.created),
        owned_by="daulat",
        daulat=ModelPassport(
            kind=entry.kind,
            digest=entry.digest,
            format=entry.format,
            licence=entry.licence,
            source=entry.source,
            revision=entry.revision,
        ),
    )
