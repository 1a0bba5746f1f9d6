"""A model's files as one thing: its description, its tensors by name, wherever they lie.

Two forms are read: a folder in Hugging Face's layout (config.json and safetensors, in one file or
    in shards with an index) and GGUF (one file or a split one). Pickle files are never opened, and
    code that a repository brings along is never run.

Not here: what the description means (`families`), tokens (`tokenizer`), where files come from
    (`store`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models import families
from daulat.models.gguf import GgufFile
from daulat.models.jsonfile import read_object
from daulat.models.mapped import TensorInfo
from daulat.models.numbers import Array
from daulat.models.safetensors import SafetensorsFile
from daulat.values.architecture import Architecture, EncoderArchitecture

MAX_FILES = 10_000
MAX_INDEX = 64 << 20
MAX_PARTS = 1024
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_PART = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

Parts = Mapping[str, SafetensorsFile | GgufFile]


class Checkpoint:
    """One model as stored; use `open_checkpoint` or `open_files`.

    Attributes:
        name: for messages and the passport.
        format: `safetensors` or `gguf`.
        config: config.json, or the GGUF metadata.
        generation_config: generation_config.json; empty where there is none.
        files: path within the model to path on disk, all files of the model.
        tensors: name to place; offsets count within the file that holds the tensor.
    """

    def __init__(
        self,
        name: str,
        *,
        form: Literal["safetensors", "gguf"],
        config: Mapping[str, Any],
        generation_config: Mapping[str, Any],
        files: Mapping[str, Path],
        places: Parts,
    ) -> None:
        self.name = name
        self.format: Literal["safetensors", "gguf"] = form
        self.config = MappingProxyType(dict(config))
        self.generation_config = MappingProxyType(dict(generation_config))
        self.files = MappingProxyType(dict(files))
        self._places = places
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {tensor: file.tensors[tensor] for tensor, file in places.items()}
        )
        self._architecture: Architecture | EncoderArchitecture | None = None

    @property
    def architecture(self) -> Architecture | EncoderArchitecture:
        """What `families.describe` makes of it, computed once.

        Raises:
            UnsupportedModelError: a model that we do not run.
            ModelFileError: a description with missing or absurd numbers.
        """
        if self._architecture is None:
            self._architecture = families.describe(self)
        return self._architecture

    @property
    def input_limit(self) -> int | None:
        """The longest input in tokens that an embedding model was made for, where its files say so."""
        path = self.files.get("sentence_bert_config.json")
        if path is None:
            return None
        limit = read_object(path, "sentence_bert_config.json").get("max_seq_length")
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 1 << 20:
            raise ModelFileError("sentence_bert_config.json: max_seq_length is not a length.")
        return limit

    def read(self, name: str) -> Array:
        """A tensor: stored floats as a view into the file, quantised ones unpacked to float32.

        Raises:
            ModelFileError: no tensor of that name.
            UnsupportedModelError: a quantisation that cannot be unpacked.
        """
        return self._place(name).read(name)

    def raw(self, name: str) -> Array:
        """A tensor's stored bytes, uint8 [..., bytes of a row], a view into the file.

        Raises:
            ModelFileError: no tensor of that name.
        """
        return self._place(name).raw(name)

    def release(self, name: str) -> None:
        """Lets go of a tensor's pages in memory after its numbers were copied elsewhere."""
        self._place(name).release(name)

    def _place(self, name: str) -> SafetensorsFile | GgufFile:
        place = self._places.get(name)
        if place is None:
            raise ModelFileError(f"{self.name} has no tensor {name[:80]!r}.")
        return place


def open_checkpoint(path: Path, name: str | None = None) -> Checkpoint:
    """Opens a model's folder or a `.gguf` file (of a split one: any part).

    Raises:
        ModelFileError: nothing that we read is there, or what is there is damaged or lying.
        UnsupportedModelError: sound, and of a kind that we do not read.
    """
    if path.is_dir():
        return open_files(name or path.resolve().name, _scan(path))
    if path.suffix != ".gguf":
        raise ModelFileError(f"{path.name} is neither a model's folder nor a .gguf file.")
    if not path.exists():
        raise ModelFileError(f"{path.name} does not exist.")
    part = _PART.match(path.name)
    siblings = [path.name] if part is None else _part_names(path.name, part)
    return open_files(name or path.stem, {entry: path.parent / entry for entry in siblings})


def open_files(name: str, files: Mapping[str, Path]) -> Checkpoint:
    """Opens a model whose files lie anywhere on disk.

    Args:
        name: for messages.
        files: path within the model (`config.json`, ...) to path on disk.

    Raises:
        ModelFileError, UnsupportedModelError: as `open_checkpoint`.
    """
    has_safetensors = any(entry.endswith(".safetensors") for entry in files)
    if "config.json" in files and has_safetensors:
        return _open_folder(name, files)
    ggufs = sorted(entry for entry in files if entry.endswith(".gguf"))
    if ggufs:
        return _open_gguf(name, files, ggufs)
    if any(entry.endswith(_PICKLES) for entry in files):
        raise ModelFileError(
            f"{name} has its weights only as pickle files, which are never read: opening one can "
            "run code. Convert the model to safetensors, or take a revision that has them."
        )
    missing = "config.json" if has_safetensors else "*.safetensors with config.json, or a *.gguf"
    raise ModelFileError(f"{name} is not a model that can be read: it has no {missing}.")


