"""What a text names: decided once, the same wherever it is asked, and nothing is fetched for the question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import adaptr
import tiny
from adaptr.artifacts import handling, trust
from adaptr.errors import BadReference, DigestMismatch, InputError, OutputExists, PolicyError, UsageError
from adaptr.registry import remotes, terms
from adaptr.registry.digest import Digest
from adaptr.registry.reference import Reference
from adaptr.registry.store import Store
from adaptr.sources.resolve import Source, remote, resolve, weighted
from adaptr.testing import shaken

REF = "oci://registry.test/acme/style:1.2"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an adapter that the store has as `style:1.2`."""
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    adaptr.save(made(1), "a.adaptr.safetensors")
    adaptr.tag("a.adaptr.safetensors", "style:1.2")
    return tmp_path / "work"


def made(seed: int) -> adaptr.Adapter:
    return shaken(adaptr.create(tiny.model("llama"), "lora", ["attn.q"], r=2, name="style"), seed)


def test_a_source_keeps_what_was_given(place: Path) -> None:
    for given in ("a.adaptr.safetensors", Path("a.adaptr.safetensors"), "style:1.2", REF, "nowhere"):
        assert str(resolve(given)) == str(given)
        assert resolve(resolve(given)).given == str(given)


def test_a_path_is_first_and_a_path_object_is_never_a_name(place: Path) -> None:
    assert resolve("style:1.2").place is None
    assert resolve(Path("style:1.2")).place == Path("style:1.2")
    Path("style:1.2").symlink_to("nowhere")
    assert resolve("style:1.2").place == Path("style:1.2")


@pytest.mark.parametrize("use", [adaptr.load, adaptr.inspect, adaptr.log, lambda s: adaptr.tag(s, "again:1")])
def test_a_link_to_nowhere_is_that_path_for_everyone(place: Path, use: Callable[[str], Any]) -> None:
    Path("style:1.2").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"style:1\.2"):
        use("style:1.2")


def test_a_path_is_meant_from_beside_and_a_name_is_not(place: Path) -> None:
    (place / "mine").mkdir()
    assert resolve("x", place / "mine").place == place / "mine" / "x"
    assert resolve("/x", place / "mine").place == Path("/x")
    assert resolve("style:1.2", place / "mine").path == resolve("style:1.2").path


def test_what_is_asked_makes_no_store_and_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(remotes, "of", None)
    for given in ("style:1.2", REF, "hf://acme/style", "sha256:" + "0" * 64):
        assert isinstance(resolve(given), Source)
    assert not (tmp_path / "home").exists()


def test_an_output_is_refused_before_anything_is_fetched(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(scheme: str) -> None:
        raise AssertionError("asked for the network")

    monkeypatch.setattr(remotes, "of", never)
    Path("out").write_text("mine")
    for use in (
        lambda: adaptr.convert(REF, "out"),
        lambda: adaptr.compose([REF, "style:1.2"], out="out"),
        lambda: adaptr.resize(REF, "out", rank=1),
        lambda: adaptr.extract(REF, "hf://acme/tuned", "out", rank=1),
        lambda: adaptr.save(REF, "out"),
        lambda: adaptr.learn(REF, [REF], "a.adaptr.safetensors", "out"),
    ):
        with pytest.raises(OutputExists):
            use()


@pytest.mark.parametrize("wrong", [None, 3, b"x", ["style:1.2"]])
def test_what_is_no_text_and_no_path_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="wanted an adapter"):
        resolve(wrong)


def test_a_reference_that_is_none_says_so(place: Path) -> None:
    with pytest.raises(BadReference):
        resolve("oci://nowhere")
    with pytest.raises(UsageError, match="names no remote"):
        remote("style:1.2")


@pytest.mark.parametrize(
    ("text", "hint"),
    [("ghcr.io/acme/style:1", "oci://ghcr.io/acme/style:1"), ("localhost:5000/x", "oci://localhost:5000/x"),
     ("org/name", "hf://org/name"), ("./folder/x", ""), ("name", "")],
)  # fmt: skip
def test_what_other_tools_take_without_its_beginning_is_told_it(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        remote(text)
    assert caught.value.hint == (f"say `{hint}`" if hint else "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("style:1.2", ("style:1.2", 1.0)),
        ("style:1.2=0.5", ("style:1.2", 0.5)),
        (f"{REF}=-2", (REF, -2.0)),
        ("https://host/x.safetensors#sha256=1e9", ("https://host/x.safetensors#sha256=1e9", 1.0)),
        ("there=0.5", ("there=0.5", 1.0)),
        ("link=0.5", ("link=0.5", 1.0)),
        ("nothing=a", ("nothing=a", 1.0)),
    ],
)
def test_a_weight_stands_behind_what_does_not_exist_with_it(place: Path, text: str, found: tuple[str, float]) -> None:
    Path("there=0.5").touch()
    Path("link=0.5").symlink_to("nowhere")
    assert weighted(text) == found


