"""Text to tokens and back, exactly as the model's own tokenizer does it.

Special tokens that are spelled out in a text are recognised, as in Hugging Face's tokenizers:
rendered chat templates depend on it.

Not here: where a tokenizer comes from (`tokenizers_folder`, `tokenizers_gguf`), chat templates
(`templates`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from daulat.errors import ModelFileError, RequestError
from daulat.models import detokenize, tokenizers_folder, tokenizers_gguf
from daulat.models.detokenize import PIECE_BYTES, TextStream
from daulat.models.tokenizer_parts import MAX_VOCAB, Parts, guarded


class TokenizerSource(Protocol):
    """What this module needs of a checkpoint."""

    @property
    def format(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def generation_config(self) -> Mapping[str, Any]: ...
    @property
    def files(self) -> Mapping[str, Path]: ...


def load_tokenizer(checkpoint: TokenizerSource) -> Tokenizer:
    """The tokenizer of a model.

    Raises:
        ModelFileError: none there, or one that is damaged, hostile or not consistent.
        UnsupportedModelError: a sound one of a kind that we do not read.
    """
    if checkpoint.format == "gguf":
        return Tokenizer(tokenizers_gguf.read(checkpoint.config))
    return Tokenizer(
        tokenizers_folder.read(checkpoint.files, checkpoint.config, checkpoint.generation_config)
    )


class Tokenizer:
    """One model's tokenizer; safe to use from several threads.

    Attributes:
        vocab_size: one more than the highest id; a model's matrices may be larger.
        eos_ids: tokens that end an answer.
        special_ids: tokens that `decode` skips.
        chat_template: Jinja source, or None for a model that was not trained to chat.
        template_variables: `bos_token`, `eos_token`, `unk_token`, ... as far as they exist.
        drops_first_space: `decode` drops one space at the very start (SentencePiece).
    """

    def __init__(self, parts: Parts) -> None:
        self._core = parts.core
        self._prefix, self._suffix = list(parts.prefix), list(parts.suffix)
        self._own_specials = parts.own_specials
        self._to_bytes = PIECE_BYTES[parts.kind]
        self._pieces = _pieces(parts)
        self._bytes: dict[int, bytes] = {}
        self.vocab_size = len(self._pieces)
        self.eos_ids = parts.eos_ids
        self.special_ids = parts.special_ids
        self.chat_template = parts.chat_template
        self.template_variables: Mapping[str, str] = MappingProxyType(dict(parts.variables))
        self.drops_first_space = parts.drops_first_space

    def encode(self, text: str, *, special: bool) -> list[int]:
        """The tokens of a text.

        Args:
            special: put the tokens around it that the model expects around a plain text (beginning
                of
                text, mostly); False for rendered chat templates, which bring their own.

        Raises:
            RequestError: a lone surrogate, which no tokenizer can read.
        """
        try:
            tokens = self._core.encode(text, add_special_tokens=special and self._own_specials).ids
        except (TypeError, UnicodeEncodeError) as error:  # which one depends on tokenizers' version
            raise RequestError(
                "The text has half of a surrogate pair; send whole characters."
            ) from error
        return [*self._prefix, *tokens, *self._suffix] if special else tokens

    def decode(self, tokens: Iterable[int], *, keep_space: bool = False) -> str:
        """The text of a sequence; special and unknown tokens are skipped, bad UTF-8 becomes U+FFFD.

        Args:
            keep_space: keep the space before the first word, for text that continues a prompt.
        """
        return detokenize.decode(self, tokens, keep_space=keep_space)

    def stream(
        self, *, keep_space: bool = False, spelled: frozenset[int] = frozenset()
    ) -> TextStream:
        """A new stream whose pieces, joined, are `decode` of all its tokens.

        Args:
            spelled: special tokens that are spelled out nevertheless.
        """
        return TextStream(self, keep_space=keep_space, spelled=spelled)

    def token_bytes(self, token: int) -> bytes:
        """The token's own bytes, perhaps a part of a character; empty for an id without a token."""
        known = self._bytes.get(token)
        if known is None:
            piece = self._pieces[token] if 0 <= token < len(self._pieces) else None
            known = b"" if piece is None else self._to_bytes(piece)
            if 0 <= token < len(self._pieces):
                self._bytes[token] = known
        return known

    def token_text(self, token: int) -> str:
        """The token's bytes as text, with U+FFFD where they are not whole characters."""
        return self.token_bytes(token).decode("utf-8", "replace")

    def token_id(self, piece: str) -> int | None:
        """The id of a piece as the vocabulary spells it, such as `<|im_end|>`, if there is one."""
        return self._core.token_to_id(piece)


def _pieces(parts: Parts) -> list[str | None]:
    """Id to piece, with None in the gaps."""
    with guarded("The tokenizer's vocabulary"):
        vocabulary = parts.core.get_vocab(with_added_tokens=True)
    if not vocabulary:
        raise ModelFileError("The tokenizer's vocabulary is empty.")
    size = max(vocabulary.values()) + 1
    if size > MAX_VOCAB:
        raise ModelFileError(f"The tokenizer has the token number {size - 1}, which cannot be.")
    pieces: list[str | None] = [None] * size
    for piece, number in vocabulary.items():
        pieces[number] = piece
    return pieces
