"""Adapters over HTTP, by the official SDK: chosen by name, come and gone while the server runs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from servers import STARTER, Server, running

from daulat.models.catalogue import ModelEntry
from tests.engine.adapters import scattered

ASK: Any = [{"role": "user", "content": "What is the capital of Japan?"}]


@pytest.fixture(scope="module")
def folders(starter_entry: ModelEntry, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four adapters of the starter model, the last of which is for breaking."""
    root = tmp_path_factory.mktemp("adapters")
    checkpoint = starter_entry.open()
    kinds = (
        ["q_proj", "v_proj"],
        ["down_proj", "o_proj", "k_proj"],
        ["gate_proj", "up_proj"],
        ["v_proj"],
    )
    return [scattered(root / f"{k}", checkpoint, kind, seed=k) for k, kind in enumerate(kinds)]


@pytest.fixture(scope="module")
def adapted(
    furnish: Callable[[Path], Path], folders: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose starter model has two adapters, `one` and `two`."""
    home = furnish(tmp_path_factory.mktemp("adapted") / "home")
    for name, folder in zip(("one", "two"), folders, strict=False):
        daulat(home, "adapters", "add", "starter", name, str(folder))
    settings = "[engine]\nmax_adapters = 3"
    with running(home, "native", settings) as found:
        yield found


def daulat(home: Path, *arguments: str) -> str:
    """A command beside the running server."""
    done = subprocess.run(
        [sys.executable, "-m", "daulat", "--home", str(home), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def say(server: Server, model: str, **fields: Any) -> Any:
    with server.sdk() as client:
        fields = {"max_tokens": 16, "temperature": 0, "messages": ASK, **fields}
        return client.chat.completions.create(model=model, **fields)


def words(server: Server, model: str) -> str:
    return say(server, model).choices[0].message.content


def test_each_adapter_answers_in_its_own_way(adapted: Server) -> None:
    names = (STARTER, f"{STARTER}:one", f"{STARTER}:two")
    answers = [say(adapted, name) for name in names]
    assert [answer.model for answer in answers] == list(names)
    assert len({answer.choices[0].message.content for answer in answers}) == 3
    assert len({answer.system_fingerprint for answer in answers}) == 3
    assert "Tokyo" in answers[0].choices[0].message.content
    assert words(adapted, "starter:one") == answers[1].choices[0].message.content  # by its alias


def test_completions_and_streams(adapted: Server) -> None:
    with adapted.sdk() as client:
        ask: Any = {"model": f"{STARTER}:one", "prompt": "One, two,", "max_tokens": 8}
        whole = client.completions.create(**ask, temperature=0)
        parts = list(client.completions.create(**ask, temperature=0, stream=True))
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    assert {part.model for part in parts} == {f"{STARTER}:one"}


def test_an_adapter_that_is_not_there_is_a_404_and_never_the_base(adapted: Server) -> None:
    for name in ("none", "", "one:two", "../one", "ONE", "x" * 90):
        with pytest.raises(openai.NotFoundError) as caught:
            say(adapted, f"{STARTER}:{name}")
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"
    with pytest.raises(openai.NotFoundError, match="There is no model 'nobody'"):
        say(adapted, "nobody:one")
    with adapted.sdk() as client, pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=f"{STARTER}:none", input="x")


def test_adapters_are_listed_with_their_passport(adapted: Server) -> None:
    with adapted.sdk() as client:
        found: dict[str, Any] = {model.id: model for model in client.models.list()}
        one: Any = client.models.retrieve(f"{STARTER}:one")
    assert {STARTER, f"{STARTER}:one", f"{STARTER}:two"} <= set(found)
    assert one == found[f"{STARTER}:one"]
    assert one.daulat["kind"] == "adapter"
    assert one.daulat["base"] == STARTER
    assert one.daulat["base_digest"] == found[STARTER].daulat["digest"]
    assert one.daulat["rank"] == 8
    assert "rank" not in found[STARTER].daulat
    shown = json.loads(daulat(adapted.home, "adapters", "show", "starter", "one", "--json"))
    assert shown["digest"] == one.daulat["digest"]


def test_the_record_has_both_digests(adapted: Server) -> None:
    answer = say(adapted, f"{STARTER}:two")
    listed = json.loads(daulat(adapted.home, "adapters", "list", "--json"))
    digest = next(one["digest"] for one in listed if one["name"] == "two")
    kept = json.loads(daulat(adapted.home, "record", "show", answer.daulat["record"], "--json"))
    body = kept["entries"][0]["body"]
    assert (body["model"], body["adapter"], body["adapter_digest"]) == (STARTER, "two", digest)
    step = body["plan"]["steps"][0]
    assert (step["adapter"], step["adapter_digest"]) == ("two", digest)
    shown = daulat(adapted.home, "record", "show", answer.daulat["record"])
    assert digest in shown
    base = say(adapted, STARTER).daulat["record"]
    kept = json.loads(daulat(adapted.home, "record", "show", base, "--json"))
    assert "adapter" not in kept["entries"][0]["body"]["plan"]["steps"][0]


def test_a_key_for_the_base_covers_no_adapter(adapted: Server) -> None:
    def key(*models: str) -> str:
        named = [part for model in models for part in ("--model", model)]
        return daulat(adapted.home, "keys", "create", *named).strip()

    names = [STARTER, f"{STARTER}:one", f"{STARTER}:two"]
    for models, allowed in (
        ((STARTER,), names[:1]),
        ((f"{STARTER}:one",), names[1:2]),
        ((f"{STARTER}:*",), names[1:]),
        ((STARTER, f"{STARTER}:*"), names),
    ):
        with adapted.sdk(api_key=key(*models)) as client:
            assert [m.id for m in client.models.list() if m.id in names] == allowed
            for name in names:
                ask: Any = {"model": name, "messages": ASK, "max_tokens": 1}
                if name in allowed:
                    client.chat.completions.create(**ask)
                else:
                    with pytest.raises(openai.PermissionDeniedError):
                        client.chat.completions.create(**ask)


def test_added_and_removed_under_traffic(adapted: Server, folders: list[Path]) -> None:
    """Each answer is what it is alone, while a third adapter comes and goes."""
    names = [STARTER, f"{STARTER}:one", f"{STARTER}:two"]
    alone = {name: words(adapted, name) for name in names}
    stop = threading.Event()
    wrong: list[tuple[str, str]] = []

    def ask(name: str) -> int:
        count = 0
        while not stop.is_set():
            text = words(adapted, name)
            if text != alone[name]:
                wrong.append((name, text))
            count += 1
        return count

    third, seen = f"{STARTER}:three", set[str]()
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, name) for name in names]
        try:
            for _ in range(3):
                with pytest.raises(openai.NotFoundError):
                    words(adapted, third)
                daulat(adapted.home, "adapters", "add", "starter", "three", str(folders[2]))
                seen.add(words(adapted, third))
                assert adapted.metric("daulat_loaded_adapters") == 3
                daulat(adapted.home, "adapters", "remove", "starter", "three")
        finally:
            stop.set()
        counts = [future.result() for future in asking]
    assert wrong == []
    assert min(counts) > 0
    assert len(seen) == 1
    assert not seen & set(alone.values())


def test_another_adapter_under_a_name_is_another_adapter(
    adapted: Server, folders: list[Path]
) -> None:
    answers: list[str] = []
    for folder in (folders[2], folders[0]):
        daulat(adapted.home, "adapters", "add", "starter", "swap", str(folder))
        answers.append(words(adapted, f"{STARTER}:swap"))
        daulat(adapted.home, "adapters", "remove", "starter", "swap")
    assert answers[1] == words(adapted, f"{STARTER}:one")  # of the same bytes
    assert answers[0] != answers[1]


def test_a_damaged_adapter_is_told_and_the_server_goes_on(
    adapted: Server, folders: list[Path]
) -> None:
    daulat(adapted.home, "adapters", "add", "starter", "broken", str(folders[3]))
    manifest = adapted.home / "models" / "adapters" / STARTER / "broken.json"
    entry = json.loads(manifest.read_text())
    blob = entry["files"]["adapter_model.safetensors"]["digest"].removeprefix("sha256:")
    path = adapted.home / "models" / "blobs" / "sha256" / blob[:2] / blob
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-5])
    with pytest.raises(openai.InternalServerError) as caught:
        words(adapted, f"{STARTER}:broken")
    assert caught.value.status_code == 503
    assert caught.value.code == "invalid_model_file"
    path.unlink()
    with pytest.raises(openai.InternalServerError, match="gone from the store"):
        words(adapted, f"{STARTER}:broken")
    manifest.unlink()
    assert "Tokyo" in words(adapted, STARTER)
