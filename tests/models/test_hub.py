"""Pulling from the Hub over real HTTP: what is fetched, what is checked, and every way it can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from daulat.errors import AccessRefusedError, DaulatError, NetworkError, PullError
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.pull import pull
from tests.models.scripted_hub import COMMIT, ScriptedHub

ID = "acme/tiny-llama"
GGUF = b"GGUF" + bytes(2000)


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return Catalogue(tmp_path / "home")


def fetch(catalogue: Catalogue, hub: ScriptedHub, what: str = ID) -> ModelEntry:
    return pull(catalogue, what, hub_url=hub.url)


def test_the_model_and_nothing_else(catalogue: Catalogue, hub: ScriptedHub) -> None:
    seen: list[tuple[int, int]] = []
    entry = pull(catalogue, ID, hub_url=hub.url, progress=lambda *one: seen.append(one))
    assert (entry.name, entry.source, entry.revision) == ("tiny-llama", f"hub:{ID}", COMMIT)
    assert entry.licence == "apache-2.0"
    assert set(entry.files) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for name, path in entry.paths().items():
        assert path.read_bytes() == hub.repositories[ID][name]
    assert seen[-1] == (entry.size, entry.size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert not list(catalogue.store.partial.iterdir())


def test_the_revision_is_pinned(catalogue: Catalogue, hub: ScriptedHub) -> None:
    fetch(catalogue, hub, f"{ID}@v1.0")
    assert hub.asked[0].path.endswith("/revision/v1.0?blobs=true")
    assert all(COMMIT in one.path for one in hub.asked[1:])


def test_an_interrupted_file_goes_on_where_it_stopped(
    catalogue: Catalogue, hub: ScriptedHub
) -> None:
    hub.faults.cut = 2
    fetch(catalogue, hub)
    assert [one.range for one in hub.asked if one.range]


def test_an_interrupted_pull_goes_on_where_it_stopped(
    catalogue: Catalogue, hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daulat.net.transfer.ATTEMPTS", 1)
    hub.faults.cut = 1
    with pytest.raises(NetworkError, match="is kept"):
        fetch(catalogue, hub)
    hub.asked.clear()
    fetch(catalogue, hub)
    first = next(one for one in hub.asked if one.storage)
    assert first.range.startswith("bytes=")


def test_a_server_without_ranges_starts_again(catalogue: Catalogue, hub: ScriptedHub) -> None:
    hub.faults.cut, hub.faults.no_ranges = 1, True
    fetch(catalogue, hub)


def test_a_busy_server_is_asked_again(catalogue: Catalogue, hub: ScriptedHub) -> None:
    hub.faults.busy = 3
    fetch(catalogue, hub)


def test_a_server_that_stays_busy_is_given_up(catalogue: Catalogue, hub: ScriptedHub) -> None:
    hub.faults.busy = 10**6
    with pytest.raises(NetworkError, match="503"):
        fetch(catalogue, hub)


@pytest.mark.parametrize("large", [0, 10**9], ids=["sha256", "git"])
def test_damage_is_found_and_nothing_of_it_stays(
    catalogue: Catalogue, hub: ScriptedHub, large: int
) -> None:
    hub.large, hub.faults.damage = large, 1
    with pytest.raises(PullError, match="damaged"):
        fetch(catalogue, hub)
    assert catalogue.names() == ()
    fetch(catalogue, hub)
    assert catalogue.verify("tiny-llama") == []


def test_more_than_was_announced_is_not_written(catalogue: Catalogue, hub: ScriptedHub) -> None:
    hub.faults.more = 1
    with pytest.raises(NetworkError, match="more than"):
        fetch(catalogue, hub)


def test_a_token_stays_with_the_hub(
    catalogue: Catalogue, hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.gated.add(ID)
    with pytest.raises(AccessRefusedError, match="HF_TOKEN"):
        fetch(catalogue, hub)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    fetch(catalogue, hub)
    assert hub.tokens(storage=True) == {""}


@pytest.mark.parametrize("what", ["acme/none", "acme/none:x.gguf"])
def test_a_name_that_is_not_there(catalogue: Catalogue, hub: ScriptedHub, what: str) -> None:
    with pytest.raises(AccessRefusedError, match="none of that name"):
        fetch(catalogue, hub, what)


def test_a_choice_of_gguf_files_is_left_to_the_user(catalogue: Catalogue, hub: ScriptedHub) -> None:
    hub.add("acme/quants", {"m.Q4_K_M.gguf": GGUF, "m.Q8_0.gguf": GGUF})
    with pytest.raises(PullError, match=r"acme/quants:m\.Q4_K_M\.gguf"):
        fetch(catalogue, hub, "acme/quants")
    with pytest.raises(PullError, match=r"no such GGUF file.*Q8_0"):
        fetch(catalogue, hub, "acme/quants:other.gguf")


def test_one_gguf_file(catalogue: Catalogue, hub: ScriptedHub, starter_gguf: Path) -> None:
    hub.add("acme/quants", {"deep/small.Q4_1.gguf": starter_gguf.read_bytes(), "b.gguf": GGUF})
    entry = fetch(catalogue, hub, "acme/quants:deep/small.Q4_1.gguf")
    assert entry.name == "small.Q4_1"
    assert set(entry.files) == {"small.Q4_1.gguf"}
    assert entry.open().architecture.hidden == 576


@pytest.mark.parametrize("file", ["../up.safetensors", "/etc/model.safetensors", "a\nb.json"])
def test_names_that_leave_the_folder_are_passed_over(
    catalogue: Catalogue, hub: ScriptedHub, file: str, tmp_path: Path
) -> None:
    hub.repositories[ID][file] = b"x"
    entry = fetch(catalogue, hub)
    assert file not in entry.files
    assert not (tmp_path / "up.safetensors").exists()


def test_only_pickles(catalogue: Catalogue, hub: ScriptedHub) -> None:
    hub.add("acme/old", {"config.json": b"{}", "pytorch_model.bin": b"\x80\x04."})
    with pytest.raises(PullError, match="never read"):
        fetch(catalogue, hub, "acme/old")


def test_another_family_never_gets_a_name(catalogue: Catalogue, hub: ScriptedHub) -> None:
    hub.repositories[ID]["config.json"] = b'{"model_type": "mamba"}'
    with pytest.raises(DaulatError, match="not supported"):
        fetch(catalogue, hub)
    assert catalogue.names() == ()


def test_a_disk_that_is_too_small(
    catalogue: Catalogue, hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "daulat.models.sources.hub.shutil.disk_usage",
        lambda _: type("Usage", (), {"free": 1000})(),
    )
    with pytest.raises(PullError, match="disk"):
        fetch(catalogue, hub)


def test_no_hub_at_all(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daulat.net.transfer.ATTEMPTS", 2)
    with pytest.raises(NetworkError, match="cannot be reached"):
        pull(catalogue, ID, hub_url="http://127.0.0.1:9")
    with pytest.raises(NetworkError, match="https"):
        pull(catalogue, ID, hub_url="http://example.org")
