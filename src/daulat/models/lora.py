"""LoRA adapters (arXiv 2106.09685) in PEFT's file format, read as data and held against their base.

    adapter_config.json          rank, scale, which matrices
    adapter_model.safetensors    base_model.model.<matrix>.lora_A.weight [r, in] and lora_B.weight [out, r]

A matrix W x becomes W x + scale B (A x); scale is lora_alpha / r, with rsLoRA (arXiv 2312.03732)
lora_alpha / sqrt(r). What PEFT can also write and we do not compute is refused by name: an adapter does
what it says, or it does not come in.

Not here: which matrices a base has (`lora_sites`), how adapters are stored and named (`adapters`), any
arithmetic with inputs (`engine`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models.fields import Fields
from daulat.models.jsonfile import read_object
from daulat.models.lora_sites import Base, Site
from daulat.models.mapped import TensorInfo
from daulat.models.numbers import Floats, float32
from daulat.models.safetensors import SafetensorsFile

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"

MAX_RANK = 256
MAX_ALPHA = 1e6
MAX_CONFIG = 1 << 20
MAX_PATTERNS = 1024

_DTYPES = ("F32", "F16", "BF16")
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")

# What says nothing about the numbers, or is judged by itself below.
_KNOWN = frozenset(
    {
        *("r", "rank_pattern", "lora_alpha", "alpha_pattern", "use_rslora", "target_modules"),
        *("exclude_modules", "layers_to_transform", "layers_pattern", "bias", "fan_in_fan_out"),
        *("peft_type", "peft_version", "task_type", "auto_mapping", "inference_mode", "revision"),
        *("base_model_name_or_path", "lora_dropout", "init_lora_weights", "ensure_weight_tying"),
        *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config"),
        *("megatron_core", "qalora_group_size"),
    }
)
_REFUSED: Mapping[str, str] = {
    "use_dora": "DoRA",
    "modules_to_save": "whole modules beside the LoRA matrices (modules_to_save)",
    "trainable_token_indices": "trained token embeddings (trainable_token_indices)",
    "target_parameters": "LoRA on parameters that are no linear module (target_parameters)",
    "layer_replication": "repeated layers (layer_replication)",
    "lora_bias": "biases on the LoRA matrices (lora_bias)",
    "alora_invocation_tokens": "activated LoRA (alora_invocation_tokens)",
    "use_qalora": "QALoRA",
    "megatron_config": "Megatron's parallel layers (megatron_config)",
}
_BEGINNINGS = ("gaussian", "eva", "orthogonal")
"""Ways to begin that leave the base as it is; the others (PiSSA, OLoRA, CorDA, LoftQ, ...) change it."""

# The regular expressions that people write in rank_pattern and alpha_pattern, and none that runs for long.
_PATTERN = re.compile(
    r"\^?(?:\.[*+]|\\d\+?|\[0-9\]\+?|\\?\.|[A-Za-z0-9_]"
    r"|\((?:\?:)?(?:[A-Za-z0-9_.]|\\\.)+(?:\|(?:[A-Za-z0-9_.]|\\\.)+)*\))+\$?"
)
_WILD = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """The two tensors that change one matrix, or one part of a fused one.

    Attributes:
        scale: multiplies B (A x).
        a, b: the tensors' names in the file; [rank, site.columns] and [site.rows, rank].
    """

    site: Site
    rank: int
    scale: float
    a: str
    b: str


class LoraFile:
    """An adapter's two files, checked against its base on opening.

    Attributes:
        rank: the largest of its ranks.
        targets: the last parts of the changed matrices' names, sorted.
        parameters: numbers in all its matrices.
        pairs: in the order of layers and rows.

    Raises:
        UnsupportedModelError: sound, and of a kind that we do not compute.
        ModelFileError: damaged, lying, or made for another base.
    """

    def __init__(self, name: str, files: Mapping[str, Path], base: Base) -> None:
        self._name = name
        self._base = base
        for wanted in (CONFIG, TENSORS):
            if wanted not in files:
                raise ModelFileError(f"{name} is no adapter in PEFT's format: it has no {wanted}.")
        config = read_object(files[CONFIG], CONFIG, MAX_CONFIG)
        self._fields = Fields(config, CONFIG)
        self._refuse_unknown(config)
        self._ranks = _Numbers(self._fields, "r", "rank_pattern", _rank)
        self._alphas = _Numbers(self._fields, "lora_alpha", "alpha_pattern", _alpha)
        self._rooted = self._fields.flag("use_rslora", False)
        self._fields.flag("fan_in_fan_out", False)  # of no effect on linear modules, as in PEFT
        self._file = SafetensorsFile(files[TENSORS])
        found = self._modules()
        self._check_targets(frozenset(found))
        order = sorted(found, key=lambda module: base.sites[module].order)
        self.pairs = tuple(self._pair(module, found[module]) for module in order)
        self.rank = max(pair.rank for pair in self.pairs)
        self.targets = tuple(sorted({module.rpartition(".")[2] for module in found}))
        self.parameters = sum(
            pair.rank * (pair.site.rows + pair.site.columns) for pair in self.pairs
        )

    def read(self, pair: Pair) -> tuple[Floats, Floats]:
        """A [rank, columns] and B [rows, rank] with the scale in it, both float32 and copies.

        Raises:
            ModelFileError: numbers that are none.
        """
        a, b = (float32(self._file.read(name)) for name in (pair.a, pair.b))
        with np.errstate(over="ignore"):
            b *= np.float32(pair.scale)
        for tensor, name in ((a, pair.a), (b, pair.b)):
            if not bool(np.isfinite(tensor).all()):
                raise ModelFileError(f"{self._name}: {name} holds numbers that are not finite.")
        return a, b

    def _refuse_unknown(self, config: Mapping[str, Any]) -> None:
        kind = config.get("peft_type")
        if kind != "LORA":
            raise UnsupportedModelError(
                f"{self._name} is a PEFT adapter of type {str(kind)[:40]!r}; only LORA is supported."
            )
        task = config.get("task_type")
        if task not in (None, "CAUSAL_LM"):
            raise UnsupportedModelError(
                f"{self._name} was trained for the task {str(task)[:40]!r}; only CAUSAL_LM writes text."
            )
        if config.get("bias", "none") != "none":
            raise self._unsupported(f"trained biases (bias = {str(config['bias'])[:40]!r})")
        begin = config.get("init_lora_weights", True)
        if not isinstance(begin, bool) and begin is not None and begin not in _BEGINNINGS:
            raise self._unsupported(
                f"a changed base (init_lora_weights = {str(begin)[:40]!r}); "
                "convert it to a plain LoRA when you save it"
            )
        for key, value in config.items():
            if key in _REFUSED and value:
                raise self._unsupported(_REFUSED[key])
            if key not in _KNOWN and value:
                raise self._unsupported(f"the option {key[:60]!r}, which is not known here")

    def _unsupported(self, what: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{self._name} uses {what}. That is not supported.")

    def _modules(self) -> dict[str, dict[str, TensorInfo]]:
        """Matrix to side (A, B) to tensor."""
        found: dict[str, dict[str, TensorInfo]] = {}
        for name, info in self._file.tensors.items():
            match = _TENSOR.fullmatch(name)
            if match is None:
                raise self._strange(name)
            module = self._base.canonical(match["module"])
            if module not in self._base.sites:
                raise UnsupportedModelError(
                    f"{self._name} changes {match['module'][:120]!r}: "
                    + self._base.why_not(match["module"])
                )
            sides = found.setdefault(module, {})
            if match["side"] in sides:
                raise ModelFileError(f"{self._name} has {module}.lora_{match['side']} twice.")
            sides[match["side"]] = info
        if not found:
            raise ModelFileError(f"{self._name} changes nothing: {TENSORS} holds no LoRA matrices.")
        return found

    def _strange(self, name: str) -> ModelFileError:
        for part, what in (
            ("lora_magnitude_vector", "DoRA"),
            ("lora_embedding_", "LoRA on embeddings"),
            (".lora_B.bias", "biases on the LoRA matrices"),
            (".base_layer.", "trained weights of the base"),
        ):
            if part in name:
                return self._unsupported(f"{what} (tensor {name[:120]!r})")
        return UnsupportedModelError(
            f"{self._name} holds the tensor {name[:120]!r}, which is no LoRA matrix."
        )

    def _check_targets(self, found: frozenset[str]) -> None:
        """What the configuration says is changed must be there, all of it: a cut file is no adapter."""
        targets: Any = self._fields.get("target_modules")
        if isinstance(targets, str):
            return  # a regular expression from outside is not run; the tensors say what is changed
        if not isinstance(targets, list) or not 0 < len(cast("list[Any]", targets)) <= MAX_PATTERNS:
            raise self._fields.wrong("target_modules", "a list of modules' names")
        everywhere = all(
            not self._fields.get(key)
            for key in ("layers_to_transform", "layers_pattern", "exclude_modules")
        ) and not isinstance(self._fields.get("layers_to_transform"), int)
        for target in cast("list[Any]", targets):
            if not isinstance(target, str) or not target:
                raise self._fields.wrong("target_modules", "a list of modules' names")
            name = self._base.canonical(target)
            matching = [m for m in self._base.sites if m == name or m.endswith(f".{target}")]
            if not matching:
                raise UnsupportedModelError(
                    f"{self._name} targets {target[:120]!r}: {self._base.why_not(target)}"
                )
            missing = [module for module in matching if module not in found]
            if missing and everywhere:
                raise ModelFileError(
                    f"{self._name} targets {target[:120]!r} and has no matrices for {missing[0]}: it "
                    f"was made for another base than {self._base.name}, or the file is incomplete."
                )

    def _pair(self, module: str, sides: Mapping[str, TensorInfo]) -> Pair:
        for side in "AB":
            if side not in sides:
                raise ModelFileError(f"{self._name}: {module} has no lora_{side}; save it again.")
        site, a, b = self._base.sites[module], sides["A"], sides["B"]
        for info in (a, b):
            if info.type not in _DTYPES:
                raise UnsupportedModelError(
                    f"{self._name}: {info.name[:200]} is stored as {info.type}; "
                    f"{', '.join(_DTYPES)} are read."
                )
        rank = int(self._ranks.of(module))
        self._check_shape(module, a, (rank, site.columns))
        self._check_shape(module, b, (site.rows, rank))
        scale = self._alphas.of(module) / (math.sqrt(rank) if self._rooted else rank)
        return Pair(site, rank, scale, a.name, b.name)

    def _check_shape(self, module: str, info: TensorInfo, expected: tuple[int, int]) -> None:
        if info.shape == expected:
            return
        side = "A" if ".lora_A." in info.name else "B"
        rank, width = expected if side == "A" else reversed(expected)
        raise ModelFileError(
            f"{self._name}: lora_{side} of {module} has shape {info.shape}; with rank {rank} "
            f"({CONFIG}) and {width} {'inputs' if side == 'A' else 'outputs'} ({self._base.name}) it "
            f"must be {expected}. The adapter is of another base or rank."
        )


class _Numbers:
    """A number of the configuration with its exceptions: `r` and `rank_pattern`, and the like."""

    def __init__(
        self, fields: Fields, key: str, patterns: str, read: Callable[[Fields, str], float]
    ) -> None:
        self._usual = read(fields, key)
        table = fields.table(patterns)  # raises where it is none
        self._exceptions = [
            (_compiled(patterns, name), read(table, name))
            for name in _names(fields, patterns)
            if table is not None
        ]

    def of(self, module: str) -> float:
        """The first exception whose pattern fits, as in PEFT; else the usual number."""
        for pattern, number in self._exceptions:
            if pattern.match(module):
                return number
        return self._usual


def _rank(fields: Fields, key: str) -> float:
    return fields.integer(key, 1, MAX_RANK)


def _alpha(fields: Fields, key: str) -> float:
    return fields.number(key, 1e-6, MAX_ALPHA)


def _names(fields: Fields, key: str) -> Sequence[str]:
    names = list(cast("Mapping[str, Any]", fields.get(key) or {}))
    if len(names) > MAX_PATTERNS:
        raise fields.wrong(key, f"a table of at most {MAX_PATTERNS} patterns")
    return names


def _compiled(key: str, pattern: str) -> re.Pattern[str]:
    wild = pattern.count("*") + pattern.count("+")
    if len(pattern) > 256 or wild > _WILD or not _PATTERN.fullmatch(pattern):
        raise UnsupportedModelError(
            f"{CONFIG}: {key} has the pattern {pattern[:80]!r}; modules' names with dots, \\d+, .* and "
            f"(a|b) are understood, {_WILD} wild cards at most."
        )
    return re.compile(rf"(.*\.)?({pattern})$")
