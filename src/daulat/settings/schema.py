"""What can be set: every table, key, default and bound, with its meaning.

The dataclasses are the schema. `reading` checks against their fields' metadata, `writing` prints it, and
docs/settings.md shows it (a test keeps that page in step). The tables of the gateway are in `gateway`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from daulat.settings.gateway import Auto, Endpoint, Money, Policy, Project, Route
from daulat.settings.rules import scalar


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server listens."""

    host: str = scalar(
        "127.0.0.1", "Address to listen on. Only this machine can reach the default.", 1, 255
    )
    port: int = scalar(8000, "Port to listen on; 0 takes a free one.", 0, 65535)
    max_body: int = scalar(4194304, "Largest request body, in bytes.", 1024, 67108864)


@dataclass(frozen=True, slots=True)
class Engine:
    """How models run on this machine."""

    device: Literal["auto", "cpu", "cuda"] = scalar(
        "auto",
        "auto: a CUDA device where there is one with enough memory, else the processor. cuda: that or nothing. "
        "Only the processor gives the same answer in any company; docs/engine.md says why.",
        choices=("auto", "cpu", "cuda"),
    )
    kernels: Literal["auto", "plain"] = scalar(
        "auto",
        "The processor's. auto: machine code of our own, weights as their file has them. plain: PyTorch, "
        "slower.",
        choices=("auto", "plain"),
    )
    dtype: Literal["auto", "float32", "bfloat16", "int8", "int4"] = scalar(
        "auto",
        "Number format of weights that are not kept as they are. auto: as they are up to 512 MiB of "
        "them, int8 beyond; bfloat16 on a CUDA device. int4 is never taken by itself. docs/engine.md says what "
        "each costs.",
        choices=("auto", "float32", "bfloat16", "int8", "int4"),
    )
    inputs: Literal["auto", "int16"] = scalar(
        "auto",
        "Number format of what weights of 4 and 8 bits are multiplied with. auto: int8, and int16 where that "
        "matters. int16: nearer to float32, slower, and with twice the memory for a context.",
        choices=("auto", "int16"),
    )
    matrix_units: Literal["auto", "off"] = scalar(
        "auto",
        "auto: prompts are read by the processor's matrix units (Intel AMX) where it has them, in bfloat16 and "
        "several times as fast; not with inputs = int16. off: they are read as answers are written.",
        choices=("auto", "off"),
    )
    prepared: int = scalar(
        20480,
        "MiB that prepared weights may take in the cache folder, so that the next start is quick; "
        "those unused for longest go first. 0: none are kept.",
        0,
        1 << 24,
    )
    threads: int = scalar(0, "Processor threads; 0: one for each core.", 0, 1024)
    memory: int = scalar(
        0,
        "MiB that models and their caches may take, of the machine's memory and of a device's each; 0: three "
        "quarters of it.",
        0,
        1 << 24,
    )
    prefix_cache: int = scalar(
        512,
        "MiB of that memory which may keep what ended answers computed, for requests of the same key that "
        "begin alike; 0: none.",
        0,
        1 << 24,
    )
    max_adapters: int = scalar(32, "Adapters in memory at once, of all models together.", 1, 4096)
    max_sequences: int = scalar(16, "Answers computed together, for each model.", 1, 512)
    queue: int = scalar(64, "Answers that may wait; beyond that a request gets 429.", 0, 100000)
    chunk: int = scalar(
        512,
        "Tokens in one step; long prompts are read in such pieces, between others' words.",
        16,
        8192,
    )


@dataclass(frozen=True, slots=True)
class Models:
    """Which models, and from where."""

    default: str = scalar(
        "SmolLM2-135M-Instruct", "The model loaded at start and used where none is named.", 1, 96
    )
    hub: str = scalar(
        "https://huggingface.co",
        "Where `models pull owner/name` looks; HF_ENDPOINT overrides it.",
        8,
        512,
    )
    idle_minutes: int = scalar(
        0, "Unload a model after so many idle minutes; 0: only when memory is short.", 0, 525600
    )


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of every exchange."""

    url: str = scalar(
        "", "SQLAlchemy URL of the database; empty: record.sqlite3 in the home folder.", 0, 1024
    )
    contents: Literal["full", "digests"] = scalar(
        "full",
        "full: texts are kept. digests: only commitments, which can prove a text but not give it back.",
        choices=("full", "digests"),
    )
    keep_days: int = scalar(
        0, "Remove texts after so many days (the chain still verifies); 0: keep them.", 0, 36500
    )


@dataclass(frozen=True, slots=True)
class Log:
    """What the server writes to standard error. Never contents or keys."""

    level: Literal["debug", "info", "warning", "error"] = scalar(
        "info", "How much is logged.", choices=("debug", "info", "warning", "error")
    )
    format: Literal["text", "json"] = scalar(
        "text", "For eyes or for machines.", choices=("text", "json")
    )


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Traces and metrics by OpenTelemetry, for a collector of yours. Never contents."""

    url: str = scalar(
        "", "Address of an OTLP/HTTP collector, such as http://127.0.0.1:4318; empty: off.", 0, 1024
    )
    headers: str = scalar(
        "",
        "Name of the environment variable with its headers, as name=value,name=value; empty: none.",
        0,
        256,
    )
    service: str = scalar("daulat", "What this server is called there.", 1, 128)
    sampling: float = scalar(
        1.0, "Share of the traces that begin here which are kept, from 0 to 1.", 0, 1
    )


@dataclass(frozen=True, slots=True)
class Console:
    """The page at /."""

    language: Literal["auto", "en", "id"] = scalar(
        "auto", "Language of the page; auto: the browser's.", choices=("auto", "en", "id")
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. `home` comes from --home or DAULAT_HOME and is not in the file."""

    home: Path
    server: Server = Server()
    engine: Engine = Engine()
    models: Models = Models()
    record: Record = Record()
    log: Log = Log()
    telemetry: Telemetry = Telemetry()
    console: Console = Console()
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict[str, Endpoint])
    routes: Mapping[str, Route] = field(default_factory=dict[str, Route])
    policy: Policy = field(default_factory=Policy)
    money: Money = field(default_factory=Money)
    auto: Auto = field(default_factory=Auto)
    projects: Mapping[str, Project] = field(default_factory=dict[str, Project])

    @property
    def record_place(self) -> str | Path:
        """The record's database: an SQLAlchemy URL, or the path of an SQLite file."""
        return self.record.url or self.home / "record.sqlite3"


TABLES: dict[str, type] = {
    "server": Server,
    "engine": Engine,
    "models": Models,
    "record": Record,
    "log": Log,
    "telemetry": Telemetry,
    "console": Console,
    "policy": Policy,
    "money": Money,
    "auto": Auto,
}

NAMED: dict[str, type] = {"endpoints": Endpoint, "routes": Route, "projects": Project}
"""Tables of tables, by names of the user's: `[endpoints.NAME]`."""
