"""A passport, an adapter and an exchange as a person reads them: named facts in order. `--json` has everything.

Not here: what they are (`trust.passport`, `models.adapters`, `record`), how pairs are set (`say`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from daulat.cli import say
from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.models.adapters import AdapterEntry

Pairs = list[tuple[str, str]]
Json = Mapping[str, Any]


def passport_pairs(paper: Json) -> Pairs:
    """`Passport.as_dict()`, readable."""
    files = [
        f"{name}  {say.size(file['size'])}\n  {file['digest']}"
        for name, file in paper["files"].items()
    ]
    revision = paper["revision"]
    source = paper["source"] or "-"
    return [
        (_("Name"), paper["name"]),
        (_("Architecture"), _architecture(paper)),
        (_("Use"), use(paper["kind"])),
        (_("Parameters"), f"{paper['parameters']:,}"),
        (_("Context"), _("{count} tokens").format(count=f"{paper['context']:,}")),
        (_("Vocabulary"), _("{count} tokens").format(count=f"{paper['vocabulary']:,}")),
        (_("Stored as"), _shares(paper["types"])),
        (_("Chat template"), _("yes") if paper["chat_template"] else _("no")),
        (_("Licence"), paper["licence"] or _("not stated")),
        (_("Source"), f"{source}, {revision}" if revision else source),
        (_("Digest"), paper["digest"]),
        (_("Memory to run"), "\n".join(_memory(paper))),
        (_("Files"), "\n".join(files)),
    ]


def use(kind: str) -> str:
    """What a model is for."""
    return _("embeddings") if kind == "embedding" else _("text")


def exchange_pairs(one: Json) -> Pairs:
    """An exchange of `daulat record show`, readable: the facts, then what was said."""
    entries: list[Json] = one["entries"]
    opened, closed = entries[0], entries[-1] if len(entries) > 1 else None
    body: Json = opened["body"]
    pairs: Pairs = [
        (_("Record"), one["id"]),
        (_("Time"), opened["time"]),
        (_("Key"), body["key"]),
        (_("Model"), f"{body['model']}\n{body['model_digest']}"),
        *_adapter(body),
        (_("Plan"), _plan(body["plan"])),
        (_("Settings"), _inline(body.get("sampling", {}))),
        (_("Status"), status(opened, closed)),
        *_figures(closed["body"] if closed else {}),
        (_("Entries"), "\n".join(f"{e['seq']} {e['kind']} {e['hash']}" for e in entries)),
    ]
    if body.get("user"):
        pairs.insert(3, (_("User"), body["user"]))
    return pairs + [pair for entry in entries for pair in _said(entry.get("contents", {}))]


def status(opened: Json, closed: Json | None) -> str:
    """One word, and the reasons why the answers ended."""
    if closed is None:
        return _("open")
    if closed["kind"] == "exchange.interrupted":
        return _("interrupted")
    body: Json = closed["body"]
    reasons = [reason for reason in body.get("finish_reasons", ()) if reason]
    detail = body.get("error") or ", ".join(reasons)
    return f"{body['status']} ({detail})" if detail else str(body["status"])


def adapter_pairs(entry: AdapterEntry) -> Pairs:
    """What is known of an adapter, readable."""
    files = [f"{name}  {say.size(size)}\n  {blob}" for name, (blob, size) in entry.files.items()]
    return [
        (_("Name"), entry.id),
        (_("Base"), f"{entry.base}\n{entry.base_digest}"),
        (_("Rank"), str(entry.rank)),
        (_("Matrices"), ", ".join(entry.targets)),
        (_("Parameters"), f"{entry.parameters:,}"),
        (_("Licence"), entry.licence or _("not stated")),
        (_("Source"), entry.source),
        (_("Digest"), entry.digest),
        (_("Files"), "\n".join(files)),
    ]


def _adapter(body: Json) -> Pairs:
    if "adapter" not in body:
        return []
    return [(_("Adapter"), f"{body['adapter']}\n{body['adapter_digest']}")]


def _architecture(paper: Json) -> str:
    shape = _("{layers} layers, {hidden} wide").format(
        layers=paper["layers"], hidden=f"{paper['hidden']:,}"
    )
    return f"{paper['architecture']}, {shape}"


def _shares(types: Mapping[str, int]) -> str:
    whole = sum(types.values()) or 1
    return ", ".join(f"{name} {100 * count / whole:.1f} %" for name, count in types.items())


def _memory(paper: Json) -> Iterator[str]:
    for name, memory in paper["memory"].items():
        weights, cache = say.size(memory["weights"]), say.size(memory["cache"])
        if memory["cache"]:
            text = _("{weights}, and {cache} for one full context")
            yield f"{name}: " + text.format(weights=weights, cache=cache)
        elif name == "float32":  # what embedding models run in
            yield f"{name}: {weights}"


def _plan(plan: Json) -> str:
    steps = [f"{step['endpoint']}, {step['place']}" for step in plan["steps"]]
    return "\n".join([*steps, plan["reason"]])


def _figures(body: Json) -> Pairs:
    pairs: Pairs = []
    if usage := body.get("usage"):
        text = _("{read} read, {written} written")
        shown = text.format(read=usage["prompt_tokens"], written=usage.get("completion_tokens", 0))
        pairs.append((_("Tokens"), shown))
    if timings := body.get("timings"):
        shown = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in timings.items())
        pairs.append((_("Timings"), shown))
    return pairs


def _said(contents: Json) -> Iterator[tuple[str, str]]:
    """What was asked and answered, whoever said it in front."""
    for name, value in contents.items():
        if value is None:
            yield name, _("(not kept)")
            continue
        for message in value.get("messages", ()):
            yield message["role"], message["content"]
        for text in (*value.get("prompts", ()), *value.get("inputs", ())):
            yield name, text if isinstance(text, str) else json.dumps(text)
        for text in value.get("choices", ()):
            yield name, text


def _inline(values: Json) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in values.items()) or "-"
