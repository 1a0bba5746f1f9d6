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
        until: the text behind which nothing stops ends here.
    """

    depth: int
    follow: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    fail: _Node | None = None
    stop: int = 0
    until: bool = False


class StopStrings:
    """Reads one answer.

    Args:
        stops: none of them empty.
        until: once this text has come, nothing stops the answer any more: what follows is no
            prose (a tool call).

    Attributes:
        matched: the stop string that is complete; None: none is.
    """

    def __init__(self, stops: Sequence[str], until: str | None = None) -> None:
        if "" in stops or until == "":
            raise ValueError("an empty stop string")
        self._open = not stops
        self._root = _automaton(() if self._open else stops, None if self._open else until)
        self._node = self._root
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> tuple[str, bool]:
        """Take more text.

        Returns:
            What can be shown now, and whether a stop string is complete; if so, the text ends here
            and nothing more may be pushed. Held back is only what may become a stop string.
        """
        if self._open:
            return text, False
        node = self._node
        for position, character in enumerate(text, start=len(self._held) + 1):
            node = self._next(node, character)
            if node.stop:
                whole = self._held + text
                shown = whole[: position - node.stop]
                self.matched = whole[position - node.stop : position]
                self._held, self._node = "", self._root
                return shown, True
            if node.until:
                self._open = True
                return self._let_go() + text, False
        whole = self._held + text
        shown = whole[: len(whole) - node.depth]
        self._held, self._node = whole[len(shown) :], node
        return shown, False

    def finish(self) -> str:
        """What was held back and did not become a stop string."""
        return self._let_go()

    def _let_go(self) -> str:
        held, self._held, self._node = self._held, "", self._root
        return held

    def _next(self, node: _Node, character: str) -> _Node:
        while character not in node.follow:
            if node.fail is None:
                return node
            node = node.fail
        return node.follow[character]


def _automaton(stops: Sequence[str], until: str | None) -> _Node:
    root = _Node(0)
    for stop in stops:
        _place(root, stop).stop = len(stop)
    if until is not None:
        _place(root, until).until = True
    # Breadth first: the shorter beginnings, which `fail` points to, are complete before the longer.
    queue = deque([root])
    while queue:
        node = queue.popleft()
        for character, child in node.follow.items():
            child.fail = _suffix(node, character, root)
            child.stop = child.stop or child.fail.stop
            child.until = child.until or child.fail.until
            queue.append(child)
    return root


def _place(root: _Node, text: str) -> _Node:
    node = root
    for character in text:
        node = node.follow.setdefault(character, _Node(node.depth + 1))
    return node


def _suffix(parent: _Node, character: str, root: _Node) -> _Node:
    node = parent.fail
    while node is not None:
        if character in node.follow:
            return node.follow[character]
        node = node.fail
    return root
