"""The Hugging Face Hub, asked through its library; bytes are fetched by our own client, which resumes and is checked.

The library hashes nothing that comes over HTTP. Here every file is held against what the repository's tree says of it:
the SHA-256 of what is in large-file storage, the git blob's id of the rest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import quote

from adaptr.errors import (
    AdaptrError,
    AuthError,
    BadManifest,
    DigestMismatch,
    NotFound,
    RegistryError,
    TransferError,
    phrases,
    shown,
)
from adaptr.registry.client import address, retry
from adaptr.registry.client.plain import File
from adaptr.registry.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    from adaptr.registry.client.http import Answer

T = TypeVar("T")

HOME = "https://huggingface.co"
#: The longest file that is kept in git itself, in bytes: the Hub wants large-file storage from 10 MB on.
MAX_IN_GIT = 32 << 20
_SWITCHED_ON = frozenset({"1", "true", "yes", "on"})


def endpoint() -> str:
    """Where the Hub is: `HF_ENDPOINT`, or huggingface.co. Raises `RegistryError` for one without TLS elsewhere."""
    found = (os.environ.get("HF_ENDPOINT") or HOME).rstrip("/")
    place = address.origin(found)
    if place.scheme != "https" and not address.loopback(place.host) and not address.plain(found.partition("//")[2]):
        raise RegistryError(
            f"`HF_ENDPOINT={shown(found)}` is not encrypted and not on this machine: refused",
            hint="give an `https://` address",
        )
    return found


def require_online() -> None:
    """Raises `TransferError` where `HF_HUB_OFFLINE` is set, which another try does not change."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _SWITCHED_ON:
        raise TransferError(
            "`HF_HUB_OFFLINE` is set: the Hub is not asked", hint="unset it, or name what the store has"
        )


def api() -> HfApi:
    """The library's client. Raises `MissingExtra`; `TransferError` where `HF_HUB_OFFLINE` is set."""
    require_online()
    try:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError:
        raise phrases.extra("`hf://`", "huggingface_hub", "hub") from None
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:  # ours are enough
        disable_progress_bars()
    return HfApi(endpoint=endpoint(), library_name="adaptr", token=None if _private() else False)


@dataclass(frozen=True)
class Listed:
    """A file of a repository. `path`: in the repository; `sha256`: empty for what is in git itself; `oid`: git's."""

    path: str
    size: int
    sha256: str
    oid: str


@dataclass(frozen=True)
class Snapshot:
    """A repository at a commit. `license`: as its card says."""

    name: str
    commit: str
    license: str = ""

    def files(self, folder: str = "") -> dict[str, Listed]:
        """The files directly in a folder, by their names there. Raises `NotFound` for a folder that is not there."""
        where = f"hf://{self.name}{folder and f'#{folder}'}"
        tree = asked(lambda: list(api().list_repo_tree(self.name, folder or None, revision=self.commit)), where)
        found = [_entry(cast("RepoFile", one)) for one in tree if hasattr(one, "size")]
        return {entry.path.rpartition("/")[2]: entry for entry in found}

    def file(self, entry: Listed) -> File:
        """Where a file's bytes are."""
        url = f"{endpoint()}/{self.name}/resolve/{self.commit}/{quote(entry.path)}"
        return File(url, _who(), refused)

    def in_git(self, entry: Listed) -> bytes:
        """A file that is kept in git itself, checked. Raises `DigestMismatch`."""
        if entry.size > MAX_IN_GIT:
            raise RegistryError(
                f"`{shown(entry.path)}` in `hf://{self.name}` has {entry.size} bytes and no SHA-256 that it "
                "could be checked by as it comes",
                want=f"at most {MAX_IN_GIT} bytes of such a file",
                hint="ask the owner to keep it in LFS",
            )
        data = self.file(entry).whole(entry.size)
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        if found != entry.oid:
            raise DigestMismatch(
                f"`{shown(entry.path)}` in `hf://{self.name}` should be the git blob {shown(entry.oid)} and "
                f"came as {found}: damaged, or changed on the way; nothing was kept",
                hint="pull it again",
            )
        return data


