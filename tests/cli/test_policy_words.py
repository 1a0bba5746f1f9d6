"""`daulat policy`: what is told is what happens, without the values and without a record of the text."""

from __future__ import annotations

import json
from pathlib import Path

from command import daulat

SETTINGS = """\
[policy.classes.public]
places = ["*"]
[policy.classes.internal]
places = ["*"]
[policy.classes.personal]
redacted = ["us"]
[policy.patterns.case_number]
pattern = "CASE-[0-9]{6}"
data_class = "secret"
example = "CASE-123456"
[projects.clinic]
data_class = "personal"
[routes.quick]
to = ["rented/gpt-4o"]
[endpoints.rented]
kind = "openai"
key = "env:K"
place = "us"
models = ["gpt-4o"]
[endpoints.other]
kind = "mistral"
key = "env:K"
place = "eu"
models = ["mistral-large-latest"]
"""
TEXT = "Mail ana@example.com today"


def furnished(home: Path, settings: str = SETTINGS) -> Path:
    home.mkdir(mode=0o700)
    (home / "daulat.toml").write_text(settings, encoding="utf-8")
    return home


def explained(home: Path, *arguments: str, text: str = "") -> dict[str, str]:
    """The verdicts by endpoint."""
    done = daulat(home, "policy", "explain", *arguments, "--json", text=text)
    assert done.returncode == 0, done.stderr
    return {one["name"]: one["verdict"] for one in json.loads(done.stdout)["endpoints"]}


def test_explain(home: Path) -> None:
    furnished(home)
    done = daulat(home, "policy", "explain", "-", "--json", text=TEXT)
    told = json.loads(done.stdout)
    assert told["class"] == "personal"
    assert told["found"] == [
        {"kind": "email", "class": "personal", "start": 5, "end": 20, "score": 0.95}
    ]
    assert told["redacted"] == "Mail <EMAIL_1> today"
    assert "ana@example.com" not in done.stdout
    assert explained(home, TEXT) == {"native": "as it is", "rented": "redacted", "other": "refused"}
    assert explained(home, TEXT, "--model", "quick") == {"rented": "redacted"}
    assert explained(home, "Hi.", "--project", "clinic")["rented"] == "refused"
    assert explained(home, "Hi.", "--class", "secret")["rented"] == "refused"
    assert explained(home, "Hi.") == dict.fromkeys(("native", "rented", "other"), "as it is")
    assert explained(home, "CASE-123456 is open") == {
        "native": "as it is",
        "rented": "refused",
        "other": "refused",
    }
    assert not (home / "record.sqlite3").exists()

    made = daulat(home, "keys", "create", "office", "--class", "personal", "--model", "gpt-4o")
    assert made.returncode == 0, made.stderr
    (key,) = json.loads(daulat(home, "keys", "list", "--json").stdout)
    assert explained(home, "Hi.", "--key", key["id"])["rented"] == "refused"
    refused = daulat(home, "policy", "explain", "Hi.", "--key", key["id"], "--model", "quick")
    assert (refused.returncode, "may not use" in refused.stderr) == (1, True)
    for wrong in (("--class", "guess"), ("--key", "nobody")):
        assert daulat(home, "policy", "explain", "Hi.", *wrong).returncode == 1

    shown = daulat(home, "policy", "explain", TEXT, more={"LANGUAGE": "id"}).stdout
    assert "data kelas personal tidak boleh pergi ke sana" in shown
    assert "Mail <EMAIL_1> today" in shown
    assert "ana@example.com" not in shown


def test_check(home: Path) -> None:
    file = furnished(home) / "daulat.toml"
    done = daulat(home, "policy", "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "secret: stays on this machine." in done.stdout
    assert "personal: may go to us when it is replaced." in done.stdout
    assert "What your pattern case_number finds is secret." in done.stdout
    assert "Texts of the project clinic are personal at least." in done.stdout
    worse = SETTINGS.replace('example = "CASE-123456"', 'example = "CASE-12"')
    file.write_text(worse.replace('redacted = ["us"]', 'redacted = ["uss"]'), encoding="utf-8")
    done = daulat(home, "policy", "check", "--json")
    assert done.returncode == 1
    first, second = json.loads(done.stdout)["gaps"]
    assert ("uss" in first, "Did you mean us?" in first) == (True, True)
    assert "finds nothing in its example" in second
    file.write_text("[policy]\nlock = true\n" + SETTINGS, encoding="utf-8")
    done = daulat(home, "policy", "check")
    assert done.returncode == 1
    assert "the lock closes them all" in done.stderr
    assert "The lock is on" in done.stdout
