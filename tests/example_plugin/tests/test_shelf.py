"""The laws, on a remote of one's own."""

from pathlib import Path

import pytest

import adaptr.testing
from adaptr.errors import UsageError
from adaptr.registry.digest import Digest
from adaptr.registry.reference import Reference, parse
from adaptr.registry.remotes import of
from adaptr.testing.transfers import How, spoil


class TestShelf(adaptr.testing.RemoteLaws):
    remote = "shelf"

    @pytest.fixture(autouse=True)
    def _mounted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = tmp_path / "shelf"
        monkeypatch.setenv("ADAPTR_SHELF", str(self.root))

    def place(self, folder: Path, tag: str) -> str:
        return f"shelf://team/{folder.name.lower().replace('_', '-')}:{tag}"

    def shelves(self, folder: Path) -> str:
        return self.place(folder, "one")

    def damage(self, where: Reference, blob: Digest, how: How) -> bool:
        return spoil(self.root / where.host / where.name / "blobs" / "sha256" / blob.hex, how)


def test_without_a_shelf_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADAPTR_SHELF", raising=False)
    with pytest.raises(UsageError, match="ADAPTR_SHELF"):
        of("shelf").resolve(parse("shelf://team/x:1"))
