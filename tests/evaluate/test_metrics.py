"""Metrics against oracles: other implementations, plain slow ones of the definition, published answers."""

from __future__ import annotations

import gzip
import json
import os
import string
from collections import Counter, defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from daulat.errors import RequestError
from daulat.evaluate import metrics
from daulat.evaluate.examples import Chosen, Example
from daulat.evaluate.metrics import choices, fields, numbers, texts
from daulat.evaluate.metrics.score import Score
from daulat.values.request import Message

EXCERPT = Path(__file__).parent / "data" / "mmlu_pro.jsonl"
LETTERS = "ABCDEFGHIJ"
WORDS = st.lists(
    st.sampled_from(["a", "the", "ship", "Ship", "sails", "far", "an", "x1"]), max_size=12
)


def example(*references: str, **more: Any) -> Example:
    return Example("1", (Message("user", "?"),), references, fields=more)


async def value(name: str, answer: str, *references: str, **options: str) -> Score:
    return await metrics.scored(metrics.scorer(Chosen(name, options)), example(*references), answer)


# --- texts ----------------------------------------------------------------------------------------


@given(WORDS, WORDS)
def test_the_longest_common_subsequence_is_that_of_the_table(a: list[str], b: list[str]) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            longer = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else longer
    assert texts.common_length(a, b) == table[-1][-1]


@given(
    st.text(st.characters(codec="ascii"), max_size=60),
    st.text(st.characters(codec="ascii"), max_size=60),
)
def test_rouge_is_googles_on_ascii(answer: str, reference: str) -> None:
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, answer)
    a, b = texts.rouge_words(answer), texts.rouge_words(reference)
    assert texts.rouge_n(a, b, 1) == pytest.approx(theirs["rouge1"].fmeasure)
    assert texts.rouge_n(a, b, 2) == pytest.approx(theirs["rouge2"].fmeasure)
    assert texts.rouge_l(a, b) == pytest.approx(theirs["rougeL"].fmeasure)


def test_rouge_reads_words_of_other_scripts() -> None:
    assert texts.rouge_words("Pelabuhan Tanjung-Priok: 海港 è_1") == [
        *("pelabuhan", "tanjung", "priok", "海港", "è", "1")
    ]


def _squad(answer: str, reference: str) -> float:
    """The definition, word by word: lower case, no punctuation, no articles; F1 of the words as bags."""

    def words(text: str) -> list[str]:
        bare = "".join(c for c in text.lower() if c not in string.punctuation)
        return [word for word in bare.split() if word not in ("a", "an", "the")]

    a, b = words(answer), words(reference)
    if not a or not b:
        return float(a == b)
    left, common = list(b), 0
    for word in a:
        if word in left:
            left.remove(word)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(a), common / len(b)
    return 2 * precision * recall / (precision + recall)


@given(WORDS.map(" ".join), WORDS.map(" ".join), st.sampled_from(["", ".", "!?", ", "]))
def test_f1_is_squads(a: str, b: str, mark: str) -> None:
    ours = texts.f1(texts.squad_words(a + mark), texts.squad_words(mark + b))
    assert ours == pytest.approx(_squad(a + mark, mark + b))


@pytest.mark.parametrize(
    ("answer", "reference", "same", "strictly"),
    [
        ("Jakarta", "jakarta", 1, 0),
        ('  "Jakarta."\n', "jakarta", 1, 0),
        ("\uff2a\uff21\uff2b\uff21\uff32\uff34\uff21", "jakarta", 1, 0),
        ("Kota   Jakarta", "kota jakarta", 1, 0),
        ("Straße", "STRASSE", 1, 0),
        ("Jakarta Utara", "Jakarta", 0, 0),
        ("-", "", 1, 0),
        (" Jakarta ", "Jakarta", 1, 1),
    ],
)
async def test_exact(answer: str, reference: str, same: int, strictly: int) -> None:
    assert (await value("exact", answer, reference)).value == same
    assert (await value("exact", answer, reference, strict="yes")).value == strictly


async def test_the_best_reference_counts() -> None:
    assert (await value("f1", "the harbour of Jakarta", "Bandung", "Jakarta harbour")).value > 0.7


@given(st.text(max_size=80), st.text(min_size=1, max_size=80))
def test_scores_are_from_0_to_1_and_a_text_matches_itself(answer: str, reference: str) -> None:
    for name in ("exact", "f1", "rouge-1", "rouge-2", "rouge-l"):
        judge = metrics.scorer(Chosen(name))
        found = judge(example(reference), answer)
        assert isinstance(found, Score)
        assert 0 <= found.value <= 1
    same = metrics.scorer(Chosen("exact"))(example(reference), reference)
    assert isinstance(same, Score)
    assert same.value == 1


# --- choices --------------------------------------------------------------------------------------


def _published() -> list[dict[str, Any]]:
    return [json.loads(line) for line in EXCERPT.read_text(encoding="utf-8").splitlines()]


