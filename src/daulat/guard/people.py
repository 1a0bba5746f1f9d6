"""What stands for a person: identity and tax numbers, passports, dates of birth.

Sources: Indonesian codes of provinces and regencies, Permendagri 72/2019 and its later provinces; NPWP, PMK
112/2022; US social security numbers, 20 CFR 422; German and Dutch numbers, by python-stdnum. That a number is
well formed does not mean that it was given to anybody.
"""

from __future__ import annotations

import datetime
import re
from itertools import pairwise
from typing import Final

from stdnum import luhn
from stdnum.de import idnr
from stdnum.nl import bsn

from daulat.guard import vocabulary
from daulat.guard.rules import FREE, Rule, checked, digits, shapes, spaced

# --- Indonesia ------------------------------------------------------------------------------------

PROVINCES: Final = frozenset(
    map(
        str,
        (
            *range(11, 20),
            21,
            *range(31, 37),
            *range(51, 54),
            *range(61, 66),
            *range(71, 77),
            81,
            82,
        ),
    )
) | frozenset(map(str, range(91, 97)))


def _place(number: str) -> bool:
    """Province, regency (1-40) or city (71-79), and district, as NIK and KK begin."""
    regency = int(number[2:4])
    return (
        number[:2] in PROVINCES
        and (1 <= regency <= 40 or 71 <= regency <= 79)
        and number[4:6] != "00"
    )


def _day(number: str, shift: int) -> bool:
    """Is DDMMYY a day, with or without `shift` on the day of the month?"""
    day, month, year = int(number[6:8]), int(number[8:10]), int(number[10:12])
    day -= shift if day > shift else 0
    return any(_exists(century + year, month, day) for century in (1900, 2000))


def _exists(year: int, month: int, day: int) -> bool:
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return True


def nik(text: str) -> float:
    """NIK: place, date of birth (women: day + 40), and a serial that is not 0000."""
    number = digits(text)
    if not _day(number, 40) or number.endswith("0000"):
        return 0.0
    return 0.6 if _place(number) else 0.15


def kk(text: str) -> float:
    """Family card number: place, the day of issue, a serial; only a word beside it tells it from a NIK."""
    number = digits(text)
    return 0.45 if _place(number) and _day(number, 40) else 0.1


def npwp(text: str) -> float:
    """Tax number: 15 digits whose first nine have a Luhn digit, or the same behind a 0."""
    number = digits(text)
    if len(number) == 16:
        if number[0] != "0":
            return 0.45 if nik(number) >= 0.5 else 0.0
        number = number[1:]
    right = len(set(number[:9])) > 2 and luhn.is_valid(number[:9])
    if "." in text:
        return 0.8 if right else 0.4
    return 0.3 if right else 0.0


_NPWP_SHAPE = re.compile(
    FREE + r"0?[0-9]{2}\.[0-9]{3}\.[0-9]{3}\.[0-9][-.][0-9]{3}\.[0-9]{3}(?![0-9])"
)

# --- elsewhere ------------------------------------------------------------------------------------


def ssn(text: str) -> float:
    """US social security number: areas 000, 666 and 9xx, group 00 and serial 0000 were never given."""
    number = digits(text)
    if (
        number[:3] in {"000", "666"}
        or number[0] == "9"
        or number[3:5] == "00"
        or number[5:] == "0000"
    ):
        return 0.0
    return 0.2 if text.isdigit() else 0.7


def german_tax(text: str) -> float:
    """Steuer-Identifikationsnummer: ISO 7064 check digit and which digits may repeat."""
    return 0.4 if idnr.is_valid(digits(text)) else 0.0


def dutch_citizen(text: str) -> float:
    """Burgerservicenummer: the eleven-test."""
    return 0.3 if bsn.is_valid(digits(text)) else 0.0


_PASSPORT = re.compile(r"(?<![A-Za-z0-9])[A-Z0-9]{6,9}(?![A-Za-z0-9])")


