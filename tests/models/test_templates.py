"""Chat templates: as Hugging Face renders them, and nothing that a hostile one does gets out.

The templates are short ones of our own, with the constructs of the families that they are named after.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jinja2
import psutil
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from daulat.errors import TemplateError, UnavailableError
from daulat.models.templates import MAX_TEMPLATE, ChatTemplates
from daulat.values.request import Message

SOUND = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
HELLO = (Message("user", "Hello"),)
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}

FAMILIES = {
    "llama 3": """{% set loop_messages = messages %}{% for message in loop_messages %}
{% set content = '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim + '<|eot|>' %}
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}
{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\\n\\n' }}{% endif %}""",
    "llama 3.1": """{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system_message = "" %}{%- endif %}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today: " + date_string + "\\n" + system_message }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- message['role'] + ': ' + message['content'] | trim }}
    {%- elif message.tool_calls|length != 1 %}{{- raise_exception("one call") }}{%- endif %}
{%- endfor %}""",
    "llama 2": """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}
{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}
{% set system_message = false %}{% endif %}{% for message in loop_messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{% if loop.index0 == 0 and system_message != false %}
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}
{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}
{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "mistral": """{%- set ns = namespace(index=0) %}
{%- for message in messages if message.role != "system" %}
    {%- if message["role"] == "user" or not message.tool_calls is defined %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must alternate") }}
        {%- endif %}{%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message["role"] == "user" %}{{- "[INST] " + message["content"] + "[/INST]" }}
    {%- elif message["role"] == "assistant" %}{{- " " + message["content"]|trim + eos_token}}
    {%- else %}{{- message["content"] ~ "\\n" }}{%- endif %}
{%- endfor %}""",
    "mixtral": """{{ bos_token }}{% for message in messages %}
{%- if message['role'] not in ['user', 'assistant', 'system'] -%}
{{ raise_exception('Only user and assistant roles are supported!') }}{%- endif -%}
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}
{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}""",
    "granite 3": """{%- if messages[0]['role'] == 'system' %}
     {%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}
 {%- else %}
     {%- set system_message = "Today's Date: " + strftime_now('%B %d, %Y') + ".\\nYou are Granite." %}
     {%- if tools and documents %}{%- set system_message = system_message + " Tools." %}
     {%- elif thinking %}{%- set system_message = system_message + " Think." %}{%- endif %}
     {%- set loop_messages = messages %}
 {%- endif %}
 {{- '<|role|>system<|end|>' + system_message + '<|eot|>\\n' }}
 {%- if documents %}{{- documents | tojson(indent=4) }}{%- endif %}
 {%- for message in loop_messages %}
     {{- '<|role|>' + message['role'] + '<|end|>' + message['content'] + '<|eot|>\\n' }}
     {%- if loop.last and add_generation_prompt %}
         {{- '<|role|>assistant' }}{%- if controls %}{{- ' ' + controls | tojson()}}{%- endif %}
         {{- '<|end|>' }}
     {%- endif %}
 {%- endfor %}""",
    "qwen 3": """{%- macro shown(message, depth=0) %}
{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content.split('</think>')[-1].lstrip('\\n') }}
{%- endmacro %}
{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string
        and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if loop.index0 > ns.last and message.role == 'assistant' %}{%- continue %}{%- endif %}
    {{- shown(message) + '<|im_end|>\\n' }}
{%- endfor %}
{{- ns.last }}{{- messages[-1].role | upper | replace('USER', 'u') }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>' }}{%- endif %}
{{- messages | map(attribute='role') | list | tojson }}{{- {"b": "<é&'>", "a": 1} | tojson }}""",
    "smollm 2": """{% for message in messages %}
{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    "gemma 3": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}{%- set first = messages[0]['content'][0]['text'] + '\\n\\n' -%}{%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}{%- set first = "" -%}{%- set loop_messages = messages -%}{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate") }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start>' + role + '\\n' + (first if loop.first else "") }}
    {%- if message['content'] is iterable and message['content'] is not string -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- else -%}{{ message['content'] | trim }}{%- endif -%}
    {{ '<end>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<start>model\\n'}}{%- endif -%}""",
    "training marks": """{% for message in messages %}{% if message.role == 'assistant' %}
{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}
{% else %}{{ message.content }}{% if loop.index > 3 %}{% break %}{% endif %}{% endif %}
{% endfor %}{{ pad_token }}{{ dict(a=1).a }}{{ namespace(self=2)['self'] }}""",
}
CONVERSATIONS = {
    "one turn": HELLO,
    "system": (Message("system", " Be brief. "), Message("user", "Selamat pagi! 早上好 🙂\n")),
    "turns": (
        Message("user", "a"),
        Message("assistant", "<think>x</think>\n b "),
        Message("user", "c {{ 1 }}"),
    ),
    "wrong order": (Message("assistant", "a"), Message("user", "b")),
    "named": (Message("user", "a\x00\u2028b", name="Budi"), Message("assistant", "")),
}


@pytest.fixture(scope="module")
def templates() -> Iterator[ChatTemplates]:
    with ChatTemplates(seconds=1.0) as made:
        yield made


def huggingface(template: str, messages: tuple[Message, ...]) -> str | jinja2.TemplateError:
    plain: list[dict[str, Any]] = [
        {"role": m.role, "content": m.content} | ({"name": m.name} if m.name else {})
        for m in messages
    ]
    try:
        rendered, _ = render_jinja_template(
            [plain], chat_template=template, add_generation_prompt=True, **VARIABLES
        )
    except jinja2.TemplateError as refusal:
        return refusal
    return rendered[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_as_hugging_face_renders_it(
    templates: ChatTemplates, family: str, conversation: str
) -> None:
    template, messages = FAMILIES[family], CONVERSATIONS[conversation]
    expected = huggingface(template, messages)
    if isinstance(expected, str):
        assert templates.render(template, messages, VARIABLES) == expected
    else:
        with pytest.raises(TemplateError) as caught:
            templates.render(template, messages, VARIABLES)
        assert caught.value.message.endswith(f"refuses this conversation: {expected}")


def test_a_developer_is_the_system(templates: ChatTemplates) -> None:
    messages = (Message("developer", "Be brief."), Message("user", "42"))
    assert templates.render(SOUND, messages, {}) == "<system>Be brief.<user>42"


HOSTILE = {
    "endless loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "slow filter": "{{ range(99999) | map('string') | sort | join | list | sort | groupby(0) | list }}"
    * 200,
    "memory": "{{ 'a' * 10**9 }}",
    "memory by lists": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "format width": "{{ '%2000000000d' | format(1) }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "deep nesting": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "deep blocks": "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
    "long sum": "{{ 1" + "+1" * 20_000 + " }}",
    "class": "{{ ''.__class__.__mro__ }}",
    "class by filter": "{{ (''|attr('__class__')).__mro__ }}",
    "globals": "{{ cycler.__init__.__globals__ }}",
    "globals by index": "{{ lipsum['__globals__']['os'].popen('id').read() }}",
    "our own functions": "{{ raise_exception.__globals__['os'] }}",
    "our own classes": "{{ namespace.__init__.__globals__ }}",
    "private name": "{% set ns = namespace(__class__=1) %}",
    "format string": "{{ '{0.__class__.__mro__}'.format(1).x.y }}",
    "format map": "{{ '{a.__class__}'.format_map({'a': 1}).x.y }}",
    "formatter by map": "{{ ['{0.__class__}'] | map('format', 1) | first | attr('x') | first }}{{ 1/0 }}",
    "list changed": "{{ messages.append(1) }}",
    "message changed": "{{ messages[0].update({'role': 'x'}) }}",
    "huge output": "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "huge piece": "{{ 'x' * 50000000 }}",
    "huge power": "{{ 9 ** (9 ** 9) }}",
    "huge number": "{{ 2 ** 100000 }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "extends": "{% extends 'base.html' %}",
    "syntax": "{% if %}",
    "unknown tag": "{% do messages %}",
    "unknown filter": "{{ 1 | shell }}",
    "unclosed": "{% for m in messages %}",
    "half a character": "{{ '\\ud800' }}",
    "own half a character": "\ud800",
    "not a function": "{{ messages() }}",
    "missing": "{{ messages[5].content.strip() }}",
    "bad refusal": "{{ raise_exception('\\ud800') }}",
    "too long": "x" * (MAX_TEMPLATE + 1),
    "refusal object": "{{ raise_exception(messages) }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates(templates: ChatTemplates, name: str) -> None:
    templates.start()
    began = time.monotonic()
    with pytest.raises(TemplateError) as caught:
        templates.render(HOSTILE[name], HELLO, VARIABLES)
    assert time.monotonic() - began < 2.0
    assert 20 < len(caught.value.message) < 800
    assert "/" not in caught.value.message.replace("/v1/completions", "").replace("/etc/passwd", "")
    assert templates.render(SOUND, HELLO, {}) == "<user>Hello"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("endless loops", "took longer than 1 s"),
        ("huge power", "took longer than 1 s"),
        ("memory", "needs more memory"),
        ("recursion", "nests too deeply"),
        ("huge output", "prints too much"),
        ("class", "'__class__' of 'str' object is unsafe"),
        ("syntax", "line 1: Expected an expression"),
        ("half a character", "prints half a character"),
        ("too long", "a template may have 262144"),
    ],
)
def test_the_error_says_why(templates: ChatTemplates, name: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        templates.render(HOSTILE[name], HELLO, {})


def test_a_refusal_is_passed_on_and_bounded(templates: ChatTemplates) -> None:
    with pytest.raises(TemplateError) as caught:
        templates.render("{{ raise_exception('Roles! ' + 'x' * 9999) }}", HELLO, {})
    assert "refuses this conversation: Roles! xxx" in caught.value.message
    assert len(caught.value.message) < 600
    assert caught.value.param == "messages"


def test_pythons_own_messages_do_not_quote_the_conversation(templates: ChatTemplates) -> None:
    with pytest.raises(TemplateError) as caught:
        templates.render("{{ 'a'.encode(messages[0].content) }}", (Message("user", "secret"),), {})
    assert "secret" not in caught.value.message


def test_half_a_character_in_a_message(templates: ChatTemplates) -> None:
    with pytest.raises(TemplateError, match="lone surrogate"):
        templates.render(SOUND, (Message("user", "a\ud83d"),), {})
    assert templates.render(SOUND, HELLO, {}) == "<user>Hello"


def test_a_long_conversation_is_no_attack() -> None:
    text = "é" * 3_000_000
    with ChatTemplates(output=1000) as templates:
        assert templates.render(SOUND, (Message("user", text),), {}) == "<user>" + text
        with pytest.raises(TemplateError, match="prints too much"):
            templates.render(SOUND + "x" * 1001, HELLO, {})


def test_check(templates: ChatTemplates) -> None:
    templates.check(SOUND)
    templates.check("{{ raise_exception('a system message must come first') }}")
    for name in ("syntax", "class", "memory", "endless loops"):
        with pytest.raises(TemplateError):
            templates.check(HOSTILE[name])


# --- the process ----------------------------------------------------------------------------------


def workers() -> list[psutil.Process]:
    """Ours, zombies included."""
    children = psutil.Process().children()
    return [
        child
        for child in children
        if child.status() == psutil.STATUS_ZOMBIE
        or "daulat.models.template_worker" in child.cmdline()
    ]


def new_worker(templates: ChatTemplates) -> psutil.Process:
    before = workers()
    templates.start()
    (worker,) = [child for child in workers() if child not in before]
    return worker


def test_nothing_is_started_before_it_is_needed_or_left_behind() -> None:
    before = workers()
    templates = ChatTemplates(seconds=0.3)
    assert workers() == before
    worker = new_worker(templates)
    with pytest.raises(TemplateError):
        templates.render(HOSTILE["huge power"], HELLO, {})
    assert not worker.is_running()
    assert workers() == before
    templates.render(SOUND, HELLO, {})
    templates.close()
    templates.close()
    assert workers() == before
    with pytest.raises(UnavailableError):
        templates.render(SOUND, HELLO, {})


def test_a_worker_that_was_killed_is_replaced() -> None:
    with ChatTemplates() as templates:
        worker = new_worker(templates)
        worker.kill()
        while worker.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert templates.render(SOUND, HELLO, {}) == "<user>Hello"


def test_a_worker_that_dies_at_work_is_an_error_of_its_template() -> None:
    with ChatTemplates(seconds=20) as templates:
        worker = new_worker(templates)
        threading.Timer(0.3, worker.kill).start()
        with pytest.raises(TemplateError, match="ended the process"):
            templates.render(HOSTILE["endless loops"], HELLO, {})
        assert templates.render(SOUND, HELLO, {}) == "<user>Hello"


def test_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAULAT_API_KEY", "not for templates")
    with ChatTemplates() as templates:
        worker = new_worker(templates)
        assert worker.environ().keys() <= {"PYTHONPATH", "TZ", "LC_CTYPE"}
        assert worker.cwd() == "/"
        limits = {
            psutil.RLIMIT_AS: 512 * 2**20,
            psutil.RLIMIT_FSIZE: 0,
            psutil.RLIMIT_NOFILE: 3,
            psutil.RLIMIT_CORE: 0,
        }
        for limit, value in limits.items():
            assert worker.rlimit(limit) == (value, value)
        assert os.getsid(worker.pid) == worker.pid
        assert worker.memory_info().rss < 40 * 2**20


def test_threads_share_it(templates: ChatTemplates) -> None:
    wrong: list[str] = []

    def ask(name: str) -> None:
        for i in range(30):
            text = templates.render(SOUND, (Message("user", f"{name} {i}"),), {})
            if text != f"<user>{name} {i}":
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(f"thread {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


PARENT = """
import sys, threading
from daulat.models.templates import ChatTemplates
from daulat.values.request import Message
templates = ChatTemplates(seconds=float(sys.argv[2]))
templates.start()
print(templates._worker._process.pid, flush=True)
if sys.argv[1] == "busy":
    templates.render("{{ 9 ** (9 ** 9) }}", [Message("user", "x")], {})
threading.Event().wait()
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_it_dies_with_its_parent(state: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, state, "1.5"],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert parent.stdout is not None
    with parent.stdout:
        worker = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.3)
    assert worker.is_running()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    psutil.wait_procs([worker], timeout=6)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_the_worker_is_light() -> None:
    script = "import sys, daulat.models.template_worker; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    loaded = set(printed.stdout.split())
    assert not loaded & {"torch", "numpy", "asyncio", "daulat.errors", "tokenizers", "msgspec"}
