"""How fast models of real shapes are written: the part `shapes` of benchmarks/engine.py.

One sequence behind a short prompt, with random weights of the shapes of `shape_files`, each shape and number
format in a process of its own. Writing a token reads every weight that it needs once, so its limit is the
memory's: the share of it is the bytes of the matrices that a token passes (of a mixture the router and the
chosen experts; of the embedding nothing, unless it is the output matrix too) times the tokens a second, over
what the machine read in the same process, before or after, whichever was more. Keys and values are not counted.

Peers on the same weights: llama.cpp (`xllamacpp`) in Q8_0 and Q4_0, which has fewer bytes than our int4, and
transformers in bfloat16 up to 8 GB of weights.

    python benchmarks/engine.py --part shapes [--only Llama] [--rounds 5]

The files are made once, below the benchmarks' cache of models, and take about 50 GB with llama.cpp's
(Mistral's alone 23 GB).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import shape_files
from common import NEW, RESULTS, SHORT, EngineFailed, said, tokens
from limits import limits, read_rate
from start import conditions, facts, write_table

FORMATS = dict.fromkeys(shape_files.SHAPES, ("int8", "int4")) | {"Mistral-7B-v0.3": ("int4",)}
BAR = 0.80
MOST = 8 << 30
"""Bytes of bfloat16 weights that transformers is asked to compute with."""
WARM = 4


def prompt() -> list[int]:
    """The starter's short one, within the smallest of these vocabularies."""
    return [token % 32_000 for token in tokens(SHORT, 0)]


# --- the engines, each in its own process ------------------------------------------------------------------


def ours(name: str, numbers: Any) -> dict[str, float]:
    from daulat.engine.loading import load_native
    from daulat.engine.step import Chunk
    from daulat.models.checkpoint import open_checkpoint
    from daulat.models.shelf import Shelf

    before = read_rate()
    shelf = Shelf(shape_files.home() / "prepared", 1 << 40)
    place = shelf.place(shape_files.digest(name), numbers)
    assert place is not None
    decoder = load_native(
        open_checkpoint(shape_files.folder_of(name)),
        numbers,
        threads=os.cpu_count() or 1,
        place=place,
        calibration=0,  # the weights are random: which four bits they become makes no difference
    )
    cache = decoder.new_cache(SHORT + WARM + NEW)
    decoder.forward([Chunk(prompt(), cache)])

    def write(count: int) -> float:
        started = time.perf_counter()
        for step in range(count):
            logits = decoder.forward([Chunk([1000 + step], cache, written=True)])
            logits.argmax(-1)
        return count / (time.perf_counter() - started)

    write(WARM)
    rate = write(NEW)
    touched = bytes_touched(place.path, decoder.architecture)
    return {"tokens": rate, "bytes": touched, "read": max(before, read_rate())}


def bytes_touched(prepared: Path, architecture: Any) -> float:
    """Of weights, for one token of one sequence; counted over the matrices as they were prepared."""
    from daulat.models.safetensors import SafetensorsFile

    def share(tensor: str) -> float:
        block, _, slot = tensor.partition(".")
        if block in ("embed", "positions"):
            return float(block == "embed" and architecture.tied)
        if architecture.experts and slot in ("up", "down"):
            return architecture.experts.chosen / architecture.experts.count
        return 1.0

    stored = SafetensorsFile(prepared).tensors
    return sum(info.size * share(tensor) for tensor, info in stored.items())


def llama_cpp(name: str, numbers: str) -> dict[str, float]:
    import xllamacpp  # pyright: ignore[reportMissingImports]

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(shape_files.gguf_of(name, numbers))
    parameters.n_parallel, parameters.n_ctx = 1, 512
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = os.cpu_count() or 1
    server = xllamacpp.Server(parameters)

    def write(count: int) -> float:
        body = {"prompt": prompt(), "n_predict": count, "temperature": 0}
        answer = server.handle_completions({**body, "ignore_eos": True, "cache_prompt": False})
        timings = (answer if isinstance(answer, dict) else json.loads(answer))["timings"]
        assert timings["predicted_n"] == count
        return timings["predicted_per_second"]

    write(WARM)
    return {"tokens": write(NEW)}


