"""What every source of a tokenizer gives, and the few steps that all sources share.

Not here: the sources themselves (`tokenizers_folder`, `tokenizers_gguf`), use (`tokenizer`).
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from daulat.errors import ModelFileError
from daulat.models.detokenize import PieceKind

MAX_VOCAB = 1 << 22
MAX_TEMPLATE = 1 << 20
# SentencePiece trains pieces of at most 16 characters; a ceiling keeps the search for merges short.
MAX_PIECE = 256
MAX_PIECES_TEXT = 8 << 20
MAX_GROWTH = 1024
SPACE = "\u2581"


@dataclass(frozen=True, slots=True)
class Parts:
    """A tokenizer taken apart.

    Attributes:
        core: splits and merges; adds nothing of its own unless `own_specials`.
        kind: how its pieces spell bytes.
        drops_first_space: decoding drops one space at the very start.
        prefix, suffix: tokens that `encode(special=True)` puts around the text.
        own_specials: the core's own post-processor adds them instead.
        eos_ids: tokens that end an answer.
        special_ids: tokens that decoding skips.
        variables: `bos_token`, `eos_token`, ... for chat templates.
    """

    core: Tokenizer
    kind: PieceKind
    drops_first_space: bool
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    own_specials: bool = False
    eos_ids: frozenset[int] = frozenset()
    special_ids: frozenset[int] = frozenset()
    chat_template: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


@contextmanager
def guarded(what: str) -> Generator[None]:
    """Turns any failure of `tokenizers`, its Rust core's panics too, into a `ModelFileError`."""
    try:
        yield
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"{what} cannot be used: {str(error)[:160]}.") from error
    except BaseException as error:
        # PyO3 derives its panics from BaseException, and exports no name to catch them by.
        if type(error).__name__ != "PanicException":
            raise
        raise ModelFileError(f"{what} cannot be used: it is not consistent.") from error


def add_tokens(core: Tokenizer, tokens: list[AddedToken]) -> None:
    """Adds tokens; those that the vocabulary has keep their ids."""
    core.add_tokens(tokens)  # pyright: ignore[reportUnknownMemberType]


def special_ids(core: Tokenizer) -> frozenset[int]:
    """The ids of the added tokens that are marked as special."""
    return frozenset(i for i, token in core.get_added_tokens_decoder().items() if token.special)


def template(value: Any, where: str) -> str | None:
    """A chat template, or the one called `default` in a list of named ones.

    Raises:
        ModelFileError: neither, or longer than a template can sensibly be.
    """
    if isinstance(value, list):
        entries = [
            cast("dict[str, Any]", e) for e in cast("list[Any]", value) if isinstance(e, dict)
        ]
        named = {str(entry.get("name")): entry.get("template") for entry in entries}
        value = named.get("default")
    if value is None:
        return None
    if not isinstance(value, str):
        raise ModelFileError(f"{where}: the chat template is not a text.")
    if len(value) > MAX_TEMPLATE:
        raise ModelFileError(
            f"{where}: the chat template is longer than {MAX_TEMPLATE} characters."
        )
    return value


