"""Ways to reach a person or a machine: e-mail, telephone, IP and MAC addresses.

Sources: RFC 5321 and 6531 (addresses), E.164 and the numbering plans in `phonenumbers` (Google's
libphonenumber), RFC 4291 (IPv6). A host named in an address need not exist to be found.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import Final

import phonenumbers

from daulat.guard import vocabulary
from daulat.guard.rules import Judge, Rule, Spot, digits

# --- e-mail ---------------------------------------------------------------------------------------

_LOCAL_LIMIT: Final = 64
_HOST = re.compile(r"@(?=[\w\[])[\w.-]{3,255}|@\[[0-9a-fA-F.:IPv]{3,45}\]")
_REVERSED_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}")
_EDGES: Final = ".!#$%&'*/=?^`{|}~-"
"""Characters that may stand in a local part, and at its beginning are more likely punctuation."""


def _email(text: str, match: re.Match[str]) -> Spot | None:
    """From the @ both ways; a full stop behind the host is the sentence's."""
    at = match.start()
    local = _REVERSED_LOCAL.match(text[max(at - _LOCAL_LIMIT, 0) : at][::-1])
    if local is None:
        return None
    name = local[0][::-1].lstrip(_EDGES)
    host = match[0][1:]
    if not host.startswith("["):
        host = host.rstrip(".-_")
        labels = host.split(".")
        if len(labels) < 2 or not all(labels) or len(labels[-1]) < 2 or labels[-1].isdigit():
            return None
    return (at - len(name), at + 1 + len(host), 0.95) if name else None


# --- telephone ------------------------------------------------------------------------------------

REGIONS: Final = ("ID", "GB", "DE", "NL", "FR", "BE", "CH", "AT", "IT", "SE", "AU", "MY")
"""Where a number without a country code may be from; written with a leading zero."""

_BEFORE: Final = r"(?<![\w+.,-])"
_EXTENSION = re.compile(r"(?: ?(?:x|ext\.?|ekst\.?|pes\.) ?|#)[0-9]{1,6}(?![0-9])", re.IGNORECASE)
_INTERNATIONAL = re.compile(r"(?<![\w+])(?:\+|00(?=[1-9(]))[ (]{0,2}[1-9][0-9 ().\-/]{5,24}")
_INDONESIAN = re.compile(r"(?<![0-9+.,])(?:0|62[ -]?)8[1-9](?:[ .-]?[0-9]){6,11}(?![0-9])")
_AMERICAN = re.compile(
    _BEFORE
    + r"(?:(?:1[ .-]?)?\([2-9][0-9]{2}\) ?|(?:1[ .-])?[2-9][0-9]{2}[ .-])[0-9]{3}[ .-][0-9]{4}(?![0-9])"
)
_NATIONAL = re.compile(_BEFORE + r"\(?0[1-9][0-9]{0,4}\)?(?:[ ./-]{1,3}[0-9]{2,9}){1,5}(?![0-9])")
_LOCAL = re.compile(_BEFORE + r"\(?[0-9]{2,11}\)?(?:[ .-]{1,2}[0-9]{2,8}){0,5}(?![0-9])")
_DAY = re.compile(
    r"(?:19|20)[0-9]{2}[-/. ][0-9]{1,2}[-/. ][0-9]{1,2}"
    r"|[0-9]{1,2}[-/.][0-9]{1,2}[-/.](?:19|20)[0-9]{2}(?![0-9])"
)
_PAIRS = re.compile(r"[0-9]{2}(?:[ ./-]{1,3}[0-9]{2}){3,5}")


def _international(text: str, match: re.Match[str]) -> Spot | None:
    """The longest beginning, cut at a gap, that the numbering plans know."""
    start, end = match.span()
    number = match[0].removeprefix("00").removeprefix("+")
    plus = match[0][0] == "+"
    while (end := _last_digit(text, start, end)) - start > 7:
        score = _planned("+" + digits(number.replace("(0)", "")), None)
        if score:
            return start, _extended(text, end), score if plus else score - 0.25
        end = _gap(text, start, end)
        number = text[start:end].removeprefix("00").removeprefix("+")
    return None


def _last_digit(text: str, start: int, end: int) -> int:
    while end > start and not text[end - 1].isdigit():
        end -= 1
    return end