def _scan(folder: Path) -> dict[str, Path]:
    """The files of a folder and the JSON files one level below."""
    found: dict[str, Path] = {}
    try:
        for entry in islice(folder.iterdir(), MAX_FILES + 1):
            if entry.is_file():
                found[entry.name] = entry
            elif entry.is_dir() and not entry.name.startswith("."):
                below = islice(entry.glob("*.json"), MAX_FILES)
                found.update({f"{entry.name}/{f.name}": f for f in below if f.is_file()})
            if len(found) > MAX_FILES:
                raise ModelFileError(f"{folder.name} has more than {MAX_FILES} files.")
    except OSError as error:
        raise ModelFileError(f"{folder.name} cannot be listed: {error.strerror}.") from error
    return found


# --- Hugging Face's layout ------------------------------------------------------------------------


def _open_folder(name: str, files: Mapping[str, Path]) -> Checkpoint:
    config = read_object(files["config.json"], "config.json")
    _refuse_quantised(name, config)
    generation: dict[str, Any] = {}
    if "generation_config.json" in files:
        generation = read_object(files["generation_config.json"], "generation_config.json")
    return Checkpoint(
        name,
        form="safetensors",
        config=config,
        generation_config=generation,
        files=files,
        places=_safetensors(name, files),
    )


def _refuse_quantised(name: str, config: Mapping[str, Any]) -> None:
    quantisation = config.get("quantization_config")
    if quantisation is None:
        return
    method: Any = None
    if isinstance(quantisation, dict):
        method = cast("dict[str, Any]", quantisation).get("quant_method")
    shown = method[:40] if isinstance(method, str) else "of an unnamed method"
    raise UnsupportedModelError(
        f"{name} is quantised ({shown}), and safetensors files are only read unquantised. "
        "Take the original weights, or the model as GGUF."
    )


def _safetensors(name: str, files: Mapping[str, Path]) -> Parts:
    if SINGLE in files:
        file = SafetensorsFile(files[SINGLE])
        return dict.fromkeys(file.tensors, file)
    if INDEX not in files:
        raise ModelFileError(f"{name} has neither {SINGLE} nor {INDEX}.")
    weight_map = read_object(files[INDEX], INDEX, MAX_INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFileError(f"{INDEX} has no weight_map.")
    entries = cast("dict[str, Any]", weight_map)
    shards = {shard: _shard(files, shard) for shard in _shard_names(entries)}
    places: dict[str, SafetensorsFile | GgufFile] = {}
    for tensor, shard in entries.items():
        if tensor not in shards[shard].tensors:
            raise ModelFileError(f"{INDEX} looks for tensor {tensor[:80]!r} in {shard}: not there.")
        places[tensor] = shards[shard]
    return places


def _shard_names(weight_map: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(weight_map.values() if _all_words(weight_map) else ()))
    if not names:
        raise ModelFileError(f"{INDEX}: weight_map must lead from names to file names.")
    if len(names) > MAX_FILES:
        raise ModelFileError(f"{INDEX} names more than {MAX_FILES} files.")
    return names


def _all_words(values: Mapping[str, Any]) -> bool:
    return all(isinstance(value, str) for value in values.values())


def _shard(files: Mapping[str, Path], shard: str) -> SafetensorsFile:
    # Looked up among the model's own files and never joined to a path: "../" leads nowhere.
    if not shard.endswith(".safetensors") or "/" in shard or "\\" in shard:
        raise ModelFileError(f"{INDEX} names {shard[:80]!r}, which is not a shard's file name.")
    if shard not in files:
        raise ModelFileError(f"{INDEX} names {shard[:80]!r}, which is missing; fetch it.")
    return SafetensorsFile(files[shard])


# --- GGUF -----------------------------------------------------------------------------------------


def _open_gguf(name: str, files: Mapping[str, Path], ggufs: list[str]) -> Checkpoint:
    part = _PART.match(ggufs[0])
    wanted = ggufs[:1] if part is None else _part_names(ggufs[0], part)
    if others := sorted(set(ggufs) - set(wanted)):
        raise ModelFileError(
            f"{name} holds several GGUF models ({wanted[0]}, {others[0]}, ...); name the file."
        )
    if missing := [entry for entry in wanted if entry not in files or not files[entry].exists()]:
        raise ModelFileError(f"{name} is split, and {missing[0]} is missing; fetch it.")
    parts = [GgufFile(files[entry]) for entry in wanted]
    head = parts[0].metadata
    places: dict[str, SafetensorsFile | GgufFile] = {}
    for number, file in enumerate(parts):
        _check_part(wanted[number], file.metadata, number, len(parts))
        if twice := places.keys() & file.tensors.keys():
            raise ModelFileError(f"{name}: tensor {min(twice)!r} lies in two parts.")
        places.update(dict.fromkeys(file.tensors, file))
    if len(parts) > 1 and head.get("split.tensors.count", len(places)) != len(places):
        raise ModelFileError(f"{name}: the parts hold {len(places)} tensors, not what they claim.")
    return Checkpoint(
        name, form="gguf", config=head, generation_config={}, files=files, places=places
    )


def _part_names(entry: str, part: re.Match[str]) -> list[str]:
    count = int(part["count"])
    if not 1 <= int(part["number"]) <= count <= MAX_PARTS:
        raise ModelFileError(f"{entry} is not a sensible part's name.")
    return [f"{part['stem']}-{n:05d}-of-{count:05d}.gguf" for n in range(1, count + 1)]


def _check_part(entry: str, metadata: Mapping[str, Any], number: int, count: int) -> None:
    """A file's own word on being a part must agree with its name."""
    alone = 0 if count == 1 else count
    if metadata.get("split.count", alone) not in {count, alone}:
        raise ModelFileError(
            f"{entry} says it is one of {metadata['split.count']} parts, not {count}."
        )
    if metadata.get("split.no", number) != number:
        raise ModelFileError(f"{entry} says it is part {metadata['split.no']}, not {number}.")
