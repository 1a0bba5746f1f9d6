"""The tables of benchmarks/gateway.py, from its file of results: medians over the rounds, beside the aims."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Told = dict[str, Any]
"""What one job of benchmarks/load.py reported, or several of them together."""


def table(result: Mapping[str, Any]) -> str:
    """All parts that have figures, one behind the other."""
    writers: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
        "added": _added_table,
        "rate": _rate_table,
        "first_text": _first_text_table,
        "held": _held_table,
        "memory": _memory_table,
    }
    parts = [part for part in writers if part in result]
    lines = list[str]()
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        lines += [*writers[part](result[part]["figures"]), ""]
        if following is None or result[part]["facts"] != result[following]["facts"]:
            lines += [result[part]["facts"], ""]
    return "\n".join(lines).rstrip()


def _median(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return statistics.median(known) if len(known) > len(values) / 2 else None


def _pair(runs: Sequence[Told], p50: str, p99: str) -> str:
    """Medians of both; a gateway that failed in half of the rounds has none."""
    values = [_median([run.get(p) for run in runs]) for p in (p50, p99)]
    return (
        "fails" if None in values else " / ".join(f"{one:.2f}" for one in values if one is not None)
    )


def _added_table(figures: Mapping[str, Sequence[Told]]) -> list[str]:
    names = list(figures)
    lines = ["| ms, p50 / p99 | straight | " + " | ".join(f"{n} adds" for n in names) + " | aim |"]
    lines.append("|---" * (len(names) + 3) + "|")
    every = sorted({int(rate) for runs in figures.values() for run in runs for rate in run})
    for rate in every:
        runs = {n: [run[str(rate)] for run in figures[n] if str(rate) in run] for n in names}
        straight = [one["straight"] for many in runs.values() for one in many]
        cells = [
            _pair(many, "added_p50_ms", "added_p99_ms") if many else "-" for many in runs.values()
        ]
        aim = "at most 2 / 10" if rate == 300 else ""
        first = _pair(straight, "p50_ms", "p99_ms")
        lines.append(f"| {rate} requests/s | {first} | " + " | ".join(cells) + f" | {aim} |")
    return lines


def _rate_table(figures: Mapping[str, Sequence[Told]]) -> list[str]:
    medians = {n: statistics.median(run["highest"] for run in runs) for n, runs in figures.items()}
    ours = medians.get("daulat")
    lines = ["| | highest rate with no failure | all rounds | ours is | aim |", "|---" * 5 + "|"]
    for name, rate in medians.items():
        every = ", ".join(str(run["highest"]) for run in figures[name])
        times = f"{ours / rate:.1f} times" if ours and rate and name != "daulat" else ""
        aim = "8 times" if times else ""
        lines.append(f"| {name} | {rate:.0f} requests/s | {every} | {times} | {aim} |")
    return lines


def _first_text_table(figures: Mapping[str, Sequence[Told]]) -> list[str]:
    straight = [run["straight"] for runs in figures.values() for run in runs]
    lines = ["| first text of a stream | p50 / p99 in ms | aim |", "|---|---|---|"]
    lines.append(f"| straight | {_pair(straight, 'first_p50_ms', 'first_p99_ms')} | |")
    for name, runs in figures.items():
        aim = "p99 at most 5" if name == "daulat" else ""
        lines.append(f"| {name} adds | {_pair(runs, 'added_p50_ms', 'added_p99_ms')} | {aim} |")
    return lines


def _held_table(figures: Mapping[str, Told]) -> list[str]:
    lines = [
        "| streams held at once | whole | lost | mixed up or wrong | all together for | longest pause, p99 |",
        "|---" * 6 + "|",
    ]
    for name, told in figures.items():
        wrong = told["failures"].get("wrong", 0)
        lost = sum(told["failures"].values()) - wrong
        lines.append(
            f"| {name}, {told['streams']:,} | {told['answered']:,} | {lost} | {wrong} | "
            f"{told.get('together_s', 0):.0f} s | {told.get('gap_p99_ms', 0):.0f} ms |"
        )
    return lines


def _memory_table(figures: Mapping[str, Told]) -> list[str]:
    lines = ["| resident memory | before | behind | growth | aim |", "|---" * 5 + "|"]
    for name, told in figures.items():
        (_, first), (_, last) = told["resident_mib"][0], told["resident_mib"][-1]
        failed = sum(told["failures"].values())
        lines.append(
            f"| {name}, {told['requests']:,} requests, {failed} failed | {first} MiB | {last} MiB | "
            f"{told['growth']:+.1%} ({told['bytes_a_request']:.0f} bytes a request) | below 5 % |"
        )
    return lines
