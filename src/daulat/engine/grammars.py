"""From the structure that a request asks for to a guide that keeps an answer to it.

A grammar is put together in the Lark dialect of `llguidance`, which computes, after every token,
which tokens may follow. What can be known beforehand is checked beforehand, with limits on size and
effort: a structure that cannot be kept is refused by its field, before anything is answered.

Every answer builds its own automaton (mostly below a millisecond): copies of one would share what
it learns and the limits on that, and an answer must not depend on other answers. What is kept is
the checked grammar and the vocabulary's tree, which takes 0.1 s to grow.

Not here: what a schema may hold (`schemas`), one answer's place in a grammar (`guide`).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar, cast

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, regex_to_lark

from daulat.engine.guide import Guide
from daulat.engine.schemas import MAX_REPEAT, check_pattern, checked
from daulat.errors import RequestError
from daulat.models.tools import ToolSyntax
from daulat.values.request import Structure, Toolbox

MAX_GRAMMAR = 64 * 1024
MAX_CALLS = 16  # in one answer
GRAMMARS_KEPT = 256
VOCABULARIES_KEPT = 4

_EFFORT = LLParserLimits(
    max_grammar_size=200_000,
    max_lexer_states=20_000,  # at most 2 KiB each
    verbose_errors=False,
)
# One way to write JSON, the one that Python's json.dumps has: no white space without end.
_JSON_FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Masks with every token that may come. Without this the library, where only one text may come, takes
# that text's usual tokens; in a vocabulary that lacks a byte it then allows a token that is wrong.
_EXACT = '%llguidance {"no_forcing": true}\n'
_TEXT = r"/(.|\n)*/"
_NO_CALL = r"/([^{\s](.|\n)*)?/"  # text that cannot be taken for a call that begins with a brace

# Classes of tokens that are taken at once where an expression allows all of a class; others are walked
# letter by letter. Classes lie in one another or apart: what two share is walked although one is taken.
_CLASSES = (
    " [a-z]+",
    "[a-z]+",
    " [A-Z][a-z]+",
    "[A-Z][a-z]+",
    " ?[A-Za-z]+",
    " ?[A-Za-z0-9_]+",
)

T = TypeVar("T")


class Vocabulary(Protocol):
    """What this module needs of a tokenizer."""

    @property
    def eos_ids(self) -> frozenset[int]: ...
    @property
    def special_ids(self) -> frozenset[int]: ...
    def token_bytes(self, token: int) -> bytes: ...
    def token_id(self, piece: str) -> int | None: ...
    def encode(self, text: str, *, special: bool) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Grammar:
    """A checked grammar.

    Attributes:
        text: in Lark.
        until: the text that ends the free part of an answer; None: it has no free part.
        spelled: special tokens that are part of the answer's text.
        param: the request's field that asked for it.
    """

    text: str
    until: str | None
    spelled: frozenset[int]
    param: str


class Grammars:
    """Prepares guides. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._grammars: OrderedDict[str, Grammar] = OrderedDict()
        self._trees: OrderedDict[str, LLTokenizer] = OrderedDict()

    def grammar(
        self,
        digest: str,
        vocabulary: Vocabulary,
        structure: Structure | None,
        tools: tuple[Toolbox, ToolSyntax] | None,
    ) -> Grammar:
        """The grammar of an answer.

        Args:
            digest: the model's.
            tools: those that may be called, and how.

        Raises:
            RequestError: it cannot be kept to; `param` says which field.
        """
        asked = [digest, structure and asdict(structure), tools and [asdict(t) for t in tools]]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return self._kept(
            self._grammars, key, GRAMMARS_KEPT, lambda: _grammar(vocabulary, structure, tools)
        )

    def guide(self, digest: str, vocabulary: Vocabulary, size: int, grammar: Grammar) -> Guide:
        """A new guide, at the beginning of an answer.

        Args:
            size: the number of the model's logits.

        Raises:
            RequestError: the grammar has faults, is too complex, or allows nothing.
        """
        tree = self._kept(
            self._trees, digest, VOCABULARIES_KEPT, lambda: _tree(vocabulary, size, grammar.param)
        )
        matcher = LLMatcher(tree, _EXACT + grammar.text, log_level=0, limits=_EFFORT)
        return Guide(matcher, size, grammar.param)

    def _kept(self, kept: OrderedDict[str, T], key: str, most: int, make: Callable[[], T]) -> T:
        with self._lock:
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        made = make()
        with self._lock:
            kept[key] = made
            while len(kept) > most:
                kept.popitem(last=False)
        return made


