"""Commands that look and change little: models, record, keys, config."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from command import MODEL, daulat


def _newest(home: Path) -> str:
    return json.loads(daulat(home, "record", "show", "-n", "1", "--json").stdout)[0]["id"]


def test_models_are_listed_shown_and_verified(used: Path) -> None:
    assert MODEL in daulat(used, "models", "list").stdout
    [one] = json.loads(daulat(used, "models", "list", "--json").stdout)
    assert one["name"] == MODEL
    assert one["size"] > 90_000_000
    shown = daulat(used, "models", "show", "starter").stdout
    assert one["digest"] in shown or one["digest"].removeprefix("sha256:") in shown
    paper = json.loads(daulat(used, "models", "show", MODEL, "--json").stdout)
    assert paper["parameters"] > 130_000_000
    done = daulat(used, "models", "verify")
    assert done.returncode == 0
    assert done.stdout == f"{MODEL}: sound\n"


def test_a_local_file_is_pulled_and_removed(furnished: Path, starter_gguf: Path) -> None:
    done = daulat(furnished, "models", "pull", str(starter_gguf), "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mine is here")
    assert daulat(furnished, "models", "remove", "mine").returncode == 0
    [left] = json.loads(daulat(furnished, "models", "list", "--json").stdout)
    assert left["name"] == MODEL
    assert daulat(furnished, "models", "verify").returncode == 0


def test_damage_is_found(furnished: Path) -> None:
    blob = max((furnished / "models" / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    data = blob.read_bytes()
    blob.unlink()  # it is a link into the cache
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = daulat(furnished, "models", "verify", MODEL)
    assert done.returncode == 1
    assert "damaged" in done.stdout


def test_the_record_is_shown(used: Path) -> None:
    lines = daulat(used, "record", "show").stdout.splitlines()
    assert len(lines) == 3
    assert all("terminal" in line and " ok " in line for line in lines[1:])
    assert len(daulat(used, "record", "show", "-n", "1").stdout.splitlines()) == 2
    whole = daulat(used, "record", "show", _newest(used)).stdout
    assert "What is blue?" in whole
    assert "this-machine" in whole
    assert "What is blue?" not in daulat(used, "record", "show").stdout
    assert "What is blue?" in daulat(used, "record", "show", "--contents").stdout


def test_the_record_verifies_against_a_head_and_as_an_export(used: Path, tmp_path: Path) -> None:
    done = daulat(used, "record", "verify")
    assert done.returncode == 0
    head = done.stdout.splitlines()[-1].removeprefix("Head: ")
    assert daulat(used, "record", "verify", "--head", head).returncode == 0
    wrong = head[:-1] + ("0" if head[-1] != "0" else "1")
    assert daulat(used, "record", "verify", "--head", wrong).returncode == 1
    file = tmp_path / "record.jsonl"
    assert daulat(used, "record", "export", "-o", str(file)).returncode == 0
    assert daulat(used, "record", "export").stdout == file.read_text(encoding="utf-8")
    assert daulat(used, "record", "export", "-o", str(file)).returncode == 1
    assert daulat(used, "record", "verify", str(file)).returncode == 0
    file.write_text(file.read_text(encoding="utf-8").replace("blue", "pink"), encoding="utf-8")
    assert daulat(used, "record", "verify", str(file)).returncode == 1


def test_a_changed_entry_is_named(furnished: Path) -> None:
    daulat(furnished, "keys", "create", "one")
    daulat(furnished, "keys", "create", "two")
    with sqlite3.connect(furnished / "record.sqlite3") as database:
        [(table,)] = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'entr%'"
        ).fetchall()
        changed = f"UPDATE {table} SET subject = 'key-ffffffff' WHERE seq = 1"
        assert database.execute(changed).rowcount == 1
    database.close()
    done = daulat(furnished, "record", "verify")
    assert done.returncode == 1
    assert done.stdout.startswith("Entry 1: ")


def test_contents_are_removed_and_the_record_still_verifies(furnished: Path) -> None:
    daulat(furnished, "chat", "--max-tokens", "4", text="A secret question")
    done = daulat(furnished, "record", "redact", _newest(furnished), "--reason", "asked for")
    assert done.returncode == 0, done.stderr
    assert "secret" not in daulat(furnished, "record", "show", "--contents").stdout
    assert daulat(furnished, "record", "verify").returncode == 0


def test_keys_come_and_go(home: Path) -> None:
    made = daulat(home, "keys", "create", "reports", "--model", "m")
    assert made.stdout.startswith("daulat-")
    assert len(made.stdout.splitlines()) == 1
    [key] = json.loads(daulat(home, "keys", "list", "--json").stdout)
    assert (key["name"], key["models"]) == ("reports", ["m"])
    assert daulat(home, "keys", "revoke", key["id"]).returncode == 0
    assert key["id"] not in daulat(home, "keys", "list").stdout or "revoked" in (
        daulat(home, "keys", "list").stdout
    )


def test_settings_are_shown_with_their_source(home: Path) -> None:
    home.mkdir()
    (home / "daulat.toml").write_text("[server]\nport = 9000\n", encoding="utf-8")
    rows = {row["key"]: row for row in json.loads(daulat(home, "config", "show", "--json").stdout)}
    assert rows["server.port"]["value"] == "9000"
    assert "daulat.toml" in rows["server.port"]["source"]
    assert rows["server.host"]["source"] == "default"


def test_the_default_file_is_right_and_changes_nothing(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "daulat.toml"
    file.write_text(daulat(home, "config", "show", "--defaults").stdout, encoding="utf-8")
    assert daulat(home, "config", "check", str(file)).returncode == 0


def test_every_fault_of_a_file_is_listed_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "daulat.toml"
    file.write_text("[server]\nport = 70000\nhots = 'x'\n[engnie]\n", encoding="utf-8")
    done = daulat(tmp_path, "config", "check", str(file))
    assert done.returncode == 1
    for word in ("line 2", "line 3", "line 4", "host", "engine"):
        assert word in done.stdout
