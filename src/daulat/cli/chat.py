"""`daulat chat`: its options, and the choice between a person at the keyboard and a pipe.

Not here: the conversation (`conversation`), who answers (`talk`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from daulat.cli.shell import common, session, settings
from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.cli.conversation import State
    from daulat.cli.ending import Talk


@click.command(
    help=_(
        "Talk with a model. Without --url the model runs in this process. In a pipe, standard "
        "input is one question and standard output is the answer."
    )
)
@click.option("--model", metavar=_("NAME"), help=_("The model. [default: what daulat.toml says]"))
@click.option("--system", metavar=_("TEXT"), help=_("Instructions ahead of the conversation."))
@click.option(
    "--temperature",
    type=click.FloatRange(0, 2),
    default=1.0,
    show_default=True,
    metavar=_("NUMBER"),
    help=_("0 gives the likeliest answer; higher is more varied, up to 2."),
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    metavar=_("NUMBER"),
    help=_("Choose among the likeliest words only, of this total probability."),
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1, 10_000_000),
    metavar=_("NUMBER"),
    help=_("Longest answer, in tokens. [default: as long as fits]"),
)
@click.option(
    "--seed",
    type=click.IntRange(-(2**63), 2**63 - 1),
    metavar=_("NUMBER"),
    help=_("Same seed, same answer."),
)
@click.option(
    "--url",
    metavar="URL",
    help=_("Ask a running server instead, with the key in DAULAT_API_KEY."),
)
@common
def chat(
    model: str | None,
    system: str | None,
    temperature: float,
    top_p: float,
    max_tokens: int | None,
    seed: int | None,
    url: str | None,
) -> None:
    from daulat.cli import conversation, talk
    from daulat.values.request import Sampling

    chosen = settings(prepare=True)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    state = conversation.State(model or chosen.models.default, system, sampling)
    if url is not None:
        _hold(talk.RemoteTalk(url), state)
        return
    with talk.local(chosen) as answering:
        _hold(answering, state)


def _hold(answering: Talk, state: State) -> None:
    from daulat.cli import conversation

    answering.prepare(state.model)
    if sys.stdin.isatty():
        conversation.hold(answering, state, session().folder() / "chat_history")
    else:
        conversation.answer_pipe(answering, state, sys.stdin.buffer)
