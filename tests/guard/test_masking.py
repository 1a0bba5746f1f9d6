"""Keys in texts: found wherever they stand, and nothing of them left."""

from __future__ import annotations

import secrets

from hypothesis import given
from hypothesis import strategies as st

from daulat.guard.keys import MASK, Span, find, mask

URL_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SECRETS = st.text(URL_SAFE, min_size=43, max_size=43)


def key() -> str:
    return "daulat-" + secrets.token_urlsafe(32)


def test_a_key_in_a_text() -> None:
    text = f"export KEY={key()}\nand more"
    assert find(text) == (Span(11, 61),)
    assert mask(text) == f"export KEY={MASK}\nand more"


def test_several_keys() -> None:
    assert mask(f'["{key()}", "{key()}"]') == f'["{MASK}", "{MASK}"]'


def test_what_is_no_key_stays() -> None:
    for text in ("", "daulat-", "daulat-" + "a" * 42, "daulat- " + "a" * 43, "Daulat-" + "a" * 43):
        assert find(text) == ()
        assert mask(text) == text


def test_nothing_is_left_where_keys_run_together() -> None:
    one, two = key(), key()
    for text in (one + two, "daulat-" + one, f"daulat-{'x' * 20}{one}", one + "-and-more"):
        assert mask(text) == MASK


@given(before=st.text(), secret=SECRETS, after=st.text())
def test_the_secret_never_survives(before: str, secret: str, after: str) -> None:
    masked = mask(before + "daulat-" + secret + after)
    assert "daulat-" + secret not in masked
    assert secret not in masked.replace(after, "").replace(before, "")
    assert mask(masked) == masked


@given(st.text())
def test_spans_are_what_is_masked(text: str) -> None:
    rest, end = [], 0
    for span in find(text):
        rest += [text[end : span.start], MASK]
        end = span.end
    assert mask(text) == "".join([*rest, text[end:]])
