"""The official SDK, sync and async, against the running server with the starter model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from servers import EMBEDDER, STARTER, Server, wait_until

from daulat.engine.native import units

ASK: Any = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


def chat(client: OpenAI, **fields: Any) -> Any:
    fields = {"max_tokens": 12, "temperature": 0, "messages": ASK, **fields}
    return client.chat.completions.create(model=STARTER, **fields)


def complete(client: OpenAI, prompt: Any, **fields: Any) -> Any:
    fields = {"max_tokens": 6, "temperature": 0, **fields}
    return client.completions.create(model=STARTER, prompt=prompt, **fields)


def test_chat(client: OpenAI) -> None:
    answer = chat(client)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model == STARTER
    assert answer.daulat["place"] == "this-machine"
    assert answer.daulat["record"].startswith("rec-")


def test_the_answers_own_message_can_be_sent_back(client: OpenAI) -> None:
    message = chat(client).choices[0].message
    assert chat(client, messages=[*ASK, message, ASK[0]]).choices[0].message.content


def test_headers_name_the_exchange(client: OpenAI) -> None:
    raw: Any = client.chat.completions.with_raw_response.create(
        model=STARTER, messages=ASK, max_tokens=1
    )
    answer = raw.parse()
    assert raw.headers["daulat-record"] == answer.daulat["record"]
    assert raw.headers["daulat-endpoint"] == "native"
    assert raw.headers["daulat-place"] == "this-machine"
    assert answer._request_id == raw.headers["x-request-id"]


def test_stream_says_what_the_whole_answer_says(client: OpenAI) -> None:
    whole = chat(client).choices[0]
    chunks = list(chat(client, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.message.content
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason
    assert all(c.usage is None for c in chunks)
    assert chunks[-1].daulat["timings"]["first_token"] > 0
    assert len({c.id for c in chunks}) == 1


def test_stream_with_usage(client: OpenAI) -> None:
    whole = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].daulat["record"].startswith("rec-")
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(c.usage is None for c in chunks[:-1])


async def test_async(server: Server) -> None:
    async with server.async_sdk() as client:
        ask = {"model": STARTER, "messages": ASK, "max_tokens": 8, "temperature": 0}
        first, second = await asyncio.gather(
            client.chat.completions.create(**ask), client.chat.completions.create(**ask)
        )
        assert first.choices[0].message.content == second.choices[0].message.content
        stream = await client.chat.completions.create(**ask, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(pieces) == first.choices[0].message.content
        assert [model.id async for model in client.models.list()]


def test_the_same_seed_gives_the_same_answer(client: OpenAI) -> None:
    def texts(seed: int) -> list[str]:
        answer = chat(client, temperature=1.5, seed=seed, n=3, max_tokens=10)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        return [choice.message.content for choice in answer.choices]

    assert texts(7) == texts(7)
    assert texts(7) != texts(8)
    assert len(set(texts(7))) > 1


def test_a_stop_string_ends_the_answer_before_it(client: OpenAI) -> None:
    whole = complete(client, "1, 2, 3, 4,", max_tokens=20).choices[0].text
    stop = whole[4:8]
    for fields in ({"stop": stop}, {"stop": ["never said", stop]}):
        choice = complete(client, "1, 2, 3, 4,", max_tokens=20, **fields).choices[0]
        assert choice.text == whole[: whole.index(stop)]
        assert choice.finish_reason == "stop"
    chunks = list(complete(client, "1, 2, 3, 4,", max_tokens=20, stop=stop, stream=True))
    assert "".join(c.choices[0].text for c in chunks) == whole[: whole.index(stop)]


def test_ignore_eos_goes_on_to_the_limit(client: OpenAI) -> None:
    answer = chat(client, max_tokens=40, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 40
    assert answer.choices[0].finish_reason == "length"


def test_extension_fields_are_honoured(client: OpenAI) -> None:
    likeliest = chat(client).choices[0].message.content
    narrow = {"top_k": 1, "min_p": 1.0, "repetition_penalty": 1.0}
    sampled = chat(client, temperature=2, extra_body=narrow)
    assert sampled.choices[0].message.content == likeliest


def test_chat_logprobs(client: OpenAI) -> None:
    choice = chat(client, logprobs=True, top_logprobs=3).choices[0]
    tokens = choice.logprobs.content
    assert bytes(b for token in tokens for b in token.bytes).decode() == choice.message.content
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token  # the likeliest, at temperature 0
        assert [t.logprob for t in token.top_logprobs] == sorted(
            (t.logprob for t in token.top_logprobs), reverse=True
        )
    streamed = chat(client, logprobs=True, stream=True)
    again = [t for c in streamed for t in (c.choices[0].logprobs or _None).content]
    assert [t.token for t in again] == [t.token for t in tokens]
    assert chat(client).choices[0].logprobs is None


class _None:
    content: tuple[Any, ...] = ()


def test_logit_bias_forbids_a_token(client: OpenAI) -> None:
    only = {"504": 100}
    first = complete(client, "The sky is", max_tokens=2, logit_bias=only)
    assert complete(client, [504], max_tokens=1, echo=True).choices[0].text[0:1]
    again = complete(client, "The sky is", max_tokens=2, logit_bias={"504": -100})
    assert first.choices[0].text != again.choices[0].text


def test_completions_take_all_four_shapes(client: OpenAI) -> None:
    alone = complete(client, "The capital of France is").choices[0].text
    both = complete(client, ["The capital of France is", "One, two,"])
    assert [choice.index for choice in both.choices] == [0, 1]
    assert both.choices[0].text == alone
    tokens = complete(client, [504, 3575, 282, 4649, 314])
    pair = complete(client, [[504, 3575, 282, 4649, 314], [504]])
    assert pair.choices[0].text == tokens.choices[0].text
    assert len(pair.choices) == 2


def test_completions_n_and_echo(client: OpenAI) -> None:
    answer = complete(client, ["a b c", "x y z"], n=2, echo=True, temperature=1, seed=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert all(choice.text.startswith("a b c") for choice in answer.choices[:2])
    assert all(choice.text.startswith("x y z") for choice in answer.choices[2:])
    assert answer.choices[0].text != answer.choices[1].text


def test_completions_have_at_most_16_tokens_unless_told(client: OpenAI) -> None:
    answer = client.completions.create(
        model=STARTER, prompt="1 2 3", extra_body={"ignore_eos": True}
    )
    assert answer.usage
    assert answer.usage.completion_tokens == 16


def test_completions_logprobs(client: OpenAI) -> None:
    choice = complete(client, "Colours: red,", logprobs=2).choices[0]
    found = choice.logprobs
    assert "".join(found.tokens) == choice.text
    assert len(found.tokens) == len(found.token_logprobs) == len(found.text_offset)
    for at, token in zip(found.text_offset, found.tokens, strict=True):
        assert choice.text[at:].startswith(token)
    assert all(len(top) == 2 for top in found.top_logprobs)
    assert complete(client, "x", logprobs=0).choices[0].logprobs.top_logprobs is None


def test_completions_echo_with_logprobs(client: OpenAI) -> None:
    prompt = "Colours: red, grün, 🎉 and <|im_end|>"
    plain = complete(client, prompt, echo=True).choices[0]
    answer = complete(client, prompt, echo=True, logprobs=2)
    choice, found = answer.choices[0], answer.choices[0].logprobs
    assert choice.text == plain.text
    assert len(found.tokens) == answer.usage.total_tokens
    assert len(found.token_logprobs) == len(found.top_logprobs) == len(found.tokens)
    assert found.token_logprobs[0] is None
    assert found.top_logprobs[0] is None
    assert all(p < 0 for p in found.token_logprobs[1:])
    assert all(1 <= len(top) <= 2 for top in found.top_logprobs[1:])
    # A special token that an answer makes adds nothing to its text; one that is told is a part of it.
    told = found.tokens.index("<|im_end|>")
    for at, token in zip(found.text_offset[: told + 1], found.tokens, strict=False):
        assert token.startswith("bytes:") or choice.text[at:].startswith(token)
    assert found.text_offset == sorted(found.text_offset)
    # Without an answer, and in a stream: the same numbers.
    count = answer.usage.prompt_tokens
    only = complete(client, prompt, echo=True, logprobs=2, max_tokens=0)
    assert only.choices[0].text == prompt
    assert only.choices[0].finish_reason == "length"
    assert only.usage.completion_tokens == 0
    assert only.choices[0].logprobs.token_logprobs == found.token_logprobs[:count]
    for most in (0, 1, 16):
        options = {"echo": True, "logprobs": 2, "max_tokens": most}
        whole = complete(client, prompt, **options).choices[0]
        chunks = [c.choices[0] for c in complete(client, prompt, stream=True, **options)]
        assert "".join(chunk.text for chunk in chunks) == whole.text
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            parts = [getattr(chunk.logprobs, name) for chunk in chunks if chunk.logprobs]
            assert [one for part in parts for one in part] == getattr(whole.logprobs, name)
    assert complete(client, prompt, echo=True, max_tokens=0).choices[0].text == prompt


def test_completions_score_what_they_answer_and_what_they_are_told_alike(client: OpenAI) -> None:
    first = complete(client, "Colours: red,", logprobs=1, max_tokens=4).choices[0]
    again = complete(client, "Colours: red," + first.text, logprobs=1, max_tokens=0, echo=True)
    found, count = again.choices[0].logprobs, len(first.logprobs.tokens)
    assert count == 4
    assert found.tokens[-count:] == first.logprobs.tokens
    # What is read by matrix units is rounded otherwise than what is written: either moves a logit by 0.06 (root
    # mean square).
    away = 0.3 if units.there() else 0.03
    assert found.token_logprobs[-count:] == pytest.approx(first.logprobs.token_logprobs, abs=away)
    for logprob, top in zip(
        found.token_logprobs[-count:], found.top_logprobs[-count:], strict=True
    ):
        assert logprob == max(top.values())  # greedy: to the bit


def test_completions_score_many_prompts_of_tokens(client: OpenAI) -> None:
    prompts = [[504, 3575, 282 + i % 7, 4649][: 1 + i % 4] for i in range(256)]
    answer = complete(client, prompts, echo=True, logprobs=1, max_tokens=1, seed=1234)
    assert [choice.index for choice in answer.choices] == list(range(256))
    for choice, prompt in zip(answer.choices, prompts, strict=True):
        assert len(choice.logprobs.token_logprobs) == len(prompt) + 1
    assert answer.choices[3].logprobs == answer.choices[31].logprobs
    both = complete(client, prompts[:4], echo=True, logprobs=1, max_tokens=0, n=2)
    assert len(both.choices) == 8
    assert both.choices[6].logprobs == both.choices[7].logprobs
    assert (
        both.choices[6].logprobs.token_logprobs == (answer.choices[3].logprobs.token_logprobs[:-1])
    )


def test_a_scored_prompt_as_long_as_the_context(client: OpenAI) -> None:
    prompt = [1000 + i % 500 for i in range(8192)]
    asked = {"model": STARTER, "prompt": prompt, "echo": True, "logprobs": 1}
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(**asked, max_tokens=1)
    assert refused.value.code == "context_length_exceeded"
    part = client.completions.create(**{**asked, "prompt": prompt[:1500]}, max_tokens=0)
    assert part.choices[0].logprobs
    assert len(part.choices[0].logprobs.token_logprobs or ()) == 1500


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 0, "logprobs": 1}, "max_tokens"),
        ({"max_tokens": -1, "echo": True}, "max_tokens"),
        ({"logprobs": 21, "echo": True}, "logprobs"),
        ({"prompt": [], "echo": True, "logprobs": 1}, "prompt"),
        ({"prompt": [[]], "echo": True, "logprobs": 1}, "prompt[0]"),
        ({"prompt": "", "echo": True, "logprobs": 1}, "prompt"),
        ({"prompt": [49_152], "echo": True, "logprobs": 1, "max_tokens": 0}, "prompt"),
        ({"prompt": [[1]] * 257, "echo": True, "logprobs": 1}, "prompt"),
    ],
)
def test_scores_that_cannot_be_given(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(**{"model": STARTER, "prompt": "a", **fields})
    assert refused.value.param == param


def test_completions_stream_with_usage(client: OpenAI) -> None:
    whole = complete(client, "Colours: red,")
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(complete(client, "Colours: red,", **options))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_no_character_is_cut_in_a_stream(server: Server) -> None:
    prompt = "🎉🎊🥳 日本語 ÄÖÜ 🎉🎊🥳 日本語 ÄÖÜ 🎉🎊🥳 日本語"
    body = {"model": STARTER, "prompt": prompt, "max_tokens": 24, "temperature": 0}
    whole = server.post("/v1/completions", body).json()["choices"][0]["text"]
    lines = server.post("/v1/completions", {**body, "stream": True}).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    pieces = [choice["text"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(pieces) == whole
    assert not any("\ufffd" in piece for piece in pieces[:-2])


def test_models(client: OpenAI) -> None:
    models = list(client.models.list())
    assert STARTER in [model.id for model in models]
    one: Any = client.models.retrieve(STARTER)
    assert one.object == "model"
    assert one.daulat["digest"].startswith("sha256:")
    assert one.daulat["kind"] == "text"


def test_embeddings(client: OpenAI) -> None:
    texts = ["a cat", "a kitten", "stock exchange"]
    encoded = client.embeddings.create(model=EMBEDDER, input=texts)  # base64, as the SDK asks
    plain = client.embeddings.create(model=EMBEDDER, input=texts, encoding_format="float")
    assert [item.index for item in plain.data] == [0, 1, 2]
    for one, other in zip(encoded.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    cat, kitten, exchange = (item.embedding for item in plain.data)

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert dot(cat, cat) == pytest.approx(1, abs=1e-4)
    assert dot(cat, kitten) > dot(cat, exchange)
    assert encoded.usage.prompt_tokens > 0


def test_a_prompt_that_does_not_fit_is_told_both_numbers(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"8192.*900[0-9]|900[0-9].*8192") as caught:
        complete(client, [504] * 9000)
    assert caught.value.code == "context_length_exceeded"


def test_errors_are_the_sdks_own_classes(server: Server, client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        chat(server.sdk(api_key="daulat-wrong"))
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="no-such-model", messages=ASK)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, functions=[{"name": "f"}])
    assert refused.value.param == "functions"
    with pytest.raises(openai.BadRequestError) as unknown:
        chat(client, extra_body={"colour": "red"})
    assert (unknown.value.code, unknown.value.param) == ("unknown_field", "colour")
    with pytest.raises(openai.BadRequestError) as embedder:
        client.embeddings.create(model=STARTER, input="x")
    assert embedder.value.param == "model"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_its_place(server: Server, stream: bool) -> None:
    client = server.sdk(timeout=1.5)
    forever = {"max_tokens": 4000, "extra_body": {"ignore_eos": True}}
    if stream:
        answer = chat(client, stream=True, **forever)
        next(iter(answer))
        wait_until(lambda: server.metric("daulat_running") == 1)
        answer.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            chat(client, **forever)
    wait_until(lambda: server.metric("daulat_running") == 0, seconds=3)


def test_who_begins_alike_is_served_from_what_the_same_key_computed(server: Server) -> None:
    text = "The nine planets, as they were counted until 2006, are these: " * 12
    with server.sdk() as one, server.sdk(api_key=server.new_key("another")) as other:
        answers = [complete(client, text) for client in (one, one, other, other)]
    cached = [a.usage.prompt_tokens_details.cached_tokens for a in answers]
    whole = answers[0].usage.prompt_tokens
    assert cached[0] == cached[2] == 0
    assert cached[1] == cached[3] == (whole - 1) // 32 * 32 > 100
    assert len({a.choices[0].text for a in answers}) == 1
