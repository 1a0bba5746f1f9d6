"""An endpoint's words under its time-outs: to the first token, between tokens, in all.

Not here: the time to connect, which the endpoint itself keeps (`endpoints`).
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator

from daulat.deadline import Deadline
from daulat.errors import UpstreamTimeoutError
from daulat.values.answer import Asked, Heard, Metered
from daulat.values.plan import Patience


async def patient(
    name: str, heard: AsyncGenerator[Heard, None], patience: Patience, *, stream: bool
) -> AsyncGenerator[Heard, None]:
    """The same words, or an error when one is too long in coming.

    Args:
        stream: the endpoint was asked for a stream; else its one word may take the whole time.

    Raises:
        UpstreamTimeoutError: says which of the three it was.
    """
    now = time.monotonic()
    end = now + patience.total
    wait, what = (patience.first, "first token") if stream else (math.inf, "answer")
    due = now + wait
    if wait == end == math.inf and patience.between == math.inf:
        async for one in heard:
            yield one
        return
    deadline = Deadline()
    try:
        while True:
            try:
                with deadline.until(min(due, end)):
                    one = await anext(heard, None)
            except TimeoutError:
                if not deadline.expired:
                    raise
                over, seconds = ("whole answer", patience.total) if end <= due else (what, wait)
                raise UpstreamTimeoutError(
                    f"The endpoint {name} took longer than {seconds:g} s for its {over}. Try again, or "
                    f"give it more time in [endpoints.{name}] of daulat.toml.",
                    billable=True,
                ) from None
            if one is None:
                return
            yield one
            if stream and not (isinstance(one, Asked | Metered) and what == "first token"):
                # From now on, not from when it came: who listens may have been slow.
                wait, what = patience.between, "next token"
                due = time.monotonic() + wait
    finally:
        deadline.close()