class _Words:
    """A vocabulary as `llguidance` reads it."""

    def __init__(self, vocabulary: Vocabulary, size: int) -> None:
        self._vocabulary = vocabulary
        self.tokens = [vocabulary.token_bytes(token) for token in range(size)]
        self.special_token_ids = sorted(i for i in vocabulary.special_ids if i < size)
        self.eos_token_id = min(vocabulary.eos_ids)
        self.bos_token_id = None

    def __call__(self, text: bytes | str) -> list[int]:
        spelled = text if isinstance(text, str) else text.decode("utf-8", "replace")
        return self._vocabulary.encode(spelled, special=False)


def _tree(vocabulary: Vocabulary, size: int, param: str) -> LLTokenizer:
    ends = sorted(i for i in vocabulary.eos_ids if i < size)
    if not ends:
        raise RequestError(
            "This model has no token that ends an answer, so it cannot keep to a structure: "
            f"leave `{param}` out, or use another model.",
            param=param,
        )
    return LLTokenizer(
        TokenizerWrapper(_Words(vocabulary, size)),
        n_vocab=size,
        eos_token=cast("Any", ends),
        slices=[*LLTokenizer.general_slices(), *_CLASSES],
    )


# --- grammars -------------------------------------------------------------------------------------


def _grammar(
    vocabulary: Vocabulary, structure: Structure | None, tools: tuple[Toolbox, ToolSyntax] | None
) -> Grammar:
    answer = None if structure is None else _answer(structure)
    if tools is None:
        assert structure is not None  # noqa: S101 - nobody asks for no grammar
        text = answer or ""
        if structure.kind != "grammar":
            text = f"start: answer\n{answer}"
        return Grammar(text, None, frozenset(), structure.param)
    box, syntax = tools
    if structure is not None:
        _check_together(structure, box, syntax)
    trigger = vocabulary.token_id(syntax.trigger)
    if trigger not in vocabulary.special_ids:
        trigger = None
    text = _calls(box, syntax, trigger, None if box.choice == "required" else answer)
    free = box.choice == "auto" and structure is None and syntax.anywhere
    spelled = frozenset[int]() if trigger is None else frozenset({trigger})
    return Grammar(text, syntax.trigger if free else None, spelled, "tools")


def _check_together(structure: Structure, box: Toolbox, syntax: ToolSyntax) -> None:
    if box.choice == "required":
        return  # there is no text that could have a structure
    if structure.kind != "json" or not syntax.anywhere:
        raise RequestError(
            f"`{structure.param}` and `tools` cannot be told apart in this model's answers: send "
            'one of them, or `tool_choice` "required" or "none".',
            param=structure.param,
        )


def _answer(structure: Structure) -> str:
    """The rule `answer`; for a grammar, all rules."""
    source, param = structure.source, structure.param
    if structure.kind == "json":
        return f"answer: {_json(checked(cast('dict[str, Any]', source), param))}\n"
    if structure.kind == "choice":
        return "answer: CHOICE\nCHOICE: " + " | ".join(json.dumps(text) for text in source) + "\n"
    assert isinstance(source, str)  # noqa: S101 - the kinds that are left are texts
    if structure.kind == "regex":
        check_pattern(source, param)
        try:
            return f"answer: /{regex_to_lark(source, '')}/\n"
        except ValueError as error:
            raise RequestError(
                f"`{param}` is not a regular expression that can be held to: "
                f"{_shorten(str(error))}.",
                param=param,
            ) from None
    _check_lark(source, param)
    return source


def _json(schema: Any) -> str:
    return "%json " + json.dumps({"x-guidance": _JSON_FORM, **schema})


