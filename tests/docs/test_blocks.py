"""Every code block of the docs is run as it stands, page by page, each page in a home of its own.

A block that cannot be run says why, in a comment ahead of it: `<!-- run: no, because … -->`. A page
whose blocks use DAULAT_URL gets a running server. Blocks of TOML are settings and are checked as
such. Blocks other than bash, python and TOML are for the eye.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
KEY = "daulat-test-key-of-the-docs-tests-0123456789"

_BLOCK = re.compile(
    r"(?:^<!-- run: no, because (?P<why>[^>]+) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    line: int
    language: str
    code: str

    def command(self) -> list[str]:
        if self.language == "python":
            return [sys.executable, "-c", self.code]
        if self.language == "toml":
            return [sys.executable, "-m", "daulat", "config", "check", "block.toml"]
        return ["bash", "-eu", "-o", "pipefail", "-c", self.code]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are run."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(text.count("\n", 0, match.start("code")) + 1, match["language"], match["code"])
        for match in _BLOCK.finditer(text)
        if match["why"] is None
    ]
    return [block for block in found if block.language in {"bash", "python", "toml"}]


@pytest.fixture
def environment(furnish: Callable[[Path], Path], tmp_path: Path) -> dict[str, str]:
    """A person's environment: a home with the starter in it, and `daulat` on the path."""
    home = furnish(tmp_path / "home")
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAULAT_", "LC_", "LANG"))}
    return {
        **kept,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
        "DAULAT_HOME": str(home),
        "DAULAT_API_KEY": KEY,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "2",
    }


@contextmanager
def _server(environment: dict[str, str]) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "daulat", "up", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url is not None
        yield url[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()


def _run(page: Path, environment: dict[str, str], folder: Path) -> None:
    for block in blocks(page):
        (folder / "block.toml").write_text(block.code, encoding="utf-8")
        done = subprocess.run(
            block.command(),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        where = f"{page.relative_to(ROOT)}:{block.line}"
        assert done.returncode == 0, f"{where}\n{done.stdout}\n{done.stderr}"


def _marked(page: Path) -> object:
    """A page whose blocks fetch a model that is not on this machine."""
    fetches = "all-MiniLM-L6-v2" in "".join(block.code for block in blocks(page))
    marks = [pytest.mark.outside] if fetches else []
    return pytest.param(page, marks=marks, id=page.name)


@pytest.mark.parametrize("page", [_marked(p) for p in PAGES if blocks(p)])
def test_the_blocks_of_a_page_run(page: Path, environment: dict[str, str], tmp_path: Path) -> None:
    if any("DAULAT_URL" in block.code for block in blocks(page)):
        with _server(environment) as url:
            _run(page, {**environment, "DAULAT_URL": url}, tmp_path)
    else:
        _run(page, environment, tmp_path)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|<)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
