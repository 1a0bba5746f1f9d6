"""Where money is: payment cards, IBANs, bank accounts.

Sources: issuer ranges of cards, ISO/IEC 7812 as the schemes publish them; IBAN, ISO 13616 (SWIFT's registry);
lengths of accounts, the banks. Whether a card or an account exists cannot be known from its number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from stdnum import iban, luhn

from daulat.guard import vocabulary
from daulat.guard.rules import FREE, Rule, Spot, checked, digits, shapes, spaced, words

# --- cards ----------------------------------------------------------------------------------------

ISSUERS: Final[Sequence[tuple[int, int, tuple[int, ...], float]]] = (
    (4, 4, (16,), 0.7),  # Visa
    (4, 4, (13, 19), 0.5),
    (51, 55, (16,), 0.7),  # Mastercard
    (2221, 2720, (16,), 0.7),
    (34, 34, (15,), 0.7),  # American Express
    (37, 37, (15,), 0.7),
    (6011, 6011, (16, 19), 0.7),  # Discover
    (644, 659, (16, 19), 0.6),
    (3528, 3589, (16, 17, 18, 19), 0.6),  # JCB
    (2131, 2131, (15,), 0.6),
    (1800, 1800, (15,), 0.6),
    (300, 305, (14, 16, 19), 0.6),  # Diners Club
    (3095, 3095, (14, 16, 19), 0.6),
    (36, 36, (14, 16, 19), 0.6),
    (38, 39, (14, 16, 19), 0.6),
    (62, 62, (16, 17, 18, 19), 0.6),  # UnionPay
    (8100, 8171, (16, 17, 18, 19), 0.5),
    (2200, 2204, (16, 17, 18, 19), 0.6),  # Mir
    (50, 50, (12, 13, 14, 15, 16, 17, 18, 19), 0.4),  # Maestro, RuPay, Verve
    (56, 69, (12, 13, 14, 15, 16, 17, 18, 19), 0.4),
    (9792, 9792, (16,), 0.6),  # Troy
)
"""First and last prefix, lengths, and how much a number of that kind with a right check digit says."""
UNKNOWN_ISSUER: Final = 0.15
"""A check digit alone: one number in ten has it, so a word beside it is needed."""


def card(text: str) -> float:
    """How surely this is a payment card: the issuer's range and length, and the check digit."""
    number = digits(text)
    scores = [
        score
        for first, last, lengths, score in ISSUERS
        if len(number) in lengths and first <= int(number[: len(str(first))]) <= last
    ]
    if len(set(number)) < 2 or not luhn.is_valid(number):
        return 0.0
    return max(scores, default=UNKNOWN_ISSUER)


# --- accounts -------------------------------------------------------------------------------------

BANKS: Final[Sequence[tuple[re.Pattern[str], tuple[int, ...]]]] = (
    (words("bca", "bank central asia"), (10,)),
    (words("mandiri"), (13,)),
    (words("bri", "bank rakyat indonesia"), (15,)),
    (words("bni", "bank negara indonesia"), (10,)),
    (words("bsi", "bank syariah indonesia", "danamon", "permata", "permatabank"), (10,)),
    (words("btn", "bank tabungan negara"), (16,)),
    (words("cimb", "cimb niaga"), (12, 13, 14)),
    (
        words("maybank", "panin", "ocbc", "jago", "seabank", "mega", "bank dki", "bjb"),
        (10, 11, 12, 13, 15),
    ),
    (
        words(r"(?:no(?:mor)?\.? ?)?rek(?:ening)?", "norek", "virtual account"),
        (10, 11, 12, 13, 14, 15, 16),
    ),
    (
        words(
            r"(?:bank )?account (?:number|no|nr)",
            "bank account",
            "a/c(?: no)?",
            r"konto\w*",
            r"\w*rekening\w*",
        ),
        (7, 8, 9, 10, 11, 12),
    ),
)
"""Words for a bank or an account, and how many digits its accounts have."""

_BANK_NEEDLES: Final = (
    *("bca", "mandiri", "bri", "bni", "bsi", "btn", "cimb", "danamon", "permata", "bank", "rek"),
    *("panin", "ocbc", "jago", "mega", "bjb", "virtual account", "account", "a/c", "konto"),
)
_ACCOUNTS: Final = (
    re.compile(FREE + r"(?<![\w+])[0-9]{7,16}(?!\w)"),
    re.compile(FREE + r"(?<![\w+])[0-9]{2,6}(?:[ .-][0-9]{1,6}){1,5}(?![\w-])"),
)


def _account(text: str, match: re.Match[str]) -> Spot | None:
    """A word for the bank, before it or right behind, decides how long an account has to be."""
    start, end = match.span()
    length = len(digits(match[0]))
    lengths = _nearest(text[max(start - 64, 0) : start].lower())
    if not lengths and text[end : end + 2] == " (":
        lengths = _nearest(text[end : end + 24].lower())
    return (start, end, 0.6) if length in lengths else None


def _nearest(text: str) -> tuple[int, ...]:
    """The lengths of the two words that stand last: "rekening BCA" is both."""
    near = [
        (found[-1].end(), lengths) for bank, lengths in BANKS if (found := [*bank.finditer(text)])
    ]
    return tuple(length for _, lengths in sorted(near)[-2:] for length in lengths)


IBAN_LENGTHS: Final = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
"""Characters of an IBAN, and the countries that have so many (SWIFT's IBAN registry)."""
_LENGTH_OF: Final = {
    country: length for length, row in IBAN_LENGTHS.items() for country in row.split()
}
# Anchored at its check digits, for those are rare in a text and letters are not.
_IBAN = re.compile(r"[0-9]{2}(?<=(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2})(?=[ -]?[A-Za-z0-9])")
_CHARACTER = re.compile(r"[ -]?[A-Za-z0-9]")


def _iban(text: str, match: re.Match[str]) -> Spot | None:
    """As many characters as its country has, with single gaps; words may follow."""
    start, end = match.start() - 2, match.end()
    for _ in range(_LENGTH_OF.get(text[start : start + 2].upper(), 4) - 4):
        one = _CHARACTER.match(text, end)
        if one is None:
            return None
        end = one.end()
    if text[end : end + 1].isalnum() or not iban.is_valid(
        text[start:end].replace("-", " "), check_country=False
    ):
        return None
    return start, end, 0.95


RULES: Final = (
    Rule(
        "payment_card",
        "personal",
        (
            *shapes("12..19", "4-4-4-4", "4-4-4-4-1..3", "4-6-4..5", "4-4-4-1..3"),
            spaced(16),
            spaced(15),
        ),
        checked(card),
        words=vocabulary.CARD,
        islands=True,
    ),
    Rule("bank_account", "personal", _ACCOUNTS, _account, _BANK_NEEDLES, islands=True),
    Rule("iban", "personal", (_IBAN,), _iban),
)
