"""`modelpm diff`."""

import json

import click

from modelpm.cli import output
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.options import Settings, verb
from modelpm.comparing import Change, Difference, PartChange, TextChange

DIFFERENT = 1
"""The exit code of a difference, for who asks for one."""

_MAX_CELL = 100
_MARKS = {Change.SAME: "=", Change.CHANGED: "~", Change.REMOVED: "-", Change.ADDED: "+"}


@verb("diff")
@click.argument("before", metavar="A", type=InstalledName())
@click.argument("after", metavar="B", type=InstalledName())
@click.option("--exit-code", is_flag=True, help="Exit with 1 where they differ, not with 0.")
@click.pass_context
def command(context: click.Context, before: str, after: str, exit_code: bool) -> None:
    """Tell what two models share, and what not.

    Files are compared by their bytes, whatever they are called and packed in: `=` both have, `~`
    differs, `-` only A has, `+` only B has. Then come what weights and config say differently,
    and the lines in which the texts differ. The exit code is 0 unless something fails.
    """
    settings: Settings = context.obj
    with open_client(settings) as client:
        difference = client.diff(before, after)
        names = [client.get(name).name for name in (before, after)]
    if settings.json:
        output.document({"before": names[0], "after": names[1], **_document(difference)})
    elif not settings.quiet:
        _show(difference)
    if exit_code and not difference.is_none:
        context.exit(DIFFERENT)


def _document(difference: Difference) -> dict[str, object]:
    return {
        "same": difference.is_none,
        "shared": difference.shared,
        "parts": [
            {
                "change": change.change.value,
                "before": change.before.document() if change.before else None,
                "after": change.after.document() if change.after else None,
            }
            for change in difference.parts
        ],
        "facts": [
            {"name": fact.name, "before": fact.before, "after": fact.after}
            for fact in difference.facts
        ],
        "texts": [
            {"name": text.name, "before": text.before, "after": text.after, "diff": text.lines()}
            for text in difference.texts
        ],
        "flaws": list(difference.flaws),
    }


def _show(difference: Difference) -> None:
    output.table(("", "ROLE", "NAME", "SIZE", "DIGEST"), map(_row, difference.parts))
    output.say(f"shared: {output.exact_size(difference.shared)}")
    if difference.facts:
        output.say("")
        rows = [(fact.name, _word(fact.before), _word(fact.after)) for fact in difference.facts]
        output.table(("WHAT", "A", "B"), rows)
    for text in difference.texts:
        _show_text(text)
    for flaw in difference.flaws:
        output.note(f"Flaw: {flaw}")


def _row(change: PartChange) -> tuple[str, ...]:
    parts = [part for part in (change.before, change.after) if part is not None]
    columns = (
        (
            part.role.value,
            part.name,
            output.size(part.descriptor.size),
            part.descriptor.digest.short,
        )
        for part in parts
    )
    told = (" > ".join(dict.fromkeys(pair)) for pair in zip(*columns, strict=True))
    return (_MARKS[change.change], *told)


def _show_text(text: TextChange) -> None:
    output.say("")
    output.say(f"--- {text.name} of A")
    output.say(f"+++ {text.name} of B")
    lines = text.lines()
    if lines is None:
        lines = ["(too long to compare line by line)"]
    for line in lines or ["(only their line ends differ)"]:
        output.say(line, "\t")


def _word(value: object) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}..."
