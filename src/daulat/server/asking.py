"""The routes that ask a model, one function each: decode, open an exchange, answer in the dialect's shape."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import Response

from daulat.flow import CATEGORY_HEADER, CLASS_HEADER, TASK_HEADER, Exchange, Label
from daulat.policy import highest
from daulat.server.answering import answer_stream, answer_whole, json_response, noted
from daulat.server.calls import Call, until_gone
from daulat.server.shapes.base import Shape
from daulat.server.shapes.messages import MessagesShape
from daulat.server.shapes.openai import ChatShape, CompletionShape
from daulat.server.shapes.responses import ResponsesShape
from daulat.server.stored import earlier
from daulat.server.trace import ESTIMATE
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
from daulat.server.wire.messages.answers import TokenCount
from daulat.server.wire.messages.counting import estimate
from daulat.server.wire.messages.requests import CountBody, MessagesBody
from daulat.server.wire.moderations import ModerationBody, judgement
from daulat.server.wire.responses.requests import ResponsesBody
from daulat.values.answer import Embeddings
from daulat.values.request import Request


async def chat_completions(call: Call) -> Response | None:
    body = decode(call.body, ChatCompletionRequest)
    request = body.to_request()

    async def work() -> Response | None:
        exchange = await _open(call, request)
        shape = ChatShape(exchange, request, counting=body.wants_usage)
        return await _answer(call, exchange, shape, stream=request.stream)

    return await until_gone(call.receive, work())


async def completions(call: Call) -> Response | None:
    body = decode(call.body, CompletionBody)
    request = body.to_request()

    async def work() -> Response | None:
        exchange = await _open(call, request)
        shape = CompletionShape(exchange, request, counting=body.wants_usage)
        return await _answer(call, exchange, shape, stream=request.stream)

    return await until_gone(call.receive, work())


async def messages(call: Call) -> Response | None:
    request = decode(call.body, MessagesBody).to_request()

    async def work() -> Response | None:
        exchange = await _open(call, request)
        return await _answer(call, exchange, MessagesShape(exchange), stream=request.stream)

    return await until_gone(call.receive, work())


async def count_tokens(call: Call) -> Response:
    request = decode(call.body, CountBody).to_request()

    async def work() -> Response:
        found = await call.hall.count(call.known, request)
        if found is not None:
            return json_response(call, TokenCount(input_tokens=found))
        told = {"daulat-counted": ESTIMATE}
        return json_response(call, TokenCount(input_tokens=estimate(request)), told)

    return await until_gone(call.receive, work())


async def responses(call: Call) -> Response | None:
    body = decode(call.body, ResponsesBody)

    async def work() -> Response | None:
        told, told_class = await earlier(call, body.previous_response_id)
        request = body.to_request(told)
        exchange = await _open(call, request, told_class)
        with_logprobs = request.sampling.logprobs is not None
        shape = ResponsesShape(exchange, body.echo(), with_logprobs=with_logprobs)
        return await _answer(call, exchange, shape, stream=request.stream)

    return await until_gone(call.receive, work())


async def embeddings(call: Call) -> Response:
    body = decode(call.body, EmbeddingBody)

    async def work() -> Response:
        exchange = await _open(call, body.to_request())
        found = await exchange.embed()
        call.trace.usage, call.trace.cost = found.usage, exchange.cost
        noted(call, exchange)
        return json_response(call, _embeddings(exchange, found, body.encoding_format))

    return await until_gone(call.receive, work())


async def moderations(call: Call) -> Response:
    request = decode(call.body, ModerationBody).to_request()

    async def work() -> Response:
        exchange = await _open(call, request)
        found = await exchange.moderate()
        noted(call, exchange)
        return json_response(call, judgement(exchange.id, found))

    return await until_gone(call.receive, work())


async def _open(call: Call, request: Request, earlier_class: str = "") -> Exchange:
    """An exchange of the class that the header declares, and at least of what was declared earlier."""
    headers = Headers(scope=call.scope)
    declared = headers.get(CLASS_HEADER, "").strip().lower()
    if earlier_class:
        classes = [name for name in (declared, earlier_class) if name]
        declared = highest(call.hall.setup.rules, classes)
    label = Label(headers.get(TASK_HEADER, "").strip(), headers.get(CATEGORY_HEADER, "").strip())
    exchange = await call.hall.open(call.known, request, declared, label)
    call.trace.exchange, call.trace.asked = exchange.id, exchange
    noted(call, exchange)
    return exchange


async def _answer(call: Call, exchange: Exchange, shape: Shape, *, stream: bool) -> Response | None:
    if not stream:
        return await answer_whole(call, exchange, shape)
    with call.metrics.stream():
        await answer_stream(call, exchange, shape)
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
        daulat=origin(exchange.id, exchange.step, found.usage, found.timings, exchange.cost),
    )
