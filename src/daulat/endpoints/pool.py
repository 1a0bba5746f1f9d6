"""The models in memory: loaded when first asked for, unloaded when memory is short or they lie idle.

One lock: models are loaded one at a time. A model that is answering is never unloaded (it is looked up and
counted, or judged idle and dropped, without giving way to anybody in between). Models are told apart by
digest, so one that was pulled anew under the same name is loaded anew.

Adapters are held beside the model that they change, once each however many requests use them, and go by
themselves: those idle longest where there are too many or memory is short, and those that were removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daulat.endpoints import memory
from daulat.engine.adapter import Adapter
from daulat.engine.device import Device, Missing, find_device
from daulat.engine.loading import Progress, load_adapter, load_native, text_of
from daulat.engine.runner import Engine
from daulat.engine.scheduler import Limits
from daulat.errors import BusyError, UnavailableError
from daulat.models.adapters import AdapterEntry
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.checkpoint import Checkpoint
from daulat.models.lora import LoraFile
from daulat.models.lora_sites import Base, base_of
from daulat.models.shelf import Shelf, shelf_of
from daulat.models.tokenizer import Tokenizer, load_tokenizer
from daulat.settings import Engine as EngineSettings
from daulat.values.architecture import EncoderArchitecture
from daulat.values.plan import Step

if TYPE_CHECKING:
    from daulat.engine.encoder import Encoder

log = logging.getLogger(__name__)


_SWEEP_SECONDS = 30


@dataclass(slots=True)
class Held:
    """An adapter in memory. `users` counts the requests at work with it."""

    id: str
    adapter: Adapter
    users: int = 0
    used: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Loaded:
    """A model in memory.

    Attributes:
        numbers: how its matrices are held, most of them first: `int8`, `Q4_1, Q8_0`.
        device: where it is computed; None: on the processor.
        aside: why not on a device that is there, or seems to be.
        taken: bytes, without its adapters.
        base: what adapters are held against; None: it takes none.
        adapters: by digest.
        users: counts the requests at work with it.
    """

    name: str
    digest: str
    engine: Engine | Encoder
    tokenizer: Tokenizer
    input_limit: int
    taken: int
    numbers: str = "float32"
    device: Device | None = None
    aside: str = ""
    base: Base | None = None
    adapters: dict[str, Held] = field(default_factory=dict[str, Held])
    users: int = 0
    used: float = field(default_factory=time.monotonic)

    @property
    def whole(self) -> int:
        """Bytes, with its adapters."""
        return self.taken + sum(held.adapter.held_bytes for held in self.adapters.values())

    def close(self) -> None:
        if isinstance(self.engine, Engine):
            self.engine.close()


class Pool:
    """All loaded models.

    Args:
        settings: memory, number format, and how much at once.
        idle_minutes: unload what has been idle for so long; 0: only when memory is short.
        look: finds a device, once, when the first model is loaded.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        settings: EngineSettings,
        idle_minutes: int = 0,
        look: Callable[[], Device | Missing] = find_device,
    ) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self._idle_seconds = idle_minutes * 60
        self._allowed = memory.allowance(settings.memory)
        self._look = look
        self._found: Device | Missing | None = None
        self._shelf = shelf_of(settings.prepared)
        self._loaded: dict[str, Loaded] = {}
        self._lock = asyncio.Lock()
        self._closed = False

    @property
    def loaded(self) -> tuple[Loaded, ...]:
        return tuple(self._loaded.values())

    @contextlib.asynccontextmanager
    async def use(
        self, name: str, digest: str, progress: Progress | None = None
    ) -> AsyncGenerator[Loaded, None]:
        """The model, loaded now if need be, and not unloaded while the context is open.

        Args:
            progress: told (blocks read, blocks in all) while weights are prepared.

        Raises:
            UnavailableError: it does not fit into memory beside those that are at work.
            ModelFileError: its files are damaged.
        """
        # A model that is here is taken without the lock: it need not wait for another one's loading.
        model = self._loaded.get(digest)
        if model is None:
            async with self._lock:
                model = await self._get(name, digest, progress)
        model.users += 1
        try:
            yield model
        finally:
            model.users -= 1
            model.used = time.monotonic()

    @contextlib.asynccontextmanager
    async def adapter(self, model: Loaded, step: Step) -> AsyncGenerator[Adapter | None, None]:
        """The adapter that a step names, loaded now if need be; None where it names none.

        Args:
            model: in use by the caller, so that it stays.

        Raises:
            ModelNotFoundError, UnavailableError: it has just been removed, or replaced.
            BusyError: there are too many at work, or no memory beside them.
            ModelFileError: its files are damaged.
        """
        if not step.adapter:
            yield None
            return
        held = model.adapters.get(step.adapter_digest)
        if held is None:
            async with self._lock:
                held = await self._get_adapter(model, step)
        held.users += 1
        try:
            yield held.adapter
        finally:
            held.users -= 1
            held.used = time.monotonic()

    async def sweep(self) -> None:
        """Unload what has been idle too long, and adapters that were removed; runs until cancelled."""
        while True:
            await asyncio.sleep(min(self._idle_seconds or _SWEEP_SECONDS, _SWEEP_SECONDS))
            async with self._lock:
                if self._idle_seconds:
                    self._drop_while(lambda: True, self._lies_idle)
                    await self._unload_while(lambda: True, self._lies_idle)
                await self._drop_removed()

    def _lies_idle(self, one: Loaded | Held) -> bool:
        return one.used < time.monotonic() - self._idle_seconds

    async def close(self) -> None:
        """Unload everything, at work or not."""
        async with self._lock:
            self._closed = True
            for model in self.loaded:
                await self._unload(model)

    async def _get(self, name: str, digest: str, progress: Progress | None = None) -> Loaded:
        if self._closed:
            raise UnavailableError("The server is shutting down. Try again later.")
        model = self._loaded.get(digest)
        if model is None:
            entry = self._catalogue.get(name)
            if entry is None or entry.digest != digest:
                raise UnavailableError(f"The model {name} has just been replaced. Try again.")
            model = await self._load(entry, progress)
            self._loaded[digest] = model
        return model

    async def device(self) -> Device | Missing:
        """Where models are computed that fit there, or why there is no such place."""
        if self._settings.device == "cpu":
            return Missing('engine.device = "cpu"', driver=False)
        if self._found is None:
            self._found = await asyncio.to_thread(self._look)
        return self._found

    async def _load(self, entry: ModelEntry, progress: Progress | None) -> Loaded:
        checkpoint = await asyncio.to_thread(entry.open)
        need = memory.choose(
            checkpoint.architecture,
            checkpoint.tensors,
            self._settings,
            self._allowed,
            await self.device(),
        )
        if not await self._freed(need.least, need.device):
            raise UnavailableError(
                f"The model {entry.name} needs {need.least // memory.MIB} MiB of memory, and "
                f"{max(self._free(need.device), 0) // memory.MIB} MiB are free. Wait until other models "
                "are idle, raise engine.memory, or take a smaller model."
            )
        started = time.monotonic()
        work = _Work(entry, checkpoint, need, self._settings, self._shelf, progress)
        if need.token == 0:
            model = await asyncio.to_thread(_build_encoder, work)
        else:
            free = self._free(need.device) - need.weights
            model = await asyncio.to_thread(_build_engine, work, free)
        log.info(
            "model loaded",
            extra={
                "model": entry.name,
                "digest": entry.digest,
                "kernels": "native" if need.native else "plain",
                "device": need.device.name if need.device else "cpu",
                "numbers": model.numbers,
                "weights_mib": need.weights // memory.MIB,
                "seconds": round(time.monotonic() - started, 3),
            },
        )
        return model

    def _free(self, on: Device | None = None) -> int:
        """Bytes, of a device's memory or the machine's."""
        allowed = self._allowed if on is None else memory.allowance(self._settings.memory, on)
        return allowed - sum(model.whole for model in self.loaded if model.device == on)

    @property
    def adapters(self) -> tuple[tuple[Loaded, str, Held], ...]:
        """All that are in memory: whose, digest, what."""
        return tuple((m, digest, h) for m in self.loaded for digest, h in tuple(m.adapters.items()))

    async def _get_adapter(self, model: Loaded, step: Step) -> Held:
        held = model.adapters.get(step.adapter_digest)
        if held is not None:
            return held
        entry = await asyncio.to_thread(self._catalogue.adapters.find, step.model, step.adapter)
        made_for = (entry.base_digest, entry.digest)
        if model.base is None or made_for != (model.digest, step.adapter_digest):
            raise UnavailableError(f"The adapter {entry.id} has just been replaced. Try again.")
        await self._make_room(entry, model.device)
        adapter = await asyncio.to_thread(_read_adapter, entry, model.base)
        held = model.adapters[entry.digest] = Held(entry.id, adapter)
        log.info("adapter loaded", extra={"model": entry.id, "digest": entry.digest})
        return held

    async def _make_room(self, entry: AdapterEntry, on: Device | None) -> None:
        need, most = 4 * entry.parameters, self._settings.max_adapters
        self._drop_while(lambda: len(self.adapters) >= most, lambda _: True)
        if len(self.adapters) >= most:
            raise BusyError(
                f"{most} adapters are at work, which is all that may be in memory. Try again in a "
                "moment, or raise engine.max_adapters."
            )
        if not await self._freed(need, on):
            raise BusyError(
                f"The adapter {entry.id} needs {need // memory.MIB + 1} MiB of memory, and "
                f"{max(self._free(on), 0) // memory.MIB} MiB are free. Try again in a moment, or raise "
                "engine.memory."
            )

    async def _freed(self, need: int, on: Device | None) -> bool:
        """Whether so many bytes are free there, at the cost of idle adapters first and idle models next."""
        there = {id(held) for model, _, held in self.adapters if model.device == on}
        self._drop_while(lambda: self._free(on) < need, lambda held: id(held) in there)
        await self._unload_while(lambda: self._free(on) < need, lambda model: model.device == on)
        return self._free(on) >= need

    def _drop_while(self, needed: Callable[[], bool], eligible: Callable[[Held], bool]) -> None:
        """Unload idle adapters, the longest idle first, for as long as it is needed."""
        for model, digest, held in sorted(self.adapters, key=lambda one: one[2].used):
            if not needed():
                return
            if held.users == 0 and eligible(held):
                del model.adapters[digest]
                log.info("adapter unloaded", extra={"model": held.id, "digest": digest})

    async def _drop_removed(self) -> None:
        entries = await asyncio.to_thread(self._catalogue.adapters.entries)
        there = {(entry.base_digest, entry.digest) for entry in entries}
        gone = {id(h) for model, digest, h in self.adapters if (model.digest, digest) not in there}
        self._drop_while(lambda: True, lambda held: id(held) in gone)

    async def _unload_while(
        self, needed: Callable[[], bool], eligible: Callable[[Loaded], bool]
    ) -> None:
        """Unload idle models, the longest idle first, for as long as it is needed."""
        for model in sorted(self.loaded, key=lambda m: m.used):
            if not needed():
                return
            if model.users == 0 and eligible(model):
                await self._unload(model)

    async def _unload(self, model: Loaded) -> None:
        del self._loaded[model.digest]
        await asyncio.to_thread(model.close)
        log.info("model unloaded", extra={"model": model.name, "digest": model.digest})


