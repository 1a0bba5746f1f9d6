"""The endpoint on this machine: our own engine behind the common protocol.

It turns messages into a prompt, checks that prompt and answer fit, and carries the engine's words from
its thread to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from daulat.endpoints.pool import Loaded, Pool
from daulat.engine.encoder import Encoder
from daulat.engine.runner import Engine
from daulat.engine.sampler import fresh_seed
from daulat.engine.sequence import Ended, Failed, GenerationSequence, Outcome, TextPart
from daulat.errors import ContextLengthError, RequestError
from daulat.models.templates import ChatTemplates
from daulat.values.answer import Done, Embeddings, Event, Finish, Piece, Timings, Usage
from daulat.values.plan import THIS_MACHINE, Caller, EndpointCard, Step
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    GenerationRequest,
)

_EMBED_BATCH = 32


class NativeEndpoint:
    """Open models from the catalogue, on this machine's processor."""

    def __init__(self, pool: Pool) -> None:
        self.card = EndpointCard("native", THIS_MACHINE, "open")
        self.pool = pool
        self._templates = ChatTemplates()
        self._embedding = asyncio.Lock()

    async def warm(self, name: str, digest: str) -> None:
        """Load a model before anybody asks for it."""
        async with self.pool.use(name, digest):
            pass

    async def generate(
        self, request: GenerationRequest, step: Step, caller: Caller
    ) -> AsyncGenerator[Event, None]:
        """See `Endpoint`."""
        async with self.pool.use(step.model, step.model_digest) as model:
            if not isinstance(model.engine, Engine):
                raise RequestError(
                    f"{model.name} is an embedding model: use it with /v1/embeddings.",
                    param="model",
                )
            prompts = await asyncio.to_thread(self._prompts, request, model)
            answer = _Answer(request, prompts, model, model.engine, caller.id)
            async with contextlib.aclosing(answer.events()) as events:
                async for event in events:
                    yield event

    async def embed(self, request: EmbeddingRequest, step: Step) -> Embeddings:
        """See `Endpoint`."""
        began = time.monotonic()
        async with self.pool.use(step.model, step.model_digest) as model:
            if not isinstance(model.engine, Encoder):
                raise RequestError(
                    f"{model.name} writes text: use it with /v1/chat/completions, and "
                    "all-MiniLM-L6-v2 for embeddings.",
                    param="model",
                )
            inputs = await asyncio.to_thread(_embedding_inputs, request, model)
            vectors: list[tuple[float, ...]] = []
            # One batch at a time, so that a long list neither holds the machine nor outlives its client.
            async with self._embedding:
                started = time.monotonic()
                for i in range(0, len(inputs), _EMBED_BATCH):
                    part = await asyncio.to_thread(model.engine.embed, inputs[i : i + _EMBED_BATCH])
                    vectors.extend(map(tuple, part.numpy().tolist()))
        usage = Usage(sum(len(tokens) for tokens in inputs))
        ended = time.monotonic()
        timings = Timings(started - began, ended - began, 0.0)
        return Embeddings(tuple(vectors), usage, timings)

    async def close(self) -> None:
        """See `Endpoint`."""
        await self.pool.close()
        await asyncio.to_thread(self._templates.close)

    def _prompts(self, request: GenerationRequest, model: Loaded) -> list[Sequence[int]]:
        if isinstance(request, ChatRequest):
            return [self._chat_prompt(request, model)]
        return [_tokens(prompt, model, "prompt") for prompt in request.prompts]

    def _chat_prompt(self, request: ChatRequest, model: Loaded) -> Sequence[int]:
        tokenizer = model.tokenizer
        if tokenizer.chat_template is None:
            raise RequestError(
                f"{model.name} has no chat template (it is a base model): "
                "use it with /v1/completions.",
                param="model",
            )
        text = self._templates.render(
            tokenizer.chat_template, request.messages, tokenizer.template_variables
        )
        return _nonempty(tokenizer.encode(text, special=False), "messages")


@dataclass(frozen=True, slots=True)
class _Told:
    """What a sequence said, with whose answer it is."""

    choice: int
    outcome: Outcome


