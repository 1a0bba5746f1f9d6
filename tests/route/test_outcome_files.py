"""Files of outcomes: what is written is read again, and what is wrong is said with its place and remedy."""

from __future__ import annotations

import contextlib
import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outcome_tables import tables

from daulat.errors import DataError, NotFoundError
from daulat.route.learning.outcomes import Outcomes, read, write

_MANY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
_ARRAYS = ("scores", "costs", "seconds", "logprobs")


def same(one: Outcomes, other: Outcomes) -> bool:
    lists = (
        "endpoints",
        "ids",
        "prompts",
        "answers",
        "categories",
        "clusters",
        "samples",
        "probes",
    )
    return all(getattr(one, x) == getattr(other, x) for x in lists) and all(
        np.array_equal(getattr(one, x), getattr(other, x), equal_nan=True) for x in _ARRAYS
    )


def written(folder: Path, text: str | bytes, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@_MANY
@given(tables())
def test_what_is_written_is_read_again(tmp_path: Path, table: Outcomes) -> None:
    write(table, tmp_path / "t.jsonl")
    again = read(tmp_path / "t.jsonl")
    assert same(table, again)
    assert table.digest() == again.digest()


def _flat(table: Outcomes, row: int) -> dict[str, object]:
    about: dict[str, object] = {
        "id": table.ids[row],
        "prompt": table.prompts[row],
        "category": table.categories[row],
        "cluster": table.clusters[row],
    }
    for column, name in enumerate(table.endpoints):
        about[f"{name}.answer"] = table.answers[row][column]
        for field, array in zip(("score", "cost", "seconds", "logprob"), _ARRAYS, strict=True):
            value = float(getattr(table, array)[row, column])
            about[f"{name}.{field}"] = None if np.isnan(value) else value
        about[f"{name}.samples"] = list(table.samples[row][column])
        about[f"{name}.probe"] = list(table.probes[row][column])
    return about


@_MANY
@given(tables())
def test_flat_json_is_the_same_table(tmp_path: Path, table: Outcomes) -> None:
    lines = [json.dumps(_flat(table, row)) for row in range(len(table))]
    assert same(table, read(written(tmp_path, "\n\n".join(lines))))


@_MANY
@given(tables(), st.sampled_from(",;\t"), st.booleans())
def test_csv_in_both_shapes_is_the_same_table(
    tmp_path: Path, table: Outcomes, delimiter: str, long: bool
) -> None:
    flat = [_flat(table, row) for row in range(len(table))]
    rows = [one for whole in flat for one in _long(table, whole)] if long else flat
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
        out.writeheader()
        out.writerows(
            {k: json.dumps(v) if isinstance(v, list) else v for k, v in r.items()} for r in rows
        )
    again = read(tmp_path / "t.csv")
    # A cell of CSV that is empty is one that is missing.
    blank = tuple(tuple(answer or None for answer in row) for row in table.answers)
    assert again.answers == blank
    assert again.digest() == _with_answers(table, blank).digest()


def _long(table: Outcomes, whole: dict[str, object]) -> list[dict[str, object]]:
    about = {name: whole[name] for name in ("id", "prompt", "category", "cluster")}
    fields = ("answer", "score", "cost", "seconds", "logprob", "samples", "probe")
    return [
        {**about, "endpoint": e, **{f: whole[f"{e}.{f}"] for f in fields}} for e in table.endpoints
    ]


def _with_answers(table: Outcomes, answers: tuple[tuple[str | None, ...], ...]) -> Outcomes:
    return Outcomes(
        **{f: getattr(table, f) for f in Outcomes.__dataclass_fields__ if f != "answers"},
        answers=answers,
    )


@_MANY
@given(tables())
def test_parquet_is_the_same_table(tmp_path: Path, table: Outcomes) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [_flat(table, row) for row in range(len(table))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert same(table, read(tmp_path / "t.parquet"))


@_MANY
@given(tables(), st.data())
def test_take_and_only_choose(table: Outcomes, data: st.DataObject) -> None:
    rows = data.draw(st.permutations(range(len(table))))
    taken = table.take(rows)
    assert taken.ids == tuple(table.ids[i] for i in rows)
    assert np.array_equal(taken.scores, table.scores[rows], equal_nan=True)
    assert same(taken.take(np.argsort(rows)), table)
    turned = table.only(table.endpoints[::-1])
    assert np.array_equal(turned.scores, table.scores[:, ::-1], equal_nan=True)
    assert same(turned.only(table.endpoints), table)
    assert same(table.take(np.zeros(len(table), bool)), table.take([]))


def test_what_is_liberal(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "\ufeffprompt;note;gpt-4.1.answer;gpt-4.1.score;gpt-4.1.cost;llama.score\n"
        '"How much; really?";x;3,5;TRUE;0,5;0\n'
        "And this?;;;no;nan;0,25\n",
    )
    table = read(path)
    assert table.endpoints == ("gpt-4.1", "llama")
    assert table.answers == (("3,5", None), (None, None))
    assert table.scores.tolist() == [[1, 0], [0, 0.25]]
    assert table.costs[0, 0] == 0.5
    assert np.isnan(table.costs[1, 0])
    assert table.ids == table.clusters == ("#1", "#2")


def test_the_same_prompt_twice_without_ids_is_two_examples(tmp_path: Path) -> None:
    rows = ["p,a,1", "p,b,0", "q,b,1", "p,a,0", "p,b,1"]
    table = read(written(tmp_path, "\n".join(["prompt,endpoint,score", *rows])))
    assert table.prompts == ("p", "q", "p")
    assert np.array_equal(table.scores, [[1, 0], [np.nan, 1], [0, 1]], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt,a.score\nq,2", ["line 2", "'a.score'", "Divide by the highest"]),
        ("prompt,a.score\nq,-0.1", ["line 2", "not between 0 and 1"]),
        ("prompt,a.score\nq,good", ["line 2", "'good' is not a number"]),
        ("prompt,a.cost\nq,inf", ["'a.cost'", "infinite"]),
        ("prompt,a.cost\nq,true", ["'a.cost'", "not a number"]),
        ("prompt,a.logprob\nq,0.5", ["'a.logprob'", "0 or below"]),
        ("prompt,a.scroe\nq,1", ["'a.scroe'", "Rename it to 'a.score'"]),
        ("prompt,catgory,a.score\nq,x,1", ["'catgory'", "Rename it to 'category'"]),
        ("prompt,endpoint,scores\nq,a,1", ["'scores'", "Rename it to 'score'"]),
        ("prompt,answer\nq,1", ["says nothing about any endpoint", "docs/outcomes.md"]),
        ("question,a.score\nq,1", ["line 2", "column `prompt`"]),
        ("prompt,a.score\nq,1,2", ["line 2", "3 cells", "double quotes"]),
        ('prompt,a.score\n"q,1', ["double quotes"]),
        ("prompt,a.score,a.score\nq,1,1", ["'a.score'", "Rename one"]),
        ("prompt,id,a.score\nq,i,1\nr,i,1", ["line 3", "line 2 already"]),
        ("prompt,id,endpoint,score\nq,i,a,1\nq,i,a,1", ["line 3", "already"]),
        ("prompt,id,endpoint,score\nq,i,a,1\nr,i,b,1", ["line 3", "another prompt in line 2"]),
        ("prompt,endpoint,score\nq,a,1\nq,b,1\nq,a,1", ["several times", "column `id`"]),
        ("prompt,endpoint,score\nq,,1", ["no name"]),
        ("prompt,a.samples\nq,x", ["'a.samples'", "JSON list"]),
        ("prompt,a.score\n", ["no examples"]),
        ("", ["no examples"]),
        (b"prompt,a.score\n\xff,1", ["UTF-8"]),
        ('{"prompt": "q", "endpoints": {"a": {"score": 1}}', ["line 1", "not JSON"]),
        ('[{"prompt": "q"}]', ["line 1", "not a list"]),
        ('{"prompt": 3, "endpoints": {"a": {"score": 1e999}}}', ["'a.score'", "infinite"]),
        ('{"prompt": "q", "endpoints": {"a": {"score": [1]}}}', ["'a.score'", "not a list"]),
        ('{"prompt": {}, "endpoints": {"a": {}}}', ["'prompt'", "not an object"]),
        ('{"prompt": "q", "endpoints": []}', ["'endpoints'", "must be an object"]),
        ('{"prompt": "q", "endpoints": {"a": 1}}', ["'a'", "must be an object"]),
        ('{"prompt": "q", "id": true, "endpoints": {"a": {}}}', ["'id'", "short text"]),
        ('{"prompt": "q", "a.score": 1' + "0" * 400 + "}", ["infinite"]),
        ("[" * 100_000, ["line 1", "not JSON"]),
        (b"PAR1 and no more", ["not a sound Parquet file"]),
        (b'{"prompt": "\xff"}', ["UTF-8"]),
    ],
)
def test_errors_name_the_place_and_the_remedy(
    tmp_path: Path, text: str | bytes, words: list[str]
) -> None:
    with pytest.raises(DataError) as raised:
        read(written(tmp_path, text))
    assert "x.csv" in raised.value.message
    for word in words:
        assert word in raised.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        write(read(written(tmp_path, "prompt,a.score\nq,1")), tmp_path / "none" / "x.jsonl")


def test_an_endpoint_that_is_not_there(tmp_path: Path) -> None:
    table = read(written(tmp_path, "prompt,a.score\nq,1"))
    with pytest.raises(NotFoundError, match="There are: a"):
        table.only(["b"])


@_MANY
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path, found = written(tmp_path, data), 1
    with contextlib.suppress(DataError):
        found = len(read(path))
    assert found


PROBED = '{{"prompt": "p{n}", "endpoints": {{"a": {{"answer": "x", "probe": {probe}}}}}}}\n'


@pytest.mark.parametrize(
    ("probe", "what"),
    [
        ("3", "a probe is a list of numbers, not a number"),
        ('["1"]', "one of them is a text"),
        ("[true]", "one of them is true or false"),
        ("[null]", "one of them is nothing"),
        ("[NaN]", "is between"),
        ("[Infinity]", "is between"),
        ("[1e31]", "is between"),
        (f"[{10**400}]", "is between"),
        (json.dumps([0.5] * 1025), "at most 1,024"),
        ("[1, 2]", "the probe has 2 numbers, the one in line 1 has 3"),
        ('"[1, 2"', "a JSON list of numbers"),
    ],
)
def test_probes_have_bounds(tmp_path: Path, probe: str, what: str) -> None:
    lines = PROBED.format(n=1, probe="[1, 2.5, -3]") + PROBED.format(n=2, probe=probe)
    with pytest.raises(DataError, match=r"x\.jsonl, line 2, 'a\.probe'") as error:
        read(written(tmp_path, lines, "x.jsonl"))
    assert what in str(error.value)


def test_probes_in_a_table(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "prompt,a.answer,a.score,a.probe,b.answer,b.score,b.probe\n"
        'p,x,1,"[0.5, -1]",y,1,\n'
        'q,x,0,"[1e3, 0]",y,1,"[7]"\n',
    )
    table = read(path)
    assert table.probes == (((0.5, -1.0), ()), ((1000.0, 0.0), (7.0,)))
    # Of b one is missing: a router would learn which.
    whole = table.with_whole_probes()
    assert whole.probes == (((0.5, -1.0), ()), ((1000.0, 0.0), ()))
    assert whole.with_whole_probes() is whole
    assert table.only(["b"]).probes == (((),), ((7.0,),))
    unscored = replace(table, scores=np.array([[1, np.nan], [0, 1]]))
    assert unscored.with_whole_probes() is unscored
    with pytest.raises(ValueError, match="different lengths"):
        replace(table, probes=(((0.5,), ()), ((1.0, 2.0), ())))