def _read(row: dict[str, Any], reading: str) -> str:
    return choices.read(row["text"], LETTERS, reading, row["options"])


def test_the_phrase_is_read_as_mmlu_pro_reads_it() -> None:
    rows = [row for row in _published() if "llama" not in row["model"]]
    assert len(rows) > 50
    assert [_read(row, "phrase") for row in rows] == [row["pred"] or "" for row in rows]


def test_what_a_model_marks_is_read_where_the_phrase_is_not_used() -> None:
    for row in _published():
        phrase = _read(row, "phrase")
        assert not phrase or _read(row, "marked") == phrase
    more = {
        "The answer is **(J) 18**.": "J",
        "The correct answer is:\n\n**B. Infraspinatus**": "B",
        r"so we have \boxed{H}.": "H",
        r"The answer is \( \boxed{\text{C}} \).": "C",
        "Answer: d": "",
        "Answer: D": "D",
        "**Answer:** (D)": "D",
        "d": "D",
        "(b).": "B",
        "C. because of the tide": "C",
        "Jawabannya adalah B.": "B",
        "Jawaban: C": "C",
        "Therefore option (B) is the correct answer.": "B",
        "I think it depends on the jurisdiction.": "",
        "A good answer is hard to give.": "",
        "The answer is $C(9, 3) + 1 = 85$.": "",
        "A. False: ...\nB. True: ...": "",
        "": "",
    }
    assert {text: choices.read(text, LETTERS, "marked") for text in more} == more


def test_an_options_text_is_its_letter() -> None:
    options = ["The tide", "The moon", "the moon."]
    assert choices.read("the TIDE.", "ABC", "marked", options) == "A"
    assert choices.read("The moon", "ABC", "marked", options) == ""


@pytest.mark.parametrize("reference", ["C", "(c)", "2", "the wind"])
async def test_references_may_be_letters_numbers_or_texts(reference: str) -> None:
    judge = metrics.scorer(Chosen("choice"))
    asked = example(reference, options=["the tide", "the moon", "the wind"])
    assert (await metrics.scored(judge, asked, "The answer is (C).")).value == 1
    assert (await metrics.scored(judge, asked, "The answer is (B).")).value == 0
    with pytest.raises(RequestError, match="no letter of an option"):
        judge(example("the sea", options=["the tide", "the moon"]), "A")


@given(st.text(max_size=200))
def test_reading_a_choice_never_fails(text: str) -> None:
    for reading in ("phrase", "marked", "last"):
        assert choices.read(text, LETTERS, reading) in ("", *LETTERS)


def test_reading_a_long_answer_takes_no_time() -> None:
    long = "answer " * 30_000 + "(" * 30_000 + "A " * 30_000 + "**" * 30_000
    assert choices.read(long, LETTERS, "marked") in ("", *LETTERS)


def _stored(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for path in sorted((folder / "mmlu_pro").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield path.name.removesuffix(".jsonl.gz"), [json.loads(line) for line in file]


@pytest.mark.skipif("DAULAT_DATA" not in os.environ, reason="DAULAT_DATA names no folder of data")
def test_the_published_accuracies_of_mmlu_pro_are_met() -> None:
    """The authors' summaries of GPT-4o (eval_results/gpt4o/*_summary.json, commit ff991b5): right answers."""
    law, every = 562, 8730
    judge = metrics.scorer(Chosen("choice", {"reading": "phrase", "unread": "drawn"}))
    for model, rows in _stored(Path(os.environ["DAULAT_DATA"])):
        read = [choices.read(row["text"], LETTERS, "phrase") for row in rows]
        unread = [row for row, letter in zip(rows, read, strict=True) if not letter]
        assert all(a == r["pred"] for a, r in zip(read, rows, strict=True) if a)
        if not model.startswith("gpt-4o"):
            continue
        assert all(row["pred"] is None for row in unread)
        right: Counter[str] = Counter()
        total: defaultdict[str, int] = defaultdict(int)
        for row in rows:
            found = judge(example(row["answer"], options=row["options"]), row["text"])
            assert isinstance(found, Score)
            right[row["category"]] += int(found.value)
            total[row["category"]] += 1
        assert (right["law"], total["law"]) == (law, 1101)
        assert right.total() == every
        assert round(right.total() / len(rows), 4) == 0.7256


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He pays 5 + 13 = 18.\n#### 18", "18"),
        ("#### $1,234.50", "1234.5"),
        ("#### 7 packs and 2 left", "7"),
        ("The answer is 3/4.", "3/4"),
        (r"so \boxed{\frac{3}{4}}", "3/4"),
        (r"\boxed{1} and then \boxed{42}", "42"),
        ("The answer is: **-5**", "-5"),
        ("The answer is \u22125", "-5"),
        ("She earns $20.00.", "20"),
        ("It grows by 12%.", "12"),
        ("between 1,000 and 2,000,000", "2000000"),
        ("1.5e3 metres", "1500"),
        ("Jawabannya adalah 12 apel", "12"),
        ("16-3-4 = 9 eggs", "9"),
        ("no number at all", None),
        ("", None),
        (".5", "1/2"),
    ],
)
def test_numbers_are_read(text: str, number: str | None) -> None:
    assert numbers.read(text) == (None if number is None else Fraction(number))


