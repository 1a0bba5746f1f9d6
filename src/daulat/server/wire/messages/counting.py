"""About how many tokens a conversation has, where nobody can count it: the house's estimate."""

from __future__ import annotations

import json
from collections.abc import Iterator

from daulat.values.request import ChatRequest, Image
from daulat.values.tokens import counted

_TURN = 4  # about what a template puts around each message
_IMAGE = 1600  # the most that Anthropic counts for a picture; its size is not looked at here


def estimate(request: ChatRequest) -> int:
    """Texts by their length, pictures as large ones, and something for each turn; never 0."""
    images = sum(isinstance(part, Image) for one in request.messages for part in one.parts)
    texts = sum(map(counted, _texts(request)))
    return texts + _TURN * len(request.messages) + _IMAGE * images


def _texts(request: ChatRequest) -> Iterator[str]:
    for message in request.messages:
        yield message.content
        for call in message.tool_calls:
            yield call.name
            yield call.arguments
    for tool in request.tools.tools if request.tools else ():
        yield tool.name
        yield tool.description or ""
        yield json.dumps(tool.parameters or {}, ensure_ascii=False)
    if request.structure:
        yield json.dumps(request.structure.source, ensure_ascii=False)
