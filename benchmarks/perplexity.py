"""What a number format costs in quality: `python benchmarks/perplexity.py`.

Perplexity of the starter model's weights as bfloat16, int8 and int4 on the same English and Indonesian
texts (the Debian Administrator's Handbook, from the folder DAULAT_DATA), in windows of 1,024 tokens that do
not overlap.

The starter's own file has 4 bits already, on a grid that int4 would find again. So its channels are shuffled
first: rows and columns of all matrices change places so that the model computes the same function, and every
block of 32 has weights from many blocks of the file and must be quantised in earnest. `--as-stored` leaves
them where they are. Writes benchmarks/results/perplexity.json and the table in docs/benchmarks.md; with
`--matrix-units auto`, on a processor that has such, it prints what reading by them costs, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from start import MODEL, ROOT, environment_facts, write_table

from daulat.engine.loading import load_native
from daulat.engine.native.matrices import NUMBERS, Numbers
from daulat.engine.step import Chunk
from daulat.models.catalogue import Catalogue
from daulat.models.checkpoint import open_checkpoint
from daulat.models.pull import pull
from daulat.models.tokenizer import load_tokenizer

RESULTS = ROOT / "benchmarks" / "results" / "perplexity.json"
DATA = Path(os.environ.get("DAULAT_DATA", ROOT.parent / "shared" / "data"))
LANGUAGES = {"English": "en-US", "Indonesian": "id-ID"}
WINDOW, PIECE = 1024, 256
BARS = {"int8": 0.5, "int4": 3.0}
SEED = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=25, help="of each language")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--formats", nargs="+", choices=NUMBERS, default=list(NUMBERS[1:]))
    parser.add_argument(
        "--matrix-units", choices=("auto", "off"), default="off", help="how prompts are read"
    )
    parser.add_argument("--as-stored", action="store_true", help="do not shuffle the channels")
    parser.add_argument("--dry", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        windows = _export(Path(folder), not options.as_stored, options.windows)
        losses = {
            name: _losses(
                Path(folder),
                name,
                windows,
                options.threads,
                # What others are compared with is exact.
                name != options.formats[0] and options.matrix_units == "auto",
            )
            for name in options.formats
        }
    rows = {name: _row(losses[name], losses[options.formats[0]]) for name in losses}
    print(json.dumps(rows, indent=2))
    if not options.dry and options.matrix_units == "off":
        _write(rows, "stored" if options.as_stored else "shuffled", options.windows)


# --- the model and the texts ----------------------------------------------------------------------


def _export(folder: Path, shuffled: bool, count: int) -> dict[str, list[list[int]]]:
    """The starter as a checkpoint of bfloat16 in `folder`; the texts' windows of tokens."""
    import transformers

    catalogue = Catalogue(Path.home() / ".cache" / "daulat-test-models")
    paths = pull(catalogue, MODEL).paths()
    name = next(name for name in paths if name.endswith(".gguf"))
    link = folder / name
    link.symlink_to(paths[name])
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32
    )
    tokenizer = load_tokenizer(open_checkpoint(link))
    # Calibration begins its texts with phrases.
    theirs: Any = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    theirs.save_pretrained(folder)
    link.unlink()
    if shuffled:
        _shuffle(model)
    _save(model, folder)
    windows: dict[str, list[list[int]]] = {}
    for language, code in LANGUAGES.items():
        tokens = tokenizer.encode(_text(code), special=False)
        far = (len(tokens) - WINDOW) // max(count - 1, 1)
        if far < WINDOW:
            raise SystemExit(
                f"{language}: there are {len(tokens)} tokens, too few for {count} windows."
            )
        windows[language] = [tokens[far * i : far * i + WINDOW] for i in range(count)]
    return windows


def _save(model: Any, folder: Path) -> None:
    from safetensors.torch import save_file

    config = model.config.to_dict()
    config.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(config, default=str))
    tensors = {name: one.to(torch.bfloat16) for name, one in model.state_dict().items()}
    if config["tie_word_embeddings"]:
        tensors.pop("lm_head.weight", None)
    save_file(
        {name: one.contiguous() for name, one in tensors.items()}, folder / "model.safetensors"
    )


def _text(code: str) -> str:
    path = DATA / "debian_handbook" / f"{code}.jsonl"
    if not path.exists():
        raise SystemExit(f"{path} is missing: set DAULAT_DATA to the folder of texts.")
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n\n".join(json.loads(line)["text"] for line in lines)


