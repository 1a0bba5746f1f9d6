"""The endpoint on this machine: our own engine behind the common protocol.

It turns messages into a prompt, checks that prompt and answer fit, and carries the engine's words from
its thread to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from daulat.endpoints.calls import CallReader, Said
from daulat.endpoints.pool import Loaded, Pool
from daulat.engine.adapter import Adapter
from daulat.engine.grammars import Grammar, Grammars
from daulat.engine.guide import Guide
from daulat.engine.runner import Engine
from daulat.engine.sampler import fresh_seed
from daulat.engine.sequence import (
    Ended,
    Failed,
    GenerationSequence,
    Outcome,
    PromptPart,
    TextPart,
)
from daulat.errors import BusyError, ContextLengthError, RequestError, UnsupportedFieldError
from daulat.models.detokenize import TextStream
from daulat.models.templates import ChatTemplates
from daulat.models.tokenizer import Tokenizer
from daulat.models.tools import ToolSyntax, syntax_of
from daulat.values.answer import (
    Done,
    Embeddings,
    Event,
    Finish,
    Heard,
    Moderations,
    Piece,
    Timings,
    TokenLogprob,
    Usage,
)
from daulat.values.plan import THIS_MACHINE, Caller, Capability, EndpointCard, Step
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    GenerationRequest,
    Image,
    ModerationRequest,
    Toolbox,
)

_EMBED_BATCH = 32
_TRY_AGAIN_SECONDS = 0.05
"""When the queue is full in the middle of a request that has nothing at work."""
_MAX_FORMS = 256  # structured answers of one request
_GRAMMAR_SECONDS = 10.0  # the library's own limits on effort end far below


CAPABILITIES: frozenset[Capability] = frozenset(
    (
        "chat",
        "completions",
        "embeddings",
        "tools",
        "json",
        "json_schema",
        "grammar",
        "logprobs",
        "n",
        "seed",
        "stop",
        "penalties",
        "logit_bias",
        "top_k",
        "min_p",
        "repetition_penalty",
        "ignore_eos",
        "echo",
        "tokens",
        "continue",
        "probe",
    )
)


class NativeEndpoint:
    """Open models from the catalogue, on this machine's processor."""

    def __init__(self, pool: Pool) -> None:
        self.card = EndpointCard("native", THIS_MACHINE, "open", capabilities=CAPABILITIES)
        self.pool = pool
        self._templates = ChatTemplates()
        self._grammars = Grammars()
        self._preparing = ThreadPoolExecutor(2, thread_name_prefix="grammar")
        self._embedding = asyncio.Lock()

    def start(self) -> None:
        """Start the process that renders chat templates, so that the first request does not wait for it.

        Raises:
            UnavailableError: closed, or no process can be started.
        """
        self._templates.start()

    async def generate(
        self, request: GenerationRequest, step: Step, caller: Caller
    ) -> AsyncGenerator[Heard, None]:
        """See `Endpoint`."""
        async with self.pool.use(step.model, step.model_digest) as model:
            if not isinstance(model.engine, Engine):
                raise RequestError(
                    f"{model.name} is an embedding model: use it with /v1/embeddings.",
                    param="model",
                )
            prompts = await asyncio.to_thread(self._prompts, request, model)
            forms = await self._prepared(request, len(prompts), model)
            async with self.pool.adapter(model, step) as adapter:
                answer = _Answer(request, prompts, model, model.engine, forms, caller.id, adapter)
                async with contextlib.aclosing(answer.events()) as events:
                    async for event in events:
                        yield event

    async def count(self, request: ChatRequest, step: Step) -> int:
        """See `Counting`."""
        async with self.pool.use(step.model, step.model_digest) as model:
            return len(await asyncio.to_thread(self._chat_prompt, request, model))

    async def embed(self, request: EmbeddingRequest, step: Step) -> Embeddings:
        """See `Endpoint`."""
        began = time.monotonic()
        if request.dimensions is not None:
            raise UnsupportedFieldError(
                f"`dimensions` cannot be honoured: the vectors of {step.model} have their own length. "
                "Leave it out.",
                param="dimensions",
            )
        async with self.pool.use(step.model, step.model_digest) as model:
            if isinstance(model.engine, Engine):
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

    async def moderate(self, request: ModerationRequest, step: Step) -> Moderations:
        """See `Endpoint`."""
        raise UnsupportedFieldError(
            f"{step.model} has no moderation service: connect an endpoint that has one.",
            param="model",
        )

    async def close(self) -> None:
        """See `Endpoint`."""
        await self.pool.close()
        await asyncio.to_thread(self._templates.close)
        self._preparing.shutdown(wait=False, cancel_futures=True)

    async def _prepared(
        self, request: GenerationRequest, prompts: int, model: Loaded
    ) -> Sequence[_Form]:
        """The form of each choice, prepared off the event loop.

        Raises:
            RequestError: a structure that cannot be kept to.
        """
        box = _callable_tools(request)
        if request.structure is None and box is None:
            return [_Form()] * (prompts * request.sampling.n)
        if prompts * request.sampling.n > _MAX_FORMS:
            raise RequestError(
                f"{prompts * request.sampling.n} answers with a structure are asked for; one "
                f"request may have {_MAX_FORMS}.",
                param="n",
            )
        work = self._preparing.submit(self._forms, request, box, prompts, model)
        try:
            async with asyncio.timeout(_GRAMMAR_SECONDS):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            param = request.structure.param if request.structure else "tools"
            raise RequestError(
                f"`{param}` took longer than {_GRAMMAR_SECONDS:g} s to prepare: simplify it.",
                param=param,
            ) from None

    def _forms(
        self, request: GenerationRequest, box: Toolbox | None, prompts: int, model: Loaded
    ) -> Sequence[_Form]:
        tokenizer = model.tokenizer
        syntax = syntax_of(tokenizer.chat_template or "") if box else None
        tools = (box, syntax) if box and syntax else None
        grammar = self._grammars.grammar(model.digest, tokenizer, request.structure, tools)
        _check_sampling(request, grammar)
        size = model.engine.architecture.vocab
        return [
            _Form(grammar, self._grammars.guide(model.digest, tokenizer, size, grammar), syntax)
            for _ in range(prompts * request.sampling.n)
        ]

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
        _check_pictures(request, model.name)
        box = _callable_tools(request)
        text = self._templates.render(
            tokenizer.chat_template,
            request.messages,
            tokenizer.template_variables,
            box.tools if box else (),
        )
        return _nonempty(tokenizer.encode(text + request.begun, special=False), "messages")


