"""Stop strings in a stream of text: what may be shown now, and when to stop.

An automaton (Aho and Corasick, 1975) reads each character once, whatever the stop strings are.

The answer stops with the first character that completes a stop string, as OpenAI's API stops
generating there; where that character completes several, the longest counts. How the text was cut
into pieces makes no difference.

Not here: bounds on number and length of stop strings (`server.wire`), tokens (`sequence`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Node:
    """A beginning of a stop string.

    Attributes:
        depth: its length.
        follow: the next node by character.
        fail: the longest proper suffix of this that is itself a beginning; None: this is the root.
        stop: length of the longest stop string that ends here; 0: none does.
    """

    depth: int
    follow: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    fail: _Node | None = None
    stop: int = 0


class StopStrings:
    """Reads one answer.

    Args:
        stops: none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise ValueError("an empty stop string")
        self._root = _automaton(stops)
        self._node = self._root
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Take more text.

        Returns:
            What can be shown now, and whether a stop string is complete; if so, the text ends here
            and nothing more may be pushed. Held back is only what may become a stop string.
        """
        node = self._node
        for position, character in enumerate(text, start=len(self._held) + 1):
            node = self._next(node, character)
            if node.stop:
                shown = (self._held + text)[: position - node.stop]
                self._held, self._node = "", self._root
                return shown, True
        whole = self._held + text
        shown = whole[: len(whole) - node.depth]
        self._held, self._node = whole[len(shown) :], node
        return shown, False

    def finish(self) -> str:
        """What was held back and did not become a stop string."""
        held, self._held, self._node = self._held, "", self._root
        return held

    def _next(self, node: _Node, character: str) -> _Node:
        while character not in node.follow:
            if node.fail is None:
                return node
            node = node.fail
        return node.follow[character]


def _automaton(stops: Sequence[str]) -> _Node:
    root = _Node(0)
    for stop in stops:
        node = root
        for character in stop:
            node = node.follow.setdefault(character, _Node(node.depth + 1))
        node.stop = len(stop)
    # Breadth first: the shorter beginnings, which `fail` points to, are complete before the longer.
    queue = deque([root])
    while queue:
        node = queue.popleft()
        for character, child in node.follow.items():
            child.fail = _suffix(node, character, root)
            child.stop = child.stop or child.fail.stop
            queue.append(child)
    return root


def _suffix(parent: _Node, character: str, root: _Node) -> _Node:
    node = parent.fail
    while node is not None:
        if character in node.follow:
            return node.follow[character]
        node = node.fail
    return root