# --- SentencePiece's byte-pair vocabularies, from tokenizer.model or GGUF -------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of a SentencePiece vocabulary; its place in the list is its id.

    Attributes:
        type: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    """

    text: str
    score: float
    type: int


def spm_core(
    pieces: Sequence[Piece], where: str, *, add_space: bool, every_segment: bool
) -> tuple[Tokenizer, bool]:
    """The tokenizer that a SentencePiece BPE vocabulary stands for, and whether it drops a first
    space.

    Args:
        add_space: put a space before the text.
        every_segment: also behind every special token (llama.cpp, and `legacy` in Hugging Face's).

    Raises:
        ModelFileError: a vocabulary that is not consistent.
    """
    vocabulary = {piece.text: number for number, piece in enumerate(pieces)}
    unknown = next((piece.text for piece in pieces if piece.type == 2), None)
    with guarded(where):
        core = Tokenizer(
            models.BPE(
                vocab=vocabulary,
                merges=spm_merges(pieces, where),
                unk_token=unknown,
                fuse_unk=True,
                byte_fallback=any(piece.type == 6 for piece in pieces),
            )
        )
        core.normalizer = _spm_normalizer(add_space and every_segment)
        if add_space and not every_segment:
            core.pre_tokenizer = _first_space()
        core.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback()])
        add_tokens(core, [_spm_added(piece) for piece in pieces if piece.type in {2, 3, 4}])
    return core, add_space


def _spm_normalizer(add_space: bool) -> normalizers.Normalizer:
    replace = normalizers.Replace(" ", SPACE)
    return normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if add_space else replace


def _first_space() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first", split=False)


def _spm_added(piece: Piece) -> AddedToken:
    # Runs of spaces are matched in the text after spaces became U+2581, everything else before.
    return AddedToken(piece.text, normalized=SPACE in piece.text, special=piece.type in {2, 3})


def spm_merges(pieces: Sequence[Piece], where: str) -> list[tuple[str, str]]:
    """Pairs in the order in which SentencePiece would join them: by the score of what they form.

    Raises:
        ModelFileError: pieces so long or so many that no trainer made them.
    """
    if sum(len(piece.text) for piece in pieces) > MAX_PIECES_TEXT:
        raise ModelFileError(
            f"{where}: the vocabulary is longer than {MAX_PIECES_TEXT} characters."
        )
    known = {piece.text: number for number, piece in enumerate(pieces) if piece.type == 1}
    found: list[tuple[float, int, int, str, str]] = []
    for text, number in known.items():
        if len(text) > MAX_PIECE:
            raise ModelFileError(f"{where}: a piece has more than {MAX_PIECE} characters.")
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in known and right in known:
                found.append((-pieces[number].score, known[left], known[right], left, right))
    found.sort(key=lambda merge: merge[:3])
    return [(left, right) for *_, left, right in found]


# --- what a tokenizer.json says about itself ------------------------------------------------------


def check_growth(core: Tokenizer, where: str) -> None:
    """Refuses a normalizer that could blow a short text up to gigabytes.

    Raises:
        ModelFileError: replacements that multiply a text more than a thousandfold.
    """
    growth = 1
    for step in _steps(core.normalizer, "normalizers"):
        for key in ("content", "prepend"):
            text = step.get(key)
            growth *= max(1, len(text)) if isinstance(text, str) else 1
    if growth > MAX_GROWTH:
        raise ModelFileError(
            f"{where}: its normalizer makes texts more than {MAX_GROWTH} times longer."
        )


def decoder_kind(core: Tokenizer, where: str) -> tuple[PieceKind, bool]:
    """How the pieces spell bytes, and whether decoding drops a first space.

    Raises:
        ModelFileError: a decoder of a kind that we do not read.
    """
    steps = {str(step.get("type")): step for step in _steps(core.decoder, "decoders")}
    if "ByteLevel" in steps:
        return "bytes", False
    if "Metaspace" in steps:
        return "spaces", steps["Metaspace"].get("prepend_scheme") != "never"
    if "WordPiece" in steps:
        return "words", True
    if "ByteFallback" in steps or "Replace" in steps:
        return "spaces", steps.get("Strip", {}).get("start", 0) == 1
    names = ", ".join(steps) or "none"
    raise ModelFileError(f"{where}: a decoder of this kind is not read: {names[:80]}.")


def _steps(component: Any, plural: str) -> Iterable[dict[str, Any]]:
    """A component's description, a sequence unrolled."""
    if component is None:
        return []
    waiting: list[Any] = [json.loads(component.__getstate__())]
    steps: list[dict[str, Any]] = []
    while waiting:
        step = cast("dict[str, Any]", waiting.pop(0))
        inner = step.get(plural)
        if isinstance(inner, list):
            waiting[:0] = cast("list[Any]", inner)
        else:
            steps.append(step)
    return steps
