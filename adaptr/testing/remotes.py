"""The laws of remotes: what goes out comes back, digests hold, nothing is half there, refusals have their types."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from adaptr.adapter import Adapter, Target, kinds
from adaptr.errors import AdaptrError, BadReference, NotFound, ReferenceMoved, Unsupported
from adaptr.registry import local, pack, remotes
from adaptr.registry.digest import Digest
from adaptr.registry.reference import MAX, Reference, parse
from adaptr.registry.remotes import Remote
from adaptr.registry.store import Store
from adaptr.testing.skipping import skip
from adaptr.testing.transfers import HOW, How, Stop, assert_nothing, assert_progress, assert_whole, harmful, refused

if TYPE_CHECKING:
    import pytest

NONE = Digest.of(b"what nobody has")
VERBS = ("pull", "push", "resolve", "info", "search")


class RemoteLaws:
    """One test a law. Set `remote`, the scheme, and say where there is room: `place`."""

    remote: ClassVar[str]

    # ------------------------------------------------------------ what the laws are tried on

    def place(self, folder: Path, tag: str) -> str:
        """A reference with a tag, at which there is nothing until something is published. A folder has its own."""
        raise NotImplementedError

    def publish(self, store: Store, digest: Digest, folder: Path, tag: str = "one") -> Reference:
        """Bring an artifact of a store to its place: pushed, or as a remote that is only read has got it."""
        where = parse(self.place(folder, tag))
        self.own.push(store, digest, where)
        return where

    def damage(self, where: Reference, blob: Digest, how: How) -> bool:
        """Spoil a blob that lies at the remote; False where the test has no hand on it."""
        return False

    def shelves(self, folder: Path) -> str:
        """The reference that is searched for what was published, "" where nothing can be."""
        return ""

    def secrets(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterable[str]:
        """Give the remote what it proves an account with; returns texts that nobody may read."""
        return ()

    @property
    def own(self) -> Remote:
        return remotes.of(self.remote)

    def can(self, verb: str) -> bool:
        return getattr(type(self.own), verb) is not getattr(Remote, verb)

    def require(self, *verbs: str) -> None:
        """Skips what the remote does not do."""
        lacking = [verb for verb in verbs if not self.can(verb)]
        if lacking:
            skip(f"`{self.remote}://` can't {' or '.join(lacking)}, and says so: law 10")

    def store(self, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Store:
        """An empty store; the machine's own is beside it."""
        monkeypatch.setenv("ADAPTR_HOME", str(folder / "machine"))
        return Store(folder / name)

    def artifact(self, store: Store, number: int = 1) -> Digest:
        """A small adapter, another for each number, packed."""
        import torch

        import adaptr

        target = Target("layer", kinds.LINEAR, (6, 4), {"r": 2, "alpha": 4.0})
        tensors = {"layer:A": torch.full((2, 4), float(number)), "layer:B": torch.ones(6, 2)}
        file = store.root.parent / f"{store.root.name}-{number}.safetensors"
        adaptr.save(Adapter("lora", target.config, {"layer": target}, tensors), file, force=True)
        return store.put(pack.stored(file, store))

    # ------------------------------------------------------------ laws

    def test_law_1_its_references_are_read_as_they_are_written(self, tmp_path: Path) -> None:
        where = parse(self.place(tmp_path, "one"))
        assert (where.scheme, self.own.name) == (self.remote, self.remote)
        assert parse(str(where)) == where
        assert parse(self.place(tmp_path, "two")).local != where.local

    def test_law_2_what_goes_out_comes_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.require("pull")
        mine, other = (self.store(tmp_path, name, monkeypatch) for name in ("mine", "other"))
        digest = self.artifact(mine)
        where = self.publish(mine, digest, tmp_path)
        assert self.own.pull(where, other) == digest
        assert other.manifest(digest).raw == mine.manifest(digest).raw
        assert_whole(other)
        assert other.names() == [], "the remote names nothing: who pulls does"

    def test_law_3_what_a_name_is_now_can_be_asked_and_held_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.require("pull", "resolve")
        mine, other = (self.store(tmp_path, name, monkeypatch) for name in ("mine", "other"))
        digest = self.artifact(mine)
        where = self.publish(mine, digest, tmp_path)
        now = self.own.resolve(where)
        assert self.own.pull(local.pinned(where, now), other) == digest
        wrong = local.pinned(where, NONE if now.startswith("sha256:") else "0" * len(now))
        refused(lambda: self.own.pull(wrong, self.store(tmp_path, "third", monkeypatch)))
        assert_nothing(self.store(tmp_path, "third", monkeypatch))

    def test_law_4_what_is_not_there_is_not_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.require("pull")
        mine, other = (self.store(tmp_path, name, monkeypatch) for name in ("mine", "other"))
        nowhere = parse(self.place(tmp_path, "one"))
        self._absent(nowhere, other)
        self.publish(mine, self.artifact(mine), tmp_path, "two")
        self._absent(nowhere, other)
        assert_nothing(other)

    def _absent(self, where: Reference, store: Store) -> None:
        asked = {"pull": lambda: self.own.pull(where, store), "info": lambda: self.own.info(where)}
        for verb, ask in {**asked, "resolve": lambda: self.own.resolve(where)}.items():
            if self.can(verb):
                assert isinstance(refused(ask), NotFound), verb

    def test_law_5_what_was_changed_there_does_not_come_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.require("pull")
        tried = 0
        for number, how in enumerate(HOW):
            folder = tmp_path / how
            folder.mkdir()
            mine, other = (self.store(folder, name, monkeypatch) for name in ("mine", "other"))
            digest = self.artifact(mine, 100 + number)  # of no other law: a server may keep one blob for all
            where = self.publish(mine, digest, folder)
            if self.damage(where, mine.manifest(digest).layers[0].digest, how):
                tried += 1
                refused(partial(self.own.pull, where, other))
                assert_nothing(other)
        if not tried:
            skip(f"what lies at `{self.remote}://` can't be changed from here: give `damage`")

    def test_law_6_what_was_stopped_on_its_way_is_not_there_and_comes_at_the_next_try(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.require("pull")
        mine, other = (self.store(tmp_path, name, monkeypatch) for name in ("mine", "other"))
        digest = self.artifact(mine)
        where = self.publish(mine, digest, tmp_path)
        stop = Stop()
        stop.during(lambda: self.own.pull(where, other, stop))
        assert_nothing(other)
        assert self.own.pull(where, other) == digest
        assert_whole(other)

    def test_law_7_what_was_stopped_on_its_way_out_is_there_whole_or_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.require("push", "pull")
        mine, other = (self.store(tmp_path, name, monkeypatch) for name in ("mine", "other"))
        digest, where = self.artifact(mine), parse(self.place(tmp_path, "one"))
        stop = Stop()
        stop.during(lambda: self.own.push(mine, digest, where, stop))
        with contextlib.suppress(NotFound):
            assert self.own.pull(where, self.store(tmp_path, "third", monkeypatch)) == digest
        self.own.push(mine, digest, where)
        assert self.own.pull(where, other) == digest

    def test_law_8_how_far_it_is_is_told_in_bytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.require("pull")
        mine, other = (self.store(tmp_path, name, monkeypatch) for name in ("mine", "other"))
        digest, heard = self.artifact(mine), list[tuple[int, int, str]]()
        if self.can("push"):
            sent = self.own.push(mine, digest, parse(self.place(tmp_path, "one")), lambda *said: heard.append(said))
            assert (sent.digest, sent.uploaded > 0) == (digest, True)
            assert_progress(heard, "pushing")
        where, heard = self.publish(mine, digest, tmp_path), []
        self.own.pull(where, other, lambda *said: heard.append(said))
        assert_progress(heard, "pulling")

    def test_law_9_a_tag_is_one_artifact_and_moves_whole_or_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.require("push", "pull")
        mine = self.store(tmp_path, "mine", monkeypatch)
        first, second = self.artifact(mine, 1), self.artifact(mine, 2)
        one, two = (self.publish(mine, digest, tmp_path, tag) for digest, tag in ((first, "v1.0"), (second, "v2.0")))
        found = [self.own.pull(where, self.store(tmp_path, where.tag, monkeypatch)) for where in (one, two)]
        assert found == [first, second]
        try:
            self.own.push(mine, second, one)
            now = second
        except ReferenceMoved:
            now = first
        assert self.own.pull(one, self.store(tmp_path, "after", monkeypatch)) == now
        self.own.push(mine, second, one, force=True)
        assert self.own.pull(one, self.store(tmp_path, "forced", monkeypatch)) == second

    def test_law_10_what_it_can_not_do_it_says_by_its_scheme(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, where = self.store(tmp_path, "mine", monkeypatch), parse(self.place(tmp_path, "one"))
        given = {"pull": (where, store), "push": (store, NONE, where), "search": (where, ())}
        lacking = [verb for verb in VERBS if not self.can(verb)]
        for verb in lacking:
            error = refused(partial(getattr(self.own, verb), *given.get(verb, (where,))))
            assert isinstance(error, Unsupported)
            assert f"`{self.remote}://`" in str(error)
        if not lacking:
            skip(f"`{self.remote}://` does all that a remote can")

    def test_law_11_what_is_there_is_known_before_it_is_pulled(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.require("info")
        mine = self.store(tmp_path, "mine", monkeypatch)
        digest = self.artifact(mine)
        found = self.own.info(self.publish(mine, digest, tmp_path))
        assert found.digest in ("", str(digest))
        assert {**found.files} == {name: layer.size for name, layer in mine.manifest(digest).files().items()}
        assert {"layer:A", "layer:B"} <= json.loads(found.header).keys()

    def test_law_12_what_is_published_is_found_by_its_words(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.require("search")
        mine = self.store(tmp_path, "mine", monkeypatch)
        digest = self.artifact(mine)
        where = self.publish(mine, digest, tmp_path)
        if not self.shelves(tmp_path):
            skip("nothing is named that is searched: give `shelves`")
        from adaptr.sources.resolve import namespace

        place = namespace(self.shelves(tmp_path))
        found = self.own.search(place, [where.tag if self.can("push") else ""])
        assert found
        assert all(parse(one.reference).scheme == self.remote for one in found)
        assert self.own.search(place, ["no-such-word-anywhere"]) == []

    def test_law_13_references_without_end_or_out_of_the_grammar_are_refused(self, tmp_path: Path) -> None:
        good = self.place(tmp_path, "one")
        for text in (good + "x" * MAX, good + "\n", good + "\x1b[31m", f"{self.remote}://../../etc", good + " b"):
            error = refused(partial(parse, text))
            assert "\x1b" not in str(error)

    def test_law_14_a_password_in_a_reference_is_not_repeated(self) -> None:
        text = f"{self.remote}://alice:c4nary-in-place@host.example/acme/x"
        error = refused(partial(parse, text))
        assert "c4nary-in-place" not in f"{error!s} {error.parts}"
        assert isinstance(error, BadReference) or error.exit_code in {2, 7}

    def test_law_15_secrets_are_in_no_message(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        mine, other = (self.store(tmp_path, name, monkeypatch) for name in ("mine", "other"))
        canaries = list(self.secrets(tmp_path, monkeypatch))
        if not canaries:
            skip(f"`{self.remote}://` is given no secret: give `secrets`")
        where = parse(self.place(tmp_path, "one"))
        said = [str(refused(lambda: self.own.pull(where, other)))]
        if self.can("push"):
            try:
                said.append(str(self.own.push(mine, self.artifact(mine), where)))
            except AdaptrError as error:
                said += [str(error), str(error.parts), str(error.__cause__)]
        text = "\n".join([*said, caplog.text])
        assert [canary for canary in canaries if canary in text] == []

    def test_law_16_programs_and_names_that_lead_out_do_not_come_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.require("pull")
        for number, name in enumerate(("../out.safetensors", "/abs.safetensors", "weights.bin", "run.py")):
            folder = tmp_path / str(number)
            folder.mkdir()
            mine, other = (self.store(folder, name, monkeypatch) for name in ("mine", "other"))
            digest = mine.put(harmful(mine, name))

            def there_and_back(mine: Store = mine, digest: Digest = digest, folder: Path = folder) -> object:
                return self.own.pull(self.publish(mine, digest, folder), self.store(folder, "other", monkeypatch))

            refused(there_and_back)
            assert other.names() == []
            assert not other.has(digest), name