def _begun(request: GenerationRequest, model: Loaded) -> int:
    """How many tokens an answer that goes on has been begun with."""
    if not isinstance(request, ChatRequest) or not request.begun:
        return 0
    return len(model.tokenizer.encode(request.begun, special=False))


@dataclass(frozen=True, slots=True)
class _Form:
    """What one choice must keep to, and how its tool calls are read."""

    grammar: Grammar | None = None
    guide: Guide | None = None
    syntax: ToolSyntax | None = None


def _callable_tools(request: GenerationRequest) -> Toolbox | None:
    """The tools that the model is told of: where none may be called, it hears of none."""
    box = request.tools if isinstance(request, ChatRequest) else None
    return None if box is None or box.choice == "none" else box


def _check_pictures(request: ChatRequest, model: str) -> None:
    """Raises UnsupportedFieldError: a message has one, and models here read text."""
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.parts):
            if isinstance(part, Image):
                param = part.param or f"messages[{i}].content[{j}]"
                raise UnsupportedFieldError(
                    f"`{param}` is a picture, and {model} reads text only: leave it out, or connect "
                    "an endpoint that reads pictures.",
                    param=param,
                )


def _check_sampling(request: GenerationRequest, grammar: Grammar) -> None:
    """Refuses what would end an answer before its structure, or go on behind it.

    Raises:
        UnsupportedFieldError: `stop` or `ignore_eos`.
    """
    if request.sampling.stop and grammar.until is None:
        raise UnsupportedFieldError(
            f"`stop` cannot be honoured with `{grammar.param}`: it would cut the structure. "
            "Leave it out.",
            param="stop",
        )
    if request.sampling.ignore_eos:
        raise UnsupportedFieldError(
            f"`ignore_eos` cannot be honoured with `{grammar.param}`: the structure says where "
            "the answer ends. Leave it out.",
            param="ignore_eos",
        )


