"""Small models to pull, and a Hub to pull them from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.engine.checkpoints import make, write
from tests.models.scripted_hub import ScriptedHub, scripted_hub


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole Llama of a few kilobytes, with its tokenizer and a chat template."""
    folder = write(make("llama"), tmp_path_factory.mktemp("hub") / "tiny-llama")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, "<s>", "</s>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"chat_template": "{{ messages[0].content }}", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def hub(small_model: Path) -> Iterator[ScriptedHub]:
    """A Hub that has it as `acme/tiny-llama`, with other things beside it."""
    with scripted_hub() as running:
        files = {path.name: path.read_bytes() for path in small_model.iterdir()}
        files |= {"README.md": b"# tiny", "modeling_tiny.py": b"raise SystemExit", "a.bin": b"\x80"}
        running.add("acme/tiny-llama", files)
        yield running
