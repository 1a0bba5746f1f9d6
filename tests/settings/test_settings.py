"""daulat.toml: defaults, bounds, and every complaint with its line and the nearest valid name."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.errors import SettingsError
from daulat.settings import Settings, default_file, default_home, load, problems, sources
from daulat.settings.locate import locate
from daulat.settings.rules import rules
from daulat.settings.schema import NAMED, TABLES


def write(home: Path, text: str | bytes) -> Path:
    path = home / "daulat.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_without_a_file_everything_is_the_default(tmp_path: Path) -> None:
    assert load(tmp_path, {}) == Settings(tmp_path)
    assert {one.source for one in sources(tmp_path, {})} == {"default"}


def test_the_file_of_defaults_says_what_the_defaults_are(tmp_path: Path) -> None:
    lines = default_file().splitlines()
    write(tmp_path, "\n".join(lines))
    assert load(tmp_path, {}) == Settings(tmp_path)
    # Every key, with its # taken away, is the default again.
    active = "\n".join(
        line[1:] if line.startswith("#") and line[1] != " " else line for line in lines
    )
    write(tmp_path, active)
    assert problems(tmp_path / "daulat.toml") == []
    loaded, usual = load(tmp_path, {}), Settings(tmp_path)
    for name in TABLES.keys() - {"policy"}:
        assert getattr(loaded, name) == getattr(usual, name)
    assert {one.source for one in sources(tmp_path, {})} == {"daulat.toml"}
    written = tomllib.loads(active)
    for name, kind in TABLES.items():
        assert set(written[name]) == {field.name for field in fields(kind)}
    # Tables that have names of the user's stand there as one example each.
    for name, kind in NAMED.items():
        assert set(written[name]["NAME"]) == {field.name for field in fields(kind)}
        assert getattr(loaded, name) == {"NAME": kind(**_examples(kind))}


def _examples(kind: type) -> dict[str, Any]:
    """The tables below a table at their defaults, under the name that the example gives them."""
    return {key: {"NAME": rule.table()} for key, (_, rule) in rules(kind).items() if rule.table}


def test_a_value_is_taken_and_its_source_told(tmp_path: Path) -> None:
    write(tmp_path, "[server]\nport = 9000\n[models]\nhub = 'https://one.example'\n")
    environ = {"HF_ENDPOINT": "https://two.example/"}
    assert load(tmp_path, {}).server.port == 9000
    assert load(tmp_path, {}).models.hub == "https://one.example"
    assert load(tmp_path, environ).models.hub == "https://two.example"
    told = {one.key: one.source for one in sources(tmp_path, environ)}
    assert told["server.port"] == "daulat.toml"
    assert told["models.hub"] == "HF_ENDPOINT"
    assert told["server.host"] == "default"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[serve]\nport = 1\n", 1, "Did you mean 'server'"),
        ("\n\n[server]\nprot = 1\n", 4, "Did you mean 'port'"),
        ("[server]\nzzz = 1\n", 2, "There are: host, port, max_body"),
        ("[server]\nport = 70000\n", 2, "from 0 to 65535"),
        ("[server]\nport = true\n", 2, "a whole number"),
        ("[server]\nport = '8000'\n", 2, "a whole number"),
        ("server = 3\n", 1, "write [server]"),
        ("server.port = -1\n", 1, "from 0 to 65535"),
        ("[record]\n\ncontents = 'ful'\n", 3, "did you mean 'full'"),
        ("[engine]\ndtype = 16\n", 2, "'bfloat16'"),
        ("[models]\ndefault = ''\n", 2, "1 to 96 characters"),
        (f"[models]\nhub = '{'x' * 600}'\n", 2, "8 to 512 characters"),
        ("[policy]\nlock = 1\n", 2, "true or false"),
        ("[policy]\norder = 'public'\n", 2, "a list of at most 32 texts"),
        ("[policy]\norder = ['']\n", 2, "texts of 1 to 256"),
        ("[policy.classes]\nsecret = 3\n", 2, "write [policy.classes.secret]"),
        ("[policy.classes.secret]\nplace = []\n", 2, "Did you mean 'places'"),
        ("[money]\nper_day = '1,5'\n", 2, 'such as "12.50"'),
        ("[money]\nper_day = -1\n", 2, "a decimal number"),
        ("[money]\nper_day = 'NaN'\n", 2, "a decimal number"),
        ("[money]\nper_day = '1e99'\n", 2, "a decimal number"),
        ("[endpoints]\nx = 1\n", 2, "write [endpoints.x]"),
        ("[endpoints.'a b']\nurl = ''\n", 1, "is no name"),
        ("[endpoints.a]\nkind = 'opena'\n", 2, "did you mean 'openai'"),
        ("[endpoints.a]\nkey = 7\n", 2, "a text of 0 to 1024"),
        ("[endpoints.a]\nfirst_seconds = 0\n", 2, "a number from 0.01 to 86400"),
        ("[endpoints.a]\nnames = { x = 1 }\n", 2, "a table of at most 256 texts"),
        ("[endpoints.a.prices.'gpt-4']\ninput = 'x'\n", 2, "a decimal number"),
        ("[routes.r]\nweights = [0]\n", 2, "numbers above 0"),
        ("[server]\nport = \n", 2, "Invalid value"),
        ("[server\n", 1, "line 1"),
        ("[server]\nport = 1\nport = 2\n", 3, "overwrite"),
    ],
)
def test_faults_have_a_line_and_a_way_out(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = write(tmp_path, text)
    (fault,) = problems(path)
    assert f"{path}, line {line}" in fault
    assert words in fault
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, {})
    assert caught.value.message == fault


def test_all_faults_at_once_in_the_files_order(tmp_path: Path) -> None:
    path = write(tmp_path, "[server]\nport = -1\nhots = 'x'\n[nothing]\n[log]\nlevel = 'loud'\n")
    found = problems(path)
    assert [fault.partition("line ")[2][0] for fault in found] == ["2", "3", "4", "6"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"#" * ((1 << 20) + 1), "larger than"),
    ],
)
def test_hostile_files(tmp_path: Path, data: bytes, words: str) -> None:
    (fault,) = problems(write(tmp_path, data))
    assert words in fault


def test_the_home(tmp_path: Path) -> None:
    assert default_home({"DAULAT_HOME": str(tmp_path)}) == tmp_path
    assert default_home({}) == Path.home() / ".daulat"
    assert default_home({"DAULAT_HOME": "~/x"}) == Path.home() / "x"


# --- where keys stand, against a slow oracle --------------------------------------------------------


_KEYS = st.text("abcdefgh_-", min_size=1, max_size=5)
_VALUES = st.sampled_from(
    [
        "1",
        "'a # b'",
        '"x = [\\" # {"',
        "'''one\n[two]\nthree = 3'''",
        '"""a = 1\n\\"""b\\"""\n"""',
        "[1,\n 2, # ]\n 3]",
        "{ a = 1, b = [2] }",
        "1979-05-27T07:32:00Z",
        "[[], ['x = 1']]",
    ]
)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[tuple[str, ...], int]]:
    """A document, with the line that each key was written on."""
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    tables = draw(st.lists(_KEYS, unique=True, max_size=4))
    for table in tables:
        lines += [""] * draw(st.integers(0, 2)) + ["# [not] = 'this'"] * draw(st.integers(0, 1))
        expected[(table,)] = len(lines) + 1
        lines.append(f"[ {table} ]  # x = 1" if draw(st.booleans()) else f"[{table}]")
        for key in draw(st.lists(_KEYS, unique=True, max_size=4)):
            expected[(table, key)] = len(lines) + 1
            shown = f'"{key}"' if draw(st.booleans()) else key
            lines += f"{shown} = {draw(_VALUES)}  # y = 2".split("\n")
    return "\n".join(lines), expected


@given(documents())
def test_keys_are_found_where_they_were_written(
    document: tuple[str, dict[tuple[str, ...], int]],
) -> None:
    text, expected = document
    tomllib.loads(text)
    assert locate(text) == expected


@given(st.text("ab[]{}=.'\"#\n\\ 1,", max_size=60))
def test_whatever_toml_accepts_is_located(text: str) -> None:
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert {path[0] for path in locate(text)} == set(values)


@given(st.binary(max_size=200))
def test_any_bytes_give_settings_or_complaints(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), data)
        found = problems(path)
        assert all(str(path) in fault for fault in found)
        if not found:
            load(Path(folder), {})


def _every_table() -> list[type]:
    found = [*TABLES.values(), *NAMED.values()]
    for table in found:  # grows while it is walked
        found += [rule.table for _, rule in rules(table).values() if rule.table]
    return found


def test_every_setting_is_explained() -> None:
    for table in _every_table():
        assert table.__doc__
        for default, rule in rules(table).values():
            assert rule.doc.endswith(".")
            free = rule.choices or rule.money or rule.table or isinstance(default, bool)
            assert free or rule.high >= max(rule.low, 1)
            number = isinstance(default, int | float) and not isinstance(default, bool)
            assert not number or rule.low <= default <= rule.high


def test_the_page_shows_every_setting() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert f"```toml\n{default_file()}```\n" in page.read_text(encoding="utf-8")
