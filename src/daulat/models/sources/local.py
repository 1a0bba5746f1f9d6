"""Models that are on this machine already: a folder in Hugging Face's layout, or a GGUF file.

Files are named here and copied into the store by `pull`, never linked: what happens to the originals
afterwards does not matter to us.
"""

from __future__ import annotations

import re
from pathlib import Path

from daulat.errors import PullError
from daulat.models.sources import Fetched

MAX_FILES = 2000
WANTED = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json"
    r"|special_tokens_map\.json|added_tokens\.json|vocab\.json|merges\.txt|tokenizer\.model"
    r"|chat_template\.(jinja|json)|sentence_bert_config\.json|modules\.json|1_Pooling/config\.json"
    r"|[^/]+\.safetensors|model\.safetensors\.index\.json|[^/]+\.gguf"
)
_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf")
_LICENCE = re.compile(r"^license:\s*[\"']?([A-Za-z0-9._-]{1,64})[\"']?\s*$", re.MULTILINE)


def fetch(path: Path) -> Fetched:
    """The files of a folder or of a (perhaps split) GGUF.

    Raises:
        PullError: nothing there that makes a model.
    """
    source = f"file:{path.absolute()}"
    if path.is_file():
        return Fetched(_gguf_parts(path), source, "", "")
    files = {
        str(file.relative_to(path)): file
        for pattern in ("*", "1_Pooling/*")
        for file in sorted(path.glob(pattern))
        if file.is_file() and WANTED.fullmatch(str(file.relative_to(path)))
    }
    if len(files) > MAX_FILES:
        raise PullError(f"{path} has more than {MAX_FILES} model files; name one model's folder.")
    has_tensors = any(name.endswith(".safetensors") for name in files)
    if has_tensors:
        files = {name: file for name, file in files.items() if not name.endswith(".gguf")}
    elif sum(name.endswith(".gguf") for name in files) > 1 and not _one_split(list(files)):
        raise PullError(
            f"{path} has several GGUF files; name the one to pull: "
            + ", ".join(name for name in files if name.endswith(".gguf"))[:500]
        )
    if not files:
        raise PullError(
            f"{path} has neither *.safetensors with config.json nor a .gguf file. Pickle files "
            "(.bin, .pt) are never read: convert the model to safetensors."
        )
    return Fetched(files, source, "", licence_of(path))


def _gguf_parts(path: Path) -> dict[str, Path]:
    part = _PART.fullmatch(path.name)
    if path.suffix != ".gguf":
        raise PullError(f"{path} is not a .gguf file; name such a file or a model's folder.")
    if part is None:
        return {path.name: path}
    count = int(part["count"])
    names = [f"{part['stem']}-{i:05d}-of-{count:05d}.gguf" for i in range(1, min(count, 1000) + 1)]
    return {name: path.parent / name for name in names}


def _one_split(names: list[str]) -> bool:
    stems = {
        (part["stem"], part["count"]) if (part := _PART.fullmatch(name)) else (name, "")
        for name in names
        if name.endswith(".gguf")
    }
    return len(stems) == 1


def licence_of(folder: Path) -> str:
    """From the front matter of a folder's README; empty where there is none."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            text = file.read(65536)
    except OSError:
        return ""
    if not text.startswith("---"):
        return ""
    match = _LICENCE.search(text[3:].partition("\n---")[0])
    return match[1] if match else ""
