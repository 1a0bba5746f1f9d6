"""The process in which chat templates run: a stranger's programs, so they get a cell.

It takes requests from one socket (file descriptor 0), renders, answers, and knows nothing else: an
immutable Jinja sandbox inside, limits of the operating system around it. What a template can do to
this process ends with it; `models.templates` starts the next one.

A frame is four bytes of length (big endian) and as many bytes of JSON, UTF-8:

    request  {"template", "messages", "tools", "variables", "seconds", "characters"}
    answer   {"text"} or {"fault": "refused" | "failed" | "memory", "message"}

The templates see what `transformers.utils.chat_template_utils` (5.x) gives them, and no more.

Not here: words for the user, starting and killing (`templates`). Nothing of Daulat is imported, so
that the process is small and quick to start.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from daulat.models.template_frames import HEADER, MAX_MESSAGE

_MEMORY = 512 * 1024 * 1024
_TEMPLATES_KEPT = 16
_SOCKET = 0

# (limit, value), set for ever once everything is imported. No file descriptor beyond 0 to 2.
_LIMITS = (
    (resource.RLIMIT_AS, _MEMORY),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_NOFILE, 3),
    (resource.RLIMIT_NPROC, 0),
)

JSON = dict[str, Any]


class Refused(jinja2.TemplateError):
    """The template called `raise_exception`: it does not take this conversation."""


class TooMuch(Exception):
    """The template printed more than it may."""


class GenerationBlocks(Extension):
    """`{% generation %}` marks the assistant's text for training; here it is just printed."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Called by Jinja at the tag. A scope of its own, as in Hugging Face."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("print_body"), [], [], body).set_lineno(line)

    def print_body(self, caller: Macro) -> str:
        """Called by the template."""
        return caller()


class PlainNamespace(Namespace):
    """`namespace()` without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # pyright: ignore[reportSelfClsParameterName]
        self, *rest = args  # so that `namespace(self=...)` works, as in Jinja's own
        values: JSON = dict(*rest, **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.TemplateError("a namespace cannot hold a name that begins with an underscore")


def _raise_exception(message: object) -> NoReturn:
    raise Refused(str(message)[:MAX_MESSAGE])


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)  # the user's own clock, as in Hugging Face


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML, and a prompt is not HTML.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _make_dict(*args: Any, **kwargs: Any) -> JSON:
    return dict(*args, **kwargs)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    known: JSON = environment.globals  # pyright: ignore[reportAssignmentType] - any value will do
    known["raise_exception"] = _raise_exception
    known["strftime_now"] = _strftime_now
    known["dict"] = _make_dict
    known["namespace"] = PlainNamespace
    return environment


_ENVIRONMENT = _environment()


@lru_cache(maxsize=_TEMPLATES_KEPT)
def _compiled(template: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(template)


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    variables: Mapping[str, str],
    characters: int,
) -> str:
    """The prompt.

    Raises:
        TooMuch: it has more than `characters` characters.
        Exception: whatever a template may cause.
    """
    context = {
        **variables,
        "messages": messages,
        "tools": tools,
        "documents": None,
        "add_generation_prompt": True,
    }
    pieces: list[str] = []
    length = 0
    for piece in _compiled(template).generate(context):
        length += len(piece)
        if length > characters:
            raise TooMuch
        pieces.append(piece)
    return "".join(pieces)


def answer(request: JSON) -> bytes:
    """The answer's frame body; never raises for what a template did."""
    try:
        text = render(
            request["template"],
            request["messages"],
            request["tools"],
            request["variables"],
            request["characters"],
        )
        return _encoded({"text": text})
    except MemoryError:
        return _encoded({"fault": "memory", "message": ""})
    except Refused as error:
        return _fault("refused", str(error))
    except Exception as error:
        return _fault("failed", _explained(error))


def _explained(error: Exception) -> str:
    match error:
        case TooMuch():
            return "it prints too much"
        case RecursionError():
            return "it nests too deeply"
        case UnicodeError():
            return "it prints half a character"
        case jinja2.TemplateSyntaxError():
            return f"line {error.lineno}: {error.message}"
        case jinja2.TemplateError():
            return str(error).rstrip(".")  # ours follows
        case _:
            # Python's own messages quote values, and values are the conversation.
            return type(error).__name__


def _fault(fault: str, message: str) -> bytes:
    sound = message.encode("utf-8", "replace").decode("utf-8")
    return _encoded({"fault": fault, "message": sound[:MAX_MESSAGE]})


def _encoded(value: JSON) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8")


def _confine() -> None:
    # What Jinja and Python load late must be loaded while files can still be opened.
    _strftime_now("%c")
    for template in ("{{ 'a' }}", "{% if %}", "{{ [][0][0] }}"):
        _rehearse(template)
    for limit, value in _LIMITS:
        with contextlib.suppress(ValueError):  # a hard limit that is lower already
            resource.setrlimit(limit, (value, value))


def _rehearse(template: str) -> None:
    request: JSON = {"template": template, "messages": [], "tools": None, "variables": {}}
    answer({**request, "characters": 1})
    _compiled.cache_clear()


def _arm(seconds: float) -> None:
    """Die soon after the parent's patience, for the parent may be gone by then."""
    signal.setitimer(signal.ITIMER_REAL, seconds + 1)
    used = int(time.process_time() + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (used, resource.RLIM_INFINITY))


def _read(size: int) -> bytes:
    """Exactly `size` bytes; fewer when the parent is gone."""
    data = bytearray()
    while len(data) < size and (part := os.read(_SOCKET, size - len(data))):
        data += part
    return bytes(data)


def _write(body: bytes) -> None:
    rest = memoryview(HEADER.pack(len(body)) + body)
    while rest:
        rest = rest[os.write(_SOCKET, rest) :]


def main() -> None:
    """Serve until the socket is closed. An empty first frame says that the worker is ready."""
    _confine()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _write(b"")
        while len(header := _read(HEADER.size)) == HEADER.size:
            request: JSON = json.loads(_read(HEADER.unpack(header)[0]))
            _arm(request["seconds"])
            _write(answer(request))
            signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
