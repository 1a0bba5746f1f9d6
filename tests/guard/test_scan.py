"""What is found and what is not, for every detector, and how they are kept from failing open."""

from __future__ import annotations

import re
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import FRAMES, disguised, plant

from daulat.errors import GuardError, SettingsError
from daulat.guard.findings import Finding, rank, resolve
from daulat.guard.patterns import pattern
from daulat.guard.rules import Rule
from daulat.guard.scan import BUILT_IN, KINDS, Detectors, Recogniser, scan
from daulat.guard.views import fold, odd, plain, unescape, views

ALL = Detectors()

FOUND = [
    ("email", "Mail a.b+c@example.co.id.", "a.b+c@example.co.id"),
    ("email", "an „müller@bücher.example“", "müller@bücher.example"),
    ("phone", "call +62 21 555 1234", "+62 21 555 1234"),
    ("phone", "0812-3456-7890", "0812-3456-7890"),
    ("phone", "Telp. (021) 7890123", "(021) 7890123"),
    ("phone", "(555) 234-5678 x12", "(555) 234-5678 x12"),
    ("phone", "01.84.17.61.18", "01.84.17.61.18"),
    ("payment_card", "4111111111111111", "4111111111111111"),
    ("payment_card", "kartu 4111 1111 1111 1111 12/29", "4111 1111 1111 1111"),
    ("payment_card", "3782-822463-10005", "3782-822463-10005"),
    ("iban", "GB33 BUKB 2020 1555 5555 55 is mine", "GB33 BUKB 2020 1555 5555 55"),
    ("iban", "gb33bukb20201555555555", "gb33bukb20201555555555"),
    ("ip_address", "from 8.8.8.8.", "8.8.8.8"),
    ("ip_address", "2001:db8::8a2e:370:7334", "2001:db8::8a2e:370:7334"),
    ("private_ip", "at 192.168.1.10:80", "192.168.1.10"),
    ("private_ip", "fe80::1cc0:3e8c", "fe80::1cc0:3e8c"),
    ("mac_address", "a4-83-e7-11-22-33", "a4-83-e7-11-22-33"),
    ("us_ssn", "078-05-1120", "078-05-1120"),
    ("us_ssn", "SSN 078051120", "078051120"),
    ("date_of_birth", "born on 17 August 1945", "17 August 1945"),
    ("date_of_birth", "TTL: Medan, 17-08-1945", "17-08-1945"),
    ("url_credentials", "amqp://bob:p@ss@host/x", "bob:p@ss"),
    ("id_nik", "3171011708450001", "3171011708450001"),
    ("id_nik", "3171015708450001", "3171015708450001"),
    ("id_kk", "No. KK 3171011708450001", "3171011708450001"),
    ("id_npwp", "01.312.166.0-091.000", "01.312.166.0-091.000"),
    ("id_npwp", "NPWP 013121660091000", "013121660091000"),
    ("passport", "Paspor: A1234567", "A1234567"),
    ("passport", "passport 533380006", "533380006"),
    ("bank_account", "BCA 1234567890", "1234567890"),
    ("bank_account", "rekening Mandiri: 1234567890123", "1234567890123"),
    ("bank_account", "1234567890 (BNI)", "1234567890"),
    ("de_tax_id", "Steuer-ID 36574261809", "36574261809"),
    ("nl_bsn", "BSN 111222333", "111222333"),
    ("aws_key", "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("bearer_token", "Bearer abcdEFGH1234567890xyz", "abcdEFGH1234567890xyz"),
    ("password", "password=hunter2!x", "hunter2!x"),
    ("password", '"api_key": "Zx81-spectrum"', "Zx81-spectrum"),
    ("password", "kata sandi: r4hasia-Kita", "r4hasia-Kita"),
    ("private_key", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow"),
]  # fmt: skip

CLEAN = [
    "",
    "Nothing to see @ all; not even me@, @you or a@b.",
    "The 16 digits of 0.4532015112830366 are a fraction.",
    "4111111111111112 has a wrong check digit",
    "4111 1111 1111 1112",
    "0000 0000 0000 0000",
    "GB34BUKB20201555555555 has a wrong check digit",
    "version 1.2.3.4 and 127.0.0.1 and ::1 and 256.1.1.1",
    "std::vector<int> a::b and 12:30:45, Foo::bar",
    "00:00:00:00:00:00",
    "666-12-3456 and 900-12-3456 and 123-00-4567",
    "2024-01-17 10:30:00 to 2024-02-18",
    "open 08.30 - 17.00 every day of 2024",
    "9971011708450001",
    "3171013202450001 is born on the 32nd",
    "The passport office has 12 counters, 30 people and 2 doors; flight GA1234567",
    "A1234567 without a word for it",
    "1234567890 and BCA opened in 1957",
    "password: required",
    "Password: Required",
    "the token: end_of_text, max_tokens=256, tokens: 1024",
    "password=$DB_PASSWORD token=${{ secrets.TOKEN }} pwd=%s",
    "secret = os.environ['X'], token = get_token()",
    "risk-management-2024-and-beyond-in-the-whole-world",
    "https://example.com:8080/a@b/c",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "the basics of a bearer of good news, bearer authentication",
    "On 17 August 1945 it was proclaimed.",
    "1.5 2.25 3.125 10,000 20 000 000",
    "ISBN 978-3-16-148410-0",
    "commit 9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c",
]


def found(text: str, detectors: Detectors = ALL) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in scan([text], detectors).findings[0]]


@pytest.mark.parametrize(("kind", "text", "value"), FOUND)
def test_found(kind: str, text: str, value: str) -> None:
    assert (kind, value) in found(text)


@pytest.mark.parametrize("text", CLEAN)
def test_clean(text: str) -> None:
    assert found(text) == []


def test_every_kind_has_an_example() -> None:
    planted = {kind.partition("/")[0] for frames in FRAMES.values() for kind in frames}
    no_form_of_their_own = {"npm_token", "pypi_token", "sendgrid_key", "telegram_token"}
    assert planted | {kind for kind, _, _ in FOUND} == set(KINDS) - no_form_of_their_own


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("npm_token", "npm_" + "a1B2" * 9),
        ("pypi_token", "pypi-AgE" + "a1B2" * 20),
        ("sendgrid_key", "SG." + "a" * 22 + "." + "b1" * 21 + "c"),
        ("telegram_token", "123456789:AA" + "x9_" * 11),
    ],
)
def test_other_vendors_keys(kind: str, value: str) -> None:
    assert found(f"use {value} now") == [(kind, value)]


