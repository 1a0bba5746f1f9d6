"""Certificates of a home: which may be followed, what they say of a request, and why others do not hold."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from certified import CLOSED, OPEN, drawn, outcomes

from daulat.errors import DataError, NotFoundError, RequestError
from daulat.evaluate.certificates import Certificates, read, signed
from daulat.evaluate.certifying import Demand, make
from daulat.evaluate.following import Followed, not_used
from daulat.evaluate.identities import identities, joined
from daulat.evaluate.routers import Learnt, fitter, opinion
from daulat.evaluate.splitting import split
from daulat.evaluate.standing import standing
from daulat.evaluate.thresholds import thresholds
from daulat.evaluate.windows import window
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.route.certificate import Certificate, Mode
from daulat.route.learning.backtest import replay
from daulat.route.learning.features import Seen
from daulat.route.learning.outcomes import Outcomes, write
from daulat.route.learning.router import Router
from daulat.settings import Settings, load
from daulat.trust.signing import FILE, house_key

RENTED = """\
[endpoints.rented]
kind = "openai"
key = "env:K"
place = "us"
models = ["large"]
[endpoints.rented.names]
large = "gpt-4o-2024-05-13"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "daulat.toml").write_text(RENTED, encoding="utf-8")
    return load(tmp_path)


def certified(
    settings: Settings, table: Outcomes, mode: Mode = "before", name: str = "work"
) -> tuple[Certificate, Router]:
    """Made as the command does, and kept in the home."""
    path = settings.home / f"{name}.jsonl"
    write(table, path)
    read_, where = window(settings, str(path))
    found = make(read_, Demand(OPEN, CLOSED, keep=0.8), fitter(mode), where)
    assert found.certificate is not None
    assert isinstance(found.router, Learnt)
    one = signed(found.certificate, house_key(settings.home))
    Certificates(settings.home).put(one, found.router.router)
    return found.certificate, found.router.router


def void(settings: Settings) -> str:
    (one,) = standing(settings)
    return " ".join(one.void)


def test_a_home_without_certificates_imports_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from daulat.settings import load; "
        "from daulat.evaluate.standing import standing; print(standing(load(Path(sys.argv[1])))); "
        "print([m for m in ('numpy', 'cryptography', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["()", "[]"]


def test_one_that_stands_is_followed(settings: Settings) -> None:
    kinds = ["sums", "words"]
    table = replace(drawn(300), categories=tuple(kinds[i % 2] for i in range(300)))
    paper, router = certified(settings, table)
    (one,) = standing(settings)
    assert one.void == ()
    assert (one.name, one.task, one.digest) == ("work", "work.jsonl", paper.digest())
    assert (one.certificate, one.router.digest() if one.router else "") == (paper, router.digest())
    gains = Learnt(router).gains(table)
    for row in range(20):
        seen = Seen(table.prompts[row], table.categories[row])
        assert opinion(router, seen)[0] == gains[row]


def test_a_cascade_wants_the_answer(settings: Settings) -> None:
    table = drawn(200)
    _paper, router = certified(settings, table, "cascade")
    seen = Seen(table.prompts[3], answer=table.answers[3][0])
    assert opinion(router, seen)[0] == Learnt(router).gains(table)[3]
    with pytest.raises(RequestError, match="give it that answer"):
        opinion(router, Seen(table.prompts[3]))


def test_equal_gains_are_parted_and_a_prompt_always_goes_one_way() -> None:
    """All prompts look alike: a router can know nothing, and still be turned up and down."""
    n = 200
    scores = np.random.default_rng(0).integers(0, 2, (n, 2)).astype(float)
    table = outcomes(scores, [f"same words {chr(0x4E00 + i)}" for i in range(n)], answers=False)
    router = fitter("before")(table, 0)
    gains = router.gains(table)
    assert len(np.unique(gains)) == n
    shares = [(gains[100:] >= stop).mean() for stop in thresholds(router.stops(), gains[:100])]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) > 50
    assert gains.tolist() == router.gains(table).tolist()
    assert isinstance(router, Learnt)
    assert opinion(router.router, Seen(table.prompts[7]))[0] == gains[7]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("keep", 0.5),
        ("threshold", -9.0),
        ("confidence", 0.99),
        ("made", "2030-01-01T00:00:00+00:00"),
    ],
)
def test_a_changed_field_is_found(settings: Settings, field: str, value: object) -> None:
    certified(settings, drawn(150))
    path = settings.home / "certificates" / "work.json"
    plain = json.loads(path.read_text())
    plain["certificate"][field] = value
    path.write_text(json.dumps(plain))
    assert "signature does not fit" in void(settings)


