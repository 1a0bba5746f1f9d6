"""Pictures in a request: which addresses are taken. They are passed on and never fetched here."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Literal

from daulat.errors import RequestError
from daulat.values.request import Image, Message

Detail = Literal["auto", "low", "high"]

MAX_IMAGES = 64  # of one request
MAX_URL = 8192  # characters of an address; what a data URL holds is bounded by the body
MEDIA = ("image/png", "image/jpeg", "image/webp", "image/gif")

_DATA = re.compile(rf"data:({'|'.join(map(re.escape, MEDIA))});base64,", re.IGNORECASE)
_HTTPS = re.compile(r"https://[^\s/?#]+[^\s]*", re.IGNORECASE)


def image(url: str, param: str, detail: Detail | None = None) -> Image:
    """A picture by its address.

    Raises:
        RequestError: neither https nor a sound `data:` URL of a picture.
    """
    if url[:5].lower() == "data:":
        _check_data(url, param)
    elif len(url) > MAX_URL or not _HTTPS.fullmatch(url):
        raise RequestError(
            f"`{param}`: give an https address of at most {MAX_URL} characters, or a `data:` URL.",
            param=param,
        )
    return Image(url, detail, param)


def _check_data(url: str, param: str) -> None:
    head = _DATA.match(url)
    if head is None:
        raise RequestError(
            f"`{param}`: a `data:` URL must hold one of {', '.join(MEDIA)} in base64.", param=param
        )
    try:
        sound = bool(base64.b64decode(url[head.end() :].encode("ascii"), validate=True))
    except (binascii.Error, UnicodeEncodeError):
        sound = False
    if not sound:
        raise RequestError(f"`{param}`: the picture is not sound base64.", param=param)


def check_number(messages: tuple[Message, ...], param: str) -> None:
    """Raises RequestError: more pictures than one request may have."""
    number = sum(isinstance(part, Image) for message in messages for part in message.parts)
    if number > MAX_IMAGES:
        raise RequestError(
            f"`{param}` has {number} pictures: send at most {MAX_IMAGES}.", param=param
        )
