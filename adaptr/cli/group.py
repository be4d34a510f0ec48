"""The commands by name. Help of the group is printed from this table, without importing any command."""

from __future__ import annotations

import difflib
import importlib

import click

from adaptr.version import __version__

#: Section of the help to {command: summary}. A test holds each summary against its command's docstring.
SECTIONS: dict[str, dict[str, str]] = {
    "Look": {
        "inspect": "Say what an adapter is, from its header alone.",
        "methods": "List the adapter methods, or describe one.",
        "diff": "Say how two adapters differ, and what composing them would do.",
    },
    "Change": {
        "compose": "Make one adapter of several.",
        "stack": "Put several adapters in one file, to be applied together.",
        "convert": "Write an adapter in another format, or as another method.",
        "resize": "Write an adapter as LoRA of a lower rank.",
        "extract": "Make a LoRA of a fine-tuned checkpoint minus its base.",
    },
    "Merge": {
        "merge": "Merge adapters into a base checkpoint, tensor by tensor.",
        "unmerge": "Take the adapters out of a merged checkpoint, bit for bit.",
        "verify": "Prove a merge, a signature, or that the store is whole.",
    },
    "Run": {
        "apply": "Run a base model with adapters on a prompt.",
        "gate": "Train a gate over adapters, or show what one does.",
    },
    "Share": {
        "pull": "Bring an artifact from a registry, the Hub or a server into the store.",
        "push": "Publish an adapter at a reference.",
        "copy": "Bring an artifact from one reference to another; its digest stays.",
        "info": "Say what an artifact is, without pulling it.",
        "sign": "Sign an artifact, a file or a folder.",
        "login": "Keep an account for a registry, once it has proved right.",
        "logout": "Forget the account for a registry.",
        "search": "Find artifacts that have all words in their name or in what is said of them.",
        "index": "Publish what a registry's namespace holds, for `adaptr search`.",
        "log": "Show where an adapter or a merged checkpoint comes from.",
    },
    "Store": {
        "list": "List what the store has.",
        "tag": "Give an adapter a name in the store.",
        "rm": "Take names out of the store.",
        "gc": "Remove from the store what no name leads to.",
    },
}
COMMANDS = {name: summary for section in SECTIONS.values() for name, summary in section.items()}

HELP = """Adapters for language models as artifacts.

What takes an adapter takes a file, a folder, a reference (`oci://host/name:tag`, `hf://org/name@revision`) or a name in
the store, with `=WEIGHT` behind it where weights make sense: `style.safetensors=0.7`.
"""

EPILOG = """Exit codes: 0 done, 1 a difference or a failed verification, 2 usage, 3 bad input, 4 wrong base,
5 not possible, 6 registry or network, 7 integrity, 8 this machine, 70 a bug in adaptr, 130 interrupted, 141 nobody
reads what is written.

Completion: eval "$(_ADAPTR_COMPLETE=bash_source adaptr)" in ~/.bashrc; zsh_source and fish_source for those shells.
"""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"adaptr.cli.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=2, cutoff=0.5)
            hint = f"did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else f"it has {', '.join(COMMANDS)}"
            raise click.UsageError(f"adaptr has no command `{args[0]}`; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in commands.items()])


cli = LazyGroup(
    name="adaptr",
    help=HELP,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(__version__, prog_name="adaptr")(cli)