def test_planted_identifiers_are_all_found() -> None:
    random = Random(20)
    for _ in range(10_000):
        one = plant(random)
        spans = scan([one.text], ALL).findings[0]
        start = one.text.index(one.value)
        end = start + len(one.value)
        hidden = set[int]().union(*(range(span.start, span.end) for span in spans))
        shown = [one.text[at] for at in range(start, end) if at not in hidden]
        assert not any(char.isalnum() for char in shown), one


@given(st.randoms(use_true_random=False))
def test_a_disguise_hides_nothing(random: Random) -> None:
    value = disguised(random, "3171011708450001")
    assert found(f"NIK {value}.") == [("id_nik", value)]


def test_keycaps_and_accents_hide_nothing() -> None:
    value = "".join(f"{digit}\ufe0f\u20e3" for digit in "3171011708450001")
    assert [kind for kind, _ in found(value)] == ["id_nik"]


# --- views ----------------------------------------------------------------------------------------


@given(st.text())
def test_a_view_leads_back(text: str) -> None:
    for view in views(text):
        assert len(view.low) == len(view.text)
        for at, char in enumerate(view.text):
            start, end = view.span(at, at + 1)
            assert end == start + 1
            raw = text[start]
            assert (
                char == raw
                or char in unicodedata.normalize("NFKC", raw)
                or char in " -"
                or (str(unicodedata.digit(raw, None)) == char)
            )
    if text.isascii():
        assert fold(text) is None


def test_the_table_of_odd_characters_has_them_all() -> None:
    every = ((char, plain(char)) for char in map(chr, range(0x80, sys.maxunicode + 1)))
    assert odd() == {char: new for char, new in every if new is not None}


@given(st.text())
def test_an_escaped_string_is_seen_as_it_is_meant(text: str) -> None:
    import json

    raw = json.dumps(text)
    view = unescape(raw)
    assert view.text[1:-1] == text
    for at in range(1, len(view.text) - 1):
        start, end = view.span(at, at + 1)
        assert json.loads(f'"{raw[start:end]}"') == view.text[at]


# --- findings -------------------------------------------------------------------------------------

FINDINGS = st.builds(
    lambda kind, data_class, start, length, score: Finding(
        kind, data_class, start, start + length, score, kind
    ),
    st.sampled_from("abc"),
    st.sampled_from(("public", "internal", "personal", "secret", "own")),
    st.integers(0, 30),
    st.integers(1, 10),
    st.floats(0.5, 1),
)


@given(st.lists(FINDINGS))
def test_resolved_findings_cover_the_same_without_overlaps(several: list[Finding]) -> None:
    kept = resolve(several)
    assert all(left.end <= right.start for left, right in pairwise(kept))
    cover = [set(range(one.start, one.end)) for one in several]
    assert set[int]().union(*cover) == set[int]().union(
        *(range(one.start, one.end) for one in kept)
    )
    for one in kept:
        inside = [other for other in several if one.start <= other.start < one.end]
        assert rank(one.data_class) == max(rank(other.data_class) for other in inside)


def test_classes_of_what_was_displaced_are_told() -> None:
    own = Detectors(patterns=(pattern("client", "[0-9]{4}", "client-x"),))
    seen = scan(["NIK 3171011708450001", "hello"], own)
    assert seen.classes == {"personal", "client-x"}
    assert seen.findings[1] == ()
    assert [one.kind for one in seen.findings[0]] == ["client"]
    assert (seen.findings[0][0].start, seen.findings[0][0].end) == (4, 20)


