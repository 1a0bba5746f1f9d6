"""A model's passport: facts read off its files, and what its source said of it. Nothing is guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from daulat.models.catalogue import ModelEntry
from daulat.models.checkpoint import Checkpoint
from daulat.models.tokenizer import load_tokenizer
from daulat.values.architecture import Architecture, EncoderArchitecture

_WHOLE = re.compile(r"[IU]\d+|BOOL")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes to run in one number format: the weights, and the cache of one full context."""

    weights: int
    cache: int


@dataclass(frozen=True, slots=True)
class Passport:
    """Attributes:
    parameters: numbers in the weights; a matrix that serves twice counts once, whole numbers
        (stored positions and masks) not at all.
    context: tokens.
    quantisation: the type that most of the parameters are stored in.
    types: stored type to number of parameters.
    licence, source, revision: empty where the source gave none.
    memory: number format to bytes.
    files: path to digest and size.
    """

    name: str
    architecture: str
    kind: str
    parameters: int
    context: int
    layers: int
    hidden: int
    vocabulary: int
    quantisation: str
    types: Mapping[str, int]
    chat_template: bool
    licence: str
    source: str
    revision: str
    digest: str
    memory: Mapping[str, Memory]
    files: Mapping[str, tuple[str, int]]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        fields = asdict(self)
        fields["files"] = {
            path: {"digest": blob, "size": size} for path, (blob, size) in self.files.items()
        }
        return fields


def passport(entry: ModelEntry) -> Passport:
    """Read a model's passport off its files.

    Raises:
        ModelFileError: they are damaged.
    """
    checkpoint = entry.open()
    architecture = checkpoint.architecture
    types: Counter[str] = Counter()
    for info in checkpoint.tensors.values():
        if not _WHOLE.fullmatch(info.type):
            types[info.type] += prod(info.shape)
    parameters = sum(types.values())
    return Passport(
        name=entry.name,
        architecture=architecture.family,
        kind=architecture.kind,
        parameters=parameters,
        context=_context(checkpoint, architecture),
        layers=_layers(architecture),
        hidden=architecture.hidden,
        vocabulary=architecture.vocab,
        quantisation=types.most_common(1)[0][0] if types else "",
        types=dict(types.most_common()),
        chat_template=load_tokenizer(checkpoint).chat_template is not None,
        licence=entry.licence,
        source=entry.source,
        revision=entry.revision,
        digest=entry.digest,
        memory={
            name: Memory(size * parameters, size * _cache_elements(architecture))
            for name, size in (("float32", 4), ("bfloat16", 2))
        },
        files=entry.files,
    )


def _context(checkpoint: Checkpoint, architecture: Architecture | EncoderArchitecture) -> int:
    return checkpoint.input_limit or architecture.context


def _layers(architecture: Architecture | EncoderArchitecture) -> int:
    if isinstance(architecture, Architecture):
        return len(architecture.layers)
    return architecture.layers


def _cache_elements(architecture: Architecture | EncoderArchitecture) -> int:
    if isinstance(architecture, Architecture):
        return architecture.cache_elements * architecture.context
    return 0
