"""Gemini's and Vertex AI's dialects, driven by Google's own client and its own credentials."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from raw_http import Shown, exchange

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Access, Script, Upstream, words
from daulat.endpoints.scripted.wires import gemini as wire

genai = pytest.importorskip("google.genai")
types = genai.types

CITY = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}
TOOLS = [
    {"function_declarations": [{"name": name, "parameters": CITY} for name in ("look", "walk")]}
]
MANUAL = {"tools": TOOLS, "automatic_function_calling": {"disable": True}}


@pytest.fixture
def client(upstream: Upstream) -> Any:
    return genai.Client(api_key="k", http_options={"base_url": upstream.url})


def test_the_fields_are_those_of_the_sdk() -> None:
    theirs = types.GenerationConfig.model_json_schema(by_alias=True)["properties"].keys()
    assert theirs - wire._CONFIG == set()


@pytest.mark.parametrize("stream", [False, True])
def test_answers(client: Any, stream: bool) -> None:
    config = {"max_output_tokens": 9, "system_instruction": "Be kind."}
    given = {"model": "m", "contents": "Where is the harbour?", "config": config}
    if stream:
        chunks = list(client.models.generate_content_stream(**given))
        assert len(chunks) == 10
        text, last = "".join(chunk.text or "" for chunk in chunks), chunks[-1]
    else:
        last = client.models.generate_content(**given)
        text = last.text
    assert text == words(9)
    assert last.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    usage = last.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count) == (8, 9)


@pytest.mark.parametrize("stream", [False, True])
def test_tools(stream: bool) -> None:
    script = Script(calls=2, reasoning_tokens=7, cached_tokens=2)
    with scripted.running(script) as upstream:
        client = genai.Client(api_key="k", http_options={"base_url": upstream.url})
        given = {"model": "m", "contents": "Where?", "config": MANUAL}
        if stream:
            chunks = list(client.models.generate_content_stream(**given))
            calls = [call for chunk in chunks for call in chunk.function_calls or ()]
            last = chunks[-1]
        else:
            last = client.models.generate_content(**given)
            calls = last.function_calls
        assert [(call.name, call.args) for call in calls] == [
            ("look", {"city": "word"}),
            ("walk", {"city": "word"}),
        ]
        usage = last.usage_metadata
        assert (usage.thoughts_token_count, usage.cached_content_token_count) == (7, 2)
        billed = upstream.ledger()["totals"]
        told = usage.thoughts_token_count + usage.candidates_token_count
        assert billed["completion_tokens"] == told
        assert usage.total_token_count == billed["prompt_tokens"] + told
        result = types.Part.from_function_response(name="look", response={"output": "Sunny"})
        history = [
            types.UserContent("Where?"),
            types.ModelContent(
                [types.Part.from_function_call(name="look", args={"city": "Medan"})]
            ),
            types.UserContent([result]),
        ]
        after = client.models.generate_content(model="m", contents=history, config=MANUAL)
        assert after.function_calls is None


def test_json_that_fits(client: Any) -> None:
    config = {"response_mime_type": "application/json", "response_schema": CITY}
    answer = client.models.generate_content(model="m", contents="Where?", config=config)
    assert json.loads(answer.text) == {"city": "word"}


def test_vectors(client: Any) -> None:
    one = client.models.embed_content(
        model="m", contents=["harbour", "port"], config={"output_dimensionality": 8}
    )
    assert [len(vector.values) for vector in one.embeddings] == [8, 8]


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ("rate_limited", 429, "RESOURCE_EXHAUSTED"),
        ("error_500", 500, "INTERNAL"),
        ("overloaded_529", 503, "UNAVAILABLE"),
        ("context_length", 400, "INVALID_ARGUMENT"),
    ],
)
def test_errors_as_the_client_has_them(client: Any, fault: str, code: int, status: str) -> None:
    with pytest.raises(genai.errors.APIError) as caught:
        client.models.generate_content(model=f"m+{fault}", contents="Where?")
    assert (caught.value.code, caught.value.status) == (code, status)


def test_an_error_in_a_stream_reaches_the_client(client: Any) -> None:
    with pytest.raises(genai.errors.APIError, match="UNAVAILABLE"):
        list(client.models.generate_content_stream(model="m+error_event_mid_stream", contents="x"))


def _post(upstream: Upstream, body: object, headers: dict[str, str], query: str = "") -> Shown:
    path = f"/v1beta/models/m:generateContent{query}"
    return exchange(upstream, "POST", path, headers, json.dumps(body).encode())


def test_what_google_refuses() -> None:
    contents = [{"parts": [{"text": "x"}]}]
    with scripted.running(Script(access=Access(keys=frozenset({"right"})))) as upstream:
        right = {"x-goog-api-key": "right"}
        assert _post(upstream, {"contents": contents}, right).status == 200
        assert _post(upstream, {"contents": contents}, {}, "?key=right").status == 200
        nobody = _post(upstream, {"contents": contents}, {})
        assert (nobody.status, nobody.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
        wrong = _post(upstream, {"contents": contents}, {"x-goog-api-key": "wrong"})
        assert wrong.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        assert wrong.status == 400
        unknown = _post(upstream, {"contents": contents, "max_tokens": 3}, right)
        assert 'Unknown name "maxTokens"' in unknown.json()["error"]["message"]
        assert _post(upstream, {"contents": []}, right).status == 400
        role = [{"role": "assistant", "parts": [{"text": "x"}]}]
        assert _post(upstream, {"contents": role}, right).status == 400
        snake = {"contents": contents, "generation_config": {"max_output_tokens": 1}}
        assert _post(upstream, snake, right).status == 200
        assert "key=***" in json.dumps(upstream.requests())
        assert '"right"' not in json.dumps(upstream.requests())


# --- Vertex AI: tokens of a service account --------------------------------------------------------


def _account(upstream: Upstream, key: rsa.RSAPrivateKey, email: str = "a@p.example") -> Any:
    from google.oauth2 import service_account

    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    info = {"private_key": pem, "client_email": email, "token_uri": upstream.url + "/token"}
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    return service_account.Credentials.from_service_account_info(info, scopes=scopes)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _script(key: rsa.RSAPrivateKey, seconds: float = 3600) -> Script:
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    access = Access(
        token_seconds=seconds, google_public_key=pem.decode(), google_issuer="a@p.example"
    )
    return Script(words=5, access=access)


def _token(credentials: Any) -> str:
    import urllib3
    from google.auth.transport.urllib3 import Request

    credentials.refresh(Request(urllib3.PoolManager()))
    return credentials.token


def _vertex(upstream: Upstream, token: str, verb: str = "generateContent", **body: Any) -> Shown:
    path = f"/v1/projects/p/locations/asia-southeast2/publishers/google/models/m:{verb}"
    sent = body or {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
    return exchange(
        upstream, "POST", path, {"Authorization": f"Bearer {token}"}, json.dumps(sent).encode()
    )


def test_vertex_takes_tokens_of_a_service_account(key: rsa.RSAPrivateKey) -> None:
    pytest.importorskip("urllib3")
    with scripted.running(_script(key)) as upstream:
        credentials = _account(upstream, key)
        token = _token(credentials)
        client = genai.Client(
            vertexai=True,
            project="p",
            location="asia-southeast2",
            credentials=credentials,
            http_options={"base_url": upstream.url},
        )
        assert client.models.generate_content(model="m", contents="Where?").text == words(5)
        chunks = client.models.generate_content_stream(model="m", contents="Where?")
        assert "".join(chunk.text or "" for chunk in chunks) == words(5)
        vectors = _vertex(upstream, token, "predict", instances=[{"content": "harbour"}])
        one = vectors.json()["predictions"][0]["embeddings"]
        assert (len(one["values"]), one["statistics"]["token_count"]) == (64, 2)
        assert {e["protocol"] for e in upstream.ledger()["entries"]} == {"vertex"}
        wrong = _vertex(upstream, "made-up")
        assert (wrong.status, wrong.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_a_token_runs_out(key: rsa.RSAPrivateKey) -> None:
    pytest.importorskip("urllib3")
    with scripted.running(_script(key, seconds=0.5)) as upstream:
        token = _token(_account(upstream, key))
        assert _vertex(upstream, token).status == 200
        time.sleep(0.6)
        assert _vertex(upstream, token).status == 401
        assert _vertex(upstream, _token(_account(upstream, key))).status == 200


def test_a_false_assertion_gets_no_token(key: rsa.RSAPrivateKey) -> None:
    from google.auth.exceptions import RefreshError

    pytest.importorskip("urllib3")
    with scripted.running(_script(key)) as upstream:
        other = rsa.generate_private_key(65537, 2048)
        with pytest.raises(RefreshError, match="Invalid JWT Signature"):
            _token(_account(upstream, other))
        with pytest.raises(RefreshError, match="account not found"):
            _token(_account(upstream, key, "b@p.example"))
        form = b"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=a.b.c"
        shown = exchange(upstream, "POST", "/token", {}, form)
        assert (shown.status, shown.json()["error"]) == (400, "invalid_grant")
        assert exchange(upstream, "POST", "/token", {}, b"x=y").status == 400