def _entry(found: RepoFile) -> Listed:
    sha256 = found.lfs.sha256 if found.lfs else ""
    if sha256:
        Digest(f"sha256:{sha256}")
    if type(found.size) is not int or found.size < 0:
        raise BadManifest(
            f"`{shown(found.path)}`",
            verb="has",
            got=f"the size `{shown(found.size)}`, says the Hub",
            want="a number of bytes",
            hint="try again later",
        )
    return Listed(str(found.path), found.size, sha256, str(found.blob_id))


def snapshot(name: str, revision: str) -> Snapshot:
    """A repository at what a branch, tag or commit stands for now, "" being `main`."""
    where = f"hf://{name}{revision and f'@{revision}'}"
    found = asked(lambda: api().model_info(name, revision=revision or None), where)
    commit = str(found.sha or "")
    if len(commit) != 40 or not set(commit) <= set("0123456789abcdef"):
        raise BadManifest(
            f"`hf://{name}`", got=f"at `{shown(commit)}`, says the Hub", want="a commit", hint="try again later"
        )
    card = found.card_data
    licensed = card.get("license") if card else ""
    return Snapshot(name, commit, licensed if isinstance(licensed, str) else "")


def _private() -> bool:
    """Whether the account may be told to the Hub: nobody else hears it."""
    return address.private(address.origin(endpoint()))


def _who() -> Mapping[str, str]:
    """The account: `HF_TOKEN`, or what `hf auth login` left."""
    from huggingface_hub import get_token

    token = get_token() if _private() else None
    return {"Authorization": f"Bearer {token}"} if token else {}


def refused(answer: Answer, where: str) -> AdaptrError:
    return _refusal(answer.status, answer.header("x-error-code"), where)


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Errors of the library as ours. `where`: what was asked for, as people call it."""
    try:
        yield
    except AdaptrError:
        raise
    except Exception as error:
        ours = _ours(error, where)
        if ours is None:
            raise
        raise ours from error


def _ours(error: BaseException, where: str) -> AdaptrError | None:
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        status, headers = error.response.status_code, error.response.headers
        if status not in retry.PASSING:
            return _refusal(status, headers.get("x-error-code", ""), where)
        return TransferError(
            f"`{where}`: the Hub answers {status}",
            after=retry.asked(headers.get("retry-after", "")),
            hint="try again later",
        )
    if isinstance(error, errors.HFValidationError):
        return RegistryError(f"`{where}`: {shown(str(error), 200)}", want="`hf://org/name`")
    if _of_the_network(error):
        return TransferError(
            f"`{where}`: {shown(str(error) or type(error).__name__, 200)}", hint="look at the network, and try again"
        )
    return _ours(error.__cause__, where) if error.__cause__ else None


def _of_the_network(error: BaseException) -> bool:
    """The library has an HTTP client of its own, which may be either of two."""
    return any(kind.__module__.partition(".")[0] in {"httpx", "httpx2"} for kind in type(error).__mro__)


def _refusal(status: int, code: str, where: str) -> AdaptrError:
    """What the Hub's status and error code mean. It says 401 also for what is not there."""
    known = bool(_who())
    if code == "GatedRepo":
        return AuthError(
            f"`{where}` is gated", hint="ask for access on its page, and set `HF_TOKEN` to your account's token"
        )
    if status in {401, 403} and code != "RevisionNotFound":
        account = "the account of your token may not read it" if known else "you are not logged in"
        return AuthError(
            f"`{where}` answers {status}: it does not exist, or is private, and {account}",
            hint="set `HF_TOKEN`, or run `hf auth login`",
        )
    if status == 404:
        missing = {"RevisionNotFound": "no such revision", "EntryNotFound": "no such file or folder"}
        return NotFound(
            f"`{where}`: {missing.get(code, 'no such repository')} on `{endpoint()}`",
            hint="look at its name on the Hub, or search with `adaptr search hf://`",
        )
    return RegistryError(f"`{where}`: the Hub answers {status} {shown(code)}".rstrip(), hint="try again later")


def asked(work: Callable[[], T], where: str) -> T:
    """What the library's `work` gives, asked again where that may help."""
    require_online()

    def once() -> T:
        with explained(where):
            return work()

    return retry.retried(once)
