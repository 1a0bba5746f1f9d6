"""What names stand for and what models cost now, from a home's settings and files alone: nobody is asked.

Not here: names while requests are answered (`flow.naming`), what is made of it (`evaluate.replaying`).
"""

from __future__ import annotations

from daulat.endpoints.remote.build import all_cards
from daulat.evaluate.directory import Directory
from daulat.flow.naming import Naming
from daulat.flow.setup import setup
from daulat.models.catalogue import Catalogue
from daulat.settings import Settings


def directory(settings: Settings) -> Directory:
    """What a home knows of endpoints.

    Raises:
        SettingsError: its settings are wrong.
    """
    cards = all_cards(settings)
    chosen = setup(settings, cards)
    naming = Naming(Catalogue(settings.home), cards, chosen.routes)
    return Directory(naming.meant, cards, chosen.rules)
