"""What each route does: decode, ask the hall, encode. One function a route; see `routes`."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from daulat import __version__
from daulat.errors import ModelNotFoundError
from daulat.flow import Exchange
from daulat.models.adapters import AdapterEntry
from daulat.models.catalogue import ModelEntry
from daulat.server.answering import answer_stream, answer_whole, json_response
from daulat.server.calls import Call, until_gone
from daulat.server.metrics import CONTENT_TYPE
from daulat.server.shapes import ChatShape, CompletionShape, Shape
from daulat.server.wire.answers import Health, Model, ModelList, ModelPassport
from daulat.server.wire.chat import ChatCompletionRequest
from daulat.server.wire.common import origin
from daulat.server.wire.completions import CompletionBody
from daulat.server.wire.decode import decode
from daulat.server.wire.embeddings import (
    EmbeddingBody,
    EmbeddingItem,
    EmbeddingList,
    EmbeddingUsage,
    encode_vector,
)
from daulat.values.answer import Embeddings
from daulat.values.request import Request


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


async def chat_completions(call: Call) -> Response | None:
    body = decode(call.body, ChatCompletionRequest)
    request = body.to_request()

    async def work() -> Response | None:
        exchange = await _open(call, request)
        shape = ChatShape(exchange, request, counting=body.wants_usage)
        return await _answer(call, exchange, shape, body.stream, body.wants_usage)

    return await until_gone(call.receive, work())


async def completions(call: Call) -> Response | None:
    body = decode(call.body, CompletionBody)
    request = body.to_request()

    async def work() -> Response | None:
        exchange = await _open(call, request)
        shape = CompletionShape(exchange, request, counting=body.wants_usage)
        return await _answer(call, exchange, shape, body.stream, body.wants_usage)

    return await until_gone(call.receive, work())


async def embeddings(call: Call) -> Response:
    body = decode(call.body, EmbeddingBody)

    async def work() -> Response:
        exchange = await _open(call, body.to_request())
        found = await exchange.embed()
        call.trace.usage = found.usage
        return json_response(call, _embeddings(exchange, found, body.encoding_format))

    return await until_gone(call.receive, work())


async def _open(call: Call, request: Request) -> Exchange:
    exchange = await call.hall.open(call.known, request)
    trace = call.trace
    trace.exchange, trace.step, trace.model = exchange.id, exchange.step, exchange.step.model_id
    return exchange


async def _answer(
    call: Call, exchange: Exchange, shape: Shape, stream: bool | None, counting: bool
) -> Response | None:
    if not stream:
        return await answer_whole(call, exchange, shape)
    await answer_stream(call, exchange, shape, counting=counting)
    return None


def _embeddings(exchange: Exchange, found: Embeddings, encoding: str | None) -> EmbeddingList:
    return EmbeddingList(
        data=[
            EmbeddingItem(index=index, embedding=encode_vector(vector, encoding))
            for index, vector in enumerate(found.vectors)
        ],
        model=exchange.step.model_id,
        usage=EmbeddingUsage(
            prompt_tokens=found.usage.prompt_tokens, total_tokens=found.usage.total_tokens
        ),
        daulat=origin(exchange.id, exchange.step, found.usage, found.timings),
    )


async def _offered(call: Call) -> list[Model]:
    """The models that the key may use, then their adapters. Manifests are read: not on the event loop."""

    def read() -> list[Model]:
        models = [_model(entry) for entry in call.hall.models(call.known)]
        return models + [_adapter(entry) for entry in call.hall.adapters(call.known)]

    return await asyncio.to_thread(read)


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
