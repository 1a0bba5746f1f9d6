"""Rules that a backtest replays: a router at a setting, one endpoint, a random share, or a file of rules.

A rule says for every example with which probability each endpoint answers it, and with which it is asked. The
file of rules is TOML (docs/outcomes.md): conditions on the prompt, in order, and what is to be used otherwise.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from daulat.errors import DataError, RequestError
from daulat.route.learning.choosing import Steps
from daulat.route.learning.features import Encode, extract, seen_in
from daulat.route.learning.outcomes import FloatArray, Outcomes
from daulat.route.learning.router import Router, encoding

MAX_RULES: Final = 1000
_MAX_FILE: Final = 1 << 20
_KEYS: Final = ("use", "router", "level", "category", "longer_than", "shorter_than", "contains")


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What a rule does with n examples and k endpoints.

    Attributes:
        answers: float64 [n, k]: the probability that this endpoint's answer is the one that counts; rows sum
            to 1.
        asks: float64 [n, k]: that this endpoint is asked, and costs time and money.
        seen: bool [n]: the rule saw the answer that it goes by, if it goes by one.
    """

    answers: FloatArray
    asks: FloatArray
    seen: NDArray[np.bool_]


class Rule(Protocol):
    """How examples are shared out among endpoints."""

    @property
    def name(self) -> str: ...

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Those that it may ask, each once."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """What it goes by beside prompts and answers, of `router.GIVEN`."""
        ...

    def play(self, outcomes: Outcomes) -> Played:
        """What it does with the examples of a table.

        Raises:
            NotFoundError: the table lacks an endpoint that the rule uses.
        """
        ...


@dataclass(frozen=True, slots=True)
class Always:
    """One endpoint answers everything."""

    endpoint: str

    @property
    def name(self) -> str:
        return f"always {self.endpoint}"

    @property
    def endpoints(self) -> tuple[str, ...]:
        return (self.endpoint,)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def play(self, outcomes: Outcomes) -> Played:
        return _each_once(outcomes, np.full(len(outcomes), outcomes.column(self.endpoint)))


@dataclass(frozen=True, slots=True)
class RandomShare:
    """A share of everything, drawn by lot, goes to `dear`, the rest to `cheap`."""

    cheap: str
    dear: str
    share: float

    @property
    def name(self) -> str:
        return f"random {self.share:.0%} {self.dear}"

    @property
    def endpoints(self) -> tuple[str, ...]:
        return _once((self.cheap, self.dear))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def play(self, outcomes: Outcomes) -> Played:
        out = np.zeros((len(outcomes), len(outcomes.endpoints)))
        out[:, outcomes.column(self.cheap)] += 1 - self.share
        out[:, outcomes.column(self.dear)] += self.share
        return Played(out, out, np.ones(len(outcomes), bool))


@dataclass(frozen=True, slots=True, eq=False)
class Routed:
    """A router at a setting of its dial."""

    router: Router
    level: float
    encode: Encode | None = None

    @property
    def name(self) -> str:
        return f"router at {self.level:.0%}"

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self.router.endpoints

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.router.given)

    def play(self, outcomes: Outcomes) -> Played:
        columns = np.array([outcomes.column(name) for name in self.router.endpoints])
        chosen = self.steps(outcomes).choose(self.router.worth(self.level))
        played = _each_once(outcomes, columns[chosen])
        if self.router.mode == "cascade":
            played.asks[:, columns[0]] = 1.0
            played.seen[:] = answered(outcomes, self.router.endpoints[0])
        return played

    def steps(self, outcomes: Outcomes) -> Steps:
        """What the dial chooses for the examples of a table, from all that it has."""
        seen = seen_in(outcomes, self.router.endpoints[0])
        encode = encoding(self.router, self.encode)
        return self.router.steps(extract(seen, self.router.mode, encode))


@dataclass(frozen=True, slots=True)
class Condition:
    """When a rule of a file holds; what is not said holds always.

    Attributes:
        categories: one of these; longer_than, shorter_than: characters of the prompt, -1: any;
        contains: one of these, in small letters.
    """

    categories: tuple[str, ...] = ()
    longer_than: int = -1
    shorter_than: int = -1
    contains: tuple[str, ...] = ()

    def holds(self, prompt: str, category: str) -> bool:
        small = prompt.lower() if self.contains else ""
        return (
            (not self.categories or category in self.categories)
            and (self.longer_than < 0 or len(prompt) > self.longer_than)
            and (self.shorter_than < 0 or len(prompt) < self.shorter_than)
            and (not self.contains or any(text in small for text in self.contains))
        )


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """The rules of a file: the first that holds decides."""

    name: str
    rules: tuple[tuple[Condition, Rule], ...]
    otherwise: Rule

    @property
    def endpoints(self) -> tuple[str, ...]:
        every = (*(rule for _condition, rule in self.rules), self.otherwise)
        return _once(name for rule in every for name in rule.endpoints)

    @property
    def needs(self) -> frozenset[str]:
        categories = {"category" for condition, _rule in self.rules if condition.categories}
        return frozenset(categories).union(*(rule.needs for _condition, rule in self.rules))

    def play(self, outcomes: Outcomes) -> Played:
        out = self.otherwise.play(outcomes)
        undecided = np.ones(len(outcomes), bool)
        for condition, rule in self.rules:
            pairs = zip(outcomes.prompts, outcomes.categories, strict=True)
            mine = undecided & np.array([condition.holds(*one) for one in pairs], bool)
            played = rule.play(outcomes)
            out.answers[mine], out.asks[mine] = played.answers[mine], played.asks[mine]
            out.seen[mine] = played.seen[mine]
            undecided &= ~mine
        return out


def _each_once(outcomes: Outcomes, columns: NDArray[np.int64]) -> Played:
    answers = np.eye(len(outcomes.endpoints))[columns]
    return Played(answers, answers.copy(), np.ones(len(outcomes), bool))


def answered(outcomes: Outcomes, endpoint: str) -> NDArray[np.bool_]:
    """bool [n]: where an endpoint's answer is known."""
    column = outcomes.column(endpoint)
    return np.array([row[column] is not None for row in outcomes.answers], bool)


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


