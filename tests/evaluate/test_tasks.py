"""Tasks: files of many forms read rightly or refused with the place of the fault, kept whole, found again."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from daulat.errors import DataError, NotFoundError, RequestError
from daulat.evaluate import rows
from daulat.evaluate.adding import Draft, from_file
from daulat.evaluate.columns import Columns, Maker, guess, whole
from daulat.evaluate.examples import Chosen, Example, example_json, example_of
from daulat.evaluate.filling import parse
from daulat.evaluate.rows import Row
from daulat.evaluate.tasks import Tasks
from daulat.route.learning.cells import Place
from daulat.values.request import Message

NOTHING = Columns()


def row(values: dict[str, Any], line: int = 1) -> Row:
    return Row(Place("x", line), values)


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def draft(
    folder: Path, name: str, text: str | bytes, columns: Columns = NOTHING, **more: Any
) -> Draft:
    return from_file("t", written(folder, name, text), columns, **more)


# --- rows -----------------------------------------------------------------------------------------


def test_every_form_gives_the_same_rows(tmp_path: Path) -> None:
    told = [{"prompt": "a", "gold": "1"}, {"prompt": "b;\n,c", "gold": "2"}]
    parquet.write_table(pyarrow.Table.from_pylist(told), tmp_path / "x.parquet")
    out = io.StringIO()
    csv.writer(out).writerows([("prompt", "gold"), *[tuple(one.values()) for one in told]])
    paths = [
        tmp_path / "x.parquet",
        written(tmp_path, "x.csv", out.getvalue()),
        written(tmp_path, "x.jsonl", "".join(json.dumps(one) + "\n" for one in told)),
        written(tmp_path, "x.json", json.dumps(told)),
        written(tmp_path, "lines.json", "".join(json.dumps(one) + "\n" for one in told)),
    ]
    for path in paths:
        assert [row.values for row in rows.read(path)] == told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "x.json, entry 1: it is not a JSON object"),
        ('[{"a": 1}, {"a": }]', "x.json, entry 1: the file is not JSON"),
        ("[" * 100_000, "the file is not JSON"),
        (b"[\xff", "the file is not UTF-8"),
        ('{"a": 1}\n[1]\n', "x.json, line 2: the line is not a JSON object"),
    ],
)
def test_faults_of_a_file_are_told_with_their_place(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list(rows.read(written(tmp_path, "x.json", text)))


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_JSON", 100)
    with pytest.raises(DataError, match="is larger than"):
        list(rows.read(written(tmp_path, "x.json", '[{"a": "' + "x" * 200 + '"}]')))


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(["x.csv", "x.jsonl", "x.json", "x.parquet"]))
def test_no_file_fails_in_another_way(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    path = written(tmp_path_factory.mktemp("any"), name, data)
    with suppress(DataError):
        assert all(isinstance(row.values, dict) for row in rows.read(path))


# --- templates ------------------------------------------------------------------------------------


@given(st.text("{}a: !.[]\n", max_size=30))
def test_a_template_is_read_or_refused(text: str) -> None:
    try:
        template = parse(text)
    except DataError:
        return
    values = dict.fromkeys(template.names, "v")
    if all(name.isidentifier() for name in template.names) and "[" not in text and ":" not in text:
        assert template.fill(values, "here") == text.format(**values)


def test_what_templates_show() -> None:
    values = {
        "q": "Which?",
        "o": ["x", 2],
        "s": '["x", "y"]',
        "d": {"a": {"b": "deep"}},
        "n": 3,
        "none": None,
    }
    assert parse("{{{q}}} {n}").fill(values, "x") == "{Which?} 3"
    assert parse("{o:letters}").fill(values, "x") == "A. x\nB. 2"
    assert parse("{s:lines}").fill(values, "x") == "- x\n- y"
    assert parse("{d:json}|{d.a.b}").fill(values, "x") == '{"a": {"b": "deep"}}|deep'
    for text, message in {
        "{o}": "holds a list",
        "{q:letters}": "holds no list",
        "{none}": "no value in the column 'none'",
        "{d.a.c}": "no value in the column 'd.a.c'",
    }.items():
        with pytest.raises(DataError, match=message):
            parse(text).fill(values, "line 7")
    for text in ("{q!r}", "{q:>3}", "{}", "{q", "}"):
        with pytest.raises(DataError, match="template"):
            parse(text)


# --- columns --------------------------------------------------------------------------------------


def test_columns_are_guessed_by_their_names() -> None:
    found = guess(
        [row({"Question": "?", "answer": "x", "subject": "law", "session_id": "s"})], NOTHING
    )
    assert (found.input, found.reference, found.category, found.cluster) == (
        *("Question", "answer", "subject", "session_id"),
    )
    assert set(found.guessed) == {"input", "reference", "category", "cluster"}
    kept = guess(
        [row({"q": "?", "answer": "x", "subject": "law"})], Columns(input="q", category="-")
    )
    assert (kept.input, kept.category, kept.guessed) == ("q", "", ("reference",))
    squad = guess(
        [row({"context": "c", "question": "?", "answers": {"text": ["a", "b"]}})], NOTHING
    )
    assert (squad.template, squad.reference) == ("{context}\n\n{question}", "answers.text")
    chosen = guess([row({"question": "?", "options": ["a", "b"], "answer": "B"})], NOTHING)
    assert "{options:letters}" in chosen.template
    with pytest.raises(DataError, match="No column is known by its name"):
        guess([row({"foo": "?"})], NOTHING)


@pytest.mark.parametrize(
    ("references", "metric"),
    [
        (["A", "C"], "choice"),
        (["so it is 5\n#### 5", "7"], "number"),
        (['{"a": 1}', '{"a": 2}'], "json"),
        (["yes", "no"], "exact"),
        ([f"the {i} house" for i in range(50)], "f1"),
        ([f"{i} " + "word " * 30 for i in range(50)], "rouge-l"),
    ],
)
def test_a_metric_is_guessed_by_the_references(
    tmp_path: Path, references: list[str], metric: str
) -> None:
    lines = "".join(
        json.dumps({"prompt": f"{i}?", "answer": r}) + "\n" for i, r in enumerate(references)
    )
    found = draft(tmp_path, "x.jsonl", lines)
    assert (found.task.metric.name, found.guessed) == (metric, True)


def test_examples_are_made(tmp_path: Path) -> None:
    text = "id;q;gold;topic;doc;more\n a1 ;What?;Yes;law;d1;x\na2;Who?;No;law;;\n"
    columns = Columns(
        template="Say: {q}", system="Be brief.", reference="gold", cluster="doc", category="topic"
    )
    found = draft(tmp_path, "x.csv", text, columns, data_class="personal").examples
    assert found[0] == Example(
        "a1",
        (Message("system", "Be brief."), Message("user", "Say: What?")),
        ("Yes",),
        *("law", "d1", ""),
        "personal",
        {"q": "What?", "more": "x"},
    )
    assert (found[1].cluster, found[1].fields) == ("a2", {"q": "Who?"})
    assert found[0].prompt == "Be brief.\n\nSay: What?"


def test_what_asks_the_same_is_one_cluster() -> None:
    maker = Maker(Columns(input="q"))
    made = [maker.example(row({"q": text}, i)) for i, text in enumerate(["a", "b", "a", "a"])]
    assert [e.cluster for e in whole(made, "x")] == ["0", "1", "0", "0"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": ""}, "line 2, 'prompt' is empty"),
        ({"prompt": None}, "line 2, 'prompt': there is no text"),
        ({"prompt": {"a": 1}}, "line 2, 'prompt': there is no text"),
        ({"prompt": []}, "is not a list of 1 to"),
        ({"prompt": [{"role": "king", "content": "?"}]}, r"\[0\] has the role 'king'"),
        ({"prompt": [{"role": "user", "content": 1}]}, "`content` is not a text"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "ends with the assistant's turn"),
        ({"prompt": "x" * 1_000_001}, "1000001 characters; 1000000 is the most"),
        ({"prompt": "y", "id": "1"}, "the id '1' twice"),
        ({"prompt": "y", "category": "x" * 300}, "'category' has 300 characters"),
        ({"prompt": "y", "answer": ["x"] * 2_000}, "'answer' has 2000 references"),
        ({"prompt": "y", **{f"c{i}": 1 for i in range(70)}}, "70 further columns"),
    ],
)
def test_faults_of_a_row_are_told_with_their_place(
    tmp_path: Path, line: dict[str, Any], message: str
) -> None:
    text = (
        json.dumps({"prompt": "x", "id": "1", "category": "c", "answer": "a"})
        + "\n"
        + json.dumps(line)
    )
    with pytest.raises(DataError, match=message):
        draft(tmp_path, "x.jsonl", text, metric=Chosen("none"))


def test_a_column_that_is_named_and_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no column 'gold', which --reference names. It has: prompt"
    ):
        draft(tmp_path, "x.jsonl", '{"prompt": "x"}', Columns(reference="gold"))
    with pytest.raises(DataError, match="names no column"):
        draft(tmp_path, "x.jsonl", '{"prompt": "x"}', Columns(template="Hello"))


def test_a_metric_that_cannot_judge_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no example has one"):
        draft(tmp_path, "x.jsonl", '{"prompt": "x"}', metric=Chosen("exact"))
    with pytest.raises(RequestError, match="no letter of an option"):
        draft(tmp_path, "x.jsonl", '{"prompt": "x", "answer": "the sea"}', metric=Chosen("choice"))
    two = '{"prompt": "x", "answer": "a"}\n{"prompt": "y"}\n'
    found = draft(tmp_path, "x.jsonl", two, metric=Chosen("exact"))
    assert (len(found.examples), found.left_out) == (1, {"without a reference": 1})


LABEL = st.text(st.characters(codec="utf-8"), max_size=10)


@given(
    st.builds(
        Example,
        id=st.text(min_size=1, max_size=9),
        messages=st.tuples(
            st.builds(Message, st.just("system"), st.text()),
            st.builds(Message, st.just("user"), st.text()),
        ),
        references=st.lists(st.text(), max_size=3).map(tuple),
        category=LABEL,
        cluster=LABEL,
        language=LABEL,
        data_class=LABEL,
        fields=st.dictionaries(st.text(max_size=5), st.integers() | st.text(), max_size=3),
    )
)
def test_an_example_comes_back_from_json(made: Example) -> None:
    assert example_of(json.loads(json.dumps(example_json(made))), "here") == made


# --- kept -----------------------------------------------------------------------------------------


def test_a_task_is_kept_found_replaced_and_removed(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path / "home")
    assert tasks.names() == []
    made = draft(tmp_path, "x.csv", "prompt,answer\nWhat?,yes\nWho?,no\n")
    task = tasks.add(made.task, made.examples)
    assert (task.examples, task.digest[:7]) == (2, "sha256:")
    assert (tasks.names(), tasks.get("t"), tasks.examples("t")) == (["t"], task, made.examples)
    assert (tmp_path / "home" / "tasks").stat().st_mode & 0o077 == 0
    with pytest.raises(RequestError, match="There is a task t already"):
        tasks.add(made.task, made.examples)
    (tasks.folder("t") / "answers.jsonl").write_text("kept\n", encoding="utf-8")
    fewer = tasks.add(made.task, made.examples[:1], replacing=True)
    assert tasks.examples("t") == made.examples[:1]
    assert fewer.digest != task.digest
    assert (tasks.folder("t") / "answers.jsonl").read_text(encoding="utf-8") == "kept\n"
    tasks.remove("t")
    assert list((tmp_path / "home" / "tasks").iterdir()) == []
    with pytest.raises(NotFoundError, match="There are: none"):
        tasks.get("t")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "x" * 65, "a b", "-a"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    made = draft(tmp_path, "x.csv", "prompt\nWhat?\n")
    tasks = Tasks(tmp_path)
    with pytest.raises(RequestError, match="cannot be a task's name"):
        tasks.add(replace(made.task, name=name), made.examples)
    with pytest.raises(NotFoundError):
        tasks.folder(name)


def test_examples_that_were_changed_by_hand_are_not_taken(tmp_path: Path) -> None:
    made = draft(tmp_path, "x.csv", "prompt,answer\nWhat?,yes\n")
    tasks = Tasks(tmp_path)
    tasks.add(made.task, made.examples)
    path = tasks.folder("t") / "examples.jsonl"
    path.write_bytes(path.read_bytes().replace(b"yes", b"no"))
    with pytest.raises(RequestError, match="was changed since the task was added"):
        tasks.examples("t")
    path.write_bytes(b"{}\n")
    with pytest.raises(RequestError, match=r"examples.jsonl, line 1: `id` is not a text"):
        tasks.examples("t")
    (tasks.folder("t") / "task.json").write_text('{"format": 99}', encoding="utf-8")
    with pytest.raises(RequestError, match="has format 99"):
        tasks.get("t")
