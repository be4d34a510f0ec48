"""docs/cli.md."""

from __future__ import annotations

import click

from adaptr.cli import listing
from adaptr.cli.group import cli
from pages.markdown import fenced

WIDTH = 100
COMPLETION = """\
## Completion

The shell completes commands and options, the names of methods, strategies, formats, servers and errors, and adapters:
as files, by their names in the store, and by where they came from. A line in the shell's own file switches it on:

| shell | file | line |
|---|---|---|
| bash | `~/.bashrc` | `eval "$(_ADAPTR_COMPLETE=bash_source adaptr)"` |
| zsh | `~/.zshrc` | `eval "$(_ADAPTR_COMPLETE=zsh_source adaptr)"` |
| fish | `~/.config/fish/completions/adaptr.fish` | `eval (env _ADAPTR_COMPLETE=fish_source adaptr)` |
"""


def page() -> str:
    parts = ["# The command line\n", fenced(cli.get_help(_top())), COMPLETION]
    return "\n".join([*parts, *(section(name) for name in sorted(listing.SORT.files()))])


def section(name: str) -> str:
    """The help of a command, and of those that it is made of."""
    command = listing.load(name)
    context = click.Context(command, info_name=name, parent=_top())
    parts = [f"## adaptr {name}\n", fenced(command.get_help(context))]
    for sub, one in getattr(command, "commands", {}).items():
        inner = click.Context(one, info_name=sub, parent=context)
        parts += [f"### adaptr {name} {sub}\n", fenced(one.get_help(inner))]
    return "\n".join(parts)


def _top() -> click.Context:
    names = ["-h", "--help"]
    return click.Context(
        cli, info_name="adaptr", terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=names
    )