def test_every_change_of_what_it_rests_on_is_told(settings: Settings) -> None:
    certified(settings, drawn(150))
    kept = Certificates(settings.home)
    assert kept.get("work").certificate.closed.model == "rented/gpt-4o-2024-05-13"
    toml = settings.home / "daulat.toml"
    toml.write_text(RENTED.replace("2024-05-13", "2024-11-20"))
    changed = "closed.model was rented/gpt-4o-2024-05-13 and is rented/gpt-4o-2024-11-20."
    assert void(load(settings.home)) == changed
    toml.write_text("")
    assert void(load(settings.home)) == "closed was large and is gone."
    toml.write_text(RENTED)
    assert void(load(settings.home)) == ""


def test_another_router_or_none(settings: Settings) -> None:
    _paper, router = certified(settings, drawn(150))
    path = settings.home / "certificates" / "routers" / "work.json"
    other = replace(router, slopes=router.slopes + 0.5)
    Certificates(settings.home).put(Certificates(settings.home).get("work"), other)
    assert void(settings).startswith("router was sha256:")
    path.write_bytes(b"{}")
    assert void(settings) != ""
    path.unlink()
    assert void(settings) == "Its router is gone."


def test_a_certificate_of_another_house_is_not_followed(settings: Settings) -> None:
    certified(settings, drawn(150))
    (settings.home / FILE).unlink()
    assert "which is not this house's" in void(settings)
    house_key(settings.home)
    assert "which is not this house's" in void(settings)


def test_a_file_under_another_name_is_not_followed(settings: Settings) -> None:
    certified(settings, drawn(150))
    folder = settings.home / "certificates"
    (folder / "work.json").rename(folder / "other.json")
    (folder / "routers" / "work.json").rename(folder / "routers" / "other.json")
    assert void(settings) == "The file is called other, and the certificate work."


def test_damaged_ones_are_told_and_do_not_hide_others(settings: Settings) -> None:
    certified(settings, drawn(150))
    folder = settings.home / "certificates"
    for name, text in (("a", ""), ("b", "[]"), ("c", '{"certificate": {}, "signature": {}}')):
        (folder / f"{name}.json").write_text(text)
    found = standing(settings)
    assert [one.name for one in found] == ["a", "b", "c", "work"]
    assert [bool(one.void) for one in found] == [True, True, True, False]
    assert all(
        "not a certificate" in one.void[0] or "signature" in one.void[0] for one in found[:3]
    )
    (folder / "d.json").write_bytes(b" " * (1 << 20) + b"{}")
    assert "more than 1 MiB" in standing(settings)[3].void[0]


def test_a_name_that_is_not_there(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="There are: none"):
        Certificates(settings.home).get("work")
    with pytest.raises(RequestError, match="cannot be a name"):
        Certificates(settings.home).get("../work")
    with pytest.raises(DataError, match="cannot be read"):
        read(settings.home / "nothing.json")


# --- what stands behind names ---------------------------------------------------------------------


def model(home: Path, name: str, **texts: bytes) -> ModelEntry:
    """A model of that home, as far as its name and its files go."""
    catalogue, files = Catalogue(home), {}
    catalogue.store.prepare()
    for part, text in texts.items():
        path = home / "part"
        path.write_bytes(text)
        files[part.replace("_json", ".json")] = catalogue.store.add(path)
    told = {"kind": "text", "format": "gguf", "source": "", "revision": "", "licence": ""}
    return catalogue.add(name, files, **told)


def test_a_model_of_this_machine_is_its_files(settings: Settings) -> None:
    home = settings.home
    first = model(home, "small", weights=b"1", tokenizer_config_json=b"{}")
    found = identities(("small", "native/small", "small:gone"), settings)
    assert set(found) == {"small", "native/small"}
    assert found["small"].model == f"native/{first.digest}"
    assert found["small"].template == first.files["tokenizer_config.json"][0]
    Catalogue(home).remove("small")
    again = model(home, "small", weights=b"1", tokenizer_config_json=b"{ }")
    then, now = found["small"], identities(("small",), settings)["small"]
    assert now.model == f"native/{again.digest}" != then.model
    assert now.template != then.template
    whole = model(home, "other", weights=b"2")
    assert identities(("other",), settings)["other"].template == whole.digest