# --- the user's own -------------------------------------------------------------------------------


NEEDLES = sorted({needle for one in BUILT_IN if isinstance(one, Rule) for needle in one.needles})


@given(st.lists(st.sampled_from(NEEDLES) | st.text(max_size=9), max_size=6).map("".join))
def test_who_looks_at_a_text_is_whoever_has_a_needle_in_it(text: str) -> None:
    for view in views(text):
        expected = [
            one
            for one in BUILT_IN
            if not isinstance(one, Rule)
            or not one.needles
            or any(needle in view.low for needle in one.needles)
        ]
        assert ALL.needles.looking(view) == expected


def test_a_pattern_of_the_user() -> None:
    own = Detectors(patterns=(pattern("case_number", r"(?i)case-\d{3}", "internal"),))
    assert found("see CASE-123 and ümläut Case-99\uff17", own) == [
        ("case_number", "CASE-123"),
        ("case_number", "Case-99\uff17"),
    ]


@pytest.mark.parametrize(
    ("name", "expression", "said"),
    [
        ("Bad Name", "x", "name"),
        ("x", "(", "cannot be compiled"),
        ("x", r"(a)\1", "cannot be compiled"),
        ("x", "(?=a)b", "cannot be compiled"),
        ("x", "((a{1000}){1000})", "cannot be compiled"),
        ("x", "a*", "empty"),
        ("x", "", "1 to 1000"),
        ("x", "a" * 1001, "1 to 1000"),
    ],
)
def test_a_pattern_that_cannot_be(name: str, expression: str, said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(name)) as caught:
        pattern(name, expression, "personal")
    assert said in caught.value.message


def test_a_pattern_that_would_explode_elsewhere_does_not() -> None:
    own = Detectors(patterns=(pattern("evil", "(a+)+b", "personal"),))
    began = time.monotonic()
    assert scan(["a" * 100_000], own).findings == ((),)
    assert time.monotonic() - began < 5


def test_a_pattern_that_matches_without_end_closes_the_door() -> None:
    own = Detectors(patterns=(pattern("each", "a", "personal"),))
    with pytest.raises(GuardError, match="each"):
        scan(["a" * 10_001], own)


def test_half_a_surrogate_pair_is_no_way_around() -> None:
    own = Detectors(patterns=(pattern("word", "secretword", "secret"),))
    assert found("\ud83d secretword", own) == [("word", "secretword")]


def test_a_detector_that_fails_closes_the_door() -> None:
    def broken(text: str) -> Iterator[tuple[int, int, float]]:
        raise ValueError(text)

    def astray(text: str) -> Iterable[tuple[int, int, float]]:
        return [(0, len(text) + 1, 1.0)]

    for function in (broken, astray):
        own = Detectors(recognisers=(Recogniser("person", "personal", function),))
        with pytest.raises(GuardError, match="person") as caught:
            scan(["Siti Rahma"], own)
        assert "Siti" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert (caught.value.status, caught.value.code) == (503, "guard_unavailable")


def test_a_recogniser_finds() -> None:
    own = Detectors(recognisers=(Recogniser("person", "personal", lambda text: [(0, 4, 0.9)]),))
    assert found("Siti is here", own) == [("person", "Siti")]


def test_kinds_are_switched_off_by_name() -> None:
    assert found("a@example.com 8.8.8.8", Detectors(off=frozenset({"email"}))) == [
        ("ip_address", "8.8.8.8")
    ]
    with pytest.raises(SettingsError, match="Did you mean email"):
        Detectors(off=frozenset({"emial"}))
    one = pattern("email", "x", "personal")
    with pytest.raises(SettingsError, match="another name"):
        Detectors(patterns=(one,))


# --- time -----------------------------------------------------------------------------------------

HOSTILE = (
    *(
        "@",
        "a@",
        ":",
        "eyJ",
        "0",
        "1 ",
        "://:",
        "-----BEGIN PRIVATE KEY-----",
        "token=",
        "1.",
        "sk-",
        "a.b",
    ),
    *(
        "00.01 ",
        "0812 345 ",
        "+1",
        "12:",
        "passport AB12",
        "born 1.",
        "DE12 ",
        "password ",
        "\u200b1",
        "é1 ",
        "- ",
    ),
)


@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear(unit: str) -> None:
    """Twice the text takes about twice the time, whatever is repeated; generous, for a busy machine."""

    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        began = time.process_time()
        scan([text], ALL)
        return time.process_time() - began

    seconds(1000)
    short = min(seconds(20_000) for _ in range(2))
    assert seconds(80_000) < 16 * short + 0.2


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_can_be_examined(text: str) -> None:
    for one in scan([text], ALL).findings[0]:
        assert 0 <= one.start < one.end <= len(text)
        assert 0.5 <= one.score <= 1
