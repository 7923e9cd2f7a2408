"""The command line. Each command imports what it needs when it runs, so that `refine trim` starts fast."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from importlib import import_module

import click

from bot.errors import ConfigError, RefineError
from bot.terminal import tell

# Command → the module and name of its click command.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("bot.operate", "run"),
    "doctor": ("bot.operate", "doctor"),
    "manifest": ("bot.operate", "manifest"),
    "pause": ("bot.operate", "pause"),
    "trim": ("bot.offline", "trim"),
    "explain": ("bot.offline", "explain"),
    "audit": ("bot.audit_command", "audit"),
    "migrate": ("bot.audit_command", "migrate"),
    "export": ("bot.audit_command", "export"),
    "import": ("bot.audit_command", "import_"),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="refine", prog_name="refine")
def refine() -> None:
    """Take excess permissions away from IAM roles that can be assumed from outside the account."""


# What a write says where there is no room, or nobody to read it.
_UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}


def main() -> None:
    """Run the command line; a RefineError becomes one line on standard error and exit status 2 (settings) or 1.

    So does standard output that takes no more: an answer cut off must not look like success.
    """
    try:
        try:
            refine()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except RefineError as error:
        tell(error)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except OSError as error:
        if error.errno not in _UNWRITTEN:
            raise
        click.echo(f"refine: The answer could not be written: {os.strerror(error.errno)}.", err=True)
        # What is left in the buffer goes nowhere, or Python would try it once more and say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


if __name__ == "__main__":
    main()
