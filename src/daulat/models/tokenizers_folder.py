"""A tokenizer out of the files beside a safetensors model, in Hugging Face's layout.

`tokenizer.json` is taken as it is; else a SentencePiece `tokenizer.model`, else GPT-2's
`vocab.json` with `merges.txt`. Beside it, `tokenizer_config.json` and `special_tokens_map.json`
name the special tokens and the chat template; a file `chat_template.jinja` outranks the latter.

Not here: GGUF (`tokenizers_gguf`), the rendering of templates (`templates`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from tokenizers import AddedToken, Tokenizer, decoders, models

from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models import sentencepiece, tokenizer_parts
from daulat.models.detokenize import PieceKind
from daulat.models.jsonfile import read_bounded, read_object
from daulat.models.pretokenizers import GPT2, QWEN2, Cut
from daulat.models.tokenizer_parts import MAX_TEMPLATE, MAX_VOCAB, Parts, guarded

MAX_TOKENIZER = 64 << 20
_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
)
# vocab.json does not say how texts are cut; the class that the repository names does.
_CUTS: Mapping[str, Cut] = {
    "GPT2Tokenizer": GPT2,
    "GPT2TokenizerFast": GPT2,
    "Qwen2Tokenizer": QWEN2,
    "Qwen2TokenizerFast": QWEN2,
}

Core = tuple[Tokenizer, PieceKind, bool]


def read(
    files: Mapping[str, Path], config: Mapping[str, Any], generation: Mapping[str, Any]
) -> Parts:
    """Builds the tokenizer.

    Args:
        files: path within the model to path on disk.
        config, generation: config.json and generation_config.json.

    Raises:
        ModelFileError: no tokenizer, or one that is damaged, hostile or not consistent.
        UnsupportedModelError: a sound one of a kind that we do not read.
    """
    settings = _settings(files)
    core, kind, drops = _core(files, settings)
    variables = _variables(settings)
    _mark_special(core, settings, variables)
    bos, eos = (_id(core, variables.get(name)) for name in ("bos_token", "eos_token"))
    # As in transformers 5: what a tokenizer.json says outranks the flags beside it.
    own = "tokenizer.json" in files
    return Parts(
        core,
        kind,
        drops,
        prefix=() if own else _added(settings.get("add_bos_token", kind == "spaces"), bos),
        suffix=() if own else _added(settings.get("add_eos_token", False), eos),
        own_specials=own,
        eos_ids=_ends(config, generation, eos),
        special_ids=tokenizer_parts.special_ids(core),
        chat_template=_template(files, settings),
        variables=variables,
    )


def _settings(files: Mapping[str, Path]) -> dict[str, Any]:
    """tokenizer_config.json over special_tokens_map.json."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if name in files:
            found = read_object(files[name], name)
            settings.update({key: value for key, value in found.items() if value is not None})
    return settings


def _core(files: Mapping[str, Path], settings: Mapping[str, Any]) -> Core:
    if "tokenizer.json" in files:
        return _from_json(files["tokenizer.json"])
    if "tokenizer.model" in files:
        return _from_sentencepiece(files["tokenizer.model"], settings)
    if "vocab.json" in files and "merges.txt" in files:
        return _from_vocabulary(files, settings)
    raise ModelFileError(
        "The model has no tokenizer.json, no tokenizer.model, and no vocab.json with merges.txt."
    )


def _from_json(path: Path) -> Core:
    where = "tokenizer.json"
    data = read_bounded(path, where, MAX_TOKENIZER)
    with guarded(where):
        core = Tokenizer.from_buffer(data)
        # A length limit in the file would cut prompts silently.
        core.no_truncation()
        core.no_padding()
        tokenizer_parts.check_growth(core, where)
        return core, *tokenizer_parts.decoder_kind(core, where)


def _from_sentencepiece(path: Path, settings: Mapping[str, Any]) -> Core:
    where = "tokenizer.model"
    model = sentencepiece.parse(read_bounded(path, where, MAX_TOKENIZER), where)
    add_space = settings.get("add_prefix_space", model.add_space) is not False
    every = settings.get("legacy", False) is True
    core, drops = tokenizer_parts.spm_core(
        model.pieces, where, add_space=add_space, every_segment=every
    )
    _extend(core, settings, {}, where)
    return core, "spaces", drops


def _from_vocabulary(files: Mapping[str, Path], settings: Mapping[str, Any]) -> Core:
    name = settings.get("tokenizer_class", "GPT2Tokenizer")
    cut = _CUTS.get(name) if isinstance(name, str) else None
    if cut is None:
        raise UnsupportedModelError(
            f"vocab.json of a {str(name)[:60]} cannot be read; add the model's tokenizer.json."
        )
    vocabulary = read_object(files["vocab.json"], "vocab.json", MAX_TOKENIZER)
    if not all(type(i) is int and 0 <= i < MAX_VOCAB for i in vocabulary.values()):
        raise ModelFileError("vocab.json must lead from tokens to numbers.")
    merges = _merges(read_bounded(files["merges.txt"], "merges.txt", MAX_TOKENIZER))
    with guarded("vocab.json with merges.txt"):
        core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        normalizer = cut.normalizer()
        if normalizer is not None:
            core.normalizer = normalizer
        core.pre_tokenizer = cut.pre_tokenizer()
        core.decoder = decoders.ByteLevel()
    older: dict[str, Any] = {}
    if "added_tokens.json" in files:
        older = read_object(files["added_tokens.json"], "added_tokens.json")
    _extend(core, settings, older, "vocab.json")
    return core, "bytes", False


