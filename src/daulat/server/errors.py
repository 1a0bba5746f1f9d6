"""Our error tree on the wire: OpenAI's body, status, and the headers that go with a status."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from daulat.errors import (
    AuthenticationError,
    BusyError,
    DaulatError,
    MethodNotAllowedError,
    NotFoundError,
    RequestError,
)
from daulat.server.wire.answers import ErrorBody, ErrorDetail

_encode = msgspec.json.Encoder().encode


def error_body(error: DaulatError) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}` as JSON."""
    return _encode(
        ErrorBody(
            error=ErrorDetail(
                message=error.message, type=error.kind, param=error.param, code=error.code
            )
        )
    )


def error_response(error: DaulatError, headers: Mapping[str, str] | None = None) -> Response:
    """The whole answer to a request that failed before anything of its answer was sent."""
    return Response(
        error_body(error),
        status_code=error.status,
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
    if isinstance(error, BusyError):
        return {"retry-after": str(max(1, error.retry_after))}
    return {}
