"""What stands behind an endpoint's name now, from the home's files alone: nothing is loaded, nobody is asked.

A model of this machine is named by the digest of its files, and with an adapter by that one's too; a model
elsewhere by its endpoint and the name that the vendor has for it; a route by all of its steps. A name that the
home does not know, such as one of an outcome file that came from somewhere else, has no identity.
Not here: certificates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from daulat.canon import digest
from daulat.errors import DaulatError
from daulat.models.adapters import split
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.route.certificate import Identity
from daulat.settings import Settings

NATIVE: Final = "native"
"""The endpoint of this machine's own models."""
_LONGEST: Final = 400
_TEMPLATES: Final = ("chat_template.jinja", "tokenizer_config.json")
"""Files that can hold a model's chat template, the one that counts first; a GGUF file holds its own."""


def identities(names: Iterable[str], settings: Settings) -> Mapping[str, Identity]:
    """Of those names that stand for something in the home."""
    catalogue = Catalogue(settings.home)
    found = {name: _identity(name, settings, catalogue) for name in names}
    return {name: one for name, one in found.items() if one is not None}


def _identity(name: str, settings: Settings, catalogue: Catalogue) -> Identity | None:
    steps = _steps(name, settings, catalogue)
    known = [_step(*step, settings, catalogue) for step in steps]
    if not known or None in known:
        return None
    models, templates = zip(*(one for one in known if one is not None), strict=True)
    return Identity(name, joined(models), joined(templates))


def joined(parts: Iterable[str]) -> str:
    """Those of several steps as one text; many of them as their digest."""
    text = ", ".join(filter(None, parts))
    return text if len(text) <= _LONGEST else digest(text.encode())


def _steps(name: str, settings: Settings, catalogue: Catalogue) -> list[tuple[str, str]]:
    """Endpoints with the model to ask them for, in order, as `route.targets` has them."""
    route = settings.routes.get(name)
    if route is not None:
        parts = [one.partition("/") for one in route.to]
        return [(endpoint, model) for endpoint, _slash, model in parts]
    endpoint, slash, model = name.partition("/")
    if slash and (endpoint == NATIVE or endpoint in settings.endpoints):
        return [(endpoint, model)]
    here = [(NATIVE, name)] if _entry(name, catalogue) is not None else []
    there = [
        (own, name) for own, one in settings.endpoints.items() if one.enabled and name in one.models
    ]
    return here + there


def _step(
    endpoint: str, model: str, settings: Settings, catalogue: Catalogue
) -> tuple[str, str] | None:
    """The model's digest or name, and the digest of its template."""
    if endpoint != NATIVE:
        table = settings.endpoints.get(endpoint)
        if table is None or not table.enabled or model not in table.models:
            return None
        return f"{endpoint}/{table.names.get(model, model)}", ""
    entry = _entry(model, catalogue)
    if entry is None:
        return None
    adapter = split(model)[1]
    if adapter is None:
        return f"{NATIVE}/{entry.digest}", _template(entry)
    held = catalogue.adapters.get(entry.name, adapter)
    return (
        None
        if held is None
        else (
            f"{NATIVE}/{entry.digest}+{held.digest}",
            _template(entry),
        )
    )


def _entry(model: str, catalogue: Catalogue) -> ModelEntry | None:
    """The model of this machine; a damaged one is none."""
    try:
        return catalogue.get(split(model)[0])
    except DaulatError:
        return None


def _template(entry: ModelEntry) -> str:
    files = (entry.files.get(name) for name in _TEMPLATES)
    return next((file[0] for file in files if file is not None), entry.digest)