def _merges(data: bytes) -> list[tuple[str, str]]:
    try:
        # Not splitlines: a merge may hold a character that Unicode counts as a line's end.
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ModelFileError("merges.txt is not UTF-8.") from error
    if lines[0].startswith("#version"):
        lines = lines[1:]
    pairs = [tuple(line.rstrip("\r").split(" ")) for line in lines if line.rstrip("\r")]
    if any(len(pair) != 2 for pair in pairs):
        raise ModelFileError("merges.txt has a line that is not a pair.")
    return cast("list[tuple[str, str]]", pairs)


def _extend(
    core: Tokenizer, settings: Mapping[str, Any], older: Mapping[str, Any], where: str
) -> None:
    """Adds what the vocabulary leaves to `added_tokens_decoder` or `added_tokens.json`."""
    entries = {number: AddedToken(text, normalized=False) for text, number in older.items()}
    declared = settings.get("added_tokens_decoder", {})
    if not isinstance(declared, dict):
        raise ModelFileError("tokenizer_config.json: added_tokens_decoder must be an object.")
    for key, fields in cast("dict[str, Any]", declared).items():
        entries[int(key) if key.isascii() and key.isdigit() and len(key) < 10 else -1] = (
            _added_token(fields)
        )
    if not all(type(number) is int and 0 <= number < MAX_VOCAB for number in entries):
        raise ModelFileError(f"{where}: an added token has an impossible number.")
    with guarded(where):
        tokenizer_parts.add_tokens(core, [entries[number] for number in sorted(entries)])
    for number, token in entries.items():
        if core.token_to_id(token.content) != number:
            raise ModelFileError(
                f"{where}: the added token {token.content[:40]!r} does not follow on as {number}."
            )


def _added_token(value: Any) -> AddedToken:
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    content = fields.get("content")
    if not isinstance(content, str) or not content:
        raise ModelFileError("tokenizer_config.json: an added token has no content.")
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(content, **{flag: fields.get(flag, False) is True for flag in flags})


# --- special tokens and the template --------------------------------------------------------------


def _variables(settings: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: _text(settings.get(name)) for name in _NAMES}
    return {name: text for name, text in texts.items() if text}


def _text(value: Any) -> str | None:
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("content")
    return value if isinstance(value, str) else None


def _mark_special(
    core: Tokenizer, settings: Mapping[str, Any], variables: Mapping[str, str]
) -> None:
    """Makes the named tokens special, as far as they are in the vocabulary: it never grows here."""
    further: Iterable[Any] = ()
    for key in ("additional_special_tokens", "extra_special_tokens"):
        value = settings.get(key)
        if isinstance(value, list):
            further = [*further, *cast("list[Any]", value)]
    names = {text for text in (*variables.values(), *map(_text, further)) if text}
    marked = {t.content for t in core.get_added_tokens_decoder().values() if t.special}
    missing = sorted(name for name in names - marked if core.token_to_id(name) is not None)
    with guarded("The list of special tokens"):
        tokens = [AddedToken(name, normalized=False, special=True) for name in missing]
        tokenizer_parts.add_tokens(core, tokens)


def _id(core: Tokenizer, text: str | None) -> int | None:
    return None if text is None else core.token_to_id(text)


def _added(flag: Any, token: int | None) -> tuple[int, ...]:
    return (token,) if flag is True and token is not None else ()


def _ends(
    config: Mapping[str, Any], generation: Mapping[str, Any], eos: int | None
) -> frozenset[int]:
    ends: set[int] = set() if eos is None else {eos}
    nested = config.get("text_config")
    sources = [generation, config]
    if isinstance(nested, dict):
        sources.append(cast("dict[str, Any]", nested))
    for source in sources:
        value = source.get("eos_token_id")
        items = cast("list[Any]", value) if isinstance(value, list) else [value]
        for item in items:
            if item is None:
                continue
            if type(item) is not int or not -1 <= item < 1 << 31:
                raise ModelFileError(f"eos_token_id is {str(item)[:40]}, which is no token.")
            ends.add(item)
    return frozenset(end for end in ends if end >= 0)


def _template(files: Mapping[str, Path], settings: Mapping[str, Any]) -> str | None:
    name = "chat_template.jinja"
    if name not in files:
        return tokenizer_parts.template(settings.get("chat_template"), "tokenizer_config.json")
    data = read_bounded(files[name], name, 4 * MAX_TEMPLATE)
    try:
        return tokenizer_parts.template(data.decode("utf-8"), name)
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{name} is not UTF-8.") from error
