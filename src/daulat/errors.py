"""The one error tree: what can go wrong, with the HTTP status and the words a client sees.

Every error that leaves Daulat, on the wire or on the terminal, is one of these classes; anything else
that escapes is a defect and is shown as `InternalError` without its text. A message names what was wrong
and the next step. It never carries contents of a request, keys, or paths that the caller did not give.

Not here: translation to a wire format (`server.errors`) and to exit codes (`cli`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class DaulatError(Exception):
    """Base of the tree.

    Args:
        message: one or two sentences in English: what was wrong, and what to do next.
        param: the request field or setting at fault, where there is one.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InternalError(DaulatError):
    """A defect of ours; the log has the trace, the client only learns that it happened."""


# --- the caller's request -------------------------------------------------------------------------


class RequestError(DaulatError):
    """The request itself is at fault: malformed, out of bounds, or impossible."""

    status = 400
    kind = "invalid_request_error"
    code = "invalid_request"


class UnknownFieldError(RequestError):
    """A field that the API does not have."""

    code = "unknown_field"


class UnsupportedFieldError(RequestError):
    """A field that OpenAI's API has and that this endpoint cannot honour."""

    code = "unsupported_field"


class ContextLengthError(RequestError):
    """Prompt and answer do not fit into the model's context."""

    code = "context_length_exceeded"


class DataError(RequestError):
    """A file of data is not of its documented form; the message names file, line, column and remedy."""

    code = "invalid_data"


class AuthenticationError(DaulatError):
    """No key, or one that is not known."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"


class PermissionDeniedError(DaulatError):
    """The key is known, and the policy says no."""

    status = 403
    kind = "permission_error"
    code = "permission_denied"


class PolicyError(PermissionDeniedError):
    """No place that has the model may have the request's data.

    Args:
        classes: for each place that was judged, the class of what it would have got.
    """

    def __init__(self, message: str, *, classes: Mapping[str, str]) -> None:
        super().__init__(message)
        self.classes = classes


class NotFoundError(DaulatError):
    """No such route or thing."""

    status = 404
    kind = "invalid_request_error"
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    """No model of that name in the catalogue."""

    code = "model_not_found"


class MethodNotAllowedError(DaulatError):
    """The route exists and does not take this method."""

    status = 405
    kind = "invalid_request_error"
    code = "method_not_allowed"


class TooLargeError(DaulatError):
    """The request's body is over the limit."""

    status = 413
    kind = "invalid_request_error"
    code = "request_too_large"


class MediaTypeError(DaulatError):
    """The request's body is not JSON."""

    status = 415
    kind = "invalid_request_error"
    code = "unsupported_media_type"


class BusyError(DaulatError):
    """The queue is full; the client may try again after `retry_after` seconds."""

    status = 429
    kind = "rate_limit_error"
    code = "queue_full"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LimitError(DaulatError):
    """A limit of a key, a project or the house is reached; `retry_after` is when it will be less so."""

    status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BudgetError(LimitError):
    """The money or the tokens of a budget do not cover what the request may cost."""

    kind = "insufficient_quota"
    code = "budget_exceeded"


class UnavailableError(DaulatError):
    """Cannot be served now: no memory for the model, shutting down, or the record cannot be written."""

    status = 503
    code = "unavailable"


class GuardError(DaulatError):
    """A text could not be examined, so nothing may be done with it; the message names the detector."""

    status = 503
    code = "guard_unavailable"


# --- endpoints elsewhere --------------------------------------------------------------------------


class UpstreamError(DaulatError):
    """An endpoint elsewhere did not answer as it should.

    Args:
        again: the same endpoint may answer if it is asked again.
        elsewhere: another endpoint may answer the same request.
        retry_after: seconds that the endpoint asks to be left alone, where it says so.
        billable: the endpoint may charge for what it did before it failed.
    """

    status = 502
    code = "upstream_failed"
    again: ClassVar[bool] = False
    elsewhere: ClassVar[bool] = True

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        billable: bool = False,
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after = retry_after
        self.billable = billable


class UpstreamUnavailableError(UpstreamError):
    """No connection, a broken one, or a status of 500 and above."""

    code = "upstream_unavailable"
    again = True


class UpstreamBusyError(UpstreamError):
    """The endpoint's own rate limit (429, 529)."""

    status = 503
    code = "upstream_rate_limited"
    again = True


class UpstreamTimeoutError(UpstreamError):
    """A time-out of ours: to connect, to the first token, between tokens, or in all."""

    status = 504
    code = "upstream_timeout"


class UpstreamAccessError(UpstreamError):
    """The endpoint does not take the key that it was asked with (401, 403), or there is none."""

    code = "upstream_access_refused"


class UpstreamAnswerError(UpstreamError):
    """What came is not an answer of that protocol, or not a whole one."""

    code = "upstream_bad_answer"


class UpstreamRequestError(UpstreamError):
    """The endpoint says that the request is at fault (400, 404, 413, 422)."""

    status = 400
    kind = "invalid_request_error"
    code = "upstream_refused_request"


class VerdictError(DaulatError):
    """A judge answered, and no verdict can be read in what it said."""

    status = 502
    kind = "upstream_error"
    code = "verdict_unreadable"


# --- files, stores, settings (seen on the terminal; on the wire they are 503 or 500) --------------


class SettingsError(DaulatError):
    """`daulat.toml` or an option is wrong; the message names file, line and the nearest valid name."""

    code = "invalid_settings"


class ModelFileError(DaulatError):
    """A model file is damaged, hostile or not of a format that we read."""

    status = 503
    code = "invalid_model_file"


class UnsupportedModelError(ModelFileError):
    """A sound model file of an architecture that we do not run."""

    code = "unsupported_model"


class TemplateError(DaulatError):
    """A chat template failed, refused the conversation, or went over its limits."""

    status = 400
    kind = "invalid_request_error"
    code = "chat_template_failed"


class PullError(DaulatError):
    """A model could not be fetched or what came is not what was promised."""

    code = "pull_failed"


class NetworkError(PullError):
    """The network did not give what was asked for."""

    code = "network_error"


class AccessRefusedError(NetworkError):
    """The other side wants a key, or another one."""

    code = "access_refused"


class CertificateError(DaulatError):
    """A certificate, its signature or the key that signs is not what it should be."""

    status = 503
    code = "invalid_certificate"


class RecordError(DaulatError):
    """The record cannot be read or written."""

    status = 503
    code = "record_unavailable"
