"""Our error tree on the wire: body, status, and the headers that go with a status, in a dialect's form.

Anthropic's routes answer every error in Anthropic's form, whatever it is and wherever it arises; all
else is OpenAI's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from daulat.errors import (
    AuthenticationError,
    BusyError,
    DaulatError,
    LimitError,
    MethodNotAllowedError,
    NotFoundError,
    RequestError,
    UnavailableError,
    UnsupportedFieldError,
    UpstreamBusyError,
    UpstreamError,
)
from daulat.server.wire.answers import ErrorBody, ErrorDetail
from daulat.server.wire.messages.answers import AnthropicError, AnthropicErrorDetail, ErrorCause

_encode = msgspec.json.Encoder().encode

MESSAGES = "/v1/messages"
OVERLOADED = 529  # Anthropic's own number


class Form(Protocol):
    """A dialect's errors."""

    def status(self, error: DaulatError) -> int: ...
    def body(self, error: DaulatError) -> bytes: ...


class _OpenAIForm:
    """`{"error": {"message", "type", "param", "code"}}`."""

    def status(self, error: DaulatError) -> int:
        return error.status

    def body(self, error: DaulatError) -> bytes:
        return _encode(
            ErrorBody(
                error=ErrorDetail(
                    message=error.message, type=error.kind, param=error.param, code=error.code
                )
            )
        )


class _AnthropicForm:
    """`{"type": "error", "error": {"type", "message"}}`, and 529 where we are too busy.

    Source: https://docs.anthropic.com/en/api/errors
    """

    def status(self, error: DaulatError) -> int:
        return OVERLOADED if isinstance(error, _BUSY) else error.status

    def body(self, error: DaulatError) -> bytes:
        detail = AnthropicErrorDetail(
            type=self._type(error), message=error.message, details=_cause(error)
        )
        return _encode(AnthropicError(error=detail))

    def _type(self, error: DaulatError) -> str:
        status = self.status(error)
        return _ANTHROPIC_TYPES.get(status) or (
            "invalid_request_error" if status < 500 else "api_error"
        )


def _cause(error: DaulatError) -> ErrorCause | msgspec.UnsetType:
    """The SDK's runner of tools asks for a thread, and sends the conversation where it hears this."""
    if isinstance(error, UnsupportedFieldError) and error.param == "thread":
        return ErrorCause(error_code="thread_unsupported_request", unsupported=["thread"])
    return msgspec.UNSET


_BUSY = (BusyError, UpstreamBusyError, UnavailableError)

_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}

OPENAI: Form = _OpenAIForm()
ANTHROPIC: Form = _AnthropicForm()


def is_anthropic(path: str) -> bool:
    """Whether a path is one of Anthropic's, there or not."""
    return path == MESSAGES or path.startswith(MESSAGES + "/")


def form_of(path: str) -> Form:
    """The form of the errors at a path."""
    return ANTHROPIC if is_anthropic(path) else OPENAI


def error_response(
    error: DaulatError, path: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The whole answer to a request that failed before anything of its answer was sent."""
    form = form_of(path)
    return Response(
        form.body(error),
        status_code=form.status(error),
        headers={**_headers(error), **(headers or {})},
        media_type="application/json",
    )


def translate(error: HTTPException, path: str, method: str) -> DaulatError:
    """What the router or a page raised, as one of ours."""
    if error.status_code == 404:
        return NotFoundError(
            f"There is nothing at {path[:200]}: GET /openapi.json lists the routes."
        )
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return MethodNotAllowedError(f"{path[:200]} does not take {method[:20]}: use {allowed}.")
    return RequestError(f"The request was refused ({error.status_code}).")


def _headers(error: DaulatError) -> dict[str, str]:
    if isinstance(error, AuthenticationError):
        return {"www-authenticate": 'Bearer realm="daulat"'}
    seconds = getattr(error, "retry_after", None)
    if isinstance(error, BusyError | LimitError | UpstreamError) and seconds is not None:
        return {"retry-after": str(max(1, math.ceil(seconds)))}
    return {}
