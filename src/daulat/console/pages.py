"""The routes of the console: its pages and the files that they load.

The files are read into memory at the start, and a page is made when it is first asked for, so that a path
in a request is only ever looked up in a table and never reaches the file system. Not here: what the pages say
(`words`) and do (`static/*.js`).
"""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from daulat import __version__
from daulat.console.words import LANGUAGES, catalogue, preferred_language, translate
from daulat.settings import Settings


@dataclass(frozen=True, slots=True)
class Page:
    """Attributes: `modules` are fetched ahead, besides the one that it starts with."""

    template: str
    modules: frozenset[str]


_SHARED: Final = frozenset({"api.js", "dom.js", "i18n.js", "store.js"})
_MARKDOWN: Final = frozenset(
    {"markdown.js", "vendor/highlight.js", "vendor/markdown-it.js", "vendor/purify.js"}
)
_CHAT: Final = frozenset(
    {"answer.js", "chat.js", "connection.js", "panels.js", "side.js", "view.js"}
)
PAGES: Final[Mapping[str, Page]] = {
    "/": Page("chat.html", _SHARED | _MARKDOWN | _CHAT),
    "/spend": Page("spend.html", _SHARED),
    "/label": Page("label.html", _SHARED | _MARKDOWN),
}
OPEN_PATHS: Final = frozenset({*PAGES, "/static/{path:path}"})
"""The console's routes, as the routing table writes them; all of them answer without a key."""


_CONTENT_SECURITY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Markup may enter the page through the sanitiser and through nothing else.
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": _CONTENT_SECURITY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Sent with everything that the console serves."""

# The system's own table may lack or bend these; browsers refuse modules of a wrong type.
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
}
_YEAR: Final = 31_536_000


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file: its bytes, media type, and a digest that changes when it does."""

    body: bytes
    media_type: str
    digest: str


def routes(settings: Settings) -> list[Route]:
    """The console's routes: `GET` of each page and of `/static/…`; their paths are `OPEN_PATHS`."""
    assets = _read(files("daulat.console") / "static")

    @cache
    def rendered(path: str, language: str) -> Asset:
        return _render(PAGES[path], language, assets, settings.models.default)

    async def page(request: Request) -> Response:
        language = settings.console.language
        if language == "auto":
            language = preferred_language(request.headers.get("accept-language", ""))
        headers = {"content-language": language, "vary": "accept-language"}
        return _answer(
            request, await asyncio.to_thread(rendered, request.url.path, language), headers
        )

    async def static(request: Request) -> Response:
        asset = assets.get(request.path_params["path"])
        if asset is None:
            return PlainTextResponse("Not found.\n", status_code=404, headers=HEADERS)
        return _answer(request, asset, {})

    return [
        *(Route(path, page, methods=["GET"], name=f"console:{path}") for path in PAGES),
        Route("/static/{path:path}", static, methods=["GET"], name="console-static"),
    ]


def _answer(request: Request, asset: Asset, extra: Mapping[str, str]) -> Response:
    tag = f'"{asset.digest}"'
    # Only an address that names the digest may be kept without asking again.
    fixed = request.query_params.get("v") == asset.digest
    caching = f"public, max-age={_YEAR}, immutable" if fixed else "no-cache"
    headers = {**HEADERS, **extra, "etag": tag, "cache-control": caching}
    known = (tag.strip() for tag in request.headers.get("if-none-match", "").split(","))
    if tag in known:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=asset.media_type, headers=headers)


def _asset(body: bytes, media_type: str) -> Asset:
    return Asset(body, media_type, hashlib.sha256(body).hexdigest()[:20])


def _read(folder: Traversable, prefix: str = "") -> dict[str, Asset]:
    """Every file below `folder`, by its path relative to it."""
    found: dict[str, Asset] = {}
    for item in folder.iterdir():
        if item.is_dir():
            found |= _read(item, f"{prefix}{item.name}/")
            continue
        suffix = item.name[item.name.rfind(".") :]
        media_type = _TYPES.get(suffix) or mimetypes.guess_type(item.name)[0]
        found[prefix + item.name] = _asset(
            item.read_bytes(), media_type or "application/octet-stream"
        )
    return found


def _render(page: Page, language: str, assets: Mapping[str, Asset], default_model: str) -> Asset:
    # Imported here: a start must not wait for Jinja.
    from jinja2 import PackageLoader, StrictUndefined  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    environment = ImmutableSandboxedEnvironment(
        loader=PackageLoader("daulat.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def address(path: str) -> str:
        return f"/static/{path}?v={assets[path].digest}"

    text = environment.get_template(page.template).render(
        language=language,
        _=partial(translate, language),
        address=address,
        modules=sorted(page.modules),
        data={
            "version": __version__,
            "defaultModel": default_model,
            "catalogues": {name: catalogue(name) for name in LANGUAGES},
        },
    )
    return _asset(text.encode(), "text/html; charset=utf-8")
