"""References: what is read is what is written, and what leads astray is refused."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptr.errors import BadDigest, BadReference, IntegrityError, UsageError
from adaptr.registry import names
from adaptr.registry.digest import Digest
from adaptr.registry.reference import is_reference, parse

D = "sha256:" + "ab" * 32
#: What OCI's image layout allows as `org.opencontainers.image.ref.name`.
REF_NAME = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*")
GOOD = {
    "oci://ghcr.io/acme/style:1.2": "ghcr.io/acme/style:1.2",
    f"oci://localhost:5000/a@{D}": f"localhost:5000/a@{D}",
    f"oci://ghcr.io/a/b:1@{D}": "ghcr.io/a/b:1",
    "hf://org/name@main": "hf/org/name:main",
    "hf://org/name@main#sub/folder": "hf/org/name/sub/folder:main",
    f"https://host/x.safetensors#sha256={'ab' * 32}": f"host/x.safetensors:{'ab' * 32}",
    "https://host:8080/layout/#v1": "host:8080/layout:v1",
    "file:///srv/layout#v1": "srv/layout:v1",
    "style:1.2": "style:1.2",
}
BAD = [
    "",
    " ",
    "oci://",
    "oci://host",
    "oci://host/",
    "oci:///name",
    "oci://host/UPPER",
    "oci://host/a//b",
    "oci://host/../a",
    "oci://host/a:",
    "oci://host/a:b/c:d:e",
    "oci://ho st/a",
    "oci://user:password@host/a",
    "oci://host:port/a",
    "oci://host/a:x\n",
    "oci://-host/a",
    "hf://",
    "hf://../a",
    "hf://a/b/c",
    "hf://a/b@../x",
    "hf://a/b@",
    "hf://a--b/c#../x",
    "https://host",
    "https:///path",
    "https://user@host/x",
    "https://host/x?token=secret",
    "file://host/path",
    "-rf",
    "../x",
    "x" * 256,
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_read_is_what_is_written(text: str) -> None:
    found = parse(text)
    assert str(found) == text
    assert found.local == GOOD[text]
    assert REF_NAME.fullmatch(found.local)
    assert is_reference(text) == ("://" in text)


@pytest.mark.parametrize("text", BAD)
def test_what_names_no_place_is_refused(text: str) -> None:
    with pytest.raises((UsageError, IntegrityError)):
        parse(text)


def test_a_tag_that_is_not_said_is_latest_and_a_digest_needs_none() -> None:
    assert parse("oci://h/a").tag == "latest"
    assert parse("a").local == "a:latest"
    assert parse(f"oci://h/a@{D}").tag == ""
    assert parse("hf://o/n").tag == ""


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for prefix in ("", "oci://", "hf://", "https://h/", "file:///"):
        try:
            found = parse(prefix + text)
        except (UsageError, IntegrityError):
            continue
        assert parse(str(found)) == found


@given(st.text(string.hexdigits + "\n :", min_size=62, max_size=67))
def test_a_digest_is_one_or_refused(text: str) -> None:
    try:
        found = Digest(f"sha256:{text}")
    except BadDigest:
        return
    assert re.fullmatch("[0-9a-f]{64}", found.hex)


@pytest.mark.parametrize("text", [D + "\n", D.upper(), D[:-1], "sha512:" + "ab" * 64, "../" + D, "", "sha256:"])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(BadDigest, match="64 hexadecimal"):
        Digest(text)


HARMLESS = ["adapter_model.safetensors", "README.md", "a/b/c.json", "_x", "A-1.2.3"]
HARMFUL = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a/..",
    "./x",
    "a//b",
    "a/",
    ".ssh/id",
    ".bashrc",
    "a/.git/config",
    "C:\\x",
    "C:x",
    "\\\\host\\share",
    "a\\b",
    "a\\..\\b",
    "x\x00y",
    "x\ny",
    "x\n",
    "con",
    "NUL",
    "nul.txt",
    "aux.json",
    "COM1",
    "lpt9.md",
    "a.",
    "a ",
    " a",
    "a/b/c/d",
    "~root",
    "$HOME",
    "a:b",
    "a*",
    "a?",
    "a|b",
    "<a>",
    "\xe4",
    "a\u202eb",
    "x" * 256,
    "-rf",
    "%2e%2e/x",
]


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_name_is_kept(name: str) -> None:
    assert names.require(name) == name


@pytest.mark.parametrize("name", HARMFUL)
def test_a_harmful_name_is_rejected_not_mended(name: str) -> None:
    with pytest.raises(IntegrityError, match="can't be the name"):
        names.require(name)


def test_a_reference_says_what_is_wrong_with_it() -> None:
    with pytest.raises(BadReference, match="`UP` is no repository, wanted lower case"):
        parse("oci://host/UP")