def test_names_stand_for_models_routes_and_nothing(settings: Settings, tmp_path: Path) -> None:
    toml = RENTED + '[routes.quick]\nto = ["rented/large"]\n'
    (tmp_path / "daulat.toml").write_text(toml)
    found = identities(("large", "rented/large", "quick", "nobody", "rented/none"), load(tmp_path))
    assert set(found) == {"large", "rented/large", "quick"}
    assert {one.model for one in found.values()} == {"rented/gpt-4o-2024-05-13"}
    long = joined(f"rented/{i:050}" for i in range(30))
    assert long.startswith("sha256:")
    assert len(long) < 100


# --- tasks and files ------------------------------------------------------------------------------


def test_a_task_is_what_was_compared(settings: Settings) -> None:
    folder = settings.home / "tasks" / "tickets"
    folder.mkdir(parents=True)
    (folder / "task.json").write_text('{"metric": "exact"}')
    with pytest.raises(DataError, match="daulat compare tickets"):
        window(settings, "tickets")
    write(drawn(60), folder / "outcomes.jsonl")
    _table, where = window(settings, "tickets")
    assert (where.name, where.task) == ("tickets", "tickets")
    assert where.task_digest.startswith("sha256:")
    assert where.identity(CLOSED).model == "rented/gpt-4o-2024-05-13"
    assert where.identity(OPEN).model == ""
    report = folder / "comparisons" / "one" / "report.json"
    report.parent.mkdir(parents=True)
    sides = [
        {"name": CLOSED, "identity": ["rented/gpt-4"]},
        {"name": OPEN, "identity": ["native/x"]},
    ]
    report.write_text(json.dumps({"endpoints": sides}))
    with pytest.raises(DataError, match="has changed since the task was compared"):
        window(settings, "tickets")
    sides[0]["identity"] = ["rented/gpt-4o-2024-05-13"]
    report.write_text(json.dumps({"endpoints": sides}))
    assert window(settings, "tickets")[1].identity(OPEN).model == "native/x"
    report.write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        window(settings, "tickets")


def test_a_task_whose_data_or_metric_change_voids_its_certificate(settings: Settings) -> None:
    folder = settings.home / "tasks" / "tickets"
    folder.mkdir(parents=True)
    (folder / "task.json").write_text('{"metric": "exact"}')
    write(drawn(150), folder / "outcomes.jsonl")
    table, where = window(settings, "tickets")
    found = make(table, Demand(OPEN, CLOSED, keep=0.8), fitter("before"), where)
    assert found.certificate is not None
    assert isinstance(found.router, Learnt)
    one = signed(found.certificate, house_key(settings.home))
    Certificates(settings.home).put(one, found.router.router)
    assert void(settings) == ""
    (folder / "task.json").write_text('{"metric": "f1"}')
    assert void(settings).startswith("task_digest was")
    (folder / "task.json").write_text('{"metric": "exact"}')
    write(drawn(151), folder / "outcomes.jsonl")
    assert void(settings).startswith("data_digest was")


def test_a_file_gives_its_name_as_far_as_it_can(settings: Settings) -> None:
    for file, name in (("my work (new).v2.jsonl", "my-work-new"), ("-.jsonl", "outcomes")):
        write(drawn(20), settings.home / file)
        assert window(settings, str(settings.home / file))[1].name == name
    with pytest.raises(NotFoundError, match="neither a task"):
        window(settings, "nothing")
    with pytest.raises(RequestError, match="cannot be a name"):
        window(settings, str(settings.home / "-.jsonl"), "a b")


# --- replays --------------------------------------------------------------------------------------


def test_what_was_not_used_is_what_audited(settings: Settings) -> None:
    table = drawn(300)
    paper, router = certified(settings, table)
    left = not_used(table, paper)
    parts = split(table, seed=0, labels=None)
    assert set(left.ids) == {table.ids[i] for i in parts.audit}
    assert not_used(drawn(50, seed=9), paper).ids == drawn(50, seed=9).ids
    found = replay(left, Followed(paper, router), CLOSED)
    assert dict(found.answers)[CLOSED] == pytest.approx(
        (Learnt(router).gains(left) >= paper.threshold).mean()
    )
    assert found.kept.value == pytest.approx(paper.kept.value)


def test_clusters_leave_the_same_examples_over(settings: Settings) -> None:
    random = np.random.default_rng(3)
    sizes = random.integers(1, 9, 80)
    names = [f"doc {i}" for i, size in enumerate(sizes) for _ in range(size)]
    base = drawn(len(names))
    table = replace(base, clusters=tuple(names))
    paper, _router = certified(settings, table)
    parts = split(table, seed=0, labels=None)
    assert set(not_used(table, paper).ids) == {table.ids[i] for i in parts.audit}
