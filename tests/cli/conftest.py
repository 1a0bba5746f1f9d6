"""Homes for the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command import daulat


@pytest.fixture
def furnished(furnish: Callable[[Path], Path], tmp_path: Path) -> Path:
    """A home that has the starter model and nothing else."""
    return furnish(tmp_path / "home")


@pytest.fixture(scope="module")
def used(furnish: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which two questions were answered. Tests may only look."""
    home = furnish(tmp_path_factory.mktemp("used") / "home")
    for question in ("What is red?", "What is blue?"):
        done = daulat(home, "chat", "--max-tokens", "8", text=question)
        assert done.returncode == 0, done.stderr
    return home
