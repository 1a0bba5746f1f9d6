"""How fast the engine reads and writes, beside its peers: `python benchmarks/engine.py`.

Every engine runs in a process of its own, one after the other, round after round, on the same tokens of the
starter model; medians over the rounds are compared. Peers that are not installed are left out:
llama.cpp as the wheel `xllamacpp`, transformers in bfloat16. Others live in environments of their own:

    python benchmarks/engine.py --peer openvino=/path/to/python --peer vllm=... --peer llama-cpp-python=...

The part `speed` writes benchmarks/results/engine.json, `scores` benchmarks/results/scores.json, and each its
table in docs/benchmarks.md; `--part` names one of them, `--only` the engines whose names hold one of its words.
The part `shapes` is benchmarks/shapes.py's, where `--only` picks among the shapes.

    python benchmarks/engine.py --device cuda

measures ours on a CUDA device beside ours on the processor, into files of their own and no table; where
there is no device it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import peers
import scores
import shapes
from common import (
    COMPANY,
    LONG,
    NEW,
    READ,
    RESULTS,
    SHORT,
    EngineFailed,
    cache_folder,
    checkpoint,
    said,
    tokens,
)
from limits import limits
from start import environment_facts, write_table

from daulat.engine.device import Device, Missing, find_device
from daulat.models.catalogue import Catalogue
from daulat.models.pull import pull

TASKS = {
    "decode": "decode, 1 sequence, short",
    "decode_long": f"decode, 1 sequence, {LONG} tokens of context",
    "decode_16": f"decode, {COMPANY} sequences, total",
    "prefill": f"prefill, {READ} tokens",
}


# --- the engines, each in its own process -----------------------------------------------------------


def _decoder(kernels: str) -> Any:
    from daulat.engine.loading import load_native
    from daulat.engine.plain import DTYPES, load_decoder

    if kernels == "cuda":
        found = find_device()
        assert isinstance(found, Device), found
        return load_decoder(checkpoint(), DTYPES["bfloat16"], device=found.place)
    if kernels != "plain":
        return load_native(checkpoint(), threads=os.cpu_count() or 1)
    return load_decoder(checkpoint())


def _ours(kernels: str) -> dict[str, float]:
    from daulat.engine.cache import SequenceCache, blocks_for
    from daulat.engine.step import Chunk

    decoder = _decoder(kernels)
    piece = max(512, decoder.reads_at_once)  # what the engine does while nobody writes
    room = blocks_for(READ + NEW)
    memory = decoder.new_memory(COMPANY * room)

    def read(prompt: Sequence[int], place: int = 0) -> Any:
        cache = SequenceCache(memory, range(place * room, (place + 1) * room))
        for first in range(0, len(prompt), piece):
            decoder.forward([Chunk(prompt[first : first + piece], cache)])
        return cache

    def decode(length: int, company: int) -> float:
        caches = [read(tokens(length, seed), seed) for seed in range(company)]
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
    if kernels == "cuda":  # each shape of a step is captured when it is first met
        for length, company in ((SHORT, 1), (LONG, 1), (SHORT, COMPANY)):
            decode(length, company)
    return {
        "decode": decode(SHORT, 1),
        "decode_long": decode(LONG, 1),
        "decode_16": decode(SHORT, COMPANY),
        "prefill": statistics.median(prefill(seed) for seed in (2, 3, 4)),
    }


def _model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    (path,) = checkpoint().files.values()
    folder = Path(os.environ["DAULAT_BENCH_FOLDER"])
    link = folder / "starter.gguf"
    if not link.exists():
        link.symlink_to(path)
    return AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=link.name, dtype=torch.bfloat16
    ).eval()


def exported() -> Path:
    """The starter's weights as Hugging Face's files in bfloat16, for peers that cannot read its own file."""
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    folder = cache_folder() / "peers" / "starter-bfloat16"
    if folder.is_dir():
        return folder
    model = _model()
    half = folder.with_suffix(".part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    weights = {n: t.contiguous() for n, t in model.state_dict().items() if n != "lm_head.weight"}
    assert model.config.tie_word_embeddings
    save_file(weights, half / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    del config["quantization_config"]  # how the file had them, which these are no longer
    (half / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    source = Path(os.environ["DAULAT_BENCH_FOLDER"])
    AutoTokenizer.from_pretrained(source, gguf_file="starter.gguf").save_pretrained(half)
    half.rename(folder)
    return folder


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

    (path,) = checkpoint().files.values()

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


CUDA = "daulat, CUDA"
ENGINES: dict[str, tuple[str, Callable[[], dict[str, float]]]] = {
    "daulat": ("daulat", lambda: _ours("native")),
    CUDA: ("daulat", lambda: _ours("cuda")),
    "llama.cpp (xllamacpp), Q4_1": ("xllamacpp", _llama_cpp),
    "transformers, bfloat16": ("transformers", _transformers),
}

Measure = Callable[[], dict[str, float]]
SCORERS: dict[str, tuple[str, Measure]] = {
    "daulat": ("daulat", lambda: scores.ours(_decoder("native"))),
    CUDA: ("daulat", lambda: scores.ours(_decoder("cuda"))),
    "daulat, plain kernels": ("daulat", lambda: scores.ours(_decoder("plain"))),
    "llama.cpp (xllamacpp), Q4_1": (
        "xllamacpp",
        lambda: scores.llama_cpp(next(iter(checkpoint().files.values()))),
    ),
    "transformers, bfloat16": ("transformers", lambda: scores.transformers(_model())),
}
PARTS: dict[str, tuple[str, str, dict[str, str], dict[str, tuple[str, Measure]]]] = {
    "speed": ("engine", "tokens/s", TASKS, ENGINES),
    "scores": ("scores", "texts/s", scores.SCORES, SCORERS),
}
"""What each part is called in the documentation, its unit, its tasks, its engines."""


# --- the rounds -------------------------------------------------------------------------------------


def job() -> dict[str, Any]:
    """What a peer in another environment is to do (benchmarks/peers.py)."""
    (path,) = checkpoint().files.values()
    return {
        "gguf": str(path),
        "folder": str(exported()),
        "made": str(cache_folder() / "peers"),
        "threads": os.cpu_count() or 1,
        "new": NEW,
        "prompts": {
            "warm": [tokens(READ, 0)],
            "decode": [tokens(SHORT, 0)],
            "decode_long": [tokens(LONG, 0)],
            "decode_16": [tokens(SHORT, seed) for seed in range(COMPANY)],
            "prefill": [tokens(READ, seed) for seed in (2, 3, 4)],
        },
    }


def once(
    part: str, name: str, folder: Path, pythons: Mapping[str, str]
) -> tuple[dict[str, float], str | None]:
    """One round of one engine, and its version where its environment is another."""
    if name not in peers.PEERS:
        command = [sys.executable, __file__, "--part", part, "--worker", name]
        return said(command, DAULAT_BENCH_FOLDER=str(folder)), None
    command = [pythons[peers.PEERS[name][0]], peers.__file__, name]
    answer = said(command, json.dumps(job()), PYTHONPATH="")
    return answer["figures"], answer["version"]


@dataclass
class Rounds:
    """Attributes:
    figures: of each engine, one table a round.
    versions: of the peers in other environments.
    failed: engines that were given up, and what they said.
    """

    figures: dict[str, list[dict[str, float]]]
    versions: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def rounds(
    part: str, names: Sequence[str], count: int, folder: Path, pythons: Mapping[str, str]
) -> Rounds:
    found = Rounds({name: [] for name in names})
    for number in range(count):
        for name in list(found.figures):
            try:
                figures, of = once(part, name, folder, pythons)
            except EngineFailed as error:
                if name.startswith("daulat"):
                    raise
                print(f"round {number + 1}: {name} is left out: {error}", file=sys.stderr)
                found.failed[name] = str(error)
                del found.figures[name]
                continue
            if of:
                found.versions[name] = of
            found.figures[name].append(figures)
            print(f"round {number + 1}: {name}: {_rounded(figures)}", file=sys.stderr)
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
        ours = result["median"].get("daulat", {}).get(task)
        ratio = f"{ours / max(peers):.2f}" if peers and ours else "-"
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
    starter = checkpoint()
    a, stored = starter.architecture, starter.tensors.values()
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


def _engines(
    part: str, only: Sequence[str], pythons: Mapping[str, str], device: Device | None
) -> Iterator[str]:
    """Those that are there and wanted: ours first, then their order in the tables."""
    if device is not None:
        yield from ("daulat", CUDA)
        return
    here = [n for n, (module, _) in PARTS[part][3].items() if importlib.util.find_spec(module)]
    here.remove(CUDA)
    elsewhere = [n for n, (at, _) in peers.PEERS.items() if at in pythons and part == "speed"]
    for name in [*here, *elsewhere]:
        if not only or any(word in name for word in only):
            yield name


def measure(
    part: str,
    count: int,
    only: Sequence[str],
    pythons: Mapping[str, str],
    device: Device | None = None,
) -> None:
    """All rounds of one part, into its file of results and its table."""
    title, _, tasks, _ = PARTS[part]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DAULAT_BENCH_FOLDER"] = folder
        names = list(_engines(part, only, pythons, device))
        found = rounds(part, names, count, Path(folder), pythons)
    median = {
        name: {
            task: statistics.median(run[task] for run in runs) for task in tasks if task in runs[0]
        }
        for name, runs in found.figures.items()
    }
    if not median:
        sys.exit(f"No engine of the part {part} could be measured; nothing was written.")
    result = {
        "limits": limits(),
        "facts": " ".join([environment_facts(), *_elsewhere(found, device)]),
        "rounds": found.figures,
        "failed": found.failed,
        "median": median,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = f"{title}.json" if device is None else f"{title}-cuda.json"
    (RESULTS / file).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if device is None:
        write_table(title, table(part, result))
    print(table(part, result))


def _elsewhere(found: Rounds, device: Device | None) -> Iterator[str]:
    if device is not None:
        yield f"Device: {device.name}."
    if found.versions:
        yield "Peers: " + ", ".join(dict.fromkeys(found.versions.values())) + "."
    if found.failed:
        yield "Did not run: " + ", ".join(found.failed) + "."


def _python(text: str) -> tuple[str, str]:
    """`name=/path/to/python`."""
    name, _, path = text.partition("=")
    if name not in peers.PACKAGES or not os.access(path, os.X_OK):
        known = ", ".join(peers.PACKAGES)
        raise argparse.ArgumentTypeError(f"{text!r}: name=/path/to/python, of {known}")
    return name, path


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the engine beside its peers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=[*PARTS, "shapes"], help="only this part")
    parser.add_argument(
        "--only", action="append", default=[], help="engines with this in their name"
    )
    parser.add_argument(
        "--peer",
        action="append",
        type=_python,
        default=[],
        metavar="NAME=PYTHON",
        help="measure a peer in an environment of its own: " + ", ".join(peers.PACKAGES),
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--worker", choices=[*ENGINES, *SCORERS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and options.part == "shapes":
        parser.error("the part `shapes` is the processor's")
    if options.worker:
        print(json.dumps(PARTS[options.part or "speed"][3][options.worker][1]()))
        return
    device = find_device() if options.device == "cuda" else None
    if isinstance(device, Missing):
        print(f"Nothing was measured: no CUDA device: {device.why}.")
        return
    pull(Catalogue(cache_folder()), "starter")
    count = max(1, options.rounds)
    every = [*PARTS, "shapes"] if device is None else list(PARTS)
    for part in [options.part] if options.part else every:
        if part == "shapes":
            shapes.measure(count, options.only)
        else:
            measure(part, count, options.only, dict(options.peer), device)


if __name__ == "__main__":
    main()
