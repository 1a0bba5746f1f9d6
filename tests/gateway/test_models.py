"""`GET /v1/models` lists what is elsewhere: who answers, where, whose, and for how much."""

from __future__ import annotations

from pathlib import Path

import pytest
from policed import opened, reaching, table

from daulat.endpoints import scripted
from daulat.policy import Rules
from daulat.settings import Prices, Route


async def test_models_elsewhere_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", "scripted-secret")
    with scripted.running() as upstream:
        endpoints = {
            "near": table(upstream, "compatible", "own-network", "m", owner="open"),
            "far": table(
                upstream, "openai", "us", "m", prices={"m": Prices(input="2.5", output="10")}
            ),
        }
        routes = {"quick": Route(to=("far/m",))}
        async with opened(tmp_path / "home", endpoints, reaching(), routes=routes) as gateway:
            told = {"authorization": f"Bearer {gateway.secret}"}
            quick, both = (await gateway.client.get("/v1/models", headers=told)).json()["data"]
            assert (quick["id"], quick["owned_by"], both["id"], both["owned_by"]) == (
                *("quick", "far"),
                *("m", "near"),
            )
            price = {"input": "2.5", "output": "10", "cached": "2.5", "currency": "USD"}
            far = {"endpoint": "far", "place": "us", "owner": "closed", "price": price}
            assert (quick["daulat"]["kind"], quick["daulat"]["answers"]) == ("elsewhere", [far])
            near, also_far = both["daulat"]["answers"]
            assert (near["place"], near["owner"], also_far) == ("own-network", "open", far)
            assert near["price"]["input"] == "0"
            assert (await gateway.client.get("/v1/models/m", headers=told)).json() == both
            narrow = {"authorization": "Bearer " + gateway.keys.create("one", models=["quick"])[1]}
            found = (await gateway.client.get("/v1/models", headers=narrow)).json()["data"]
            assert [one["id"] for one in found] == ["quick"]
            gateway.hall.setup = type(gateway.hall.setup)(
                Rules(lock=True), routes=gateway.hall.setup.routes
            )
            assert (await gateway.client.get("/v1/models", headers=told)).json()["data"] == []