@pytest.mark.parametrize("text", ["style:1.2=much", "a.adaptr.safetensors=much", f"{REF}=much", "style:1.2=nan"])
def test_a_weight_that_is_no_number_is_said(place: Path, text: str) -> None:
    with pytest.raises(UsageError, match="is not a"):
        weighted(text)


@pytest.mark.parametrize("named", ["style:1.2", "../a.adaptr.safetensors", "file://{place}/a.adaptr.safetensors"])
def test_a_recipe_names_whatever_the_command_line_names(place: Path, named: str) -> None:
    named = named.format(place=place)
    (place / "mine").mkdir()
    (place / "mine" / "r.yaml").write_text(f"inputs:\n  - adapter: {named}\n")
    found = adaptr.compose(place / "mine" / "r.yaml").adapter
    wanted = adaptr.compose([place / "a.adaptr.safetensors"]).adapter
    assert found.lineage["parents"] == wanted.lineage["parents"]


# ------------------------------------------------------------ the policy


@pytest.fixture
def unsigned(place: Path, tmp_path: Path) -> str:
    """A name of an artifact that the policy wants signed."""
    store = Store.default()
    digest = store.resolve("style:1.2")
    store.put(store.manifest(digest), "", REF)  # as a pull leaves it
    (tmp_path / "home" / "policy.yaml").write_text("- {scope: 'oci://registry.test/*', keys: [mine.pub]}\n")
    (tmp_path / "home" / "mine.pub").write_bytes(_keys(place)[1])
    return "style:1.2"


def _keys(folder: Path) -> tuple[Path, bytes]:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "mine.key").write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    return folder / "mine.key", key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)


def recipe(name: str) -> Any:
    Path("r.yaml").write_text(f"inputs:\n  - adapter: {name}\n")
    return adaptr.compose("r.yaml")


USES: dict[str, Callable[[str], Any]] = {
    "load": adaptr.load,
    "inspect": adaptr.inspect,
    "log": adaptr.log,
    "convert": lambda name: adaptr.convert(name, "out"),
    "diff": lambda name: adaptr.diff("a.adaptr.safetensors", name),
    "compose": lambda name: adaptr.compose([name]),
    "a recipe": recipe,
    "attach": lambda name: adaptr.attach(tiny.model("llama"), name),
    "stack": lambda name: adaptr.stack(tiny.model("llama"), {"a": name}),
    "tag": lambda name: adaptr.tag(name, "other:1"),
    "push": lambda name: adaptr.push(name, f"file://{Path.cwd()}/layout#x"),
    "merge": lambda name: adaptr.merge(name, "a.adaptr.safetensors", "out"),
    "unmerge": lambda name: adaptr.unmerge(name, "out"),
}


@pytest.mark.parametrize("verb", USES)
def test_every_use_of_an_artifact_is_held_against_the_policy(unsigned: str, verb: str) -> None:
    with pytest.raises(PolicyError, match="wants `oci://registry"):
        USES[verb](unsigned)


def test_what_is_to_be_signed_is_not_asked_for_the_signature(unsigned: str, place: Path, tmp_path: Path) -> None:
    adaptr.sign(unsigned, place / "mine.key")
    assert trust.proven(unsigned, [tmp_path / "home" / "mine.pub"]).signers
    assert adaptr.load(unsigned).method == "lora"


def test_a_reference_is_signed_before_the_policy_takes_it(
    unsigned: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for what has to be pulled: it is refused where it is used, and not where it is signed."""

    class Shelf(remotes.Remote):
        name = "oci"

        def resolve(self, reference: Reference) -> str:
            return str(Store.default().resolve(unsigned))

        def pull(self, reference: Reference, store: Store, progress: object = None) -> Digest:
            return store.resolve(unsigned)

    monkeypatch.setattr(remotes, "of", lambda scheme: Shelf())
    with pytest.raises(PolicyError):
        adaptr.load(REF)
    adaptr.sign(REF, place / "mine.key")
    assert adaptr.load(REF).method == "lora"


def test_a_damaged_blob_is_named_by_its_digest(place: Path, tmp_path: Path) -> None:
    store = Store.default()
    layer = store.manifest(store.resolve("style:1.2")).layers[0]
    blob = store.path(layer.digest)
    blob.chmod(0o644)
    blob.write_bytes(b"other")
    with pytest.raises(DigestMismatch, match=f"`{layer.digest}` in the store") as error:
        adaptr.load("style:1.2")
    assert str(tmp_path) not in str(error.value)


def test_an_adapter_in_memory_is_packed_as_adaptr_writes_it(place: Path) -> None:
    found = handling.tag(adaptr.load("style:1.2"), "memory:1")
    assert found.annotations[terms.FORMAT] == "adaptr"
    assert found.digest == next(one.digest for one in adaptr.list() if one.name == "style:1.2")
