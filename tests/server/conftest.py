"""Real server processes: one with the starter model, one with the scripted endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from servers import Server, home_with_models, running

from daulat.models.catalogue import ModelEntry


@pytest.fixture(scope="session")
def server(
    starter_entry: ModelEntry, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The real server with the starter model."""
    home = home_with_models(tmp_path_factory.mktemp("native") / "home", model_cache)
    with running(home, "native") as found:
        yield found


@pytest.fixture(scope="session")
def scripted(
    starter_entry: ModelEntry, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The real server with the scripted endpoint."""
    home = home_with_models(tmp_path_factory.mktemp("scripted") / "home", model_cache)
    with running(home, "scripted", settings="max_body = 20000") as found:
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with server.sdk() as client:
        yield client