@dataclass(slots=True)
class _Voice:
    """One choice's words on their way out: text, or text and tool calls.

    Attributes:
        unsaid: log-probabilities of tokens whose text is held back.
    """

    choice: int
    reader: CallReader | None
    unsaid: tuple[TokenLogprob, ...] = field(default=())

    def say(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> Sequence[Event]:
        if self.reader is None:
            return [Piece(self.choice, text, logprobs)]
        self.unsaid += logprobs
        return self._with_logprobs(self.reader.read(text))

    def end(self, end: Ended) -> Sequence[Event]:
        finish = Finish(self.choice, end.reason, end.stop, end.probe)
        if self.reader is None:
            return [finish]
        said = self.reader.finish()
        if self.unsaid and not said:
            said.append(Piece(self.choice, ""))
        if finish.reason == "stop" and self.reader.calls:
            finish = replace(finish, reason="tool_calls")
        return [*self._with_logprobs(said), finish]

    def _with_logprobs(self, said: list[Said]) -> Sequence[Event]:
        if said and self.unsaid:
            said[0] = replace(said[0], logprobs=self.unsaid)
            self.unsaid = ()
        return said


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
        forms: Sequence[_Form],
        tenant: str,
        adapter: Adapter | None,
    ) -> None:
        self._engine = engine
        self._n = request.sampling.n
        self._prompt_tokens = sum(len(prompt) for prompt in prompts)
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[_Told] = asyncio.Queue()
        echo = _Echo(request, prompts, model)
        # Until a choice's first tokens come, and with them what it echoes.
        self._echo = dict(enumerate(echo.texts))
        sampling = request.sampling
        seed = fresh_seed() if sampling.seed is None else sampling.seed
        self._voices = [_Voice(choice, _reader(choice, form)) for choice, form in enumerate(forms)]
        self._sequences: list[GenerationSequence] = []
        begun = _begun(request, model)
        for prompt, shown in zip(prompts, echo.shown, strict=True):
            limit = _limit(len(prompt), sampling.max_tokens, model)
            for index in range(sampling.n):
                choice = len(self._sequences)
                form = forms[choice]
                self._sequences.append(
                    GenerationSequence(
                        prompt,
                        sampling,
                        limit,
                        seed,
                        index,
                        model.tokenizer,
                        _stream(request, model, form),
                        lambda outcome, choice=choice: self._hear(_Told(choice, outcome)),
                        tenant,
                        adapter,
                        shown,
                        form.guide,
                        form.grammar.until if form.grammar else None,
                        begun,
                    )
                )
        self._waiting = deque(self._sequences)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Run to the end; closing the generator takes the sequences out of the engine."""
        ends: dict[int, Ended] = {}
        self._submit(self._engine.at_once)
        try:
            while len(ends) < len(self._sequences):
                told = await self._told.get()
                match told.outcome:
                    case PromptPart(logprobs):
                        yield Piece(told.choice, self._echo.pop(told.choice, ""), logprobs)
                    case TextPart(text, logprobs):
                        text = self._echo.pop(told.choice, "") + text
                        for event in self._voices[told.choice].say(text, logprobs):
                            yield event
                    case Ended() as end:
                        ends[told.choice] = end
                        await self._next(len(ends))
                        if told.choice in self._echo:
                            yield Piece(told.choice, self._echo.pop(told.choice))
                        for event in self._voices[told.choice].end(end):
                            yield event
                    case Failed(error):
                        raise error
        finally:
            self._engine.cancel(self._sequences)
        yield self._done(ends)

    def _submit(self, most: int) -> None:
        """Hand over the next choices. A request of many prompts does not fill the queue for all others."""
        part = list(itertools.islice(self._waiting, most))
        self._engine.submit(part)
        for _ in part:
            self._waiting.popleft()

    async def _next(self, ended: int) -> None:
        """A choice has ended: the next one's turn, or later when the queue is full."""
        while self._waiting:
            at_work = len(self._sequences) - len(self._waiting) - ended
            try:
                self._submit(self._engine.at_once - at_work)
                return
            except BusyError:
                if at_work:
                    return
                await asyncio.sleep(_TRY_AGAIN_SECONDS)

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


def _reader(choice: int, form: _Form) -> CallReader | None:
    if form.syntax is None or form.grammar is None:
        return None
    return CallReader(choice, form.syntax, anywhere=form.grammar.until is not None)


def _stream(request: GenerationRequest, model: Loaded, form: _Form) -> TextStream:
    """The choice's way from tokens to text."""
    # What continues a text keeps its first space, and so does what a grammar spells; an answer in
    # words has none.
    exact = form.grammar is not None and form.grammar.until is None
    begun = isinstance(request, CompletionRequest) or bool(request.begun)
    return model.tokenizer.stream(
        keep_space=exact or begun,
        spelled=form.grammar.spelled if form.grammar else frozenset(),
    )


class _Echo:
    """What a completion repeats of its prompts.

    Attributes:
        texts: the prompt's text, for every choice that must begin with it.
        shown: for every prompt the bytes that each token adds to that text, where log-probabilities are
            asked for with it; else None.
    """

    def __init__(
        self, request: GenerationRequest, prompts: Sequence[Sequence[int]], model: Loaded
    ) -> None:
        self.texts: list[str] = []
        self.shown: list[list[bytes] | None] = [None] * len(prompts)
        if not isinstance(request, CompletionRequest) or not request.echo:
            return
        tokenizer = model.tokenizer
        for i, (prompt, tokens) in enumerate(zip(request.prompts, prompts, strict=True)):
            text = prompt if isinstance(prompt, str) else tokenizer.decode(tokens)
            self.texts += [text] * request.sampling.n
            if request.sampling.logprobs is not None:
                self.shown[i] = list(_shown(text, tokens, tokenizer))


def _shown(text: str, tokens: Sequence[int], tokenizer: Tokenizer) -> Iterator[bytes]:
    """The bytes that each of its tokens adds to a prompt's text.

    Special tokens add nothing unless they are spelled out there, and the first word of some vocabularies
    has a space that the text does not have.
    """
    data, at = text.encode("utf-8", "replace"), 0
    for token in tokens:
        own = tokenizer.token_bytes(token)
        if token in tokenizer.special_ids and not data.startswith(own, at):
            own = b""
        elif at == 0 and tokenizer.drops_first_space and not data.startswith(b" "):
            own = own.removeprefix(b" ")
        at += len(own)
        yield own


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
