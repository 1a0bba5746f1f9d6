"""`daulat adapters`, and talking with one in the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import MODEL, daulat

from daulat.models.catalogue import ModelEntry
from tests.engine.adapters import scattered


@pytest.fixture
def folder(starter_entry: ModelEntry, tmp_path: Path) -> Path:
    return scattered(tmp_path / "lora", starter_entry.open(), ["q_proj", "v_proj"], seed=1)


def test_added_listed_shown_asked_and_removed(furnished: Path, folder: Path) -> None:
    assert daulat(furnished, "adapters", "list").stderr.startswith("There is no adapter.")
    done = daulat(furnished, "adapters", "add", "starter", "mine", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{MODEL}:mine is here: rank 8, ")
    [one] = json.loads(daulat(furnished, "adapters", "list", "--json").stdout)
    assert (one["id"], one["base"], one["rank"]) == (f"{MODEL}:mine", MODEL, 8)
    assert f"{MODEL}:mine" in daulat(furnished, "adapters", "list", "starter").stdout
    shown = daulat(furnished, "adapters", "show", "starter", "mine").stdout
    assert one["digest"] in shown
    assert "q_proj, v_proj" in shown
    assert (
        "Peringkat"
        in daulat(furnished, "adapters", "show", MODEL, "mine", more={"LANGUAGE": "id"}).stdout
    )

    def ask(model: str) -> str:
        text = "What is the capital of France?"
        options = ("--model", model, "--temperature", "0", "--max-tokens", "12")
        done = daulat(furnished, "chat", *options, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert ask("starter") != ask("starter:mine")
    assert daulat(furnished, "adapters", "remove", "starter", "mine").returncode == 0
    assert json.loads(daulat(furnished, "adapters", "list", "--json").stdout) == []
    assert daulat(furnished, "models", "verify").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("adapters", "show", "starter", "none"), "has no adapter 'none'"),
        (("adapters", "remove", "starter", "none"), "has no adapter 'none'"),
        (("adapters", "list", "nobody"), "There is no model 'nobody'"),
        (("adapters", "add", "starter", "a:b", "."), "cannot name an adapter"),
        (("adapters", "add", "starter", "mine", "./nowhere"), "There is no folder nowhere"),
        (("chat", "--model", "starter:none"), "has no adapter 'none'"),
        (("chat", "--model", "nobody:none"), "There is no model 'nobody'"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    furnished: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = daulat(furnished, *arguments, text="Hello")
    assert done.returncode == 1
    assert done.stdout == ""
    assert words in done.stderr.splitlines()[-1]
