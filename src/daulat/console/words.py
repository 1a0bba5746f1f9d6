"""The page's languages: its messages with their translations, and which a visitor prefers.

Not here: the messages themselves (`messages`), their translations (the gettext domain `console`).
"""

from __future__ import annotations

from typing import Any, Final

from daulat.console.messages import MESSAGES, PLURALS
from daulat.i18n import translation

LANGUAGES: Final = ("en", "id")

# For each plural category that a language has (Unicode CLDR), a number that falls into it: browsers
# choose by category, gettext by number.
_EXAMPLES: Final = {"en": {"one": 1, "other": 2}, "id": {"other": 2}}

_LONGEST_HEADER: Final = 1000


def translate(language: str, message: str) -> str:
    """The message in that language.

    Raises:
        KeyError: the message is not in the table, so that no translator knows it.
    """
    if message not in MESSAGES:
        raise KeyError(message)
    return translation(language, "console").gettext(message)


def catalogue(language: str) -> dict[str, Any]:
    """All that the page may say: `messages` by message, `plurals` by message and category."""
    words = translation(language, "console")
    return {
        "messages": {message: words.gettext(message) for message in MESSAGES},
        "plurals": {
            one: {kind: words.ngettext(one, many, n) for kind, n in _EXAMPLES[language].items()}
            for one, many in PLURALS
        },
    }


def preferred_language(accept: str) -> str:
    """The best of our languages for an `Accept-Language` header (RFC 9110), or English."""
    weighed: list[tuple[float, str]] = []
    for item in accept[:_LONGEST_HEADER].split(","):
        tag, _, parameter = item.strip().partition(";")
        primary = tag.strip().lower().partition("-")[0]
        # "in" was Indonesian's code before 1989; some Java-made clients still send it.
        language = "id" if primary == "in" else primary
        if language in LANGUAGES:
            weighed.append((_weight(parameter), language))
    best = max(weighed, key=lambda pair: pair[0], default=(0.0, "en"))
    return best[1] if best[0] > 0 else "en"


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if not name:
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0
