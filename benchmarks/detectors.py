"""Measures the detectors: recall and precision on presidio_pii, and what they cost.

The data set is Microsoft's 1,500 synthetic sentences with spans (presidio-research, MIT). Only the kinds
that the guard claims are scored; a marked span is found if a finding of the kind covers all its letters
and digits, and a finding is right if it touches a span of its kind. What the data set marks and the guard
does not claim (names, streets, ...) is listed as not covered.

    DAULAT_DATA=... python benchmarks/detectors.py

Writes benchmarks/results/detectors.json and the table in docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import RESULTS
from start import ROOT, write_table

from daulat.guard.findings import Finding
from daulat.guard.scan import Detectors, scan

FILE = Path("presidio_pii") / "data" / "synth_dataset_v2.json"
CLAIMED: Mapping[str, tuple[str, ...]] = {
    "EMAIL_ADDRESS": ("email",),
    "CREDIT_CARD": ("payment_card",),
    "IBAN_CODE": ("iban",),
    "US_SSN": ("us_ssn",),
    "IP_ADDRESS": ("ip_address", "private_ip"),
    "PHONE_NUMBER": ("phone",),
}
"""What the data set calls a thing, and what the guard does."""
PROSE = (
    "The weather of the mountains changes quickly, so take a coat, some water and a map with you. "
    "In 1998 there were 12 people, and 3 of them got lost near the harbour. "
)
ROUNDS = 7
"""Each time is the median of so many."""


def scored(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """For each name of the data set: spans, those found, findings, those right."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in CLAIMED}
    for row, findings in zip(rows, _findings(rows), strict=True):
        for name, kinds in CLAIMED.items():
            ours = [one for one in findings if one.kind in kinds]
            marked = [span for span in row["spans"] if span["entity_type"] == name]
            counts[name]["spans"] += len(marked)
            counts[name]["found"] += sum(_covered(row["full_text"], span, ours) for span in marked)
            counts[name]["findings"] += len(ours)
            counts[name]["right"] += sum(any(_touch(one, span) for span in marked) for one in ours)
    return {name: dict(several) for name, several in counts.items()}


def _findings(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[Finding, ...], ...]:
    return scan([row["full_text"] for row in rows], Detectors()).findings


def _covered(text: str, span: Mapping[str, Any], findings: Sequence[Finding]) -> bool:
    inside = range(span["start_position"], span["end_position"])
    hidden = {at for one in findings for at in range(one.start, one.end)}
    return all(at in hidden for at in inside if text[at].isalnum())


def _touch(one: Finding, span: Mapping[str, Any]) -> bool:
    return one.start < span["end_position"] and span["start_position"] < one.end


def others(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """What the data set marks and the guard does not claim."""
    every = Counter(span["entity_type"] for row in rows for span in row["spans"])
    return {name: count for name, count in every.most_common() if name not in CLAIMED}


def beyond(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Findings of kinds that the data set does not mark: dates of birth are dates to it."""
    claimed = {kind for kinds in CLAIMED.values() for kind in kinds}
    kinds = (one.kind for findings in _findings(rows) for one in findings)
    return dict(Counter(kind for kind in kinds if kind not in claimed))


def costs(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Microseconds for 1,000 characters."""
    prose = PROSE * 700
    umlauts = prose.replace("weather", "W\u00e9tter \u2013")
    marked = "\n".join(row["full_text"] for row in rows)
    texts = {
        "prose without findings, 1,000 characters": prose[:1000],
        "prose without findings, 100,000 characters": prose[:100_000],
        "the same with accents and dashes, 100,000 characters": umlauts[:100_000],
        "the data set's sentences in one text": marked,
    }
    return {name: _microseconds(text) * 1000 / len(text) for name, text in texts.items()}


def _microseconds(text: str) -> float:
    detectors = Detectors()
    count = max(1, 100_000 // len(text))
    return 1e6 * statistics.median(
        _seconds(lambda: scan([text], detectors), count) for _ in range(ROUNDS)
    )


def _seconds(work: Callable[[], Any], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - began) / count


def table(result: Mapping[str, Any]) -> str:
    lines = ["| presidio_pii | marked | recall | findings | precision |", "|---|---|---|---|---|"]
    for name, one in result["kinds"].items():
        recall = f"{one['found'] / one['spans']:.1%}"
        precision = f"{one['right'] / one['findings']:.1%}" if one["findings"] else "-"
        lines.append(f"| {name} | {one['spans']} | {recall} | {one['findings']} | {precision} |")
    missing = ", ".join(f"{name} {count}" for name, count in result["not_covered"].items())
    extra = ", ".join(f"{name} {count}" for name, count in result["beyond"].items())
    lines += ["", f"Not covered: {missing}. Found beyond what it marks: {extra}.", ""]
    lines += ["| cost | \u00b5s per 1,000 characters |", "|---|---|"]
    lines += [f"| {name} | {cost:.0f} |" for name, cost in result["microseconds"].items()]
    return "\n".join(
        [*lines, "", f"{result['date']}; {result['sentences']} sentences; {result['machine']}."]
    )


def main() -> None:
    path = Path(os.environ.get("DAULAT_DATA", ROOT.parent / "shared" / "data")) / FILE
    if not path.is_file():
        raise SystemExit(f"{path} is missing: set DAULAT_DATA to the folder of data sets.")
    rows = json.loads(path.read_text(encoding="utf-8"))
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "sentences": len(rows),
        "kinds": scored(rows),
        "not_covered": others(rows),
        "beyond": beyond(rows),
        "microseconds": costs(rows),
    }
    (RESULTS / "detectors.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_table("detectors", table(result))
    print(table(result))


if __name__ == "__main__":
    main()
