"""A metric of the user's: `FILE.py:FUNCTION`, a Python function that is run in this very process.

It is called with the example, a dictionary of its `id`, `prompt`, `messages`, `references`, `category`,
`fields`, and with the answer's text. It returns a number from 0 to 1, a truth value, or a dictionary with
`score` and `detail`. It may be a coroutine function. It is the user's own code and can do whatever the user
can.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

from daulat.errors import RequestError
from daulat.evaluate.examples import Example, example_json
from daulat.evaluate.metrics.score import Metric, Score, Scorer

_MAX_DETAIL = 500


def is_named(name: str) -> bool:
    """Whether a name has the form of a user's own metric."""
    file, colon, function = name.rpartition(":")
    return bool(colon) and file.endswith(".py") and function.isidentifier()


def metric(name: str) -> Metric:
    """The row of the table that the user would have written."""
    return Metric(
        name, "a function of yours", lambda _options, _tools: _scorer(name), references=False
    )


def digest(name: str) -> str:
    """SHA-256 of the file.

    Raises:
        RequestError: it cannot be read.
    """
    return "sha256:" + hashlib.sha256(_source(Path(name.rpartition(":")[0]))).hexdigest()


def _scorer(name: str) -> Scorer:
    function = _loaded(name)

    def score(example: Example, answer: str) -> Score | Awaitable[Score]:
        told = {**_WHOLE, **example_json(example), "prompt": example.prompt}
        try:
            found = function(told, answer)
        except Exception as error:
            raise _failed(name, example, error) from error
        if inspect.isawaitable(found):
            return _awaited(found, name, example)
        return _score(found, name)

    return score


_WHOLE: Mapping[str, Any] = {"references": [], "category": "", "fields": {}}


async def _awaited(found: Awaitable[Any], name: str, example: Example) -> Score:
    try:
        value = await found
    except Exception as error:
        raise _failed(name, example, error) from error
    return _score(value, name)


def _score(found: Any, name: str) -> Score:
    told: dict[str, Any] = {"score": found}
    if isinstance(found, dict):
        told = cast("dict[str, Any]", found)
    try:
        return Score(float(told["score"]), str(told.get("detail", ""))[:_MAX_DETAIL])
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"{name} returned {str(told)[:80]!r}: it must return a number from 0 to 1, true or false, or a "
            "dictionary with `score`."
        ) from error


def _failed(name: str, example: Example, error: Exception) -> RequestError:
    return RequestError(
        f"{name} failed at the example {example.id}: {type(error).__name__}: {str(error)[:200]}. "
        "Correct the function and run the comparison again: no answer is lost."
    )


def _source(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"The metric's file {path} cannot be read: {error.strerror}.") from error


def _loaded(name: str) -> Callable[[dict[str, Any], str], Any]:
    file, _colon, function = name.rpartition(":")
    path = Path(file)
    _source(path)
    spec = importlib.util.spec_from_file_location(f"daulat_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RequestError(f"{path} cannot be loaded as Python.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise RequestError(
            f"{path} cannot be loaded: {type(error).__name__}: {str(error)[:200]}."
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        raise RequestError(f"{path} has no function {function!r}.", param="metric")
    return found
