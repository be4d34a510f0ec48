"""References: where an artifact is.

oci://host[:port]/repository[:tag][@sha256:hex]    an OCI registry
hf://org/name[@revision][#folder]                  the Hugging Face Hub
https://host/path/x.safetensors#sha256=hex         one file with a pinned digest
https://host/path/#tag                             an OCI layout on a static server
file:///path[#tag]                                 a folder, a file or an OCI layout here
name[:tag]                                         the local store
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from adaptr.errors import BadReference, shown
from adaptr.registry.digest import Digest

MAX = 255
LATEST = "latest"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)\Z", re.DOTALL)
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?\Z")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?\Z")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}\Z")
_LOCAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}\Z")
_PRINTABLE = re.compile(r"[\x21-\x7e]+\Z")


@dataclass(frozen=True)
class Reference:
    """A reference, taken apart. What a scheme has no use for is empty.

    `name`: repository, Hub name, path, or local name. `tag`: tag, revision or name in a layout. `folder`: within a Hub
    repository. `str()` gives the reference as people write it.
    """

    scheme: str
    host: str = ""
    name: str = ""
    tag: str = ""
    digest: Digest | None = None
    folder: str = ""

    def __str__(self) -> str:
        pin = f"@{self.digest}" if self.digest else ""
        if self.scheme == "hf":
            return f"hf://{self.name}{self.tag and f'@{self.tag}'}{self.folder and f'#{self.folder}'}"
        if self.scheme in {"https", "http", "file"}:
            mark = f"#sha256={self.digest.hex}" if self.digest and not self.tag else self.tag and f"#{self.tag}{pin}"
            return f"{self.scheme}://{self.host}{self.name}{mark}"
        start = f"{self.scheme}://{self.host}/" if self.scheme else ""
        return f"{start}{self.name}{self.tag and f':{self.tag}'}{pin}"

    @property
    def on_disk(self) -> bool:
        """Whether it is a place on this machine."""
        return self.scheme == "file"

    @property
    def pins_file(self) -> bool:
        """Whether the digest is that of one file, which itself is no manifest."""
        plain = not self.tag and not self.name.endswith("/")
        return self.scheme in {"https", "http", "file"} and self.digest is not None and plain

    @property
    def local(self) -> str:
        """How the store's index names it: unique, and within the grammar of OCI's `ref.name`."""
        place = "/".join(part for part in (self.host, self.name.strip("/")) if part)
        if self.scheme == "hf":
            place = f"hf/{self.name}" + (f"/{self.folder}" if self.folder else "")
        end = f":{self.tag}" if self.tag or not self.digest else f"@{self.digest}"
        if self.digest and self.pins_file:
            end = f":{self.digest.hex}"
        return place + (end if end != ":" else f":{LATEST}")

    def at(self, digest: Digest) -> Reference:
        """The same place, pinned."""
        return replace(self, digest=digest)


def is_reference(text: object) -> bool:
    """Whether a text has the scheme of a reference; names in the local store have none."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def parse(text: str) -> Reference:
    """Take a reference apart. Raises `BadReference` that says what is wrong with it."""
    if len(text) > MAX or not _PRINTABLE.match(text):
        raise BadReference(f"`{_said(text)}` is no reference", want=f"up to {MAX} printable characters without spaces")
    found = _SCHEME.match(text)
    scheme, rest = (found[1], found[2]) if found else ("", text)
    if scheme in {"https", "http", "file"}:
        return _url(text, scheme, rest)
    if scheme == "hf":
        return _hub(text, rest)
    return _image(text, scheme, rest)


def _image(text: str, scheme: str, rest: str) -> Reference:
    """`oci://`, what plugins add, and names in the local store, which have no host."""
    place, _, pin = rest.partition("@")
    digest = Digest(pin) if pin else None
    head, colon, tag = place.rpartition(":")
    if not colon or "/" in tag:
        head, colon, tag = place, "", ""
    if colon and not _TAG.match(tag):
        raise BadReference(f"`{_said(text)}`: `{shown(tag)}` is no tag", want="letters, digits, `.`, `_` and `-`")
    if not scheme:
        if not _LOCAL.match(head):
            raise BadReference(f"`{_said(text)}` is no name in the store", want="`name` or `name:tag`")
        return Reference("", "", head, tag or ("" if digest else LATEST), digest)
    host, slash, name = head.partition("/")
    if not slash or not _HOST.match(host):
        raise BadReference(f"`{_said(text)}` names no host", want=f"`{scheme}://host/repository:tag`")
    if not _REPOSITORY.match(name):
        raise BadReference(f"`{_said(text)}`: `{shown(name)}` is no repository", want="lower case, digits and `/`")
    return Reference(scheme, host, name, tag or ("" if digest else LATEST), digest)


def _hub(text: str, rest: str) -> Reference:
    place, _, folder = rest.partition("#")
    name, at, revision = place.partition("@")
    if not _HUB.match(name) or ".." in name or "--" in name:
        raise BadReference(
            f"`{_said(text)}` is no reference to the Hub",
            want="`hf://org/name`, perhaps with `@revision` and `#folder`",
        )
    if at and (not _REVISION.match(revision) or ".." in revision):
        raise BadReference(f"`{_said(text)}`: `{shown(revision)}` is no revision", want="a branch, a tag or a commit")
    if folder:
        from adaptr.registry import names

        names.require(folder)
    return Reference("hf", "", name, revision, None, folder)


def _url(text: str, scheme: str, rest: str) -> Reference:
    place, _, mark = rest.partition("#")
    host, slash, path = place.partition("/")
    if (scheme != "file" and not _HOST.match(host)) or (scheme == "file" and host) or not slash or "?" in path:
        wanted = "file:///path" if scheme == "file" else f"{scheme}://host/path"
        raise BadReference(f"`{_said(text)}` is no place to read from", want=f"`{wanted}`, without a query")
    if mark.startswith("sha256="):
        return Reference(scheme, host, f"/{path}", "", Digest(f"sha256:{mark[7:]}"))
    tag, _, pin = mark.partition("@")
    return Reference(scheme, host, f"/{path}", tag, Digest(pin) if pin else None)


def _said(text: str) -> str:
    """A text that is no reference, as messages quote it: whatever might be an account in it is left out."""
    from adaptr.registry.client.redaction import redacted

    return shown(redacted(text))
