"""The store: `oci-layout`, `index.json`, `blobs/sha256/`, and beside them what this machine needs.

ingest/   blobs on their way in       stamps/   which blobs were found right, and as what file
locks/    who is writing              views/    an artifact's files under their names, as links to blobs
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adaptr.errors import DigestMismatch, NotFound
from adaptr.files.home import READABLE, home, made, require_kept, require_own
from adaptr.registry import terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor, Manifest, parse
from adaptr.registry.reference import Reference
from adaptr.registry.reference import parse as parse_reference
from adaptr.registry.store import ingest, locks
from adaptr.registry.store.index import Index, name_of, origins, without_name

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
#: Seconds to wait for another process that fetches the same blob, before fetching it too.
PATIENCE = 600.0


@dataclass(frozen=True)
class Name:
    """A name in the store: what it names, where that came from, and what its manifest says of itself."""

    name: str
    digest: Digest
    reference: str
    annotations: Mapping[str, str]


class Store:
    """The store in the folder `root`, made if it is not there. Raises `StoreUnsafe` if others could change it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("blobs/sha256", "ingest", "locks", "stamps", "views"):
            require_own(made(root / name))
        require_own(root)
        if not (root / "oci-layout").exists():
            (root / "oci-layout").write_bytes(LAYOUT)
            (root / "oci-layout").chmod(READABLE)
        self.index = Index(root)

    @classmethod
    def default(cls) -> Store:
        """The store of this user: `$ADAPTR_HOME/store`, or in the platform's folder for data."""
        require_own(made(home()))
        require_kept(home())
        return cls(home() / "store")

    # ------------------------------------------------------------ blobs

    def _blob(self, digest: Digest) -> Path:
        return self.root / "blobs" / "sha256" / Digest(digest).hex

    def has(self, digest: Digest) -> bool:
        return self._blob(digest).is_file()

    def path(self, digest: Digest) -> Path:
        """The file of a blob, hashed again unless it is the very file that was found right before.

        Raises `NotFound`, `DigestMismatch`.
        """
        path = self._blob(digest)
        try:
            seen = path.lstat()
        except FileNotFoundError:
            raise NotFound(f"{digest} is not in the store", hint="pull it") from None
        stamp = f"{seen.st_size} {seen.st_mtime_ns} {seen.st_ino}"
        if path.is_symlink() or self._stamped(digest) != stamp:
            self._require_right(path, digest)
            self._stamp(digest, stamp)
        return path

    def _require_right(self, path: Path, digest: Digest) -> None:
        with open(path, "rb") as file:
            found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        if path.is_symlink() or found != digest:
            raise DigestMismatch(
                f"`{digest}` in the store has the digest {found}, not its own: it was changed after it came",
                hint="`adaptr verify --repair` fetches it again",
            )

    def _stamped(self, digest: Digest) -> str:
        try:
            return (self.root / "stamps" / digest.hex).read_text()
        except FileNotFoundError:
            return ""

    def _stamp(self, digest: Digest, stamp: str = "") -> None:
        seen = self._blob(digest).stat()
        with contextlib.suppress(PermissionError):
            text = stamp or f"{seen.st_size} {seen.st_mtime_ns} {seen.st_ino}"
            file = self.root / "stamps" / digest.hex
            file.write_text(text)
            file.chmod(READABLE)

    def read(self, digest: Digest, limit: int = 4 << 20) -> bytes:
        """A small blob, hashed. Raises `NotFound`, `DigestMismatch`."""
        with open(self.path(digest), "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit or Digest.of(data) != digest:
            raise DigestMismatch(
                f"{digest} in the store is damaged, or longer than {limit} bytes",
                hint="`adaptr verify --repair` mends what can be pulled again",
            )
        return data

    def add_bytes(self, data: bytes) -> Digest:
        """Put a small blob in."""
        digest = Digest.of(data)
        if not self.has(digest):
            part = ingest.Part(self.root / "ingest", digest.hex)
            try:
                part.write(data)
                part.become(self._blob(digest))
            finally:
                part.drop()
            self._stamp(digest)
        return digest

    def add_file(self, path: Path) -> Digest:
        """Put a copy of a file in: what others do to the file later changes nothing here."""
        part = ingest.Part(self.root / "ingest", "file")
        try:
            with open(path, "rb") as file:
                while data := file.read(ingest.CHUNK):
                    part.write(data)
            digest = part.digest
            if not self.has(digest):
                part.become(self._blob(digest))
                self._stamp(digest)
        finally:
            part.drop()
        return digest

    def fetch(self, what: Descriptor, source: ingest.Opener, count: ingest.Count = lambda _: None) -> Path:
        """A blob, from here or from `source`; verified, and resumed where an earlier try stopped."""
        path = self._blob(what.digest)
        if path.is_file():
            count(what.size)
            self._touch(what.digest)
            return self.path(what.digest)
        with locks.held(self.root / "locks" / f"{what.digest.hex}.lock", PATIENCE):
            if not path.is_file():
                ingest.fetch(self.root / "ingest", path, what, source, count)
                self._stamp(what.digest)
        return path

    def _touch(self, digest: Digest) -> None:
        """Keep garbage collection off a blob that somebody is about to use."""
        with contextlib.suppress(OSError):
            os.utime(self.root / "stamps" / digest.hex)

    # ------------------------------------------------------------ manifests and names

    def put(self, manifest: Manifest, name: str = "", reference: str = "") -> Digest:
        """Record an artifact whose blobs are here, under a name. Raises `NotFound` if one is not."""
        for blob in manifest.blobs:
            if not self.has(blob.digest):
                raise NotFound(
                    f"{blob.digest} is not in the store: blobs come before their manifest", hint="add it first"
                )
        digest = self.add_bytes(manifest.raw)
        said = {terms.REF_NAME: name, terms.REFERENCE: reference}
        entry = replace(manifest.descriptor, annotations={key: value for key, value in said.items() if value})
        self.index.add(entry)
        return digest

    def manifest(self, digest: Digest) -> Manifest:
        """A manifest by its digest. Raises `NotFound`, `BadManifest`."""
        return parse(self.read(digest))

    def names(self) -> list[Name]:
        """All names, in order."""
        found = [entry for entry in self.index.entries() if name_of(entry)]
        return sorted((self._entry(entry) for entry in found), key=lambda entry: entry.name)

    def _entry(self, entry: Descriptor) -> Name:
        reference = entry.annotations.get(terms.REFERENCE, "")
        return Name(name_of(entry), entry.digest, reference, self.manifest(entry.digest).annotations)

    def resolve(self, name: str) -> Digest:
        """What a name stands for: as it is in the index, with `:latest`, or by digest. Raises `NotFound`."""
        found = self.lookup(name)
        if found is None:
            raise NotFound(f"the store has no `{name}`", hint="`adaptr list` shows what it has")
        return found

    def lookup(self, name: str) -> Digest | None:
        """The same, or None."""
        by_name = {name_of(entry): entry.digest for entry in self.index.entries()}
        if name in by_name:
            return by_name[name]
        reference = parse_reference(name) if not name.startswith("sha256:") else None
        if reference is None or reference.digest is not None:
            digest = Digest(name) if reference is None else reference.digest
            return digest if digest is not None and self.has(digest) else None
        return by_name.get(reference.local)

    def pulled(self, reference: Reference) -> Digest | None:
        """What was pulled from a reference before, or None."""
        return next((entry.digest for entry in self.index.entries() if name_of(entry) == reference.local), None)

    def tag(self, name: str, digest: Digest) -> None:
        """Give an artifact that is here a name; one of another artifact moves."""
        self.put(self.manifest(digest), parse_reference(name).local)

    def untag(self, name: str) -> None:
        """Take a name away. Raises `NotFound`. What nothing names any more goes with `gc`."""
        self.resolve(name)
        named = {name_of(entry) for entry in self.index.entries()}
        known = {name} if name in named else {parse_reference(name).local}
        self.index.change(lambda entries: without_name(entries, known))

    def reference_of(self, digest: Digest) -> Reference | None:
        """Where an artifact came from, if it was pulled."""
        return next(iter(self.references_of(digest)), None)

    def references_of(self, digest: Digest) -> tuple[Reference, ...]:
        """All places that an artifact is known to have come from, whatever it is called now."""
        said = origins(entry for entry in self.index.entries() if entry.digest == digest)
        return tuple(parse_reference(text) for text in said)

    def referrers(self, digest: Digest) -> list[Manifest]:
        """Signatures and other attachments of an artifact."""
        found = (self.manifest(entry.digest) for entry in self.index.entries() if not name_of(entry))
        return [manifest for manifest in found if manifest.subject and manifest.subject.digest == digest]

    # ------------------------------------------------------------ files

    def view(self, digest: Digest) -> Path:
        """A folder with the artifact's files under their names, each a link to its verified blob."""
        files = {name: self.path(layer.digest) for name, layer in self.manifest(digest).files().items()}
        folder = self.root / "views" / digest.hex
        if not _shows(folder, files):
            fresh = self.root / "ingest" / f"view.{os.getpid()}.{os.urandom(8).hex()}"
            try:
                for name, blob in files.items():
                    made((fresh / name).parent)
                    (fresh / name).symlink_to(os.path.relpath(blob, folder / Path(name).parent))
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(fresh, folder)
            except OSError:
                if not _shows(folder, files):  # else another process was faster
                    raise
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        return folder

    def export(self, digest: Digest, folder: Path) -> list[Path]:
        """Copy the artifact's files into a folder that is new and empty."""
        written = []
        for name, layer in self.manifest(digest).files().items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path(layer.digest), target)
            written.append(target)
        return written


def _shows(folder: Path, files: Mapping[str, Path]) -> bool:
    """Whether a view has these links and nothing else."""
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
    return found.keys() == files.keys() and all(
        link.is_symlink() and os.readlink(link) == os.path.relpath(files[name], link.parent)
        for name, link in found.items()
    )
