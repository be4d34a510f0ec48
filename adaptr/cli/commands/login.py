"""`adaptr login HOST`"""

from __future__ import annotations

import sys

import click

from adaptr.cli import options, show
from adaptr.cli.output import Output
from adaptr.errors import UsageError, printable

SUMMARY = "Keep an account for a registry, once it has proved right."
SECTION = "Share"


@options.command(
    "login",
    "adaptr login ghcr.io --user alice",
    "adaptr login registry.acme.example:5000 --user ci --password-stdin",
    summary=SUMMARY,
)
@click.argument("host")
@click.option("-u", "--user", default="", help="The account; asked for without it.")
@click.option("--password-stdin", is_flag=True, help="Read the password, or access token, from standard input.")
def command(output: Output, host: str, user: str, password_stdin: bool) -> None:
    """It is kept where other tools look for it too: the file in `ADAPTR_AUTH_FILE`, the containers' auth.json that
    knows the host, or Docker's config.json, with its credential helpers. If another server checks the passwords of
    HOST, it is named before anything is sent, and no other one will get this password later.
    """
    from adaptr.registry.client import login

    door = login.door(host)
    if door.realm is not None and not output.quiet:
        click.echo(printable(f"{host} has passwords checked by {door.realm}"), err=True)
    secret = _secret(password_stdin, user)
    user = user or click.prompt("User", err=True)
    found = login.login(door, user, secret or click.prompt("Password", hide_input=True, err=True))
    facts = {"host": found.host, "user": found.user, "checked by": found.checked_at, "kept in": found.kept_in}
    if not found.tested:
        facts["note"] = "this registry lets everyone read, so the password could not be tried"
    output.tell(found.as_dict(), [show.Facts(facts)])


def _secret(from_input: bool, user: str) -> str:
    """The password from standard input; "" if a person is there to be asked."""
    if from_input:
        secret = sys.stdin.readline().rstrip("\r\n")
        if not secret or not user:
            raise UsageError(
                "--password-stdin wants the password on standard input, and --user",
                hint="write it so: `adaptr login HOST --user NAME --password-stdin < FILE`",
            )
        return secret
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the password", hint="give it by --password-stdin")
    return ""