def prepare(
    entry: ModelEntry, settings: EngineSettings, progress: Progress | None = None
) -> tuple[str, int] | None:
    """Make a model's prepared weights, where it has any, ahead of its first start.

    Returns:
        How they are held, and the size of their file; None: there is nothing to prepare, or to keep.

    Raises:
        ModelFileError: the model's files are damaged, or the format is not for this model.
    """
    checkpoint = entry.open()
    allowed = memory.allowance(settings.memory)
    need = memory.demand(checkpoint.architecture, checkpoint.tensors, settings, allowed)
    place = shelf_of(settings.prepared).place(entry.digest, need.numbers)
    if not need.native or place is None:
        return None
    load_native(checkpoint, need.numbers, _threads(settings), progress, place=place)
    if not place.path.exists():
        return None
    return memory.describe(need, checkpoint.tensors), place.path.stat().st_size


@dataclass(frozen=True, slots=True)
class _Work:
    """A model to be built."""

    entry: ModelEntry
    checkpoint: Checkpoint
    need: memory.Demand
    settings: EngineSettings
    shelf: Shelf
    progress: Progress | None


def _build_engine(work: _Work, free: int) -> Loaded:
    entry, need = work.entry, work.need
    tokenizer = load_tokenizer(work.checkpoint)
    limits = _limits(work, free)
    engine = _native(work, limits) if need.native else _plain(work, limits)
    return Loaded(
        entry.name,
        entry.digest,
        engine,
        tokenizer,
        engine.architecture.context,
        need.weights + limits.cache_tokens * need.token,
        memory.describe(need, work.checkpoint.tensors, engine.reads_as_it_writes),
        need.device,
        need.aside,
        base_of(work.checkpoint),
    )


