"""The group of all commands. It knows them by name (`listing`), and imports the one that it runs."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from adaptr.cli import completing, listing, usage
from adaptr.cli.helping import Context
from adaptr.errors import UsageError
from adaptr.version import __version__

HELP = """Adapters for language models as artifacts.

What takes an adapter takes a file, a folder, a reference (`oci://host/name:tag`, `hf://org/name@revision`) or a name in
the store, with `=WEIGHT` behind it where weights make sense: `style.safetensors=0.7`.
"""

EPILOG = """Exit codes: 0 done, 1 a difference or a failed verification, 2 usage, 3 bad input, 4 wrong base,
5 not possible, 6 registry or network, 7 integrity, 8 this machine, 70 a bug in adaptr or a plugin, 130 interrupted.

Completion: eval "$(_ADAPTR_COMPLETE=bash_source adaptr)" in ~/.bashrc; zsh_source and fish_source for those shells.
"""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one it runs."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        return listing.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return listing.load(cmd_name) if listing.SORT.has(cmd_name) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not (args[0].startswith("-") or listing.SORT.has(args[0])):
            raise UsageError(f"adaptr has no command `{args[0]}`", hint=usage.command(args[0], listing.names()))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = listing.sections()
        width = max(len(one.name) for commands in found.values() for one in commands)
        for title, commands in found.items():
            with formatter.section(title):
                formatter.write_dl([(one.name.ljust(width), one.summary) for one in commands])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> completing.Found:
        found = {one.name: one.summary for commands in listing.sections().values() for one in commands}
        fit = [name for name in listing.names() if name.startswith(incomplete)]
        own = [CompletionItem(name, help=found[name]) for name in fit]
        return [*own, *click.Command.shell_complete(self, ctx, incomplete)]


cli = LazyGroup(
    name="adaptr",
    help=HELP,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(__version__, "-V", "--version", prog_name="adaptr")(cli)