_LARK_TEXTS = re.compile(r'"(?:\\.|[^"\\\n])*"i?|/(?!/)(?:\\.|[^/\\\n])+/[a-z]*|//[^\n]*|#[^\n]*')
_LARK_REFUSED = (
    (re.compile(r"%(?!ignore\b|import\b)\w+"), "directives other than %ignore and %import"),
    (re.compile(r"<"), "references to special tokens"),
    (re.compile(r"\["), "attributes and optional parts in brackets (use `( )?`)"),
    (re.compile(r"@"), "references to other grammars"),
)


def _check_lark(text: str, param: str) -> None:
    """Refuses what would go past the schema's checks or could not be seen in the answer's text."""
    if len(text) > MAX_GRAMMAR:
        raise RequestError(
            f"`{param}` has {len(text)} characters; a grammar may have {MAX_GRAMMAR}.", param=param
        )
    rest = _LARK_TEXTS.sub(" ", text)
    for refused, what in _LARK_REFUSED:
        if refused.search(rest):
            raise RequestError(f"`{param}`: {what} are not supported.", param=param)
    counts = re.findall(r"\d+", " ".join(re.findall(r"\{[^}]*\}|~[\d. ]+", text)))
    if any(int(count) > MAX_REPEAT for count in counts if len(count) < 20) or any(
        len(count) >= 20 for count in counts
    ):
        raise RequestError(
            f"`{param}` repeats something more than {MAX_REPEAT} times: repeat it less often.",
            param=param,
        )


def _calls(box: Toolbox, syntax: ToolSyntax, trigger: int | None, answer: str | None) -> str:
    """Calls; where the model may choose, calls or an answer, with free text if it has no form."""
    rest = ('" "? ' if syntax.loose else "") + _text(syntax.opening[len(syntax.trigger) :])
    spelled, token = _text(syntax.trigger), f"<[{trigger}]>"
    lines: list[str] = []
    if not syntax.anywhere:
        head = ""
    elif box.choice == "auto" and answer is None:
        # The trigger counts whether it comes as its token or letter by letter.
        lines += [f"spelled[lazy]: TEXT {spelled}", f"TEXT: {_TEXT}"]
        lines.append("head: spelled" if trigger is None else f"head: spelled | TEXT {token}")
        head = f"head {rest}"
    else:
        head = f"{spelled if trigger is None else token} {rest}"
    calls = f"{head} {_sequence(box, syntax)} {_text(syntax.closing)}"
    other = "" if box.choice == "required" else " | answer"
    lines += [f"start: calls{other}", f"calls: {calls}", *_functions(box, syntax)]
    if other:
        free = "answer: FREE\nFREE: " + (_TEXT if syntax.anywhere else _NO_CALL)
        lines.append(answer or free)
    return "\n".join(lines) + "\n"


def _sequence(box: Toolbox, syntax: ToolSyntax) -> str:
    if box.named is not None or not box.parallel or not syntax.several:
        return "call"
    return f"call ({_text(syntax.between)} call){{0,{MAX_CALLS - 1}}}"


def _functions(box: Toolbox, syntax: ToolSyntax) -> Sequence[str]:
    """The rule `call`, and one for each tool and its arguments."""
    rules: list[str] = []
    names: list[str] = []
    for place, tool in enumerate(box.tools):
        if box.named not in (None, tool.name):
            continue
        param = f"tools[{place}].function.parameters"
        schema = checked(tool.parameters or {"type": "object", "properties": {}}, param)
        if schema.get("type") not in (None, "object"):
            raise RequestError(f"`{param}.type` must be `object`.", param=f"{param}.type")
        if schema.get("properties") == {}:  # no parameters: no arguments
            schema = {"additionalProperties": False, **schema}
        before, behind = _text(syntax.head + tool.name + syntax.middle), _text(syntax.tail)
        rules.append(f"call{place}: {before} arguments{place} {behind}")
        rules.append(f"arguments{place}: {_json({**schema, 'type': 'object'})}")
        names.append(f"call{place}")
    return ["call: " + " | ".join(names), *rules]


def _text(text: str) -> str:
    return json.dumps(text) if text else ""


def _shorten(text: str) -> str:
    return text.splitlines()[0][:160].rstrip(".") if text else ""
