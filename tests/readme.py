"""The parts of the README that the code knows better: settings, commands, permissions. `make readme` writes them."""

from __future__ import annotations

import re
from pathlib import Path

import click
from pydantic import SecretStr

from bot.__main__ import refine
from bot.aws.permissions import PERMISSIONS
from bot.config import Settings

README = Path(__file__).parent.parent / "README.md"


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


PARTS = {"settings": settings, "commands": commands, "permissions": permissions}


def part(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: [^\n]*-->\n)(.*?)(\n?<!-- /{name} -->)", re.DOTALL)


def main() -> None:
    text = README.read_text(encoding="utf-8")
    for name, make in PARTS.items():
        body = make()
        text = part(name).sub(lambda m, body=body: f"{m[1]}{body}\n{m[3].lstrip()}", text)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
