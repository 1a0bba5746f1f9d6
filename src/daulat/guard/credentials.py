"""Secrets that open something: private keys, vendors' API keys, tokens, passwords.

A vendor's key is known by its published prefix and length; what has no form is known by the word in front
of it and by its entropy (Shannon 1948, bits a character over the value's own letters). A password that is
a plain word is not told from prose. Sources: the vendors' pages on key formats and secret scanning.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from daulat.guard.keys import PATTERN as DAULAT_KEY
from daulat.guard.rules import Rule, Spot, always

_FORMS: Final[Sequence[tuple[str, tuple[str, ...], str]]] = (
    ("aws_key", ("akia", "asia"), r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])"),
    ("github_token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{36,255}"),
    ("github_token", ("github_pat_",), r"github_pat_[A-Za-z0-9_]{40,255}"),
    (
        "gitlab_token",
        ("glpat-", "glptt-", "gldt-", "glrt-"),
        r"gl(?:pat|ptt|dt|rt)-[A-Za-z0-9_.-]{20,255}",
    ),
    ("slack_token", ("xox",), r"xox[abeoprs]-[A-Za-z0-9-]{10,255}"),
    ("slack_token", ("xapp-",), r"xapp-[A-Za-z0-9-]{10,255}"),
    ("slack_token", ("hooks.slack.com",), r"hooks\.slack\.com/services/([A-Za-z0-9/_]{20,100})"),
    ("stripe_key", ("k_live_", "k_test_"), r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}"),
    ("stripe_key", ("whsec_",), r"whsec_[A-Za-z0-9+/=]{24,255}"),
    ("google_api_key", ("aiza",), r"AIza[A-Za-z0-9_-]{35}"),
    ("google_api_key", ("gocspx-",), r"GOCSPX-[A-Za-z0-9_-]{28}"),
    ("google_api_key", ("ya29.",), r"ya29\.[A-Za-z0-9_-]{20,2048}"),
    ("anthropic_key", ("sk-ant-",), r"sk-ant-[A-Za-z0-9_-]{20,255}"),
    ("huggingface_token", ("hf_",), r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,64}"),
    ("npm_token", ("npm_",), r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{36}"),
    ("pypi_token", ("pypi-",), r"pypi-AgE[A-Za-z0-9_-]{50,500}"),
    ("sendgrid_key", ("sg.",), r"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    ("telegram_token", (":aa",), r"(?<![0-9])[0-9]{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),
    (
        "jwt",
        ("eyj",),
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    ),
)
"""Kind, needles in lower case, form. A first group is the secret; else all of it is."""

_OPENAI = re.compile(r"(?<![A-Za-z0-9])sk-(?!ant-)[A-Za-z0-9_-]{20,255}")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY = re.compile(r"[A-Za-z0-9+/=\s\\:,.()-]{0,20000}")
_PEM_LIMIT: Final = 20_000
_URL = re.compile(r"://([^\s/:@\"'<>]{0,255}:[^\s/\"'<>]{1,255})@")
_BEARER = re.compile(
    r"(?<![a-z])(?:bearer|basic)[ \t]{1,4}([A-Za-z0-9._~+/-]{16,4096}={0,2})", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"(?:passw(?:or)?d|passwd|passphrase|pwd|kata ?sandi|sandi|passwort|kennwort|wachtwoord|secret|token|"
    r"api[_ -]?key|access[_ -]?key|private[_ -]?key|auth[_ -]?key|credentials?|kunci[_ ]api)"
    r"[\w-]{0,20}[\"'`]?(?:\s{0,3}(?:[:=]|=>|:=)\s{0,3}|\s(?:is|adalah|ist|:)\s)[\"'`]?([^\s\"'`,;<>()\[\]{}]{6,512})",
    re.IGNORECASE,
)
_WORDS: Final = (
    *(
        "passw",
        "pwd",
        "sandi",
        "passphrase",
        "kennwort",
        "wachtwoord",
        "secret",
        "token",
        "credential",
    ),
    *(
        "api key",
        "api_key",
        "api-key",
        "apikey",
        "access key",
        "access_key",
        "access-key",
        "accesskey",
    ),
    *(
        "private key",
        "private_key",
        "private-key",
        "privatekey",
        "auth_key",
        "auth-key",
        "authkey",
        "kunci",
    ),
)
_STANDS_FOR: Final = ("$", "%", "*", "...", "http:", "https:", "os.", "process.", "env.")
"""What begins so names the place of a secret."""
_KINDS: Final = (str.islower, str.isupper, str.isdigit)
LEAST_ENTROPY: Final = 2.0
"""Bits a character of what follows `password=`; eight different characters have 3."""
TOKEN_ENTROPY: Final = 3.0
"""Bits a character of what follows `Bearer`; a random one of 32 has more than 4."""


def entropy(text: str) -> float:
    """Shannon's entropy in bits a character."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


def _mixed(text: str) -> int:
    """How many of lower case, upper case, digits and others it has."""
    others = any(not one.isalnum() for one in text)
    return sum(any(map(kind, text)) for kind in _KINDS) + others


def _assigned(_text: str, match: re.Match[str]) -> Spot | None:
    value = match[1].rstrip(".!?:")
    if len(value) < 6 or value.startswith(_STANDS_FOR) or entropy(value) < LEAST_ENTROPY:
        return None
    # Words joined by dots or dashes are prose and code: "token: end-of-text", "token = get_token".
    joined = re.sub(r"[._-]", "", value)
    word = joined.isalpha() and (joined[1:].islower() or "." in value)
    if word or _mixed(joined) < 2:
        return None
    return match.start(1), match.start(1) + len(value), 0.7


def _bearer(_text: str, match: re.Match[str]) -> Spot | None:
    value = match[1]
    if _mixed(value) < 2 or not any(map(str.isdigit, value)) or entropy(value) < TOKEN_ENTROPY:
        return None
    return (*match.span(1), 0.8)


def _openai(_text: str, match: re.Match[str]) -> Spot | None:
    value = match[0]
    if not any(map(str.isdigit, value)) or entropy(value) < TOKEN_ENTROPY:
        return None
    return (*match.span(), 0.8 if len(value) >= 40 else 0.6)


def _url(text: str, match: re.Match[str]) -> Spot | None:
    """Name and password; `${...}` stands for one and is none."""
    password = match[1].partition(":")[2]
    if password.startswith(("$", "{", "<", "*")) or not password:
        return None
    return (*match.span(1), 0.8)


def _pem(text: str, match: re.Match[str]) -> Spot:
    """To the END line, or as far as the base64 goes where it was cut."""
    end = text.find("-----END ", match.end(), match.end() + _PEM_LIMIT)
    if end >= 0:
        close = text.find("-----", end + 9, end + 80)
        return match.start(), close + 5 if close >= 0 else end + 9, 1.0
    body = _PEM_BODY.match(text, match.end())
    return match.start(), body.end() if body else match.end(), 1.0


RULES: Final = (
    Rule("private_key", "secret", (_PEM,), _pem, ("private key",)),
    Rule("daulat_key", "secret", (DAULAT_KEY,), always(1.0), ("daulat-",)),
    *(
        Rule(kind, "secret", (re.compile(form),), always(0.9), needles)
        for kind, needles, form in _FORMS
    ),
    Rule("openai_key", "secret", (_OPENAI,), _openai, ("sk-",)),
    Rule("url_credentials", "secret", (_URL,), _url, ("://",)),
    Rule("bearer_token", "secret", (_BEARER,), _bearer, ("bearer", "basic")),
    Rule("password", "secret", (_ASSIGNED,), _assigned, _WORDS),
)
