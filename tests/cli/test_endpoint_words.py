"""`daulat endpoints`: the file keeps its owner's words, and what is wrong is told before it is written."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import daulat

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Script, Upstream

WRITTEN = """\
# My own words.
[server]   # where
port = 0

[endpoints.old]  # keep me
kind = "openai"
key = "env:OLD_KEY"
place = "us"
models = ["gpt-4o"]

[log]
level = "warning"  # quiet
"""
KEY = {"SCRIPTED_KEY": "scripted-secret"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with scripted.running(Script(words=5)) as running:
        yield running


def furnished(home: Path, text: str = WRITTEN) -> Path:
    home.mkdir(mode=0o700)
    (home / "daulat.toml").write_text(text, encoding="utf-8")
    (home / "daulat.toml").chmod(0o640)
    return home / "daulat.toml"


def test_added_tried_and_removed(home: Path, upstream: Upstream) -> None:
    file = furnished(home)
    options = ["--kind", "compatible", "--url", f"{upstream.url}/v1", "--key", "env:SCRIPTED_KEY"]
    options += ["--place", "this-machine", "--owner", "open", "--model", "words=scripted"]
    done = daulat(home, "endpoints", "add", "local", *options, "--model", "bad=scripted+error_503")
    assert done.returncode == 0, done.stderr
    text = file.read_text(encoding="utf-8")
    for line in WRITTEN.splitlines():
        assert line in text
    assert file.stat().st_mode & 0o777 == 0o640
    told = tomllib.loads(text)["endpoints"]
    assert told["old"]["models"] == ["gpt-4o"]
    assert told["local"]["names"] == {"words": "scripted", "bad": "scripted+error_503"}
    assert [path.name for path in home.iterdir()] == ["daulat.toml"]

    found = json.loads(daulat(home, "endpoints", "list", "--json").stdout)
    assert [one["name"] for one in found] == ["old", "local"]
    assert found[0]["models"]["gpt-4o"]["price"] == {
        "input": "2.5",
        "output": "10",
        "cached": "1.25",
    }
    assert "2.5/10" in daulat(home, "endpoints", "list").stdout
    shown = daulat(home, "endpoints", "show", "old", more={"LANGUAGE": "id"}).stdout
    assert "Kemampuan" in shown

    done = daulat(home, "endpoints", "test", "local", "--model", "words", more=KEY)
    assert done.returncode == 0, done.stderr
    assert "works" in done.stdout
    done = daulat(home, "endpoints", "test", "local", "--json", more=KEY)
    assert done.returncode == 1
    good, bad = json.loads(done.stdout)
    assert (good["completion_tokens"], good["cost"], good["error"]) == (5, "0", None)
    assert bad["error"]["code"] == "upstream_unavailable"
    done = daulat(home, "endpoints", "test", "local", "--model", "words")
    assert done.returncode == 1
    assert "SCRIPTED_KEY is not set" in done.stderr
    assert daulat(home, "endpoints", "models", "local", more=KEY).stdout == "scripted\n"

    assert daulat(home, "endpoints", "remove", "local").returncode == 0
    assert file.read_text(encoding="utf-8").strip() == WRITTEN.strip()
    everything = done.stdout + done.stderr + shown + text
    assert "scripted-secret" not in everything


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--kind", "openai", "--key", "sk-0123", "--place", "us", "--model", "m"], "env:NAME"),
        (["--kind", "openai", "--key", "env:K", "--model", "m"], "place"),
        (["--kind", "openai", "--key", "env:K", "--place", "us"], "models"),
        (
            ["--kind", "openai", "--key", "env:K", "--place", "us", "--url", "x", "--model", "m"],
            "https",
        ),
        (["--kind", "nothing"], "nothing"),
    ],
)
def test_what_is_wrong_is_not_written(home: Path, options: list[str], words: str) -> None:
    file = furnished(home)
    done = daulat(home, "endpoints", "add", "new", *options)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "sk-0123" not in done.stderr
    assert file.read_text(encoding="utf-8") == WRITTEN


def test_names_that_are_taken_or_are_none(home: Path) -> None:
    furnished(home)
    options = ["--kind", "openai", "--key", "env:K", "--place", "us", "--model", "m"]
    assert "already" in daulat(home, "endpoints", "add", "old", *options).stderr
    assert "no name" in daulat(home, "endpoints", "add", "a b", *options).stderr
    for command in ("show", "test", "models", "remove"):
        done = daulat(home, "endpoints", command, "nobody")
        assert (done.returncode, "old" in done.stderr) == (1, True)


def test_the_policy_is_told(home: Path) -> None:
    furnished(home)
    assert "[policy.classes.public]" in daulat(home, "endpoints", "show", "old").stderr
    allowed = '\n[policy.classes.public]\nplaces = ["us"]\n\n[policy.classes.personal]\nredacted = ["*"]\n'
    (home / "daulat.toml").write_text(WRITTEN + allowed, encoding="utf-8")
    told = daulat(home, "endpoints", "show", "old").stderr
    assert "us: public" in told
    assert "replaced: personal" in told


def test_the_lock_holds_for_every_command(home: Path) -> None:
    furnished(home, WRITTEN + "\n[policy]\nlock = true\n")
    assert "lock is on" in daulat(home, "endpoints", "show", "old").stderr
    for arguments in (("endpoints", "test", "old"), ("models", "pull", "some/model")):
        done = daulat(home, *arguments, more={"OLD_KEY": "secret"})
        assert done.returncode == 1
        assert "policy.lock" in done.stderr
