"""A tokenizer out of GGUF metadata: GPT-2's byte-level BPE (`gpt2`) and SentencePiece's (`llama`).

Not here: the other tokenizer models of GGUF, which belong to families that we do not run.
Source: the keys `tokenizer.ggml.*` of the GGUF specification, and llama.cpp's reading of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from tokenizers import AddedToken, Tokenizer, decoders, models

from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models import tokenizer_parts
from daulat.models.pretokenizers import CUTS, Cut
from daulat.models.tokenizer_parts import MAX_VOCAB, Parts, Piece, guarded, spm_core

_WHERE = "The tokenizer in the GGUF metadata"
_NORMAL, _UNKNOWN, _CONTROL, _USER = 1, 2, 3, 4
# Ends of a turn that files name nowhere but in the vocabulary.
_TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>")


def read(metadata: Mapping[str, Any]) -> Parts:
    """Builds the tokenizer.

    Raises:
        ModelFileError: metadata missing, of the wrong type or not consistent.
        UnsupportedModelError: a tokenizer model or a way of cutting that we do not know.
    """
    kind = metadata.get("tokenizer.ggml.model")
    tokens, types = _vocabulary(metadata)
    if kind == "gpt2":
        cut = _cut(metadata)
        core, drops, add_bos = _byte_level(metadata, cut, tokens, types), False, cut.add_bos
    elif kind == "llama":
        core, drops = _sentencepiece(metadata, tokens, types)
        add_bos = True
    else:
        raise UnsupportedModelError(
            f"{_WHERE} is of the model {str(kind)[:40]!r}; only gpt2 and llama are read."
        )
    bos = _token(metadata, "bos", len(tokens))
    eos = _token(metadata, "eos", len(tokens))
    return Parts(
        core,
        "bytes" if kind == "gpt2" else "spaces",
        drops,
        prefix=_added(metadata, "add_bos_token", add_bos, bos),
        suffix=_added(metadata, "add_eos_token", False, eos),
        eos_ids=_ends(metadata, tokens, types),
        special_ids=tokenizer_parts.special_ids(core),
        chat_template=tokenizer_parts.template(metadata.get("tokenizer.chat_template"), _WHERE),
        variables=_variables(metadata, tokens),
    )


def _vocabulary(metadata: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    tokens = _list(metadata, "tokens", str)
    if not 0 < len(tokens) <= MAX_VOCAB:
        raise ModelFileError(f"{_WHERE} has {len(tokens)} tokens.")
    types = (_NORMAL,) * len(tokens)
    if "tokenizer.ggml.token_type" in metadata:
        types = _list(metadata, "token_type", int, len(tokens))
    return cast("tuple[str, ...]", tokens), cast("tuple[int, ...]", types)


def _list(
    metadata: Mapping[str, Any], key: str, kind: type, length: int | None = None
) -> tuple[Any, ...]:
    value = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(value, tuple):
        raise ModelFileError(f"{_WHERE}: tokenizer.ggml.{key} is missing or not a list.")
    items = cast("tuple[Any, ...]", value)
    if length is not None and len(items) != length:
        raise ModelFileError(
            f"{_WHERE}: tokenizer.ggml.{key} has {len(items)} values, not {length}."
        )
    # A list in GGUF has one type for all its values.
    if items and not isinstance(items[0], kind):
        raise ModelFileError(f"{_WHERE}: tokenizer.ggml.{key} holds values of the wrong type.")
    return items


def _cut(metadata: Mapping[str, Any]) -> Cut:
    name = metadata.get("tokenizer.ggml.pre", "default")
    cut = CUTS.get(name) if isinstance(name, str) else None
    if cut is None:
        raise UnsupportedModelError(
            f"{_WHERE} cuts texts in the way {str(name)[:40]!r}, which is not known. "
            f"Known are: {', '.join(sorted(CUTS))}. Take the model as safetensors."
        )
    return cut


def _byte_level(
    metadata: Mapping[str, Any], cut: Cut, tokens: tuple[str, ...], types: tuple[int, ...]
) -> Tokenizer:
    pairs = [tuple(merge.split(" ", 1)) for merge in _list(metadata, "merges", str)]
    if any(len(pair) != 2 for pair in pairs):
        raise ModelFileError(f"{_WHERE}: a merge is not a pair.")
    with guarded(_WHERE):
        core = Tokenizer(
            models.BPE(
                vocab={token: number for number, token in enumerate(tokens)},
                merges=cast("list[tuple[str, str]]", pairs),
                ignore_merges=cut.ignore_merges,
            )
        )
        normalizer = cut.normalizer()
        if normalizer is not None:
            core.normalizer = normalizer
        core.pre_tokenizer = cut.pre_tokenizer()
        core.decoder = decoders.ByteLevel()
        tokenizer_parts.add_tokens(
            core,
            [
                AddedToken(token, normalized=False, special=kind != _USER)
                for token, kind in zip(tokens, types, strict=True)
                if kind in {_UNKNOWN, _CONTROL, _USER}
            ],
        )
    return core


def _sentencepiece(
    metadata: Mapping[str, Any], tokens: tuple[str, ...], types: tuple[int, ...]
) -> tuple[Tokenizer, bool]:
    scores = _list(metadata, "scores", float, len(tokens))
    if not all(math.isfinite(score) for score in scores):
        raise ModelFileError(f"{_WHERE}: a score is not a number.")
    pieces = [Piece(*entry) for entry in zip(tokens, scores, types, strict=True)]
    add_space = metadata.get("tokenizer.ggml.add_space_prefix", True) is True
    return spm_core(pieces, _WHERE, add_space=add_space, every_segment=True)


def _token(metadata: Mapping[str, Any], name: str, size: int) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{name}_token_id")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < size:
        raise ModelFileError(
            f"{_WHERE}: {name}_token_id is {str(value)[:40]}, and there are {size} tokens."
        )
    return value


def _added(
    metadata: Mapping[str, Any], key: str, usual: bool, token: int | None
) -> tuple[int, ...]:
    wanted = metadata.get(f"tokenizer.ggml.{key}", usual) is True
    return (token,) if wanted and token is not None else ()


def _ends(
    metadata: Mapping[str, Any], tokens: tuple[str, ...], types: tuple[int, ...]
) -> frozenset[int]:
    named = {_token(metadata, name, len(tokens)) for name in ("eos", "eot", "eom")}
    if metadata.get("tokenizer.ggml.eot_token_id") is None:
        wanted = set(_TURN_ENDS)
        pairs = zip(tokens, types, strict=True)
        named |= {n for n, (text, kind) in enumerate(pairs) if kind == _CONTROL and text in wanted}
    return frozenset(number for number in named if number is not None)


def _variables(metadata: Mapping[str, Any], tokens: tuple[str, ...]) -> dict[str, str]:
    keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    found = {name: _token(metadata, key, len(tokens)) for name, key in keys.items()}
    return {name: tokens[number] for name, number in found.items() if number is not None}