def _passport(text: str) -> float:
    """Most states number theirs with up to two letters and seven digits; a word beside it is needed."""
    count = len(digits(text))
    return 0.2 if count >= 5 or (count >= 3 and text[0] in "CFGHJKLMNPRTVWXYZ") else 0.0


_MONTH_STARTS: Final = (
    "jan|feb|m[aä]r|mrt|maa|apr|ma[yi]|mei|jun|jul|aug|agu|ags|sep|o[ck]t|nov|de[csz]"
)
_MONTHS: Final = rf"(?:{_MONTH_STARTS})[a-zä]{{0,6}}\.?"
_DATES: Final = tuple(
    re.compile(rf"(?<![\w]){form}(?!\w)(?![./-]\d)", re.IGNORECASE)
    for form in (
        r"(?:19|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.](?:3[01]|[12]\d|0?[1-9])",
        r"(?:3[01]|[12]\d|0?[1-9])(?: ?[-/.] ?)(?:3[01]|[12]\d|0?[1-9])(?: ?[-/.] ?)(?:(?:19|20)?\d\d)",
        rf"(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?\.?[ -](?:of )?{_MONTHS}[ ,-]{{1,2}}(?:19|20)?\d\d",
        rf"{_MONTHS} (?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?,? (?:19|20)\d\d",
    )
)
_BIRTH: Final = (
    "born",
    "birth",
    "dob",
    "d.o.b",
    "lahir",
    "ttl",
    "gebor",
    "geburt",
    "geboorte",
    "geb.",
)


def _birthday(text: str) -> float:
    """A day in one of the usual orders; a word beside it is needed."""
    numbers = [int(one) for one in re.findall(r"\d+", text)]
    possible = any(map(str.isalpha, text)) or any(
        1 <= left <= 12 or 1 <= right <= 12 for left, right in pairwise(numbers)
    )
    return 0.3 if possible else 0.0


_SIXTEEN: Final = (*shapes("16", "4-4-4-4", "6-6-4", "2-2-2-6-4", "2-2-2-2-2-2-4"), spaced(16))

RULES: Final = (
    Rule(
        "id_nik",
        "personal",
        _SIXTEEN,
        checked(nik),
        words=vocabulary.NIK,
        islands=True,
    ),
    Rule(
        "id_kk",
        "personal",
        _SIXTEEN,
        checked(kk),
        ("kk", "kartu keluarga", "family card"),
        vocabulary.KK,
        islands=True,
    ),
    Rule(
        "id_npwp",
        "personal",
        (_NPWP_SHAPE, *shapes("15..16", "4-4-4-4")),
        checked(npwp),
        words=vocabulary.NPWP,
        islands=True,
    ),
    Rule(
        "us_ssn",
        "personal",
        shapes("3-2-4", "9"),
        checked(ssn),
        words=vocabulary.SSN,
        islands=True,
    ),
    Rule(
        "de_tax_id",
        "personal",
        shapes("11", "2-3-3-3"),
        checked(german_tax),
        ("steuer", "idnr", "tin", "tax"),
        vocabulary.GERMAN_TAX,
        islands=True,
    ),
    Rule(
        "nl_bsn",
        "personal",
        shapes("9", "4-2-3", "3-3-3", "4-3-2"),
        checked(dutch_citizen),
        ("bsn", "burgerservice", "sofi"),
        vocabulary.BSN,
        islands=True,
    ),
    Rule(
        "passport",
        "personal",
        (_PASSPORT,),
        checked(_passport),
        (
            "passport",
            "paspor",
            "reisepass",
            "paspoort",
            "passnummer",
            "pass-nr",
            "passeport",
            "pasaporte",
        ),
        vocabulary.PASSPORT,
        near=48,
    ),
    Rule(
        "date_of_birth",
        "personal",
        _DATES,
        checked(_birthday),
        _BIRTH,
        vocabulary.BIRTH,
        near=48,
    ),
)
