"""`daulat route` from nothing but an outcome file: fit, show, backtest, as a person does it."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from command import daulat

RULES = """\
otherwise = "small"
[[rules]]
category = "sums"
use = "large"
[[rules]]
router = "work"
level = 1.0
"""


def _answer(good: bool, number: int) -> str:
    return f"The answer is {number}." if good else f"Perhaps {number + 3}, I cannot tell."


def outcome_file(path: Path, rows: int = 120, *, long: bool = False) -> Path:
    """Sums that the small endpoint mostly gets wrong, and says so; words that both get right."""
    drawn = random.Random(4)
    fields = ("answer", "score", "cost", "seconds")
    with path.open("w", encoding="utf-8", newline="") as file:
        write = csv.writer(file).writerow
        wide = [f"{name}.{field}" for name in ("small", "large") for field in fields]
        write(
            ["prompt", "category", "endpoint", *fields] if long else ["prompt", "category", *wide]
        )
        for number in range(rows):
            kind = drawn.choice(["sums", "words"])
            prompt = f"{kind.title()} {number}: what comes of {drawn.randint(10, 99)}?"
            small, large = drawn.random() < (0.2 if kind == "sums" else 0.9), drawn.random() < 0.95
            cells = (
                [_answer(small, number), int(small), 0.001, 0.5],
                [_answer(large, number), int(large), 0.01, 2],
            )
            if long:
                write([prompt, kind, "small", *cells[0]])
                write([prompt, kind, "large", *cells[1]])
            else:
                write([prompt, kind, *cells[0], *cells[1]])
    return path


def told(home: Path, *arguments: str) -> Any:
    done = daulat(home, "route", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(home: Path, *arguments: str) -> str:
    done = daulat(home, "route", *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def by_rule(found: dict[str, Any]) -> dict[str, Any]:
    return {one["rule"]: one for one in found["rules"]}


def test_from_a_file_to_a_replay(home: Path, tmp_path: Path) -> None:
    path = str(outcome_file(tmp_path / "work.csv"))
    router = told(home, "fit", path, "--labels", "80")
    assert (router["name"], router["mode"]) == ("work", "cascade")
    assert router["endpoints"] == ["small", "large"]
    assert router["fitted_on"]["labels"] == 80
    assert [one["name"] for one in told(home, "show")] == ["work"]
    assert told(home, "show", "work") == router
    found = told(home, "backtest", path, "--router", "work", "--at", "0.4", "--rest")
    assert found["router"]["examples"] == 40
    assert found["router"]["figures"]["apgr"]["value"] > 0.6
    rules = by_rule(found)
    assert list(rules) == ["always small", "always large", "router at 40%"]
    routed = rules["router at 40%"]
    away = routed["answers"]["large"]
    assert routed["asks"] == pytest.approx({"small": 1, "large": away})
    assert routed["cost"]["value"] == pytest.approx(0.001 + 0.01 * away)
    assert routed["seconds"]["value"] == pytest.approx(0.5 + 2 * away)
    assert rules["always small"]["quality"]["value"] < routed["quality"]["value"]


def test_wide_long_and_json_lines_give_one_router(home: Path, tmp_path: Path) -> None:
    from daulat.route.learning.outcomes import read, write

    wide, long = outcome_file(tmp_path / "wide.csv"), outcome_file(tmp_path / "long.csv", long=True)
    lines = tmp_path / "lines.jsonl"
    write(read(wide), lines)
    found = {
        told(home, "fit", str(path), "--mode", "before", "--name", path.stem)["digest"]
        for path in (wide, long, lines)
    }
    assert len(found) == 1


def test_a_file_of_rules_is_replayed(home: Path, tmp_path: Path) -> None:
    path = str(outcome_file(tmp_path / "work.csv"))
    told(home, "fit", path)
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    rules = by_rule(told(home, "backtest", path, "--policy", str(tmp_path / "rules.toml")))
    assert rules["rules.toml"]["answers"]["large"] == 1
    assert rules["rules.toml"]["asks"]["small"] == pytest.approx(1 - path_share(Path(path), "sums"))


def path_share(path: Path, category: str) -> float:
    with path.open(encoding="utf-8", newline="") as file:
        kinds = [row["category"] for row in csv.DictReader(file)]
    return kinds.count(category) / len(kinds)


def test_both_modes_are_compared_by_what_they_earn(home: Path, tmp_path: Path) -> None:
    path = str(outcome_file(tmp_path / "work.csv"))
    done = daulat(home, "route", "fit", path, "--mode", "both")
    assert done.returncode == 0, done.stderr
    assert "(not kept)" in done.stdout
    assert told(home, "show", "work")["mode"] == "cascade"


def test_a_table_for_people(home: Path, tmp_path: Path) -> None:
    path = str(outcome_file(tmp_path / "work.csv"))
    done = daulat(home, "route", "fit", path)
    assert "small < large" in done.stdout
    assert "APGR" in done.stdout
    done = daulat(home, "route", "backtest", path, "--router", "work")
    assert "router at 30%" in done.stdout
    assert "fitted on 120 of these examples" in " ".join(done.stderr.split())
    assert daulat(home, "route", "show").stdout.count("small < large") == 1


def test_errors_name_the_next_step(home: Path, tmp_path: Path) -> None:
    path = str(outcome_file(tmp_path / "work.csv", 40))
    told(home, "fit", path)
    assert "Fit it on some of them" in refused(home, "backtest", path, "--router", "work", "--rest")
    assert "There are: small, large" in refused(home, "backtest", path, "--rule", "always:huge")
    assert "--rest needs --router" in refused(home, "backtest", path, "--rest")
    assert "There are: work" in refused(home, "show", "other")
    assert "docs/outcomes.md" in refused(home, "fit", str(tmp_path / "none.csv"))
    assert "daulat models pull" in refused(home, "fit", path, "--encoder", "no-such-model")
    bad = tmp_path / "bad.csv"
    bad.write_text("prompt,a.score,b.score\nx,85,0\n", encoding="utf-8")
    assert "bad.csv, line 2, 'a.score': 85 is not between 0 and 1" in refused(home, "fit", str(bad))
