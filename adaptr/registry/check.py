"""An artifact that somebody else packed: do its files keep their format, and does its manifest tell of them rightly?"""

from __future__ import annotations

from adaptr.errors import BadManifest, RefusedMediaType, shown
from adaptr.registry import archives, pack, strict, terms
from adaptr.registry.manifest import Manifest
from adaptr.registry.store import Store

#: What a manifest says that its adapter's file says too. The file is right.
DERIVED = (
    terms.FORMAT, terms.METHOD, terms.RANK, terms.BASE_MODEL, terms.BASE_STRUCTURE, terms.BASE_CONTENT, terms.PARENTS,
    terms.LICENSES,
)  # fmt: skip


def refuse_pickles(manifest: Manifest) -> None:
    """Raises `RefusedMediaType` for an artifact with files that may run code when they are loaded."""
    unsafe = next(filter(pack.may_run, manifest.files()), "")
    if unsafe:
        raise RefusedMediaType(
            f"the artifact holds `{unsafe}`, a pickle or a program, which may run code: never pulled",
            hint="ask for it as safetensors",
        )


def require_sound(manifest: Manifest, store: Store) -> None:
    """Check an artifact whose blobs are in the store.

    Raises a `FormatError` for a safetensors file that is not strictly one, `RefusedMediaType` for an archive of
    whatever name, `BadManifest` where the manifest says something of the adapter that its file does not.
    """
    files = {name: store.path(layer.digest) for name, layer in manifest.files().items()}
    for name, path in files.items():
        if name.endswith(".safetensors"):
            strict.header(name, path)
        elif packed := archives.kind(path):
            raise RefusedMediaType(
                f"`{name}` is a {packed} archive by its bytes, which adaptr never unpacks",
                hint="get it with the tool that made it (`oras pull`, `kit unpack`) and give the folder",
            )
    if manifest.annotations.get(terms.KIND) in {terms.ADAPTER, terms.STACK}:
        _require_agreement(manifest, pack.said(files))


def _require_agreement(manifest: Manifest, found: dict[str, str]) -> None:
    for key in DERIVED:
        said = manifest.annotations.get(key, "")
        if said and said != found.get(key, ""):
            raise BadManifest(
                f"`{key}` in the manifest",
                got=f"`{shown(said)}`",
                want=f"`{shown(found.get(key, ''))}`, as the adapter's own file says",
                hint="push it again with `adaptr push`",
            )
