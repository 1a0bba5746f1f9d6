"""How each byte-level family cuts text before merging, by the name that GGUF files give it: a
table.

Sources: the tokenizer.json files of the families, and llama.cpp's list of names
    (`llama-vocab.cpp`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenizers import Regex, normalizers, pre_tokenizers


@dataclass(frozen=True, slots=True)
class Cut:
    """One way of cutting.

    Attributes:
        patterns: applied one after the other; matches and what lies between them stand alone.
        gpt2: GPT-2's own pattern comes last.
        nfc: the text is normalised to Unicode's NFC first.
        ignore_merges: a word that is in the vocabulary is one token even if no merges lead to it.
        add_bos: a beginning-of-text token is usual.
    """

    patterns: tuple[str, ...] = ()
    gpt2: bool = False
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in self.patterns]
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=self.gpt2)
        return pre_tokenizers.Sequence([*splits, last])

    def normalizer(self) -> normalizers.Normalizer | None:
        return normalizers.NFC() if self.nfc else None


_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TAIL_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"

_LLAMA3 = rf"{_ENDINGS}|{_WORD}|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"{_ENDINGS}|{_WORD}|\p{{N}}|{_TAIL}"
_TEKKEN = rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*|\p{{N}}|{_TAIL_SLASH}"
_GPT4O = (
    rf"{_LEAD}{_UPPER}*{_LOWER}+{_ENDINGS}?|{_LEAD}{_UPPER}+{_LOWER}*{_ENDINGS}?"
    rf"|\p{{N}}{{1,3}}|{_TAIL_SLASH}"
)

GPT2 = Cut(gpt2=True)
QWEN2 = Cut((_QWEN2,), nfc=True)
_DIGITS = Cut((r"\p{N}",), gpt2=True)
_LLAMA3_CUT = Cut((_LLAMA3,), ignore_merges=True, add_bos=True)

CUTS: Mapping[str, Cut] = {
    "default": Cut((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
    "gpt-2": GPT2,
    "phi-2": GPT2,
    "granite-docling": GPT2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,  # Granite 3 and Granite Code
    "command-r": _DIGITS,
    "codeshell": _DIGITS,
    "llama3": _LLAMA3_CUT,
    "llama-v3": _LLAMA3_CUT,
    "llama-bpe": _LLAMA3_CUT,
    "falcon3": _LLAMA3_CUT,
    "pixtral": _LLAMA3_CUT,
    "dbrx": Cut((_LLAMA3,)),
    "smaug-bpe": Cut((_LLAMA3,)),
    "qwen2": QWEN2,
    "deepseek-r1-qwen": QWEN2,
    "stablelm2": Cut((_QWEN2,)),
    "tekken": Cut((_TEKKEN,), ignore_merges=True, add_bos=True),
    "gpt-4o": Cut((_GPT4O,)),
    "llama4": Cut((_GPT4O,)),
}
