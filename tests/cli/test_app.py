"""What all commands have in common: help, exit codes, languages, and that help is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import daulat

from daulat import __version__

COMMANDS = [
    ("up",),
    ("chat",),
    *(("models", name) for name in ("list", "pull", "show", "verify", "remove", "prepare")),
    *(("record", name) for name in ("show", "verify", "export", "redact")),
    *(("keys", name) for name in ("create", "list", "revoke")),
    *(("config", name) for name in ("show", "check")),
]


def test_the_version(home: Path) -> None:
    assert daulat(home, "--version").stdout == f"daulat {__version__}\n"


def test_help_lists_every_command(home: Path) -> None:
    done = daulat(home, "--help")
    assert done.returncode == 0
    for command in {name for name, *_rest in COMMANDS}:
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_takes_home_and_explains_itself(home: Path, command: tuple[str, ...]) -> None:
    done = daulat(home, *command, "--help")
    assert done.returncode == 0
    assert "--home DIR" in done.stdout
    assert "--debug" in done.stdout


@pytest.mark.parametrize("command", [(), *COMMANDS], ids=" ".join)
def test_help_does_not_wait_for_heavy_packages(command: tuple[str, ...]) -> None:
    script = (
        "import sys; from daulat.cli.app import run; "
        f"code = run([*{command!r}, '--help']); "
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'rich', 'httpx2'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("modles",),
        ("up", "--port", "70000"),
        ("up", "--colour"),
        ("chat", "--temperature", "3"),
        ("record", "show", "-n", "0"),
        ("models", "show"),
        ("record", "redact", "rec-1"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2(home: Path, arguments: tuple[str, ...]) -> None:
    done = daulat(home, *arguments)
    assert done.returncode == 2
    assert "Usage: daulat" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("models", "show", "nothing"),
        ("models", "remove", "nothing"),
        ("record", "show", "rec-00000000000000000000000000000000"),
        ("keys", "revoke", "key-00000000"),
        ("chat", "--model", "nothing"),
        ("models", "pull", "/no/such/folder"),
    ],
    ids=" ".join,
)
def test_an_error_is_one_line_and_ends_with_1(home: Path, arguments: tuple[str, ...]) -> None:
    done = daulat(home, *arguments, text="x")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1


def test_debug_shows_the_trace(home: Path) -> None:
    for arguments in (("models", "show", "x", "--debug"), ("--debug", "models", "show", "x")):
        done = daulat(home, *arguments)
        assert done.returncode == 1
        assert "Traceback" in done.stderr


def test_home_by_option_before_or_behind_the_command(home: Path, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    for arguments in (("--home", other, "keys", "create"), ("keys", "create", "--home", other)):
        assert daulat(home, *arguments).returncode == 0
    assert len(daulat(home, "keys", "list", "--home", other).stdout.splitlines()) == 3
    assert not home.exists()


def test_wrong_settings_are_told_with_file_and_line(home: Path) -> None:
    home.mkdir()
    (home / "daulat.toml").write_text("[server]\nhots = 'x'\n", encoding="utf-8")
    done = daulat(home, "models", "list")
    assert done.returncode == 1
    assert "line 2" in done.stderr
    assert "host" in done.stderr


def test_indonesian(home: Path) -> None:
    done = daulat(home, "up", "--help", more={"LANG": "id_ID.UTF-8"})
    assert "Pemakaian: daulat up" in done.stdout
    assert "Jalankan server" in done.stdout
    wrong = daulat(home, "modles", more={"LANGUAGE": "id"})
    assert "Tidak ada perintah 'modles'." in wrong.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(home: Path) -> None:
    script = f"{sys.executable} -m daulat config show --defaults --home {home} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""


def test_the_home_is_its_owners_alone(tmp_path: Path, small_model: Path) -> None:
    home = tmp_path / "new" / "home"
    assert daulat(home, "models", "pull", str(small_model)).returncode == 0
    assert home.stat().st_mode & 0o777 == 0o700
    assert daulat(home, "config", "show").returncode == 0


def test_looking_at_settings_creates_nothing(tmp_path: Path) -> None:
    home = tmp_path / "new"
    assert daulat(home, "config", "show").returncode == 0
    assert daulat(home, "models", "list").returncode == 0
    assert not home.exists()


@pytest.mark.parametrize("command", [("models", "pull", "starter"), ("up",), ("record", "show")])
def test_a_home_that_cannot_be_is_told_with_a_way_out(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    done = daulat(tmp_path / "file", *command)
    assert done.returncode == 1
    assert "--home" in done.stderr
    assert len(done.stderr.splitlines()) == 1