def transformers(name: str, _numbers: str) -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM

    folder = shape_files.folder_of(name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    @torch.inference_mode()
    def write(count: int) -> float:
        out = model(torch.tensor([prompt()]), use_cache=True, logits_to_keep=1)
        started = time.perf_counter()
        for step in range(count):
            new = torch.tensor([[1000 + step]])
            out = model(new, past_key_values=out.past_key_values, use_cache=True)
            out.logits.argmax(-1)
        return count / (time.perf_counter() - started)

    write(WARM)
    return {"tokens": write(NEW // 4)}


ENGINES: dict[str, tuple[str, Callable[[str, str], dict[str, float]]]] = {
    "daulat": ("daulat", ours),
    "llama.cpp": ("xllamacpp", llama_cpp),
    "transformers": ("transformers", transformers),
}


# --- the rounds --------------------------------------------------------------------------------------------


def _runs(name: str, numbers: str) -> list[tuple[str, str]]:
    """Engine and format, of those that can be run on this shape; transformers once a shape."""
    found: list[tuple[str, str]] = []
    for engine, (module, _) in ENGINES.items():
        if not importlib.util.find_spec(module):
            continue
        if engine != "transformers":
            found.append((engine, numbers))
        elif numbers == FORMATS[name][0] and _stored_bytes(name) <= MOST:
            found.append((engine, "bfloat16"))
    return found


def _stored_bytes(name: str) -> int:
    return sum(path.stat().st_size for path in shape_files.folder_of(name).glob("*.safetensors"))


Figures = dict[str, dict[str, list[dict[str, float]]]]
"""Of each shape, of each engine and format, one table a round."""


def measure(count: int, only: Sequence[str] = ()) -> None:
    """All rounds, into benchmarks/results/shapes.json and the table; `only`: shapes with such a word."""
    names = [n for n in FORMATS if not only or any(word in n for word in only)]
    found, failed = rounds(names, count)
    here = facts({**conditions(), "model": "random weights"})
    result = {"limits": limits(), "facts": here, "rounds": found, "failed": failed}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "shapes.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_table("shapes", table(result))
    print(table(result))


def rounds(names: Sequence[str], count: int) -> tuple[Figures, dict[str, str]]:
    """The figures, and what peers said that were given up."""
    found: Figures = {name: {} for name in names}
    failed: dict[str, str] = {}
    runs = [
        (name, *run) for name in names for numbers in FORMATS[name] for run in _runs(name, numbers)
    ]
    for number in range(count):
        for name, engine, numbers in list(runs):
            try:
                figures = said([sys.executable, __file__, name, engine, numbers])
            except EngineFailed as error:
                if engine == "daulat":
                    raise
                runs.remove((name, engine, numbers))
                failed[f"{name} in {engine}, {numbers}"] = str(error)
                print(f"round {number + 1}: {name}: {engine} is left out: {error}", file=sys.stderr)
                continue
            found[name].setdefault(f"{engine}, {numbers}", []).append(figures)
            print(f"round {number + 1}: {name}: {engine}, {numbers}: {figures}", file=sys.stderr)
    return found, failed


def table(result: dict[str, Any]) -> str:
    """A line for each shape and format; the share is the median of the rounds' own."""
    lines = [
        "| shape | format | tokens/s | MB a token | GB/s | share of the memory's rate | "
        "llama.cpp, Q8_0 or Q4_0 | transformers, bfloat16 |",
        "|---" * 8 + "|",
    ]
    for name, engines in result["rounds"].items():
        for numbers in FORMATS[name]:
            runs = engines[f"daulat, {numbers}"]
            rate, flow, share = (
                statistics.median(one(run) for run in runs)
                for one in (
                    lambda run: run["tokens"],
                    lambda run: run["tokens"] * run["bytes"] / 1e9,
                    lambda run: run["tokens"] * run["bytes"] / 1e9 / run["read"],
                )
            )
            others = [
                _median(engines, f"llama.cpp, {numbers}"),
                _median(engines, "transformers, bfloat16"),
            ]
            size = f"{runs[0]['bytes'] / 1e6:.0f}"
            cells = [name, numbers, f"{rate:.1f}", size, f"{flow:.1f}", f"{share:.0%}", *others]
            lines.append("| " + " | ".join(cells) + " |")
    rates = [
        run["read"]
        for engines in result["rounds"].values()
        for title, runs in engines.items()
        if title.startswith("daulat")
        for run in runs
    ]
    between = f"between {min(rates):.1f} and {max(rates):.1f} GB/s"
    lines += [
        "",
        f"The aim is {BAR:.0%}. The machine read {between} in these runs.",
        "",
        result["facts"],
    ]
    return "\n".join(lines)


def _median(engines: dict[str, list[dict[str, float]]], title: str) -> str:
    runs = engines.get(title)
    return f"{statistics.median(run['tokens'] for run in runs):.1f}" if runs else "-"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="One shape in one engine; see benchmarks/engine.py."
    )
    parser.add_argument("shape", choices=list(FORMATS))
    parser.add_argument("engine", choices=list(ENGINES))
    parser.add_argument("numbers", choices=["int8", "int4", "bfloat16"])
    options = parser.parse_args()
    print(json.dumps(ENGINES[options.engine][1](options.shape, options.numbers)))


if __name__ == "__main__":
    main()