def _gap(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isdigit():
        end -= 1
    return end


def _planned(number: str, region: str | None) -> float:
    """0.9 for a number that a plan has, 0.65 for one of a possible length, 0 for none."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return 0.0
    if phonenumbers.is_valid_number(parsed):
        return 0.9
    return 0.65 if phonenumbers.is_possible_number(parsed) else 0.0


def _extended(text: str, end: int) -> int:
    extension = _EXTENSION.match(text, end)
    return extension.end() if extension else end


def _phone(score: float, least: int, most: int) -> Judge:
    """Of so many digits, and no date; the extension belongs to it."""

    def judge(text: str, match: re.Match[str]) -> Spot | None:
        if not least <= len(digits(match[0])) <= most or _DAY.match(match[0]):
            return None
        return match.start(), _extended(text, match.end()), score

    return judge


def _national(text: str, match: re.Match[str]) -> Spot | None:
    """With a leading zero: of a form that a plan has, or only with a word beside it."""
    number, gaps = digits(match[0]), set(re.findall(r"[^0-9]+", match[0]))
    if not 8 <= len(number) <= 13 or _DAY.match(match[0]):
        return None
    # Pairs are opening hours (08.30 - 17.00) more often than a number, but for the five of France.
    pairs = _PAIRS.fullmatch(match[0]) is not None and not (len(number) == 10 and len(gaps) == 1)
    known = len(number) > 8 and not pairs and _nationals().fullmatch(number)
    return match.start(), _extended(text, match.end()), 0.6 if known else 0.3


@functools.cache
def _nationals() -> re.Pattern[str]:
    """A number as it is dialled within one of the `REGIONS`: 0 and what its plan has."""
    plans = [phonenumbers.PhoneMetadata.metadata_for_region(region) for region in REGIONS]
    forms = {
        plan.general_desc.national_number_pattern for plan in plans if plan and plan.general_desc
    }
    return re.compile("0(?:" + "|".join(sorted(form for form in forms if form)) + ")")


# --- addresses of machines ------------------------------------------------------------------------

_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])")
_IPV6 = re.compile(r":(?=[0-9A-Fa-f:])")
_SIX_BACK = re.compile(r"[0-9A-Fa-f]{0,4}")
_SIX = re.compile(r"[0-9A-Fa-f:]{2,40}(?:(?<=:)(?:[0-9]{1,3}\.){3}[0-9]{1,3})?")
_VERSION = re.compile(r"(?<![a-z])(?:version|versi|ver|v|release|rev)[ .:]{0,2}$", re.IGNORECASE)


def _address(text: str, private: bool) -> float:
    """0 for what is no address, names no machine, or is on the other side of `private`."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0.0
    if (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or str(address).startswith("255.")
    ):
        return 0.0
    inner = any(address in network for network in _INNER if network.version == address.version)
    return 0.7 if inner == private else 0.0


_INNER: Final = tuple(
    ipaddress.ip_network(name)
    for name in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"),
        *("fc00::/7", "fe80::/10"),
    )
)


def _four(private: bool) -> Judge:
    def judge(text: str, match: re.Match[str]) -> Spot | None:
        if _VERSION.search(text[max(match.start() - 12, 0) : match.start()]):
            return None
        score = _address(match[0], private)
        return (*match.span(), score) if score else None

    return judge


def _six(private: bool) -> Judge:
    """From the first colon back to its group, and on to the end."""

    def judge(text: str, match: re.Match[str]) -> Spot | None:
        at = match.start()
        back = _SIX_BACK.match(text[max(at - 4, 0) : at][::-1])
        start = at - (back.end() if back else 0)
        if start and (text[start - 1].isalnum() or text[start - 1] in "_:"):
            return None
        whole = _SIX.match(text, start)
        if whole is None:
            return None
        end = whole.end() - (1 if whole[0].endswith(":") and not whole[0].endswith("::") else 0)
        if end < len(text) and (text[end].isalnum() or text[end] == "_"):
            return None
        name = text[start:end]
        # `a::b` is an address, and more often C++.
        likely = name.count(":") >= 4 or (any(one.isdigit() for one in name) and len(name) >= 6)
        score = _address(name, private) if likely else 0.0
        return (start, end, score) if score else None

    return judge


_PAIR: Final = "[0-9A-Fa-f]{2}"
_MAC: Final = tuple(
    re.compile(
        rf"{gap}(?<=(?<![0-9A-Za-z]){_PAIR}{gap})(?:{_PAIR}{gap}){{4}}{_PAIR}(?![0-9A-Za-z]|{gap}[0-9A-Fa-f])"
    )
    for gap in ":-"
)


def _mac(_text: str, match: re.Match[str]) -> Spot | None:
    named = set(match[0]) - set(":-0fF")
    return (match.start() - 2, match.end(), 0.8) if named else None


RULES: Final = (
    Rule("email", "personal", (_HOST,), _email, ("@",)),
    Rule(
        "phone",
        "personal",
        (_INTERNATIONAL,),
        _international,
        ("+", "00"),
        vocabulary.PHONE,
        islands=True,
    ),
    Rule(
        "phone",
        "personal",
        (_INDONESIAN,),
        _phone(0.65, 9, 15),
        words=vocabulary.PHONE,
        islands=True,
    ),
    Rule(
        "phone",
        "personal",
        (_AMERICAN,),
        _phone(0.65, 10, 11),
        words=vocabulary.PHONE,
        islands=True,
    ),
    Rule("phone", "personal", (_NATIONAL,), _national, words=vocabulary.PHONE, islands=True),
    Rule(
        "phone",
        "personal",
        (_LOCAL,),
        _phone(0.2, 7, 12),
        words=vocabulary.PHONE,
        near=32,
        islands=True,
    ),
    Rule("ip_address", "personal", (_IPV4,), _four(False), (".",), islands=True),
    Rule("ip_address", "personal", (_IPV6,), _six(False), (":",)),
    Rule("private_ip", "internal", (_IPV4,), _four(True), (".",), islands=True),
    Rule("private_ip", "internal", (_IPV6,), _six(True), (":",)),
    Rule("mac_address", "personal", _MAC, _mac),
)