# --- a file of rules ------------------------------------------------------------------------------

Find = Callable[[str], Router]
"""The router of a name."""


def read_rules(path: Path, find: Find, encode: Encode | None = None) -> Written:
    """The rules of a file.

    Args:
        find: gives the routers that the rules name; raises NotFoundError.

    Raises:
        DataError: it cannot be read, is not TOML, or says something that no rule can say.
    """
    try:
        if path.stat().st_size > _MAX_FILE:
            raise DataError(
                f"{path} is larger than {_MAX_FILE >> 20} MiB: that is no file of rules."
            )
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(
            f"{path} is not TOML ({error}). docs/outcomes.md shows the form."
        ) from error
    unknown = sorted(set(table) - {"otherwise", "rules"})
    if unknown:
        raise DataError(
            f"{path}: there is no {unknown[0]!r}; a file has `otherwise` and `[[rules]]`."
        )
    otherwise, rules = table.get("otherwise"), table.get("rules", [])
    if not isinstance(otherwise, str) or not otherwise:
        raise DataError(f'{path} lacks `otherwise = "ENDPOINT"`: what answers where no rule holds.')
    if not isinstance(rules, list) or len(cast("list[Any]", rules)) > MAX_RULES:
        raise DataError(f"{path}: `rules` must be tables [[rules]], at most {MAX_RULES}.")
    made = [
        _rule(one, f"{path}, rule {i}", find, encode)
        for i, one in enumerate(cast("list[Any]", rules), 1)
    ]
    return Written(path.name, tuple(made), Always(otherwise))


def _rule(value: Any, where: str, find: Find, encode: Encode | None) -> tuple[Condition, Rule]:
    if not isinstance(value, dict):
        raise DataError(f"{where} is not a table [[rules]].")
    table = cast("Mapping[str, Any]", value)
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise DataError(f"{where}: there is no {unknown[0]!r}; there are {', '.join(_KEYS)}.")
    condition = Condition(
        _texts(table, "category", where),
        _length(table, "longer_than", where),
        _length(table, "shorter_than", where),
        tuple(text.lower() for text in _texts(table, "contains", where)),
    )
    return condition, _used(table, where, find, encode)


def _used(table: Mapping[str, Any], where: str, find: Find, encode: Encode | None) -> Rule:
    use, router, level = table.get("use"), table.get("router"), table.get("level")
    if isinstance(use, str) and use and router is None and level is None:
        return Always(use)
    number = isinstance(level, int | float) and not isinstance(level, bool) and 0 <= level <= 1
    if use is None and isinstance(router, str) and number:
        return Routed(find(router), float(cast("float", level)), encode)
    raise DataError(
        f'{where} needs either `use = "ENDPOINT"`, or `router = "NAME"` and `level` from 0 to 1.'
    )


def _texts(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key, [])
    found: Sequence[Any] = [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(
        isinstance(one, str) and one for one in found
    ):
        raise DataError(f"{where}: `{key}` is a text or a list of texts.")
    return tuple(found)


def _length(table: Mapping[str, Any], key: str, where: str) -> int:
    value = table.get(key, -1)
    if isinstance(value, bool) or not isinstance(value, int) or value < -1:
        raise DataError(f"{where}: `{key}` is a number of characters.")
    return value


def parse(text: str) -> Rule:
    """A rule from a word: `always:ENDPOINT` or `random:CHEAP:DEAR:SHARE`.

    Raises:
        RequestError: it is neither.
    """
    kind, _, rest = text.partition(":")
    if kind == "always" and rest:
        return Always(rest)
    if kind == "random":
        ends, _, share = rest.rpartition(":")
        cheap, _, dear = ends.partition(":")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if cheap and dear and 0 <= value <= 1:
            return RandomShare(cheap, dear, value)
    raise RequestError(
        f"{text[:80]!r} is no rule. Write always:ENDPOINT, or random:CHEAP:DEAR:SHARE with a share from "
        "0 to 1.",
        param="rule",
    )
