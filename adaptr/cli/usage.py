"""What is said to a command line that can't be meant: in the words of the command that was called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click

from adaptr.errors import phrases

#: What other tools call what is a command here.
COMMANDS: Mapping[str, str] = {
    "cat": "inspect", "clone": "pull", "cp": "copy", "delete": "rm", "download": "pull", "export": "convert",
    "finetune": "train", "fine-tune": "train", "generate": "apply", "get": "pull", "history": "log", "images": "list",
    "import": "convert", "infer": "apply", "login-status": "doctor", "ls": "list", "mix": "compose", "prune": "gc",
    "publish": "push", "quantise": "quantize", "remove": "rm", "repl": "chat", "rmi": "rm", "run": "apply",
    "scan-cache": "list", "show": "inspect", "status": "doctor", "svd": "resize", "upload": "push", "whoami": "doctor",
}  # fmt: skip
#: What other tools call what is an option here, the first of them that a command has.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "--batch-size": ("--batch",), "--data-path": ("--data",), "--dataset": ("--data",), "--device": ("--device",),
    "--epoch": ("--epochs",), "--filename": ("--out",), "--format": ("--to", "--as"), "--input": ("--prompt", "--data"),
    "--learning-rate": ("--rate",), "--local-dir": ("--out",), "--lora-rank": ("--rank",), "--lr": ("--rate",),
    "--max-length": ("--max-new-tokens", "--length"), "--max-steps": ("--steps",), "--model": ("--base",),
    "--name": ("--name",), "--output": ("--out",), "--output-dir": ("--out",), "--outfile": ("--out",),
    "--output-path": ("--out",), "--precision": ("--dtype",), "--r": ("--rank",), "--revision": (),
    "--text": ("--prompt",), "--torch-dtype": ("--dtype",), "--type": ("--dtype",), "--yes": ("--force",),
    "--overwrite": ("--force",),
}  # fmt: skip


def said(error: click.ClickException) -> str:
    """An error in the command line, and the way on."""
    context: click.Context | None = getattr(error, "ctx", None)
    message = _option(error, context) if isinstance(error, click.NoSuchOption) else error.format_message()
    return f"{message.rstrip('.')}; see `{context.command_path} --help`" if context is not None else message.rstrip(".")


def command(name: str, known: Iterable[str]) -> str:
    """The way on where there is no command of that name."""
    known = list(known)
    if name == "help":
        return "say `adaptr --help`, or `adaptr COMMAND --help`"
    own = COMMANDS.get(name.lower(), "")
    question = f"here it is `{own}`." if own in known else phrases.meant(name, known, 2)
    return f"{question}{question and ' '}`adaptr --help` lists all"


def _option(error: click.NoSuchOption, context: click.Context | None) -> str:
    """What an option that the command does not have may have been meant for."""
    name, plain = error.option_name, f"No such option '{error.option_name}'"
    if context is None:
        return plain
    own = {word for param in context.command.params for word in param.opts}
    if isinstance(context.command, click.Group) and name in {"-v", "--verbose", "-q", "--quiet", "--json"}:
        return f"{plain}: it goes behind the command"
    arguments = [param for param in context.command.params if isinstance(param, click.Argument)]
    meant = [one for one in arguments if one.name and name.lstrip("-").replace("-", "_") in {one.name, one.name[:-1]}]
    if meant:
        usage = " ".join(context.command.collect_usage_pieces(context))
        return f"{plain}: it is an argument, without a name: {context.command_path} {usage}"
    theirs = [word for word in OPTIONS.get(name.lower().replace("_", "-"), ()) if word in own]
    if theirs:
        return f"{plain}; here it is '{theirs[0]}'"
    if name in {"--weight", "--weights"} and any(one.name == "adapters" for one in arguments):
        return f"{plain}: a weight stands behind its adapter, as in `style.safetensors=0.7`"
    if not error.possibilities:
        return plain
    *first, last = [f"'{one}'" for one in error.possibilities]
    return f"{plain}; did you mean {', '.join(first)}{' or ' if first else ''}{last}?"
