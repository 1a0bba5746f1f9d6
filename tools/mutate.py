"""Mutation testing: change one thing of a module, run its tests, see whether they notice.

    python tools/mutate.py src/daulat/values/money.py tests/values/test_money.py [more tests] [-k WORDS]

Mutants are made from the module's syntax tree: comparisons turned or moved by one, `+` and `-`, `*` and `//`
exchanged, whole numbers one more, `and` for `or`, `not` left out, `max` for `min`, a returned value that
becomes None, a statement left out. Each runs in a forked process that compiles the module anew, so nothing on
disk is changed. Prints those that no test noticed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

# What the tests need of others is imported before the forks, so that each begins at once.
import aiohttp  # noqa: F401
import hypothesis.stateful  # noqa: F401
import msgspec  # noqa: F401
import pytest
import pytest_asyncio  # noqa: F401
import sqlalchemy.dialects.sqlite  # noqa: F401

ROOT = Path(__file__).parents[1]
PATIENCE = 120
"""Seconds for the tests of one mutant: one that never ends was noticed."""

_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_EXCHANGED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
_NAMES = {"max": "min", "min": "max", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutant:
    line: int
    what: str
    tree: ast.Module


# --- making them ------------------------------------------------------------------------------------


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its text."""
    whole = ast.parse(source)
    declared = {n for d in ast.walk(whole) for n in _decorators(d)}
    for number, node in enumerate(ast.walk(whole)):
        for what, change in _changes(node) if node not in declared else ():
            tree = copy.deepcopy(whole)
            twin = next(n for at, n in enumerate(ast.walk(tree)) if at == number)
            change(twin)
            yield Mutant(getattr(node, "lineno", 0), what, ast.fix_missing_locations(tree))


def _decorators(node: ast.AST) -> Iterator[ast.AST]:
    for one in getattr(node, "decorator_list", ()):
        yield from ast.walk(one)


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    match node:
        case ast.Compare(ops=[op, *_]) if type(op) in _TURNED:
            yield f"{_name(op)} -> {_TURNED[type(op)].__name__}", _turn
        case ast.BinOp(op=op) if type(op) in _EXCHANGED:
            yield f"{_name(op)} -> {_EXCHANGED[type(op)].__name__}", _exchange
        case ast.AugAssign(op=op) if type(op) in _EXCHANGED:
            yield f"{_name(op)}= -> {_EXCHANGED[type(op)].__name__}=", _exchange
        case ast.BoolOp():
            yield "and <-> or", _other_word
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield f"{_name(node.op)} left out", _bare
        case ast.Constant(value=bool()):
            yield "True <-> False", _opposite
        case ast.Constant(value=int()):
            yield f"{node.value} -> {node.value + 1}", _one_more
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            yield f"{name} -> {_NAMES[name]}", _other_function
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield "returns None", _none
        case ast.Expr(value=ast.Call() | ast.YieldFrom()) | ast.AugAssign() | ast.Raise():
            yield "left out", _left_out
        case _:
            pass


def _name(node: ast.AST) -> str:
    return type(node).__name__


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _turn(node: ast.AST) -> None:
    assert isinstance(node, ast.Compare)
    node.ops[0] = _TURNED[type(node.ops[0])]()


def _exchange(node: ast.AST) -> None:
    assert isinstance(node, ast.BinOp | ast.AugAssign)
    node.op = _EXCHANGED[type(node.op)]()


def _other_word(node: ast.AST) -> None:
    assert isinstance(node, ast.BoolOp)
    node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()


def _bare(node: ast.AST) -> None:
    assert isinstance(node, ast.UnaryOp)
    node.op = ast.UAdd() if isinstance(node.op, ast.USub) else node.op
    if isinstance(node.op, ast.Not):
        node.operand = ast.UnaryOp(ast.Not(), node.operand)


def _opposite(node: ast.AST) -> None:
    assert isinstance(node, ast.Constant)
    node.value = not node.value


def _one_more(node: ast.AST) -> None:
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int)
    node.value += 1


def _other_function(node: ast.AST) -> None:
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    node.func.id = _NAMES[node.func.id]


def _none(node: ast.AST) -> None:
    assert isinstance(node, ast.Return)
    node.value = ast.Constant(None)


def _left_out(node: ast.AST) -> None:
    """A statement becomes one that does nothing: the node stays, for its list is its parent's."""
    node.__class__ = ast.Expr
    node._fields = ("value",)
    node.value = ast.Constant(...)  # type: ignore[attr-defined]


# --- running them -----------------------------------------------------------------------------------


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a tree."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(self, fullname: str, path: object, target: object = None) -> object:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)  # noqa: S102


def noticed(name: str, path: Path, tree: ast.Module, tests: Sequence[str]) -> bool:
    """Whether a test fails, in a process of its own."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        signal.alarm(PATIENCE)
        sys.meta_path.insert(0, _Finder(name, path, tree))
        os._exit(int(_run(tests)))
    status = os.waitpid(child, 0)[1]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return status != 0


def _run(tests: Sequence[str]) -> int:
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    wanted = ("pytest_asyncio.plugin", "pytest_timeout", "_hypothesis_pytestplugin")
    plugins = [word for name in wanted for word in ("-p", name)]
    return pytest.main([*tests, *plugins, "-x", "-q", "-p", "no:cacheprovider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("-k", default="", help="which of the tests")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants, drawn by a seed")
    given = parser.parse_args()
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
    tests = [*given.tests, *(["-k", given.k] if given.k else [])]
    path = given.module.resolve()
    name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    whole = ast.parse(path.read_text(encoding="utf-8"))
    if noticed(name, path, whole, tests):
        sys.exit("The tests fail without any change.")
    every = list(mutants(path.read_text(encoding="utf-8")))
    if given.sample and given.sample < len(every):
        every = random.Random(1).sample(every, given.sample)  # noqa: S311 - no secret
    left = [one for one in every if not noticed(name, path, one.tree, tests)]
    lines = path.read_text(encoding="utf-8").splitlines()
    for one in left:
        print(f"{given.module}:{one.line}: {one.what}: {lines[one.line - 1].strip()}", flush=True)
    print(f"{given.module}: {len(every) - len(left)} of {len(every)} mutants noticed")


if __name__ == "__main__":
    main()
