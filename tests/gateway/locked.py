"""What a day with Daulat does, under the lock: `python locked.py HOME`, in a place without a network.

HOME has the starter model. Every command and request is one of a user's; those that would go elsewhere must be
refused by the lock. Prints "held" at the end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx2
from command import MODEL, daulat, up

from daulat.endpoints import scripted

KEY = "daulat-test-key-of-the-locked-house-0123456789"
SETTINGS = """
[policy]
lock = true
[policy.classes.public]
places = ["*"]
[policy.classes.internal]
places = ["*"]
[endpoints.near]
kind = "compatible"
url = "{url}/v1"
key = "env:UPSTREAM_KEY"
place = "this-machine"
models = ["echo"]
names = {{ echo = "scripted" }}
[endpoints.rented]
kind = "openai"
key = "env:UPSTREAM_KEY"
place = "us"
models = ["gpt-4o"]
[endpoints.office]
kind = "compatible"
url = "http://192.0.2.7/v1"
place = "own-network"
models = ["office"]
"""


def main(home: Path) -> None:
    """Raises AssertionError: something went where it must not, or did not work though it may."""
    more = {"DAULAT_API_KEY": KEY, "UPSTREAM_KEY": "scripted-secret"}
    os.environ.pop("HF_HUB_OFFLINE", None)
    with scripted.running() as upstream:
        (home / "daulat.toml").write_text(SETTINGS.format(url=upstream.url), encoding="utf-8")
        with up(home, more=more) as running:
            _ask(running.url)
        for words in (
            ("models", "pull", "some-owner/some-model"),
            ("models", "pull", "all-MiniLM-L6-v2"),
            ("endpoints", "test", "rented"),
            ("endpoints", "models", "rented"),
            ("endpoints", "test", "office"),
        ):
            done = daulat(home, *words, more=more)
            assert (done.returncode, "policy.lock" in done.stderr) == (1, True), (words, done)
        for words in (
            ("endpoints", "test", "near"),
            ("endpoints", "list"),
            ("policy", "explain", "Mail ana@example.com"),
            ("models", "list"),
            ("record", "verify"),
            ("spend",),
        ):
            done = daulat(home, *words, more=more)
            assert done.returncode == 0, (words, done)
    print("held")


def _ask(url: str) -> None:
    headers = {"authorization": f"Bearer {KEY}", "anthropic-version": "2023-06-01"}
    with httpx2.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:
        said = [{"role": "user", "content": "Where is the harbour?"}]
        bodies = {
            "/v1/chat/completions": {"messages": said, "max_tokens": 4},
            "/v1/messages": {"messages": said, "max_tokens": 4},
            "/v1/responses": {"input": "Where is the harbour?", "max_output_tokens": 16},
        }
        for path, body in bodies.items():
            for model, status in ((MODEL, 200), ("echo", 200), ("gpt-4o", 403), ("office", 403)):
                for stream in (False, True):
                    answer = client.post(path, json={"model": model, "stream": stream, **body})
                    assert answer.status_code == status, (path, model, answer.text)
        vectors = {"model": "rented/gpt-4o", "input": "x"}
        assert client.post("/v1/embeddings", json=vectors).status_code == 403
        unknown = {"model": "some-owner/some-model", "messages": said}
        assert client.post("/v1/chat/completions", json=unknown).status_code == 404
        package = {"model": "all-MiniLM-L6-v2", "input": "x"}
        answer = client.post("/v1/embeddings", json=package)
        assert "policy.lock" in answer.text, answer.text
        listed = [one["id"] for one in client.get("/v1/models").json()["data"]]
        assert listed == [MODEL, "echo"], listed
        for path in ("/", "/health", "/metrics", "/openapi.json"):
            assert client.get(path).status_code == 200


if __name__ == "__main__":
    main(Path(sys.argv[1]))
