"""The one place where errors become text (or JSON) and exit codes."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import click

from adaptr.cli import usage
from adaptr.cli.group import cli
from adaptr.cli.output import Output, Warnings
from adaptr.discovery.owner import Owner, owner, raised_in
from adaptr.errors import AdaptrError, MachineError, TrainedOtherwise, UsageError, WeightsIgnored, printable
from adaptr.errors.called import called
from adaptr.errors.spoken import typed

log = logging.getLogger("adaptr")
INTERRUPTED = 130
#: Warnings that people are told in a line of their own.
TOLD = (WeightsIgnored, TrainedOtherwise)
#: EX_SOFTWARE: adaptr itself is wrong, not what it was given.
BUG = 70


def run(args: list[str]) -> int:
    """Run one command line; returns its exit code. Nothing is raised but `SystemExit`."""
    out = Output.expected(args)
    with typed(), warnings.catch_warnings():
        for told in TOLD:
            warnings.simplefilter("always", told)
        python = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            out.warn(str(message)) if category in TOLD else python(message, category, *rest, **more)

        warnings.showwarning = cast(Any, show)
        said = Warnings(out)
        log.addHandler(said)
        try:
            return _run(args, out)
        finally:
            log.removeHandler(said)


def _run(args: list[str], out: Output) -> int:
    try:
        code = cli.main(args or ["--help"], "adaptr", standalone_mode=False, obj=out)
        return code if isinstance(code, int) else 0
    except SystemExit as ended:
        if ended.code == 1 and raised_in(ended) == "click.core":  # it ends so where nobody reads on
            return 0
        raise
    except (KeyboardInterrupt, click.Abort):
        return _fail(out, "Interrupted", "interrupted; what was there before is still there", INTERRUPTED)
    except click.ClickException as error:
        return _fail(out, "UsageError", usage.said(error), UsageError.exit_code, error)
    except AdaptrError as error:
        return _fail(out, type(error).__name__, str(error), error.exit_code, error)
    except OSError as error:
        return _fail(out, "MachineError", _system(error), MachineError.exit_code, error)
    except MemoryError as error:
        return _fail(out, "MachineError", _memory(), MachineError.exit_code, error)
    except Exception as error:
        of = owner(error)
        return _fail(out, "Bug", _bug(out, error, of), BUG, error, {} if of is None else {"plugin": asdict(of)})


def _fail(
    out: Output, kind: str, message: str, code: int, error: BaseException | None = None, more: Mapping[str, Any] = {}
) -> int:
    """Say what went wrong, where the caller looks for it: with its parts as fields, or as lines on a terminal."""
    if out.json:
        parts = error.parts if isinstance(error, AdaptrError) else {}
        explained = {"page": found} if (found := _page(kind)) else {}
        out.emit({"error": {"type": kind, "message": message, "exit_code": code, **parts, **explained, **more}})
    else:
        lines = _lines(error) if isinstance(error, AdaptrError) and sys.stderr.isatty() else [message]
        head, page = (f"{kind}: {lines[0]}", _told_page(kind, error)) if out.verbose else (lines[0], [])
        out.complain("\n".join([head, *lines[1:], *page]))
    if out.verbose and error is not None and not isinstance(error, click.ClickException):
        import traceback

        click.echo(printable("".join(traceback.format_exception(error))), err=True, nl=False)
    return code


def _page(kind: str) -> str:
    """The command that says what an error means, "" where nobody says it."""
    from adaptr.cli.error_pages import SORT

    return f"adaptr explain {kind}" if SORT.has(kind) else ""


def _told_page(kind: str, error: BaseException | None) -> list[str]:
    """The same in a line of its own."""
    found = _page(kind) or (isinstance(error, AdaptrError) and f"`{type(error).__module__}` gives none of `{kind}`")
    return [f"  page: {found}"] if found else []


def _lines(error: AdaptrError) -> list[str]:
    """What went wrong, what that came of, and the way on: a line each."""
    cause = error.__cause__
    told = str(cause) if isinstance(cause, AdaptrError | OSError) else ""
    return [
        error.fact,
        *([f"  cause: {told}"] if told and told not in str(error) else []),
        *([f"  hint: {error.hint}"] if error.hint else []),
    ]


def _system(error: OSError) -> str:
    what = f"`{called(error.filename)}`: " if error.filename else ""
    return f"{what}{error.strerror or error}"


def _memory() -> str:
    return "this machine has not enough memory for it; what was there before is still there"


def _bug(out: Output, error: Exception, of: Owner | None) -> str:
    more = "" if out.verbose else "; run it again with -v for the details"
    at = f" {of.told}" if of else ""
    versions = "versions of " + (f"`{of.distribution}`, " if of else "") + "adaptr, Python and torch"
    return (
        f"this is a bug in {of or 'adaptr'}, not in what you gave it: {type(error).__name__}: {error}{more}. "
        f"Please report it{at} with the command, its output and the {versions}"
    )
