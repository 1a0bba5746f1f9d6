"""The part `scores` of benchmarks/engine.py: how many texts a second are scored against four labels.

A text is an instruction that all share, and some words of its own; a score is the log-probability of a label
behind it. Every engine does it in the best way that its interface has, each text's prompt computed once: ours
by `engine.scoring`; transformers in batches, the labels on copies of the prompts' cache; llama.cpp by a request
for each text with its prompt cache on, which gives probabilities of single tokens only.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TEXTS, LABELS, INSTRUCTION, WORDS = 64, 4, 40, 24
BATCH = 16
SCORES = {
    "score_1": f"{TEXTS} texts of {WORDS} tokens behind a shared {INSTRUCTION}, "
    f"{LABELS} labels of 1 token",
    "score_3": f"the same, {LABELS} labels of 3 tokens",
}


def workload(length: int, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts, and labels of `length` tokens: the same for every engine."""
    one = random.Random(10 * seed + length)  # noqa: S311 - a workload
    shared = one.choices(range(1000, 40_000), k=INSTRUCTION)
    prompts = [shared + one.choices(range(1000, 40_000), k=WORDS) for _ in range(TEXTS)]
    firsts = one.sample(range(1000, 40_000), LABELS)
    rest = one.choices(range(1000, 40_000), k=length - 1)
    return prompts, [[first, *rest] for first in firsts]


Score = Callable[[list[list[int]], list[list[int]]], Any]
"""From prompts and labels."""


def measured(score: Score, most: int = 3) -> dict[str, float]:
    """Texts a second, for labels of up to `most` tokens: the median of three times, with other texts each time,
    behind one that warms up."""
    found: dict[str, float] = {}
    for task, length in (("score_1", 1), ("score_3", 3)):
        if length <= most:
            seconds = [_seconds(score, length, seed) for seed in range(4)]
            found[task] = TEXTS / statistics.median(seconds[1:])
    return found


def _seconds(score: Score, length: int, seed: int) -> float:
    prompts, labels = workload(length, seed)
    started = time.perf_counter()
    score(prompts, labels)
    return time.perf_counter() - started


def ours(decoder: Any) -> dict[str, float]:
    from daulat.engine.scoring import Question, finish, score

    return measured(
        lambda prompts, labels: finish(score(decoder, [Question(p, labels) for p in prompts]))
    )


def transformers(model: Any) -> dict[str, float]:
    import torch

    @torch.inference_mode()
    def score(prompts: list[list[int]], labels: list[list[int]]) -> list[Any]:
        found: list[Any] = []
        label = torch.tensor(labels)
        for first in range(0, len(prompts), BATCH):
            batch = torch.tensor(prompts[first : first + BATCH])
            out = model(batch, use_cache=True, logits_to_keep=1)
            scores = out.logits[:, -1].float().log_softmax(-1)[:, label[:, 0]]
            if label.shape[1] > 1:
                out.past_key_values.batch_repeat_interleave(LABELS)
                tails = label.repeat(len(batch), 1)
                cache = out.past_key_values
                rows = model(tails[:, :-1], past_key_values=cache).logits.float().log_softmax(-1)
                more = rows.gather(2, tails[:, 1:, None])[..., 0].sum(-1)
                scores = scores + more.view(len(batch), LABELS)
            found.append(scores)
        return found

    return measured(score)


def llama_cpp(path: Path) -> dict[str, float]:
    import xllamacpp  # pyright: ignore[reportMissingImports]

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_parallel = BATCH
    parameters.n_ctx = BATCH * 256
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = os.cpu_count() or 1
    server = xllamacpp.Server(parameters)

    def ask(prompt: list[int], labels: list[list[int]]) -> Any:
        body = {
            "prompt": prompt,
            "n_predict": 1,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "cache_prompt": True,
            # Only the labels are left to choose from: their shares are their scores.
            "logit_bias": [[label[0], 100.0] for label in labels],
            "n_probs": LABELS,
            "post_sampling_probs": True,
        }
        answer = server.handle_completions(body)
        found = answer if isinstance(answer, dict) else json.loads(answer)
        (first,) = found["choices"][0]["logprobs"]["content"]
        assert len(first["top_probs"]) == LABELS
        return found

    def score(prompts: list[list[int]], labels: list[list[int]]) -> list[Any]:
        with ThreadPoolExecutor(BATCH) as pool:
            return list(pool.map(lambda prompt: ask(prompt, labels), prompts))

    return measured(score, most=1)