@torch.no_grad()
def _shuffle(model: Any) -> None:
    """Channels in another order, everywhere alike: the same function, other blocks."""
    random = torch.Generator().manual_seed(SEED)
    config = model.config
    hidden = torch.randperm(config.hidden_size, generator=random)
    size = config.hidden_size // config.num_attention_heads
    group = config.num_attention_heads // config.num_key_value_heads
    model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight[:, hidden])
    model.model.norm.weight.copy_(model.model.norm.weight[hidden])
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        inner = torch.randperm(config.intermediate_size, generator=random)
        values = torch.cat(
            [
                head * size + torch.randperm(size, generator=random)
                for head in range(config.num_key_value_heads)
            ]
        )
        # A value's channel comes back once for each query head that shares it.
        outs = torch.cat(
            [
                values[k // group * size :][:size] + (k - k // group) * size
                for k in range(config.num_attention_heads)
            ]
        )
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.weight.copy_(norm.weight[hidden])
        for one in (attention.q_proj, attention.k_proj):
            one.weight.copy_(one.weight[:, hidden])
        attention.v_proj.weight.copy_(attention.v_proj.weight[values][:, hidden])
        attention.o_proj.weight.copy_(attention.o_proj.weight[hidden][:, outs])
        for one in (mlp.gate_proj, mlp.up_proj):
            one.weight.copy_(one.weight[inner][:, hidden])
        mlp.down_proj.weight.copy_(mlp.down_proj.weight[hidden][:, inner])


# --- measuring ------------------------------------------------------------------------------------


def _losses(
    folder: Path,
    numbers: Numbers,
    windows: dict[str, list[list[int]]],
    threads: int,
    matrix_units: bool,
) -> dict[str, list[float]]:
    """For each language, each window's mean loss in nats per token."""
    decoder = load_native(open_checkpoint(folder), numbers, threads, matrix_units=matrix_units)
    found: dict[str, list[float]] = {}
    began = time.monotonic()
    for language, several in windows.items():
        found[language] = [_loss(decoder, tokens) for tokens in several]
    print(f"{numbers}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return found


def _loss(decoder: Any, tokens: Sequence[int]) -> float:
    cache = decoder.new_cache(len(tokens))
    total = 0.0
    for first in range(0, len(tokens), PIECE):
        logits = torch.from_numpy(
            decoder.forward([Chunk(tokens[first : first + PIECE], cache)], every=True)
        )
        wanted = torch.tensor(tokens[first + 1 : first + PIECE + 1])
        kept = logits[: len(wanted)]
        total += float(torch.nn.functional.cross_entropy(kept, wanted, reduction="sum"))
    return total / (len(tokens) - 1)


def _row(losses: dict[str, list[float]], base: dict[str, list[float]]) -> dict[str, Any]:
    """Perplexities, and how much worse in per cent, with the standard error over the windows."""
    every = [loss for several in losses.values() for loss in several]
    first = [loss for several in base.values() for loss in several]
    more = [one - other for one, other in zip(every, first, strict=True)]
    spread = statistics.stdev(more) / math.sqrt(len(more)) if len(more) > 1 else 0.0
    return {
        "perplexity": {
            **{
                language: math.exp(statistics.mean(several)) for language, several in losses.items()
            },
            "both": math.exp(statistics.mean(every)),
        },
        "worse_percent": 100 * math.expm1(statistics.mean(more)),
        "standard_error": 100 * spread,
        "windows": losses,
    }


def _write(rows: dict[str, Any], weights: str, count: int) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    facts = environment_facts()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    results[weights] = {"facts": facts, "tokens": 2 * count * WINDOW, "formats": rows}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    lines = [
        "| weights | format | English | Indonesian | both | against bfloat16 | at most |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in ("shuffled", "stored"):
        for name, row in results.get(kind, {"formats": {}})["formats"].items():
            told = row["perplexity"]
            figures = " | ".join(f"{told[one]:.3f}" for one in (*LANGUAGES, "both"))
            more = f"{row['worse_percent']:+.2f} % (± {row['standard_error']:.2f})"
            bar = f"+{BARS[name]} %" if name in BARS else ""
            more = more if name in BARS else ""
            lines.append(f"| {kind} | {name} | {figures} | {more} | {bar} |")
    tokens = results[weights]["tokens"]
    write_table("perplexity", "\n".join([*lines, "", f"{tokens:,} tokens each; {facts}."]))


if __name__ == "__main__":
    main()
