"""`daulat certify` and `daulat certificate`, from nothing but an outcome file, as a person does it."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from command import daulat


def rows(count: int, best: float = 0.9, seed: int = 0) -> list[dict[str, Any]]:
    """Sums that the small endpoint mostly gets wrong, and says so; words that both get right."""
    lots = random.Random(seed)
    found = []
    for number in range(count):
        hard = number % 3 == 0
        large = lots.random() < best
        small = large and not (hard and lots.random() < 0.8)
        prompt = (
            f"What is {number} * {number + 7}?" if hard else f"Name the harbour of town {number}."
        )
        answer = f"It is {number}." if small else f"Perhaps {number}, I cannot tell."
        found.append({
            "prompt": prompt,
            "small": {"answer": answer, "score": int(small), "cost": 0.0001},
            "large": {"answer": "Yes.", "score": int(large), "cost": 0.01},
        })  # fmt: skip
    return found


def as_json(path: Path, table: list[dict[str, Any]]) -> Path:
    lines = [
        {"prompt": one["prompt"], "endpoints": {k: one[k] for k in ("small", "large")}}
        for one in table
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def as_csv(path: Path, table: list[dict[str, Any]], *, long: bool) -> Path:
    parts = ("answer", "score", "cost")
    with path.open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file)
        if long:
            write.writerow(["prompt", "endpoint", *parts])
            for one in table:
                for name in ("small", "large"):
                    write.writerow([one["prompt"], name, *(one[name][part] for part in parts)])
        else:
            names = [(name, part) for name in ("small", "large") for part in parts]
            write.writerow(["prompt", *(f"{name}.{part}" for name, part in names)])
            for one in table:
                write.writerow([one["prompt"], *(one[name][part] for name, part in names)])
    return path


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one certificate, `work`, made from work.jsonl beside it. Tests may only look."""
    folder = tmp_path_factory.mktemp("certified")
    file = as_json(folder / "work.jsonl", rows(600))
    done = daulat(folder / "home", "certify", str(file), "--keep", "0.9")
    assert done.returncode == 0, done.stderr
    assert (
        "Certified: with 95 % confidence, at least 90 % of large's quality is kept" in done.stdout
    )
    assert "once the open endpoint has answered" in done.stdout
    return folder


