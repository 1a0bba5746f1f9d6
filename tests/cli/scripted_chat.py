"""`python scripted_chat.py HISTORY`: the conversation with answers that a script gives, no model.

It answers "slow" until it is stopped, "escape" with what would steer a terminal, "fail" with an
error, and everything else with the roles and texts that it was asked with.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from daulat.cli.conversation import State, hold
from daulat.cli.ending import End, OnPiece
from daulat.errors import BusyError, ModelNotFoundError
from daulat.values.request import Message, Sampling


class ScriptedTalk:
    def names(self) -> tuple[str, ...]:
        return ("one", "two")

    def prepare(self, model: str) -> None:
        if model not in self.names():
            raise ModelNotFoundError(f"No model {model}.")

    def answer(
        self, model: str, messages: tuple[Message, ...], sampling: Sampling, on_piece: OnPiece
    ) -> End:
        text = messages[-1].content
        if text == "fail":
            raise BusyError("The queue is full: try again.")
        if text == "escape":
            on_piece("\x1b[31mred\x07\u202e")
        elif text == "slow":
            on_piece("begun")
            time.sleep(60)
        else:
            on_piece(" | ".join(f"{m.role}={m.content!r}" for m in messages))
        return End("rec-1", "this-machine", 1, None)


if __name__ == "__main__":
    hold(ScriptedTalk(), State("one", None, Sampling()), Path(sys.argv[1]))