@given(st.integers(-(10**12), 10**12), st.integers(0, 99))
def test_a_number_is_read_however_it_is_written(whole: int, cents: int) -> None:
    amount = Fraction(whole) + (Fraction(cents, 100) if whole >= 0 else -Fraction(cents, 100))
    plain = f"{whole}.{cents:02}"
    grouped = f"{whole:,}.{cents:02}"
    indonesian = grouped.translate(str.maketrans(",.", ".,"))
    for text in (plain, grouped):
        assert numbers.read(f"Altogether the answer is {text}.") == amount
        assert numbers.read(f"9 9\n#### {text}") == amount
    assert numbers.read(f"Hasilnya {indonesian}", "comma") == amount


@given(st.text(max_size=300))
def test_reading_a_number_never_fails(text: str) -> None:
    numbers.read(text)
    numbers.read(text, "comma")


async def test_numbers_are_compared_exactly_or_within_a_tolerance() -> None:
    assert (await value("number", "0.1 + 0.2 = 0.3", "0.30")).value == 1
    assert (await value("number", "about 99.5", "100")).value == 0
    assert (await value("number", "about 99.5", "100", tolerance="0.01")).value == 1
    with pytest.raises(RequestError, match="has no number"):
        await value("number", "1", "many")
    with pytest.raises(RequestError, match="tolerance"):
        await value("number", "1", "1", tolerance="-1")


# --- fields ---------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1), JSON_VALUES, min_size=1, max_size=4))
async def test_a_reference_matches_itself_wherever_it_stands(told: dict[str, Any]) -> None:
    text = json.dumps(told)
    for answer in (
        text,
        f"Here it is:\n```json\n{text}\n```\nDone.",
        f"The record is {text}, I think.",
    ):
        assert (await value("json", answer, text)).value == 1


async def test_fields_are_counted() -> None:
    right = '{"name": "Siti", "address": {"city": "Medan", "zip": "20111"}, "age": 30}'
    said = '{"name": "siti.", "address": {"city": "Jakarta"}, "age": 30.0, "more": 1}'
    found = await value("json", said, right)
    assert found.value == pytest.approx(0.5)
    assert found.detail == "wrong: address.city, address.zip"
    assert (await value("json", said, right, fields="name,age")).value == 1
    assert (await value("json", said, right, all="yes")).value == 0
    assert (await value("json", '{"age": true}', '{"age": 1}')).value == 0
    assert (await value("json", "I cannot say.", right)).detail == "no JSON"
    with pytest.raises(RequestError, match="none of the fields"):
        await value("json", said, right, fields="street")
    with pytest.raises(RequestError, match="no JSON object"):
        await value("json", said, "Siti")


@given(st.text('{}[]":,a1 \n`', max_size=60))
def test_looking_for_json_never_fails(text: str) -> None:
    fields.read(text)


# --- the table ------------------------------------------------------------------------------------


def test_what_the_table_has_not_is_told() -> None:
    with pytest.raises(RequestError, match="Did you mean 'choice'"):
        metrics.metric("choices")
    with pytest.raises(RequestError, match="no option 'x'"):
        metrics.scorer(Chosen("exact", {"x": "1"}))
    with pytest.raises(RequestError, match="one of yes, no"):
        metrics.scorer(Chosen("exact", {"strict": "perhaps"}))
    with pytest.raises(RequestError, match="no reference"):
        metrics.scorer(Chosen("exact"))(example(), "x")
    with pytest.raises(ValueError, match="from 0 to 1"):
        Score(1.5)


async def test_a_function_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "def short(example, answer):\n"
        "    return {'score': len(answer) <= example['fields']['most'], 'detail': example['prompt']}\n"
        "async def late(example, answer):\n"
        "    return 0.25\n"
        "def wrong(example, answer):\n"
        "    return 7\n"
        "def broken(example, answer):\n"
        "    return example['nothing']\n",
        encoding="utf-8",
    )

    async def of(function: str, answer: str) -> Score:
        judge = metrics.scorer(Chosen(f"{path}:{function}"))
        return await metrics.scored(judge, example(most=3), answer)

    assert await of("short", "yes") == Score(1.0, "?")
    assert (await of("short", "certainly")).value == 0
    assert (await of("late", "")).value == 0.25
    with pytest.raises(RequestError, match="must return a number"):
        await of("wrong", "")
    with pytest.raises(RequestError, match="failed at the example 1: KeyError"):
        await of("broken", "")
    with pytest.raises(RequestError, match="no function 'none'"):
        await of("none", "")
    with pytest.raises(RequestError, match="cannot be read"):
        metrics.scorer(Chosen(f"{tmp_path / 'other.py'}:f"))
