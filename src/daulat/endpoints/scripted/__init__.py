"""The scripted upstream: answers and named faults over the vendors' real wire protocols.

It stands in for OpenAI, Azure OpenAI, Anthropic, Gemini, Vertex AI and watsonx.ai: in tests, which need no
mock, and for whoever wants to rehearse failures. docs/scripted.md shows its use. Not here: a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daulat.endpoints.scripted.faults import FAULTS, Chosen, Fault, UnknownFaultError, chosen
from daulat.endpoints.scripted.script import (
    Access,
    Answer,
    Call,
    Chance,
    Delays,
    Script,
    recorded,
    words,
)

if TYPE_CHECKING:
    from daulat.endpoints.scripted.app import app
    from daulat.endpoints.scripted.server import Upstream, running, serve

__all__ = [
    "FAULTS",
    "Access",
    "Answer",
    "Call",
    "Chance",
    "Chosen",
    "Delays",
    "Fault",
    "Script",
    "UnknownFaultError",
    "Upstream",
    "app",
    "chosen",
    "recorded",
    "running",
    "serve",
    "words",
]

_LATE = {"app": "app", "running": "server", "serve": "server", "Upstream": "server"}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(name)
    import importlib  # noqa: PLC0415 - what serves is imported when something is served

    module = importlib.import_module(f"daulat.endpoints.scripted.{_LATE[name]}")
    return getattr(module, name)
