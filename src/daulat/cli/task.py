"""`daulat task`: examples with a metric, out of a file or of recorded traffic.

Not here: reading and guessing (`evaluate.adding`), comparing (`compare`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.shell import OrderedGroup, common, opened_record, settings
from daulat.cli.wanted import check_class, check_none, of_record, tell_left_out, wanted
from daulat.cli.words import _, plural

if TYPE_CHECKING:
    from daulat.evaluate.adding import Draft
    from daulat.evaluate.columns import Columns
    from daulat.evaluate.examples import Chosen, Example, Task
    from daulat.evaluate.tasks import Tasks
    from daulat.settings import Settings

_SHOWN = 1_500
"""Characters of a prompt in a preview."""
_LONGEST_OPTION = 60


@click.group(cls=OrderedGroup, help=_("Tasks: your own examples, and what counts as right."))
@common
def task() -> None:
    pass


@task.command(
    "add",
    help=_(
        "Make a task of FILE (CSV, JSON lines, JSON, Parquet) or of recorded traffic. Columns and metric that "
        "you do not name are guessed, and shown."
    ),
)
@click.argument("name")
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--input", "input_", metavar=_("COLUMN"), help=_("The prompt, or a list of messages.")
)
@click.option(
    "--template",
    metavar=_("TEXT"),
    help=_(
        "What is asked, with columns in braces: '{context}\\n\\n{question}'; @FILE reads a file."
    ),
)
@click.option("--system", metavar=_("TEXT"), help=_("Instructions ahead of every prompt."))
@click.option(
    "--reference", metavar=_("COLUMN"), help=_("The right answer. Of the record: `answer`.")
)
@click.option("--category", metavar=_("COLUMN"), help=_("By which results are also told."))
@click.option("--cluster", metavar=_("COLUMN"), help=_("Document or session it is of."))
@click.option("--language", metavar=_("COLUMN"), help=_("Its language."))
@click.option("--id", "id_", metavar=_("COLUMN"), help=_("Its id; - takes the line's number."))
@click.option(
    "--metric",
    metavar=_("METRIC"),
    help=_(
        "exact, choice, number, f1, rouge-1, rouge-2, rouge-l, json, tests, judge:pairwise, judge:rubric, "
        "none, "
        "FILE.py:FUNCTION."
    ),
)
@click.option(
    "--judge", metavar=_("MODEL"), help=_("Who judges, where the metric is judge:...; any model.")
)
@click.option(
    "--rubric",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar=_("FILE"),
    help=_("What counts, in words for the judge."),
)
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help=_("An option of the metric.")
)
@click.option(
    "--data-class",
    metavar=_("CLASS"),
    default="",
    help=_("The class of a file's texts; of the record: only exchanges of that class."),
)
@of_record
@click.option("--replace", is_flag=True, help=_("In the place of a task of that name."))
@click.option("--dry-run", is_flag=True, help=_("Only show what would be added."))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def add(
    name: str,
    file: Path | None,
    from_record: bool,
    metric: str | None,
    options: tuple[str, ...],
    replace: bool,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    if (file is None) != from_record:
        raise click.UsageError(_("Give a file or --from-record."))
    chosen = settings(prepare=True)
    check_class(chosen, given["data_class"])
    measured = _chosen(metric, (*options, *_of_judge(metric, given)))
    draft = _of_file(name, file, measured, given) if file else _of_record(name, measured, given)
    made = draft.task
    if not dry_run:
        made = keep(chosen, draft, replacing=replace)
    if as_json:
        say.as_json({**_plain(made), "left_out": dict(draft.left_out), "kept": not dry_run})
        return
    _preview(draft, made)
    if dry_run:
        say.note(_("Nothing was added."))
    else:
        say.note(_("`daulat compare {name} --endpoints A,B` asks endpoints.").format(name=name))


@task.command("list", help=_("What there is."))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def list_tasks(as_json: bool) -> None:
    tasks = _tasks(settings())
    found = [tasks.get(name) for name in tasks.names()]
    if as_json:
        say.as_json([_plain(one) for one in found])
        return
    if not found:
        say.note(_("There is no task. `daulat task add NAME FILE` makes one."))
        return
    heads = (_("Name"), _("Examples"), _("Metric"), _("From"), _("Added"))
    rows = [
        (t.name, str(t.examples), t.metric.name or "-", _source(t), t.created[:10]) for t in found
    ]
    say.table(heads, rows, right=(1,))


@task.command("show", help=_("What a task asks, and what counts as right."))
@click.argument("name")
@click.option(
    "-n",
    "count",
    type=click.IntRange(0, 1_000),
    default=1,
    show_default=True,
    metavar=_("NUMBER"),
    help=_("Examples to show."),
)
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def show(name: str, count: int, as_json: bool) -> None:
    from daulat.evaluate.examples import example_json

    tasks = _tasks(settings())
    found, examples = tasks.get(name), tasks.examples(name)
    if as_json:
        say.as_json({**_plain(found), "first": [example_json(e) for e in examples[:count]]})
        return
    say.pairs([*_pairs(found, ()), *_counts(examples)])
    for example in examples[:count]:
        _show_example(example)


@task.command("remove", help=_("Remove a task with its answers and reports. The record stays."))
@click.argument("name")
@common
def remove(name: str) -> None:
    _tasks(settings()).remove(name)
    click.echo(_("{name} is removed.").format(name=name))


# --- what was said --------------------------------------------------------------------------------


def _tasks(chosen: Settings) -> Tasks:
    from daulat.evaluate.tasks import Tasks

    return Tasks(chosen.home)


def keep(chosen: Settings, draft: Draft, *, replacing: bool = False) -> Task:
    """Write a draft into the home."""
    from functools import partial

    from daulat.route.learning.outcomes import write

    imported = None if draft.outcomes is None else partial(write, draft.outcomes)
    return _tasks(chosen).add(draft.task, draft.examples, imported=imported, replacing=replacing)


def _chosen(metric: str | None, options: Sequence[str]) -> Chosen | None:
    from daulat.evaluate.examples import Chosen

    pairs = [one.partition("=") for one in options]
    for name, equals, _value in pairs:
        if not equals or not name:
            raise click.BadParameter(_("Write NAME=VALUE."), param_hint="--option")
    if metric is None and pairs:
        raise click.UsageError(_("Options are a metric's: name it with --metric."))
    return None if metric is None else Chosen(metric, {name: value for name, _e, value in pairs})


def _of_judge(metric: str | None, given: Mapping[str, Any]) -> list[str]:
    """--judge and --rubric as options of the metric."""
    judge, rubric = given["judge"], given["rubric"]
    if (judge or rubric) and not (metric or "").startswith("judge:"):
        raise click.UsageError(_("--judge and --rubric go with --metric judge:... ."))
    told = [f"judge={judge}"] if judge else []
    return [*told, f"rubric={_file_text(rubric, 'rubric').strip()}"] if rubric else told


def _columns(given: Mapping[str, Any]) -> Columns:
    from daulat.evaluate.columns import Columns

    template = given["template"] or ""
    if template.startswith("@"):
        template = _file_text(Path(template[1:]), "template")
    return Columns(
        input=given["input_"] or "",
        template=template,
        system=given["system"] or "",
        reference=given["reference"] or "",
        id=given["id_"] or "",
        category=given["category"] or "",
        cluster=given["cluster"] or "",
        language=given["language"] or "",
    )


def _file_text(path: Path, what: str) -> str:
    from daulat.errors import RequestError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The {what} {path} cannot be read: give a UTF-8 text file.") from error


def _of_file(name: str, file: Path, metric: Chosen | None, given: Mapping[str, Any]) -> Draft:
    from daulat.evaluate.adding import from_file

    check_none(given)
    return from_file(name, file, _columns(given), metric, given["data_class"])


def _of_record(name: str, metric: Chosen | None, given: Mapping[str, Any]) -> Draft:
    from daulat.evaluate.adding import from_record

    if any(given[one] for one in ("input_", "template", "system", "category", "cluster", "id_")):
        raise click.UsageError(_("Recorded traffic has no columns: only --reference answer."))
    with opened_record() as record:
        chosen = wanted(record, given)
        return from_record(name, record, chosen, given["reference"] or "", metric)


# --- how it looks ---------------------------------------------------------------------------------


def _plain(one: Task) -> dict[str, Any]:
    from daulat.evaluate.examples import task_json

    return task_json(one)


def _source(one: Task) -> str:
    return str(one.source.get("file") or _("the record"))


def _preview(draft: Draft, made: Task) -> None:
    count = plural("{count} example", "{count} examples", made.examples)
    click.echo(f"{made.name}: {count}")
    guessed = draft.columns.guessed if draft.columns else ()
    say.pairs(_pairs(made, (*guessed, *(("metric",) if draft.guessed else ()))))
    tell_left_out(draft.left_out)
    if made.metric.name == "tests":
        _isolation()
    _show_example(draft.examples[0])


def _pairs(one: Task, guessed: Sequence[str]) -> list[tuple[str, str]]:
    words = {
        "input": _("Input"),
        "template": _("Template"),
        "system": _("Instructions"),
        "reference": _("Reference"),
        "category": _("Category"),
        "cluster": _("Cluster"),
        "language": _("Language"),
        "id": _("Id"),
    }
    told = dict(one.columns)
    rows = [(_("From"), _source(one))]
    for name, word in words.items():
        if name in told:
            value = told[name] + (_(" (guessed)") if name in guessed else "")
            rows.append((word, value))
    if one.imported:
        rows.append((_("Answers of"), ", ".join(one.imported)))
    metric = _metric_words(one) + (_(" (guessed)") if "metric" in guessed else "")
    return [*rows, (_("Metric"), metric)]


def _metric_words(one: Task) -> str:
    from daulat.evaluate import metrics

    if not one.metric.name:
        return _("the file's scores") if one.imported else _("none: answers are not judged")
    options = ", ".join(f"{n}={_short(v)}" for n, v in one.metric.options.items())
    name = f"{one.metric.name} ({options})" if options else one.metric.name
    return f"{name}: {metrics.metric(one.metric.name).words}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_OPTION else line[:_LONGEST_OPTION] + " ..."


def _counts(examples: Sequence[Example]) -> list[tuple[str, str]]:
    clusters = len({e.cluster for e in examples})
    rows = [(_("Examples"), str(len(examples))), (_("Clusters"), str(clusters))]
    categories = sorted({e.category for e in examples if e.category})
    if categories:
        shown = ", ".join(categories[:20]) + (" ..." if len(categories) > 20 else "")
        rows.append((_("Categories"), shown))
    return rows


def _show_example(example: Example) -> None:
    click.echo()
    click.echo(_("Example {id}:").format(id=say.plain(example.id)))
    for message in example.messages:
        text = message.content
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."
        click.echo(f"[{message.role}] {say.plain(shown)}")
    if example.references:
        click.echo(
            _("Right: {text}").format(text=say.plain(" | ".join(example.references)[:_SHOWN]))
        )


def _isolation() -> None:
    from daulat.evaluate.metrics import code

    if code.isolation() == "strong":
        say.note(
            _(
                "Code of answers runs in a cell on this machine: no network, none of your files, no rights, "
                "bounded memory and time."
            )
        )
    else:
        say.warn(code.isolation())
