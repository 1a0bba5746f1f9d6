"""What a start imports: a server that writes never waits for PyTorch, and one asked for vectors has it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from command import environment

from daulat.models.catalogue import ModelEntry

KEY = "daulat-test-preset-0123456789-0123456789-0123456789"

_SERVE = """
import json, os, signal, sys, threading, urllib.request
from daulat.cli import serving
from daulat.cli.app import run

SEEN = {}
HEAVY = {"torch", "gguf", "jinja2", "httpx2", "scipy.special", "scipy.stats"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object",
    "properties": {"city": {"enum": ["Jakarta", "Medan"]}}, "required": ["city"],
    "additionalProperties": False}}}


def ask(url, path, **body):
    headers = {"Authorization": "Bearer " + os.environ["DAULAT_API_KEY"],
               "Content-Type": "application/json"}
    request = urllib.request.Request(url + "/v1/" + path, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request, timeout=120))


def talk(url):
    try:
        model, said = sys.argv[2], [{"role": "user", "content": "Where is the harbour?"}]
        SEEN["at the start"] = sorted(HEAVY & set(sys.modules))
        chat = ask(url, "chat/completions", model=model, messages=said, max_tokens=4)
        SEEN["chat"] = chat["choices"][0]["message"]["content"]
        called = ask(url, "chat/completions", model=model, messages=said, max_tokens=60,
                     tools=[TOOL], tool_choice="required")
        SEEN["call"] = called["choices"][0]["message"]["tool_calls"][0]["function"]
        scored = ask(url, "completions", model=model, prompt="Two and two is four", max_tokens=0,
                     echo=True, logprobs=1)
        SEEN["scores"] = len(scored["choices"][0]["logprobs"]["token_logprobs"])
        SEEN["after answers"] = sorted(HEAVY & set(sys.modules))
        vectors = ask(url, "embeddings", model=sys.argv[3], input=["harbour", "port"])
        SEEN["vectors"] = [len(one["embedding"]) for one in vectors["data"]]
        SEEN["after vectors"] = sorted({"torch"} & set(sys.modules))
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


greet = serving._Greeting.say


def say(self, url):
    greet(self, url)
    threading.Thread(target=talk, args=(url,)).start()


serving._Greeting.say = say
code = run(["up", "--home", sys.argv[1], "--port", "0"])
print(json.dumps(SEEN))
sys.exit(code)
"""


def test_answers_need_no_torch_and_vectors_bring_it(
    home: Path, starter_entry: ModelEntry, minilm_folder: Path, model_cache: Path
) -> None:
    home.mkdir(mode=0o700)
    (home / "models").symlink_to(model_cache / "models")
    arguments = [str(home), starter_entry.name, "all-MiniLM-L6-v2"]
    done = subprocess.run(
        [sys.executable, "-c", _SERVE, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(home, {"DAULAT_API_KEY": KEY}),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["at the start"] == seen["after answers"] == []
    assert seen["chat"]
    assert seen["call"]["name"] == "look"
    assert json.loads(seen["call"]["arguments"])["city"] in ("Jakarta", "Medan")
    assert seen["scores"] > 3
    assert seen["vectors"] == [384, 384]
    assert seen["after vectors"] == ["torch"]
