"""lm-evaluation-harness against the server and against its own `hf` backend: `python benchmarks/harness.py`.

The program `lm_eval` is found on the path, or named by `--lm-eval`; it may live in a virtual environment of its
own. Its `hf` backend reads the starter's GGUF in float32; the tokenizer is written out as a folder, for both.
Nothing is fetched from a hub. The server runs twice. With all inputs of 16 bits, it is an error when accuracy
differs, or a log-likelihood by over 1e-2; by default, when accuracy differs by more than a standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from start import MODEL, ROOT

from daulat.models.catalogue import Catalogue
from daulat.models.pull import pull

TASKS = ROOT / "benchmarks" / "tasks"
TASK = "general_knowledge"
KEY = "daulat-key-of-the-harness-0123456789abcdef"
GGUF = "starter.gguf"
TOLERANCE = 1e-2
SETTINGS = {"int16": '[engine]\ninputs = "int16"\n', "default": ""}
"""The server's, by a name for each."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Attributes:
    metrics, errors: by name, as the harness gives them, and their standard errors.
    answers: each question's choices, in order: log-likelihood, and whether it is what the model would say.
    """

    metrics: dict[str, float]
    errors: dict[str, float]
    answers: list[list[tuple[float, bool]]]

    def difference(self, other: Outcome) -> float:
        """The largest between two log-likelihoods."""
        pairs = zip(self._flat(), other._flat(), strict=True)
        return max(abs(a[0] - b[0]) for a, b in pairs)

    def agrees(self, other: Outcome) -> bool:
        same = [one[1] for one in self._flat()] == [one[1] for one in other._flat()]
        return same and self.metrics == other.metrics and self.difference(other) <= TOLERANCE

    def near(self, other: Outcome) -> bool:
        """Whether each metric is within a standard error of the other's."""
        return all(
            abs(self.metrics[name] - other.metrics[name]) <= error
            for name, error in other.errors.items()
        )

    def _flat(self) -> list[tuple[float, bool]]:
        return [one for row in self.answers for one in row]


def furnish(cache: Path, model: Path, tokenizer: Path) -> None:
    """The starter as transformers reads it: a folder with the GGUF, and one with its tokenizer."""
    from transformers import AutoTokenizer

    entry = Catalogue(cache).get(MODEL)
    assert entry is not None
    (path,) = entry.paths().values()
    model.mkdir()
    (model / GGUF).symlink_to(path)
    found: Any = AutoTokenizer.from_pretrained(model, gguf_file=GGUF)
    found.save_pretrained(tokenizer)


@contextmanager
def server(cache: Path, folder: Path, settings: str) -> Iterator[str]:
    """`daulat up` with the starter, for as long as the context is open; its URL."""
    home = folder / "home"
    home.mkdir(mode=0o700)
    (home / "daulat.toml").write_text(settings, encoding="utf-8")
    (home / "models").symlink_to(cache / "models")
    log = folder / "server.log"
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "daulat", "up", "--port", "0"],
            env={**os.environ, "DAULAT_HOME": str(home), "DAULAT_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None, log.read_text(encoding="utf-8")
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        process.stdout.close()


def evaluate(program: str, model: str, arguments: dict[str, Any], folder: Path) -> Outcome:
    """Run the harness with one of its backends."""
    command = [program, "--model", model]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in arguments.items())]
    command += ["--tasks", TASK, "--include_path", str(TASKS), "--log_samples"]
    command += ["--output_path", str(folder / model), "--device", "cpu", "--batch_size", "8"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    environment = {
        **os.environ,
        **offline,
        "OPENAI_API_KEY": KEY,
        "TOKENIZERS_PARALLELISM": "false",
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, cwd=TASKS, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"lm_eval failed:\n{done.stderr[-4000:]}")
    return read(folder / model)


def read(folder: Path) -> Outcome:
    """What the harness wrote."""
    (results,) = folder.rglob("results_*.json")
    (samples,) = folder.rglob("samples_*.jsonl")
    found = json.loads(results.read_text(encoding="utf-8"))["results"][TASK]
    names = ("acc", "acc_norm")
    metrics = {name: found[f"{name},none"] for name in names}
    errors = {name: found[f"{name}_stderr,none"] for name in names}
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    rows.sort(key=lambda row: row["doc_id"])
    answers = [[(float(a), str(b) == "True") for a, b in row["filtered_resps"]] for row in rows]
    return Outcome(metrics, errors, answers)


def compare(program: str, cache: Path) -> tuple[dict[str, Outcome], Outcome]:
    """The server's outcomes, by its settings' names, and that of the `hf` backend."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, tokenizer = folder / "starter", folder / "tokenizer"
        furnish(cache, model, tokenizer)
        ours: dict[str, Outcome] = {}
        for which, settings in SETTINGS.items():
            own = folder / which
            own.mkdir()
            with server(cache, own, settings) as url:
                arguments = {
                    "model": MODEL,
                    "base_url": f"{url}/v1/completions",
                    "tokenizer_backend": "huggingface",
                    "tokenizer": tokenizer,
                    "num_concurrent": 1,
                }
                ours[which] = evaluate(program, "local-completions", arguments, own)
        theirs = evaluate(
            program, "hf", {"pretrained": model, "gguf_file": GGUF, "dtype": "float32"}, folder
        )
    return ours, theirs


def found_program() -> str | None:
    """`lm_eval`, as DAULAT_LM_EVAL names it or on the path."""
    return shutil.which(os.environ.get("DAULAT_LM_EVAL", "lm_eval"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the server with lm-eval's hf backend.")
    parser.add_argument("--lm-eval", help="the program lm_eval", default=found_program())
    options = parser.parse_args()
    if options.lm_eval is None:
        raise SystemExit('lm_eval is not installed: pip install "lm-eval[api,hf]"')
    default = Path.home() / ".cache" / "daulat-test-models"
    cache = Path(os.environ.get("DAULAT_TEST_CACHE", default))
    pull(Catalogue(cache), "starter")
    ours, theirs = compare(options.lm_eval, cache)
    print(f"| | {TASK}: accuracy | normalised by length |\n|---|---|---|")
    rows = {f"daulat, {name}": found for name, found in ours.items()} | {"hf, float32": theirs}
    for name, found in rows.items():
        print(f"| {name} | {found.metrics['acc']:.4f} | {found.metrics['acc_norm']:.4f} |")
    count = sum(len(row) for row in theirs.answers)
    print(f"\nLargest difference of {count} log-likelihoods:")
    for name, found in ours.items():
        print(f"- {name}: {found.difference(theirs):.2e}")
    if not (ours["int16"].agrees(theirs) and ours["default"].near(theirs)):
        raise SystemExit("The two do not agree.")


if __name__ == "__main__":
    main()
