"""What reports say, in a language: the gettext domain `report`.

A message stands where it is said, as `say("...")` or `say.plural("...", "...", n)`; values stand in braces. Not
here: how numbers are written (`figures`).
"""

from __future__ import annotations

from daulat.i18n import translation


class Words:
    """The words of one language.

    Raises:
        FileNotFoundError: there is no such language.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._words = translation(language, "report")

    def __call__(self, message: str, /, **values: object) -> str:
        """The message in this language, with its values filled in."""
        text = self._words.gettext(message)
        return text.format(**values) if values else text

    def plural(self, one: str, several: str, count: int, /, **values: object) -> str:
        """The form for that number, with `{count}` and the other values filled in."""
        shown = {"count": f"{count:,}".replace(",", self.thousands), **values}
        return self._words.ngettext(one, several, count).format(**shown)

    def several(self, items: list[str] | tuple[str, ...]) -> str:
        """Names in a row: a, b and c."""
        if len(items) < 2:
            return "".join(items)
        say = self
        return say("{many} and {last}", many=", ".join(items[:-1]), last=items[-1])

    @property
    def decimal(self) -> str:
        """The sign before decimals."""
        return "," if self.language == "id" else "."

    @property
    def thousands(self) -> str:
        """The sign between groups of three digits."""
        return "." if self.language == "id" else ","
