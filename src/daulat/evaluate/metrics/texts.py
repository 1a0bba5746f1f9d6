"""Metrics that compare words: exact match, token F1, ROUGE. Of several references the best one counts.

- `exact`: 1 where answer and reference are the same text after `normal`: Unicode NFKC, case folded, runs of
  white space one space, white space, quotes and marks of punctuation at both ends taken away. With `strict=yes`
  only white space at both ends is taken away.
- `f1`: SQuAD's (Rajpurkar et al. 2016, arXiv 1606.05250, its evaluation script): lower case, ASCII punctuation
  and the articles a, an, the taken away, words at white space; harmonic mean of precision and recall over the
  words as a bag. Two empty texts: 1.
- `rouge-1`, `rouge-2`, `rouge-l`: F-measure of common words, pairs of words, or the longest common subsequence
  (Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries). Words are runs of letters and digits, of
  every script, in lower case; no stemming, no sentences. On ASCII texts the same as Google's `rouge-score`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from daulat.evaluate.examples import Example
from daulat.evaluate.metrics.score import Metric, Option, Score, Scorer, Tools, references_of

_SPACE: Final = re.compile(r"\s+")
_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
_WORD: Final = re.compile(r"[^\W_]+")


def normal(text: str) -> str:
    """The form in which `exact` compares."""
    folded = _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold())
    start, end = 0, len(folded)
    while start < end and _is_edge(folded[start]):
        start += 1
    while end > start and _is_edge(folded[end - 1]):
        end -= 1
    return folded[start:end]


def _is_edge(character: str) -> bool:
    return character == " " or unicodedata.category(character).startswith("P")


def squad_words(text: str) -> list[str]:
    """The words that `f1` counts."""
    bare = text.lower().translate(_PUNCTUATION)
    return _ARTICLES.sub(" ", bare).split()


def f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """Over words as bags."""
    if not answer or not reference:
        return float(answer == reference)
    common = sum((Counter(answer) & Counter(reference)).values())
    return _harmonic(common, len(answer), len(reference))


def rouge_words(text: str) -> list[str]:
    """The words that ROUGE counts."""
    return _WORD.findall(text.lower())


def rouge_n(answer: Sequence[str], reference: Sequence[str], n: int) -> float:
    """F-measure over runs of n words."""
    ours, theirs = (
        Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        for words in (answer, reference)
    )
    common = sum((ours & theirs).values())
    return _harmonic(common, sum(ours.values()), sum(theirs.values()))


def rouge_l(answer: Sequence[str], reference: Sequence[str]) -> float:
    """F-measure over the longest common subsequence."""
    return _harmonic(common_length(answer, reference), len(answer), len(reference))


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table as the bits of one number.

    Hyyro 2004, "Bit-parallel LCS-length computation revisited": bits that are 0 stand where the row grows.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | (1 << i)
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & full
    return len(first) - row.bit_count()


def _harmonic(common: int, ours: int, theirs: int) -> float:
    """2PR / (P + R) of the precision common / ours and the recall common / theirs."""
    return 2.0 * common / (ours + theirs) if common else 0.0


# --- the table ------------------------------------------------------------------------------------


def _best(name: str, compare: Callable[[str, str], float]) -> Scorer:
    def score(example: Example, answer: str) -> Score:
        return Score(max(compare(answer, one) for one in references_of(example, name)))

    return score


def _exact(options: Mapping[str, str], _tools: Tools) -> Scorer:
    form = str.strip if options["strict"] == "yes" else normal
    return _best("exact", lambda answer, one: float(form(answer) == form(one)))


def _f1(_options: Mapping[str, str], _tools: Tools) -> Scorer:
    return _best("f1", lambda answer, one: f1(squad_words(answer), squad_words(one)))


def _rouge(n: int) -> Callable[[Mapping[str, str], Tools], Scorer]:
    def compare(answer: str, one: str) -> float:
        ours, theirs = rouge_words(answer), rouge_words(one)
        return rouge_n(ours, theirs, n) if n else rouge_l(ours, theirs)

    return lambda _options, _tools: _best(f"rouge-{n or 'l'}", compare)


METRICS: Final = (
    Metric(
        "exact",
        "the same text, but for case, white space and punctuation at its ends",
        _exact,
        {"strict": Option("no", "yes: letter by letter", ("yes", "no"))},
    ),
    Metric("f1", "words in common, as SQuAD counts them", _f1),
    Metric("rouge-1", "words in common", _rouge(1)),
    Metric("rouge-2", "pairs of words in common", _rouge(2)),
    Metric("rouge-l", "longest common subsequence of words", _rouge(0)),
)