class _Answer:
    """The sequences of one request, from submission to `Done`."""

    def __init__(
        self,
        request: GenerationRequest,
        prompts: Sequence[Sequence[int]],
        model: Loaded,
        engine: Engine,
        tenant: str,
    ) -> None:
        self._engine = engine
        self._n = request.sampling.n
        self._prompt_tokens = sum(len(prompt) for prompt in prompts)
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[_Told] = asyncio.Queue()
        self._echo = _echoed(request, prompts, model)
        sampling = request.sampling
        seed = fresh_seed() if sampling.seed is None else sampling.seed
        self._sequences: list[GenerationSequence] = []
        for prompt in prompts:
            limit = _limit(len(prompt), sampling.max_tokens, model)
            for index in range(sampling.n):
                choice = len(self._sequences)
                self._sequences.append(
                    GenerationSequence(
                        prompt,
                        sampling,
                        limit,
                        seed,
                        index,
                        model.tokenizer,
                        # What continues a text keeps its first space; an answer has none.
                        model.tokenizer.stream(keep_space=isinstance(request, CompletionRequest)),
                        lambda outcome, choice=choice: self._hear(_Told(choice, outcome)),
                        tenant,
                    )
                )

    async def events(self) -> AsyncGenerator[Event, None]:
        """Run to the end; closing the generator takes the sequences out of the engine."""
        ends: dict[int, Ended] = {}
        self._engine.submit(self._sequences)
        try:
            for choice, text in enumerate(self._echo):
                yield Piece(choice, text)
            while len(ends) < len(self._sequences):
                told = await self._told.get()
                match told.outcome:
                    case TextPart(text, logprobs):
                        yield Piece(told.choice, text, logprobs)
                    case Ended() as end:
                        ends[told.choice] = end
                        yield Finish(told.choice, end.reason)
                    case Failed(error):
                        raise error
        finally:
            self._engine.cancel(self._sequences)
        yield self._done(ends)

    def _hear(self, told: _Told) -> None:
        """On the engine's thread. The loop may be gone when the server is stopping."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._told.put_nowait, told)

    def _done(self, by_choice: Mapping[int, Ended]) -> Done:
        # A prompt counts once, whatever the number of its answers: as its first answer found it.
        cached = sum(end.cached_tokens for i, end in by_choice.items() if i % self._n == 0)
        ends = list(by_choice.values())
        submitted = min(end.submitted for end in ends)
        first = min(end.first_token for end in ends)
        return Done(
            Usage(self._prompt_tokens, sum(end.completion_tokens for end in ends), cached),
            Timings(
                queued=min(end.admitted for end in ends) - submitted,
                first_token=first - submitted,
                decode=max(end.last_token for end in ends) - first,
            ),
        )


def _echoed(
    request: GenerationRequest, prompts: Sequence[Sequence[int]], model: Loaded
) -> list[str]:
    """The prompt's text, for every choice that must begin with it."""
    if not isinstance(request, CompletionRequest) or not request.echo:
        return []
    texts = [
        prompt if isinstance(prompt, str) else model.tokenizer.decode(tokens)
        for prompt, tokens in zip(request.prompts, prompts, strict=True)
    ]
    return [text for text in texts for _ in range(request.sampling.n)]


def _limit(prompt_tokens: int, max_tokens: int | None, model: Loaded) -> int:
    """How many tokens the answer may have.

    Raises:
        ContextLengthError: prompt and answer do not fit.
    """
    context = model.input_limit
    asked = 1 if max_tokens is None else max_tokens
    if prompt_tokens + asked > context:
        least = "at least " if max_tokens is None else ""
        raise ContextLengthError(
            f"{model.name} has a context of {context} tokens, and this request needs "
            f"{prompt_tokens + asked}: {prompt_tokens} for the prompt and {least}{asked} for the "
            "answer. Shorten the prompt or ask for fewer max_tokens.",
            param="max_tokens" if prompt_tokens < context else None,
        )
    return context - prompt_tokens if max_tokens is None else max_tokens


def _tokens(prompt: str | tuple[int, ...], model: Loaded, param: str) -> Sequence[int]:
    if isinstance(prompt, str):
        return _nonempty(model.tokenizer.encode(prompt, special=True), param)
    vocabulary = model.engine.architecture.vocab
    for token in prompt:
        if not 0 <= token < vocabulary:
            raise RequestError(
                f"Token {token} is not in the vocabulary of {model.name}, "
                f"which has {vocabulary} tokens.",
                param=param,
            )
    return _nonempty(prompt, param)


def _nonempty(tokens: Sequence[int], param: str) -> Sequence[int]:
    if not tokens:
        raise RequestError("The prompt is empty; give at least one token.", param=param)
    return tokens


def _embedding_inputs(request: EmbeddingRequest, model: Loaded) -> list[Sequence[int]]:
    inputs = [_tokens(text, model, "input") for text in request.inputs]
    for i, tokens in enumerate(inputs):
        if len(tokens) > model.input_limit:
            raise ContextLengthError(
                f"Input {i} has {len(tokens)} tokens; {model.name} takes {model.input_limit}. "
                "Cut the text into shorter parts.",
                param="input",
            )
    return inputs
