"""The two forms of a log line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from daulat.server import logs


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = handlers, level


def test_json_lines(root: logging.Logger) -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    logging.getLogger("daulat.x").info("loaded\nmore", extra={"model": "m", "seconds": 1.5})
    line = json.loads(out.getvalue())
    assert line["message"] == "loaded\nmore"
    assert (line["model"], line["seconds"], line["level"]) == ("m", 1.5, "info")
    assert line["time"].endswith("Z")
    assert set(line) == {"time", "level", "logger", "message", "model", "seconds"}


def test_text_is_one_line_whatever_is_in_it(root: logging.Logger) -> None:
    out = io.StringIO()
    logs.configure("info", "text", out)
    logging.getLogger("daulat.x").info("a\nb", extra={"model": "m\r\nforged"})
    assert out.getvalue().count("\n") == 1
    assert "model=m\\r\\nforged" in out.getvalue()


def test_level_and_libraries(root: logging.Logger) -> None:
    out = io.StringIO()
    logs.configure("warning", "text", out)
    logging.getLogger("daulat.x").info("quiet")
    logging.getLogger("uvicorn.error").info("quiet")
    logging.getLogger("some.library").info("quiet")
    assert out.getvalue() == ""
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("daulat.x").exception("loud")
    assert "Traceback" in out.getvalue()