def _native(work: _Work, limits: Limits) -> Engine:
    numbers, settings = work.need.numbers, work.settings
    place = work.shelf.place(work.entry.digest, numbers)
    decoder = load_native(
        work.checkpoint,
        numbers,
        _threads(settings),
        work.progress,
        place,
        inputs=settings.inputs,
        matrix_units=settings.matrix_units == "auto",
    )
    return Engine(decoder, limits, work.entry.name)


def _plain(work: _Work, limits: Limits) -> Engine:
    from daulat.engine import plain  # noqa: PLC0415 - it brings PyTorch, which takes a second

    plain.compute_on(_threads(work.settings))
    dtype, on = plain.DTYPES[work.need.dtype], work.need.device
    with plain.enough_memory(on.name if on else "this machine"):
        place = on.place if on else "cpu"
        decoder = plain.load_decoder(work.checkpoint, dtype, work.progress, place)
        return Engine(decoder, limits, work.entry.name)


def _limits(work: _Work, free: int) -> Limits:
    """Half of what is left, so that a second model finds room; never more than can be of use."""
    need, settings = work.need, work.settings
    most = text_of(work.checkpoint).context * settings.max_sequences
    tokens = max(256, min(most, free // 2 // need.token))
    kept = min(tokens, settings.prefix_cache * memory.MIB // need.token)
    return Limits(settings.max_sequences, settings.queue, tokens, settings.chunk, kept)


def _read_adapter(entry: AdapterEntry, base: Base) -> Adapter:
    return load_adapter(LoraFile(entry.id, entry.paths(), base), entry.digest, base.layers)


def _build_encoder(work: _Work) -> Loaded:
    from daulat.engine import plain  # noqa: PLC0415 - it brings PyTorch, which takes a second

    entry, architecture = work.entry, work.checkpoint.architecture
    assert isinstance(architecture, EncoderArchitecture)  # noqa: S101 - `demand` has told them apart
    tokenizer = load_tokenizer(work.checkpoint)
    limit = min(work.checkpoint.input_limit or architecture.context, architecture.context)
    plain.compute_on(_threads(work.settings))
    encoder = plain.load_encoder(work.checkpoint)
    return Loaded(entry.name, entry.digest, encoder, tokenizer, limit, work.need.weights)


def _threads(settings: EngineSettings) -> int:
    return settings.threads or os.cpu_count() or 1
