"""What the console serves: headers, caching, languages, and nothing but its own files."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from babel.messages import Catalog
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Match
from starlette.testclient import TestClient

from daulat.console import OPEN_PATHS, routes
from daulat.console.messages import MESSAGES, PLURALS
from daulat.console.pages import PAGES
from daulat.console.words import LANGUAGES, catalogue, preferred_language, translate
from daulat.settings import load

CONSOLE = Path(str(files("daulat.console")))
LOCALE = CONSOLE.parent / "locale"


@pytest.fixture
def client(home: Path) -> TestClient:
    return TestClient(Starlette(routes=routes(load(home))))


def test_the_open_paths_are_the_routes(home: Path) -> None:
    assert {route.path for route in routes(load(home))} == OPEN_PATHS


def test_headers_forbid_everything_foreign(client: TestClient) -> None:
    for path in ("/", "/static/main.js", "/static/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"


def test_the_page_names_no_other_host(client: TestClient) -> None:
    for path in PAGES:
        page = client.get(path).text
        assert not re.findall(
            r"(?:src|href|action)=\"(?!/static/|#|/spend\"|/label\"|/\")[^\"]*\"", page
        )
        assert "style=" not in page
        assert not re.findall(r"<script(?![^>]*(?:application/json|src=))", page)


def test_every_address_in_the_page_answers(client: TestClient) -> None:
    for path in PAGES:
        for address in re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", client.get(path).text):
            answer = client.get(address)
            assert answer.status_code == 200, address
            assert ("immutable" in answer.headers["cache-control"]) == ("?v=" in address)


@pytest.mark.parametrize(
    ("path", "script"), [("/", "main.js"), ("/spend", "spend.js"), ("/label", "label.js")]
)
def test_a_page_fetches_ahead_what_its_script_imports(
    client: TestClient, path: str, script: str
) -> None:
    static, seen, todo = CONSOLE / "static", set[str](), [script]
    while todo:
        one = todo.pop()
        text = static.joinpath(one).read_text(encoding="utf-8")
        found = set(re.findall(r"from \"\./([^\"]+)\"", text))
        todo += found - seen
        seen |= found
    assert PAGES[path].modules == seen


def test_unchanged_files_are_not_sent_twice(client: TestClient) -> None:
    for path in ("/", "/static/style.css"):
        tag = client.get(path).headers["etag"]
        again = client.get(path, headers={"if-none-match": f'"other", {tag}'})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get("/static/style.css?v=old").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "../pages.py",
        "..%2fpages.py",
        "%2e%2e/pages.py",
        "..%5cpages.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "vendor",
        "vendor/",
        "",
        "main.js%00.css",
        "a" * 5000,
    ],
)
def test_no_other_file_is_served(client: TestClient, path: str) -> None:
    assert client.get("/static/" + path).status_code == 404


def test_head_is_answered_and_post_is_not(client: TestClient) -> None:
    assert client.head("/").status_code == 200
    assert client.post("/").status_code == 405


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("id", "id"),
        ("id-ID,id;q=0.9,en;q=0.8", "id"),
        ("en-GB,id;q=0.9", "en"),
        ("de,id;q=0.3,en;q=0.2", "id"),
        ("fr", "en"),
        ("id;q=0", "en"),
        ("id;q=banana", "en"),
        ("in", "id"),
    ],
)
def test_the_visitors_language(client: TestClient, accept: str, language: str) -> None:
    answer = client.get("/", headers={"accept-language": accept})
    assert answer.headers["content-language"] == language
    assert f'<html lang="{language}">' in answer.text


def test_settings_fix_the_language(home: Path) -> None:
    home.mkdir()
    home.joinpath("daulat.toml").write_text('[console]\nlanguage = "id"\n', encoding="utf-8")
    client = TestClient(Starlette(routes=routes(load(home))))
    answer = client.get("/", headers={"accept-language": "en"})
    assert answer.headers["content-language"] == "id"


@given(st.text(max_size=200))
def test_any_language_header_is_survived(header: str) -> None:
    assert preferred_language(header) in LANGUAGES


def test_both_catalogues_are_in_the_page(client: TestClient) -> None:
    data = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', client.get("/").text
    )
    assert data
    assert json.loads(data[1])["catalogues"] == {name: catalogue(name) for name in LANGUAGES}


def test_the_page_uses_the_messages_of_the_table() -> None:
    templates = (CONSOLE / "templates").glob("*.html")
    template = "\n".join(path.read_text(encoding="utf-8") for path in templates)
    scripts = [path.read_text(encoding="utf-8") for path in (CONSOLE / "static").glob("*.js")]
    pattern = r"\b(?:t|text|label|name|hint)\(\s*\"([^\"]+)\""
    used = {found for source in [template, *scripts] for found in re.findall(pattern, source)}
    plurals = {
        found for source in scripts for found in re.findall(r"\btn\(\s*\"([^\"]+)\"", source)
    }
    assert used <= set(MESSAGES)
    assert plurals == {one for one, _ in PLURALS}
    everything = "\n".join([template, *scripts])
    assert [message for message in MESSAGES if f'"{message}"' not in everything] == []


def test_a_message_outside_the_table_is_refused() -> None:
    with pytest.raises(KeyError):
        translate("id", "never written")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_catalogues_are_whole(language: str) -> None:
    folder = LOCALE / language / "LC_MESSAGES"
    with (folder / "console.po").open("rb") as file:
        texts = _texts(read_po(file, locale=language))
    with (folder / "console.mo").open("rb") as file:
        assert texts == _texts(read_mo(file))
    assert set(texts) == {*MESSAGES, *(one for one, _ in PLURALS)}
    for original, forms in texts.items():
        for form in forms:
            assert form, original
            assert _places(form) == _places(original)


def _texts(catalogue: Catalog) -> dict[str, list[str]]:
    """Each message with its translations: one, or one per plural form."""
    return {
        message.id if isinstance(message.id, str) else message.id[0]: (
            [message.string] if isinstance(message.string, str) else list(message.string)
        )
        for message in catalogue
        if message.id
    }


def _places(text: str) -> set[str]:
    return set(re.findall(r"\{\w+\}", text))


def test_vendored_files_are_what_their_list_says() -> None:
    vendor = CONSOLE / "static" / "vendor"
    listed = (vendor / "README.md").read_text(encoding="utf-8")
    for path in vendor.glob("*.js"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert re.search(rf"`{re.escape(path.name)}`.*`{digest}`", listed), path.name


def test_the_pages_answer_every_path_they_claim(home: Path) -> None:
    scope = {"type": "http", "method": "GET", "path": "/v1/models"}
    assert all(route.matches(scope)[0] is Match.NONE for route in routes(load(home)))