def test_one_file_in_three_forms_is_one_certificate(certified: Path, tmp_path: Path) -> None:
    table = rows(600)
    wide = as_csv(tmp_path / "wide.csv", table, long=False)
    long = as_csv(tmp_path / "long.csv", table, long=True)
    home = certified / "home"
    first = json.loads(daulat(home, "certificate", "show", "work", "--json").stdout)["certificate"]
    for file in (wide, long):
        done = daulat(tmp_path / "home", "certify", str(file), "--keep", "0.9", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["certified"]
        for name in ("threshold", "data_digest", "router", "closed_share", "kept", "saved"):
            assert told["certificate"][name] == first[name]
        assert told["forecast"]["closed_shares"][0]["labels"] == 540


def test_show_list_and_verify(certified: Path) -> None:
    home = certified / "home"
    shown = daulat(home, "certificate", "show", "work").stdout
    for word in (
        "Threshold",
        "at least 90 %",
        "Closed share",
        "Cost saved",
        "sha256:",
        "Signed by",
    ):
        assert word in shown
    listed = json.loads(daulat(home, "certificate", "list", "--json").stdout)
    assert [(one["name"], one["stands"]) for one in listed] == [("work", True)]
    assert "stands" in daulat(home, "certificate", "list").stdout
    for more in ([], ["--outcomes", str(certified / "work.jsonl")]):
        done = daulat(home, "certificate", "verify", "work", *more)
        assert done.returncode == 0, done.stderr
        assert "The certificate stands" in done.stdout


def test_a_change_of_the_data_is_told_by_the_exit_code(certified: Path, tmp_path: Path) -> None:
    other = as_json(tmp_path / "work.jsonl", rows(601))
    home = certified / "home"
    done = daulat(home, "certificate", "verify", "work", "--outcomes", str(other), "--json")
    assert done.returncode == 3
    told = json.loads(done.stdout)
    assert told["signature"] == "good"
    assert [one["what"] for one in told["void"]] == ["data_digest"]


def test_elsewhere_a_certificate_is_checked_by_its_key(certified: Path, tmp_path: Path) -> None:
    file, away = certified / "home" / "certificates" / "work.json", tmp_path / "away"
    key = json.loads(file.read_text())["signature"]["key"]
    done = daulat(away, "certificate", "verify", str(file))
    assert done.returncode == 1
    assert f"--key {key}" in done.stderr
    assert daulat(away, "certificate", "verify", str(file), "--key", key).returncode == 0
    changed = tmp_path / "changed.json"
    changed.write_text(file.read_text().replace('"keep": 0.9', '"keep": 0.99'))
    done = daulat(away, "certificate", "verify", str(changed), "--key", key)
    assert done.returncode == 1
    assert "does not fit" in done.stderr


def test_a_certificate_is_replayed_over_what_it_was_not_made_from(certified: Path) -> None:
    home, file = certified / "home", str(certified / "work.jsonl")
    done = daulat(home, "route", "backtest", file, "--certificate", "work", "--rest", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    replays = told["rules"] if isinstance(told, dict) else told
    (one,) = [each for each in replays if each["rule"] == "certificate work"]
    assert one["examples"] == 60
    warned = daulat(home, "route", "backtest", file, "--certificate", "work")
    assert "made from 540 of these examples" in warned.stderr
    done = daulat(home, "route", "backtest", file, "--certificate", "work", "--router", "x")
    assert done.returncode == 2


def test_fitting_a_router_of_the_same_name_leaves_it_valid(certified: Path) -> None:
    home = certified / "home"
    done = daulat(home, "route", "fit", str(certified / "work.jsonl"), "--mode", "before")
    assert done.returncode == 0, done.stderr
    assert daulat(home, "certificate", "verify", "work").returncode == 0


def test_a_goal_out_of_reach(tmp_path: Path) -> None:
    file = as_json(tmp_path / "hard.jsonl", rows(150, best=0.6))
    done = daulat(tmp_path / "home", "certify", str(file), "--keep", "1")
    assert done.returncode == 3
    assert "Not certified" in done.stdout
    assert "What they show with 95 % confidence" in done.stdout
    assert "more labels" in done.stdout or "no number of labels" in done.stdout
    assert not (tmp_path / "home" / "certificates").exists()
    told = json.loads(
        daulat(tmp_path / "home", "certify", str(file), "--keep", "1", "--json").stdout
    )
    assert told["certified"] is False
    assert 0 < told["instead"]["keep"] < 1


@pytest.mark.parametrize(
    ("table", "more", "code", "why"),
    [
        (rows(3), [], 1, "Only 3 different prompts"),
        (rows(100, best=0.0), [], 1, "never right"),
        (rows(100), ["--open", "nobody"], 1, "No endpoint 'nobody'"),
        (rows(100), ["--open", "small", "--closed", "small"], 1, "two"),
        (rows(100), ["--keep", "1.5"], 1, "--keep"),
        (rows(100), ["--confidence", "nan"], 1, "--confidence"),
        (rows(100), ["--seed", "-1"], 1, "--seed"),
        (rows(100), ["--name", "a b"], 1, "--name"),
        (rows(100), ["--labels", "0"], 2, "--labels"),
    ],
)
def test_errors_say_what_to_do(
    tmp_path: Path, table: list[dict[str, Any]], more: list[str], code: int, why: str
) -> None:
    file = as_json(tmp_path / "work.jsonl", table)
    done = daulat(tmp_path / "home", "certify", str(file), *more)
    assert done.returncode == code
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_it_speaks_indonesian(certified: Path) -> None:
    home, more = certified / "home", {"LANGUAGE": "id", "LANG": "id_ID.UTF-8"}
    assert "Ambang" in daulat(home, "certificate", "show", "work", more=more).stdout
    assert "berlaku" in daulat(home, "certificate", "list", more=more).stdout
