"""Chat templates: a conversation to a prompt, by the model's own template, which nobody trusts.

Templates are programs that come with model files. They run in a process of their own
(`template_worker`) with limits on time, memory, output and everything else; a worker that goes over
them is killed, and the next call starts a new one.

Not here: the Jinja environment (`template_worker`), where a template comes from (`tokenizer`).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from daulat.errors import TemplateError, UnavailableError
from daulat.models.template_frames import HEADER, MAX_MESSAGE
from daulat.models.tools import conversation
from daulat.values.request import Message, Tool

MAX_TEMPLATE = 256 * 1024
"""Bytes. The longest in use have some 20 thousand."""
MAX_OUTPUT = 4 * 1024 * 1024
"""Characters that a template may print beyond those of the conversation."""
SECONDS = 2.0

_START_SECONDS = 30.0
_NEXT = "Use another model, or /v1/completions with a prompt of your own."
_TRIVIAL = (Message("user", "Hello"),)
_TRIVIAL_VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}


class ChatTemplates:
    """Renders chat templates. Any thread may call; calls are served one after the other.

    Args:
        seconds: by the clock, for one render, without the start of a worker.
        output: characters that a template may print beyond those of the conversation.
    """

    def __init__(self, *, seconds: float = SECONDS, output: int = MAX_OUTPUT) -> None:
        self._seconds = seconds
        self._output = output
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def render(
        self,
        template: str,
        messages: Sequence[Message],
        variables: Mapping[str, str],
        tools: Sequence[Tool] = (),
    ) -> str:
        """The prompt for the assistant's next turn.

        Args:
            template: Jinja, as in `tokenizer_config.json` or GGUF's `tokenizer.chat_template`.
            variables: `bos_token`, `eos_token`, ...
            tools: those that the model is told of.

        Raises:
            TemplateError: the template refuses the conversation, fails, or goes over a limit.
            UnavailableError: closed, or no process can be started.
        """
        reply = self._ask(template, messages, variables, tools)
        if "text" in reply:
            return reply["text"]
        if reply["fault"] == "refused":
            raise TemplateError(
                f"The model's chat template refuses this conversation: {reply['message']}",
                param="messages",
            )
        raise _failed(f"fails: {reply['message']}.")

    def check(self, template: str) -> None:
        """Whether the template can be used at all: it renders a greeting, or refuses it by itself.

        Raises:
            TemplateError: it does neither.
            UnavailableError: closed, or no process can be started.
        """
        reply = self._ask(template, _TRIVIAL, _TRIVIAL_VARIABLES)
        if reply.get("fault") not in (None, "refused"):
            raise _failed(f"fails: {reply['message']}.")

    def start(self) -> None:
        """Start the worker now, so that the first render does not wait for it (about 0.1 s).

        Raises:
            UnavailableError: closed, or no process can be started.
        """
        with self._lock:
            self._ready()

    def close(self) -> None:
        """End the worker, behind the render in progress. Calls that follow are refused."""
        with self._lock:
            self._closed = True
            self._drop()

    def _ask(
        self,
        template: str,
        messages: Sequence[Message],
        variables: Mapping[str, str],
        tools: Sequence[Tool] = (),
    ) -> dict[str, Any]:
        request = _request(template, messages, variables, tools)
        characters = self._output + sum(map(_length, messages))
        request |= {"seconds": self._seconds, "characters": characters}
        body = _encoded(request)
        with self._lock:
            reply = self._exchange(body, characters)
            if reply.get("fault") == "memory":
                self._drop()  # whatever it holds on to goes with it
                raise _failed("needs more memory than a template may have.")
        return reply

    def _exchange(self, body: bytes, characters: int) -> dict[str, Any]:
        worker = self._ready()
        # A character is at most six bytes of JSON.
        most = 6 * max(characters, MAX_MESSAGE) + 100
        try:
            return json.loads(worker.exchange(body, most, self._seconds))
        except TimeoutError:
            self._drop()
            raise _failed(f"took longer than {self._seconds:g} s and was stopped.") from None
        except (OSError, EOFError, ValueError):
            self._drop()
            raise _failed("ended the process that renders it.") from None
        except BaseException:  # an interrupt: an answer may be under way that nobody reads
            self._drop()
            raise

    def _ready(self) -> _Worker:
        if self._closed:
            raise UnavailableError("The server is shutting down. Try again later.")
        if self._worker is not None and not self._worker.alive:
            self._drop()  # by somebody else's hand: no template ran since it last answered
        if self._worker is None:
            self._worker = _Worker()
        return self._worker

    def _drop(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None


class _Worker:
    """One process, in a session of its own: an interrupt at the terminal is its parent's affair.

    It ends when its socket closes, so also with its parent however that ends; a template that runs
    just then is stopped by the worker's own timer. (A parent-death signal would come when the
    *thread* that started the worker ends.)
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-S", "-P", "-m", "daulat.models.template_worker"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_surroundings(),
                    cwd="/",
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise _not_started() from error
        try:
            self._receive(0, time.monotonic() + _START_SECONDS)
        except (OSError, EOFError, ValueError) as error:
            self.kill()
            raise _not_started() from error

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def exchange(self, body: bytes, most: int, seconds: float) -> bytes:
        """Send a request, give back the answer.

        Raises:
            TimeoutError, OSError, EOFError: no answer in time, or none at all.
            ValueError: an answer of more than `most` bytes.
        """
        deadline = time.monotonic() + seconds
        self._socket.settimeout(seconds)
        self._socket.sendall(HEADER.pack(len(body)) + body)
        return self._receive(most, deadline)

    def kill(self) -> None:
        """End it at once and leave nothing behind."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _receive(self, most: int, deadline: float) -> bytes:
        size: int = HEADER.unpack(self._exactly(HEADER.size, deadline))[0]
        if size > most:
            raise ValueError(f"an answer of {size} bytes")
        return self._exactly(size, deadline)

    def _exactly(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            part = self._socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


def _surroundings() -> dict[str, str]:
    """The worker's environment: where modules are, and the time zone for `strftime_now`."""
    here = str(Path(__file__).parents[2])
    surroundings = {"PYTHONPATH": os.pathsep.join([here, *filter(os.path.isabs, sys.path)])}
    if "TZ" in os.environ:
        surroundings["TZ"] = os.environ["TZ"]
    return surroundings


def _length(message: Message) -> int:
    return len(message.content) + sum(len(call.arguments) for call in message.tool_calls)


def _request(
    template: str,
    messages: Sequence[Message],
    variables: Mapping[str, str],
    tools: Sequence[Tool],
) -> dict[str, Any]:
    try:
        size = len(template.encode("utf-8"))
    except UnicodeEncodeError:
        raise _failed("is not sound Unicode text.") from None
    if size > MAX_TEMPLATE:
        raise _failed(f"has {size} bytes; a template may have {MAX_TEMPLATE}.")
    plain, described = conversation(template, messages, tools)
    return {
        "template": template,
        "messages": plain,
        "tools": described,
        "variables": dict(variables),
    }


def _encoded(request: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(request, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise TemplateError(
            "The messages have half a character in them (a lone surrogate). "
            "Send sound Unicode text.",
            param="messages",
        ) from None


def _failed(what: str) -> TemplateError:
    return TemplateError(f"The model's chat template {what} {_NEXT}", param="model")


def _not_started() -> UnavailableError:
    return UnavailableError(
        "The process that renders chat templates cannot be started. "
        "Check the machine's memory and process limits, then try again."
    )
