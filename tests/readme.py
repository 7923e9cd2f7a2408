"""The parts of the documents that the code knows better: settings, states, commands, permissions.

`make readme` writes them.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
from pydantic import SecretStr

from bot import rules
from bot.__main__ import refine
from bot.aws.permissions import PERMISSIONS
from bot.config import Settings
from bot.model import CaseState
from bot.rules import Event

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
STATES = ROOT / "deploy" / "states.md"
MANY = 5  # an event that more states take would be a knot of arrows: it leaves one box that lists them


def settings() -> str:
    rows = ["| variable | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        value = field.default
        if field.is_required():
            default = "(required)"
        elif value is None or value == () or value == "":
            default = ""
        elif isinstance(value, SecretStr):
            raise AssertionError(f"{name} must have no default")
        else:
            default = f"`{str(value).lower() if isinstance(value, bool) else value}`"
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def commands() -> str:
    context = click.Context(refine, info_name="refine")
    rows = ["| command | what |", "|---|---|"]
    for name in refine.list_commands(context):
        command = refine.get_command(context, name)
        assert command is not None
        inner = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for sub, each in inner:
            rows.append(f"| `{f'refine {name} {sub}'.strip()}` | {each.get_short_help_str(200)} |")
    return "\n".join(rows)


def permissions() -> str:
    rows = ["| action | whose | why |", "|---|---|---|"]
    rows += dict.fromkeys(f"| `{p.action}` | {p.group} | {p.why} |" for p in PERMISSIONS)
    return "\n".join(rows)


def states() -> str:
    """Draw the table of states, for GitHub to render.

    Source: https://mermaid.js.org/syntax/stateDiagram.html
    """
    arrows: dict[tuple[str, str], list[str]] = {}
    boxes: dict[frozenset[CaseState], str] = {}
    for event in Event:
        for target in CaseState:
            sources = frozenset(s for (s, e), t in rules.TRANSITIONS.items() if e is event and t is target)
            if len(sources) > MANY:
                names = [boxes.setdefault(sources, f"from_{event}")]
            else:
                names = [str(s) for s in CaseState if s in sources]
            for name in names:
                arrows.setdefault((name, str(target)), []).append(str(event))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {CaseState.NEW}"]
    lines += [
        f'    state "{", ".join(s for s in CaseState if s in sources)}" as {name}' for sources, name in boxes.items()
    ]
    lines += [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()]
    return "\n".join([*lines, "```"])


def events() -> str:
    rows = ["| event | who causes it | from | to |", "|---|---|---|---|"]
    for event in Event:
        buttons = [b for b, e in rules.LEADS.items() if e is event]
        if event is Event.APPROVED:
            who = "the last approver needed"
        elif buttons:
            who = "a member" if set(buttons) <= rules.FOR_MEMBERS else "an approver"
            who += f" ({', '.join(f'`{b}`' for b in buttons)})"
        else:
            who = "Refine"
        taken = {s: t for (s, e), t in rules.TRANSITIONS.items() if e is event}
        for target in dict.fromkeys(taken.values()):
            sources = ", ".join(s for s in CaseState if taken.get(s) is target)
            rows.append(f"| `{event}` | {who} | {sources} | {target} |")
    return "\n".join(rows)


PARTS = {
    "settings": (README, settings),
    "commands": (README, commands),
    "permissions": (README, permissions),
    "states": (STATES, states),
    "events": (STATES, events),
}


def part(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: [^\n]*-->\n)(.*?)(\n?<!-- /{name} -->)", re.DOTALL)


def main() -> None:
    for name, (file, make) in PARTS.items():
        body = make()
        text = file.read_text(encoding="utf-8")
        text = part(name).sub(lambda m, body=body: f"{m[1]}{body}\n{m[3].lstrip()}", text)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
