"""`adaptr sign ARTIFACT --key K`"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.artifacts.trust import Signed

SUMMARY = "Sign an artifact, a file or a folder."
SECTION = "Share"

#: The environment variable with a key's password: arguments can be seen by everyone on the machine.
PASSWORD = "ADAPTR_KEY_PASSWORD"


@options.command(
    "sign",
    "adaptr sign acme/style:1.2 --key acme.key",
    "adaptr sign ./peft-folder --key acme.key --certificate acme.pem",
    "adaptr sign style.safetensors --key acme.key -o style.sig",
    summary=SUMMARY,
)
@click.argument("artifact", shell_complete=completing.artifacts)
@click.option("--key", required=True, type=click.Path(), metavar="K", help="The private key, an elliptic curve in PEM.")
@click.option("--certificate", type=click.Path(), metavar="C", help="Its certificate, then its issuers', in PEM.")
@click.option("-o", "--out", type=click.Path(), metavar="FILE", help="Write the signature here (too).")
@click.option("--force", is_flag=True, help="Replace what is at FILE.")
def command(output: Output, artifact: str, key: str, certificate: str | None, out: str | None, force: bool) -> None:
    """ARTIFACT is a name in the store or a reference, whose signature is kept with it and goes along with `adaptr
    push`; or a file or folder, whose signature is written beside it (`FILE.sig`, `FOLDER/model.sig`). The format is
    that of OpenSSF model-signing 1.0, which its own tool verifies. A key's password is asked for, or is in
    `ADAPTR_KEY_PASSWORD`.
    """
    from adaptr.artifacts import trust

    signed = trust.sign(
        artifact,
        Path(key),
        Path(certificate) if certificate else None,
        out or None,
        password=lambda: _password(key),
        force=force,
    )
    output.tell(signed.as_dict(), _blocks(signed))


def _password(key: str) -> str:
    given = os.environ.get(PASSWORD)
    return given if given is not None else str(click.prompt(f"Password of {key}", hide_input=True, err=True))


def _blocks(signed: Signed) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "signed": signed.source,
            "digest": signed.digest,
            "files": [name for name in signed.files if name != "."],
            "key": signed.fingerprint,
            "certificate": signed.certificate,
            "signature": signed.signature,
            "written": signed.out,
        }
    )
