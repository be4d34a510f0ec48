"""The laws of remotes can fail: each catches a remote that is wrong in what it is about."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from adaptr.errors import AuthError
from adaptr.registry.digest import Digest
from adaptr.registry.reference import Reference
from adaptr.registry.store import Store
from adaptr.testing import RemoteLaws
from adaptr.testing.transfers import How, spoil
from foreign.test_formats import Point

EXAMPLE = Path(__file__).parents[2] / "example_plugin"


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(sys, "path", [*sys.path, str(EXAMPLE)])
    monkeypatch.setenv("ADAPTR_SHELF", str(tmp_path / "shelf"))
    from adaptr_gain import shelf  # type: ignore[import-not-found]

    return shelf


class Of(RemoteLaws):
    remote = "shelf"

    def place(self, folder: Path, tag: str) -> str:
        return f"shelf://team/{folder.name.lower().replace('_', '-')}:{tag}"

    def damage(self, where: Reference, blob: Digest, how: How) -> bool:
        return spoil(Path(self.root, where.host, where.name, "blobs", "sha256", blob.hex), how)

    def secrets(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterable[str]:
        return ["c4nary"]


def wrong(shelf: Any) -> dict[str, tuple[str, type]]:
    """What is wrong, to the law that catches it and the remote."""

    class Unchecked(shelf.Shelf):  # type: ignore[misc]
        def pull(self, reference: Reference, store: Store, progress: Any = None) -> Digest:
            there = shelf._layout(reference)
            manifest = there.manifest(there.resolve(reference))
            for blob in manifest.blobs:
                file = shelf._folder(reference) / "blobs" / "sha256" / blob.digest.hex
                (store.root / "blobs" / "sha256" / blob.digest.hex).write_bytes(file.read_bytes())
            return store.put(manifest)

    class Untyped(shelf.Shelf):  # type: ignore[misc]
        def resolve(self, reference: Reference) -> str:
            return {}[reference.tag]  # type: ignore[no-any-return]

    class Naming(shelf.Shelf):  # type: ignore[misc]
        def pull(self, reference: Reference, store: Store, progress: Any = None) -> Digest:
            digest = super().pull(reference, store, progress)
            return store.put(store.manifest(digest), "mine:1")

    class Silent(shelf.Shelf):  # type: ignore[misc]
        def pull(self, reference: Reference, store: Store, progress: Any = None) -> Digest:
            return super().pull(reference, store)

    class Telling(shelf.Shelf):  # type: ignore[misc]
        def pull(self, reference: Reference, store: Store, progress: Any = None) -> Digest:
            raise AuthError("`c4nary` is no token of anybody's")

    return {
        "digests": ("test_law_5_what_was_changed_there_does_not_come_in", Unchecked),
        "types": ("test_law_4_what_is_not_there_is_not_found", Untyped),
        "names": ("test_law_2_what_goes_out_comes_back", Naming),
        "progress": ("test_law_8_how_far_it_is_is_told_in_bytes", Silent),
        "stops": ("test_law_6_what_was_stopped_on_its_way_is_not_there_and_comes_at_the_next_try", Silent),
        "secrets": ("test_law_15_secrets_are_in_no_message", Telling),
    }


@pytest.mark.parametrize("what", ["digests", "types", "names", "progress", "stops", "secrets"])
def test_what_is_wrong_is_caught(
    shelf: Any, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    law, remote = wrong(shelf)[what]
    more = (caplog,) if what == "secrets" else ()
    laws = Of()
    laws.root = tmp_path / "shelf"  # type: ignore[attr-defined]
    for found, caught in ((shelf.Shelf, False), (remote, True)):
        folder = tmp_path / f"caught-{caught}"
        folder.mkdir()
        monkeypatch.setattr("adaptr.discovery._points", lambda group, found=found: {"shelf": Point(found)})
        if not caught:
            getattr(laws, law)(folder, monkeypatch, *more)
        else:
            with pytest.raises((AssertionError, KeyError)):
                getattr(laws, law)(folder, monkeypatch, *more)
