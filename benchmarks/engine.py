"""How fast the engine reads and writes, beside its peers: `python benchmarks/engine.py`.

Every engine runs in a process of its own, one after the other, round after round, on the same tokens of the
starter model; medians over the rounds are compared. Peers that are not installed are left out:
llama.cpp as the wheel `xllamacpp`, transformers in bfloat16. The part `speed` writes
benchmarks/results/engine.json, the part `scores` benchmarks/results/scores.json, and both their tables in
docs/benchmarks.md; `--part` names one of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import scores
from start import MODEL, ROOT, environment_facts, write_table

from daulat.models.catalogue import Catalogue
from daulat.models.pull import pull

RESULTS = ROOT / "benchmarks" / "results"
SHORT, LONG, NEW, COMPANY = 64, 1000, 64, 16
READ = 1024
TASKS = {
    "decode": "decode, 1 sequence, short",
    "decode_long": f"decode, 1 sequence, {LONG} tokens of context",
    "decode_16": f"decode, {COMPANY} sequences, total",
    "prefill": f"prefill, {READ} tokens",
}


def tokens(count: int, seed: int) -> list[int]:
    """The same for every engine: ordinary tokens in no order."""
    return random.Random(seed).choices(range(1000, 40_000), k=count)  # noqa: S311 - a workload


# --- the engines, each in its own process -----------------------------------------------------------


def _decoder(kernels: str) -> Any:
    from daulat.engine.loading import load_native
    from daulat.engine.native.panels import FLOAT32, quickest
    from daulat.engine.plain import load_decoder

    if kernels != "plain":
        prefill = FLOAT32 if kernels == "float32" else quickest()
        return load_native(_checkpoint(), threads=os.cpu_count() or 1, prefill=prefill)
    return load_decoder(_checkpoint())


def _ours(kernels: str) -> dict[str, float]:
    from daulat.engine.step import Chunk

    decoder = _decoder(kernels)

    def read(prompt: Sequence[int]) -> Any:
        cache = decoder.new_cache(len(prompt) + NEW)
        for first in range(0, len(prompt), 512):
            decoder.forward([Chunk(prompt[first : first + 512], cache)])
        return cache

    def decode(length: int, company: int) -> float:
        caches = [read(tokens(length, seed)) for seed in range(company)]
        started = time.perf_counter()
        for step in range(NEW):
            logits = decoder.forward(
                [Chunk([1000 + step], cache, written=True) for cache in caches]
            )
            logits.argmax(-1)
        return company * NEW / (time.perf_counter() - started)

    def prefill(seed: int) -> float:
        started = time.perf_counter()
        read(tokens(READ, seed))
        return READ / (time.perf_counter() - started)

    prefill(1)
    return {
        "decode": decode(SHORT, 1),
        "decode_long": decode(LONG, 1),
        "decode_16": decode(SHORT, COMPANY),
        "prefill": statistics.median(prefill(seed) for seed in (2, 3, 4)),
    }


def _model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    (path,) = _checkpoint().files.values()
    folder = Path(os.environ["DAULAT_BENCH_FOLDER"])
    link = folder / "starter.gguf"
    if not link.exists():
        link.symlink_to(path)
    return AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=link.name, dtype=torch.bfloat16
    ).eval()


def _transformers() -> dict[str, float]:
    import torch

    model = _model()

    @torch.inference_mode()
    def decode(length: int, company: int) -> tuple[float, float]:
        prompts = torch.tensor([tokens(length, seed) for seed in range(company)])
        started = time.perf_counter()
        out = model(prompts, use_cache=True, logits_to_keep=1)
        read = company * length / (time.perf_counter() - started)
        started = time.perf_counter()
        for step in range(NEW):
            new = torch.full((company, 1), 1000 + step)
            out = model(new, past_key_values=out.past_key_values, use_cache=True)
            out.logits.argmax(-1)
        return company * NEW / (time.perf_counter() - started), read

    decode(READ, 1)
    return {
        "decode": decode(SHORT, 1)[0],
        "decode_long": decode(LONG, 1)[0],
        "decode_16": decode(SHORT, COMPANY)[0],
        "prefill": statistics.median(decode(READ, 1)[1] for _ in range(3)),
    }


def _llama_cpp() -> dict[str, float]:
    import xllamacpp  # pyright: ignore[reportMissingImports]

    (path,) = _checkpoint().files.values()

    def server(company: int) -> Any:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_parallel = company
        parameters.n_ctx = company * 256 if company > 1 else 2048
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = os.cpu_count() or 1
        return xllamacpp.Server(parameters)

    def ask(one: Any, length: int, seed: int) -> dict[str, float]:
        body = {"prompt": tokens(length, seed), "n_predict": NEW, "temperature": 0}
        answer = one.handle_completions({**body, "ignore_eos": True, "cache_prompt": False})
        return (answer if isinstance(answer, dict) else json.loads(answer))["timings"]

    alone = server(1)
    ask(alone, READ, 0)
    found = {
        "decode": ask(alone, SHORT, 1)["predicted_per_second"],
        "decode_long": ask(alone, LONG, 1)["predicted_per_second"],
        "prefill": ask(alone, READ, 2)["prompt_per_second"],
    }
    del alone
    many = server(COMPANY)
    with ThreadPoolExecutor(COMPANY) as pool:
        answers = list(pool.map(lambda seed: ask(many, SHORT, seed), range(COMPANY)))
    slowest = max(one["predicted_ms"] for one in answers) / 1000
    return {**found, "decode_16": sum(one["predicted_n"] for one in answers) / slowest}


ENGINES: dict[str, tuple[str, Callable[[], dict[str, float]]]] = {
    "daulat": ("daulat", lambda: _ours("native")),
    "daulat, prompts in float32": ("daulat", lambda: _ours("float32")),
    "llama.cpp (xllamacpp), Q4_1": ("xllamacpp", _llama_cpp),
    "transformers, bfloat16": ("transformers", _transformers),
}

Measure = Callable[[], dict[str, float]]
SCORERS: dict[str, tuple[str, Measure]] = {
    "daulat": ("daulat", lambda: scores.ours(_decoder("native"))),
    "daulat, plain kernels": ("daulat", lambda: scores.ours(_decoder("plain"))),
    "llama.cpp (xllamacpp), Q4_1": (
        "xllamacpp",
        lambda: scores.llama_cpp(next(iter(_checkpoint().files.values()))),
    ),
    "transformers, bfloat16": ("transformers", lambda: scores.transformers(_model())),
}
PARTS: dict[str, tuple[str, str, dict[str, str], dict[str, tuple[str, Measure]]]] = {
    "speed": ("engine", "tokens/s", TASKS, ENGINES),
    "scores": ("scores", "texts/s", scores.SCORES, SCORERS),
}
"""What each part is called in the documentation, its unit, its tasks, its engines."""


# --- the rounds -------------------------------------------------------------------------------------


def limits() -> dict[str, float]:
    """What this machine can do: GB/s read, float32 and bfloat16 products in GFLOP/s."""
    import torch

    def best(work: Callable[[], Any], rounds: int = 7) -> float:
        def once() -> float:
            started = time.perf_counter()
            work()
            return time.perf_counter() - started

        return min(once() for _ in range(rounds))

    data = torch.ones(1 << 28)
    found = {"read_gb_per_s": data.numel() * 4 / best(data.sum) / 1e9}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = torch.ones(2048, 2048, dtype=dtype), torch.ones(2048, 2048, dtype=dtype)
        found[f"{name}_gflop_per_s"] = 2 * 2048**3 / best(lambda a=a, b=b: a @ b) / 1e9
    return {name: round(value, 1) for name, value in found.items()}


def rounds(
    part: str, names: Sequence[str], count: int, folder: Path
) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    environment = {
        **os.environ,
        "DAULAT_BENCH_FOLDER": str(folder),
        "TOKENIZERS_PARALLELISM": "false",
    }
    for number in range(count):
        for name in names:
            done = subprocess.run(
                [sys.executable, __file__, "--part", part, "--worker", name],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=True,
                text=True,
            )
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}: {name}: {_rounded(found[name][-1])}", file=sys.stderr)
    return found


def table(part: str, result: dict[str, Any]) -> str:
    names = list(result["median"])
    _, unit, tasks, _ = PARTS[part]
    lines = [f"| {unit} | " + " | ".join(names) + " | ours / best peer |"]
    lines.append("|---" * (len(names) + 2) + "|")
    for task, words in tasks.items():
        values = [result["median"][name].get(task) for name in names]
        pairs = zip(names, values, strict=True)
        peers = [v for name, v in pairs if v is not None and not name.startswith("daulat")]
        ratio = f"{values[0] / max(peers):.2f}" if peers and values[0] else "-"
        cells = ["-" if v is None else f"{v:.0f}" for v in values]
        lines.append(f"| {words} | " + " | ".join(cells) + f" | {ratio} |")
    machine = result["limits"]
    lines += [
        "",
        f"The machine's limits in the same run: it reads {machine['read_gb_per_s']} GB/s; matrix products "
        f"of PyTorch reach {machine['float32_gflop_per_s']} GFLOP/s in float32 and "
        f"{machine['bfloat16_gflop_per_s']} in bfloat16." + _shares(result),
    ]
    return "\n".join([*lines, "", result["facts"]])


def _shares(result: dict[str, Any]) -> str:
    """How much of these limits the engine uses: operations for each token read, bytes for each written."""
    ours, machine = result["median"].get("daulat", {}), result["limits"]
    if "prefill" not in ours:
        return ""
    checkpoint = _checkpoint()
    a, stored = checkpoint.architecture, checkpoint.tensors.values()
    weights = sum(math.prod(t.shape) for t in stored if len(t.shape) > 1) - a.vocab * a.hidden
    attention = 2 * len(a.layers) * a.heads * a.head_dim * READ / 2
    rate = ours["prefill"] * 2 * (weights + attention) / 1e9
    flow = ours["decode"] * sum(t.size for t in stored) / 1e9
    return (
        f" Of these, Daulat uses {rate:.0f} GFLOP/s to read ({rate / machine['bfloat16_gflop_per_s']:.0%} of "
        f"the rate in bfloat16) and {flow:.1f} GB/s to write ({flow / machine['read_gb_per_s']:.0%})."
    )


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in values.items()}


def _checkpoint() -> Any:
    entry = Catalogue(cache_folder()).get(MODEL)
    assert entry is not None
    return entry.open()


def cache_folder() -> Path:
    """Where the starter model is kept between runs."""
    default = Path.home() / ".cache" / "daulat-test-models"
    return Path(os.environ.get("DAULAT_TEST_CACHE", default))


def _installed(part: str) -> Iterator[str]:
    for name, (module, _) in PARTS[part][3].items():
        if importlib.util.find_spec(module):
            yield name


def measure(part: str, count: int) -> None:
    """All rounds of one part, into its file of results and its table."""
    title, _, tasks, _ = PARTS[part]
    with tempfile.TemporaryDirectory() as folder:
        found = rounds(part, list(_installed(part)), count, Path(folder))
    median = {
        name: {
            task: statistics.median(run[task] for run in runs) for task in tasks if task in runs[0]
        }
        for name, runs in found.items()
    }
    result = {"limits": limits(), "facts": environment_facts(), "rounds": found, "median": median}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{title}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_table(title, table(part, result))
    print(table(part, result))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the engine beside its peers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=list(PARTS), help="only this part")
    parser.add_argument("--worker", choices=list(ENGINES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(PARTS[options.part or "speed"][3][options.worker][1]()))
        return
    pull(Catalogue(cache_folder()), "starter")
    for part in [options.part] if options.part else PARTS:
        measure(part, max(1, options.rounds))


if __name__ == "__main__":
    main()
