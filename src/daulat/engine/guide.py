"""One answer's place in its grammar: which tokens may come next, and whether it is complete.

The mask itself is `llguidance`'s (an Earley parser over a lexer of derivatives, walked along the
vocabulary's tree). Not here: grammars (`grammars`), what is done with the mask (`sampler`).

Shapes: V vocabulary.
"""

from __future__ import annotations

import re

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from daulat.errors import RequestError

Mask = NDArray[np.bool_]


class Guide:
    """Used by one answer, from one thread at a time.

    Args:
        matcher: new; at the beginning.
        size: V.
        param: the request's field that asked for the structure.

    Raises:
        RequestError: the grammar has faults, is too complex, or allows nothing.
    """

    def __init__(self, matcher: LLMatcher, size: int, param: str) -> None:
        self._matcher = matcher
        self._size = size
        self._param = param
        self._words = np.zeros((size + 31) // 32, dtype="<u4")
        self._first: Mask | None = self._compute()

    @property
    def finished(self) -> bool:
        """The answer is whole, and nothing could be added."""
        return self._matcher.is_stopped()

    def allowed(self) -> Mask:
        """The tokens [V] that may come next; those that end the answer where it may end.

        Raises:
            RequestError: the structure turned out to be too complex.
        """
        first, self._first = self._first, None
        return self._compute() if first is None else first

    def allows(self, token: int) -> bool:
        """Whether this token may come next: what `allowed` says of it, sooner."""
        return self._matcher.validate_tokens([token]) == 1

    def advance(self, token: int) -> None:
        """The answer goes on with this token, which was allowed.

        Raises:
            RequestError: the structure turned out to be too complex.
        """
        self._first = None
        if not self._matcher.consume_token(token):
            raise self._fault()

    def _compute(self) -> Mask:
        if not self._matcher.is_error():
            words = self._words
            self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if self._matcher.is_error():
            raise self._fault()
        if not self._words.any():
            raise self._fault()
        bits = np.unpackbits(self._words.view(np.uint8), bitorder="little")[: self._size]
        return bits.view(np.bool_)

    def _fault(self) -> RequestError:
        # The library's words are about the client's own grammar; its first lines say enough.
        found = re.sub(r"<non-verbose/>|\s+", " ", self._matcher.get_error()).strip(" .")
        if not found or "NoExtension" in found:
            found = "there is no text of this form that the model can spell"
        return RequestError(
            f"`{self._param}` cannot be held to: {found[:200]}. Correct or simplify it.",
            param=self._param,
        )
