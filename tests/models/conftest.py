"""A Hub to pull models from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.scripted_hub import ScriptedHub, scripted_hub


@pytest.fixture
def hub(small_model: Path) -> Iterator[ScriptedHub]:
    """A Hub that has it as `acme/tiny-llama`, with other things beside it."""
    with scripted_hub() as running:
        files = {path.name: path.read_bytes() for path in small_model.iterdir()}
        files |= {"README.md": b"# tiny", "modeling_tiny.py": b"raise SystemExit", "a.bin": b"\x80"}
        running.add("acme/tiny-llama", files)
        yield running
