"""Histories: of real conversions, compositions and merges; found in the store or beside; forged ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import adaptr
import tiny
from adaptr import api
from adaptr.adapter.sampled import as_bf16
from adaptr.artifacts import handling
from adaptr.artifacts.history import Node
from adaptr.cli.graph import draw
from adaptr.composing.compose import compose
from adaptr.composing.recipe import Input, Recipe
from adaptr.errors import InputError, UsageError
from adaptr.format.io import torch_dtype
from adaptr.host.identity import value_bytes
from adaptr.testing import shaken


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    return tmp_path


def file(path: Path, seed: int = 1, target: str = "attn.q") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    adapter = shaken(adaptr.create(tiny.model("llama"), "lora", [target], r=2, name=path.stem), seed)
    adaptr.save(adapter, path)
    return path


def mixed(out: Path, *parents: Path) -> Path:
    adaptr.save(adaptr.compose([(str(p), 0.5) for p in parents]).adapter, out)
    return out


def test_a_real_chain_is_followed_to_its_roots(home: Path) -> None:
    a, b, c = (file(home / f"{n}.safetensors", seed) for seed, n in enumerate("abc", 1))
    ab = mixed(home / "ab.safetensors", a, b)
    abc = mixed(home / "abc.safetensors", ab, c)
    api.convert(abc, home / "peft", "peft")
    api.convert(home / "peft", home / "back.safetensors", "adaptr")
    found = api.log(home / "back.safetensors")
    digests = {path: adaptr.inspect(path).file_digest for path in (a, b, c, ab, abc)}
    nodes = {node.digest: node for node in found.nodes}
    assert found.nodes[0].operation == "convert"
    assert not found.cut
    # a PEFT folder has no lineage of its own: the chain ends where nothing says more
    assert len(found.nodes[0].parents) == 1
    nodes = {node.digest: node for node in api.log(abc).nodes}
    assert nodes.keys() == set(digests.values())
    assert set(nodes[digests[abc]].parents) == {digests[ab], digests[c]}
    assert set(nodes[digests[ab]].parents) == {digests[a], digests[b]}
    assert all(node.found for node in nodes.values())
    assert nodes[digests[abc]].operation == "compose"
    assert nodes[digests[abc]].arguments


def test_parents_are_found_in_the_store_wherever_they_were(home: Path) -> None:
    a, b = file(home / "one/a.safetensors", 1), file(home / "two/b.safetensors", 2)
    ab = mixed(home / "three/ab.safetensors", a, b)
    handling.tag(str(a), "a")
    a.unlink()
    found = {node.name: node.found for node in api.log(ab).nodes}
    assert found["a"] == "store"
    assert found["b"] == ""
    handling.tag(str(ab), "ab")
    ab.unlink()
    assert {node.name for node in api.log("ab").nodes} >= {"a", "b"}


def test_a_merge_names_its_base_and_adapters(home: Path) -> None:
    base = home / "base"
    tiny.model("llama").save_pretrained(base)
    a, b = file(home / "a.safetensors", 1), file(home / "b.safetensors", 2, "attn.k")
    api.merge(base, [a], home / "m1")
    api.merge(home / "m1", [b], home / "m2")
    nodes = api.log(home / "m2").nodes
    assert [node.operation for node in nodes].count("merge") == 2
    assert nodes[0].found == str(home / "m2")
    assert {node.name for node in nodes if not node.parents} == {"a", "b", "base"}
    assert all(node.found for node in nodes if node.name in {"a", "b"})


def named(source: Path) -> dict[str, str]:
    """Weights digest to where it was found, of all that a history names."""
    return {node.weights: node.found for node in api.log(source).nodes if node.weights}


def weights(source: Path) -> str:
    return adaptr.inspect(source).weights_digest


def test_a_peft_folder_is_a_link_of_the_chain(home: Path) -> None:
    """Merge of a folder that was converted from a file that came from a folder: each is found by what inspect shows."""
    base = home / "base"
    tiny.model("llama").save_pretrained(base)
    a, b = file(home / "a.safetensors", 1), file(home / "b.safetensors", 2)
    ab = mixed(home / "ab.safetensors", a, b)
    api.convert(ab, home / "folder", "peft")
    api.convert(home / "folder", home / "back.safetensors", "adaptr")
    report = api.merge(base, [home / "folder"], home / "merged")
    assert [entry["weights"] for entry in report.adapters] == [weights(home / "folder")] == [weights(ab)]
    for child in (home / "folder", home / "back.safetensors", home / "merged"):
        assert named(child).keys() == {weights(ab), weights(a), weights(b)}
        assert all(named(child).values())


def test_arithmetic_in_memory_names_files_by_their_weights(home: Path) -> None:
    a, b = file(home / "a.safetensors", 1), file(home / "b.safetensors", 2)
    api.convert(b, home / "b-peft", "peft")
    b.unlink()
    one, two = adaptr.load(a), adaptr.load(home / "b-peft")
    adaptr.save(0.7 * one - 0.3 * two, home / "mix.safetensors")
    found = named(home / "mix.safetensors")
    assert found[weights(a)] == str(a)
    assert found[weights(home / "b-peft")] == str(home / "b-peft")


def test_a_peft_folder_is_found_in_the_store_with_its_own_parents(home: Path) -> None:
    a = file(home / "a.safetensors", 1)
    api.convert(a, home / "elsewhere" / "peft", "peft")
    handling.tag(str(home / "elsewhere" / "peft"), "p")
    child = home / "far" / "child.safetensors"
    child.parent.mkdir()
    api.resize(home / "elsewhere" / "peft", child, rank=1)
    adaptr.save(1.0 * adaptr.load(home / "elsewhere" / "peft"), child.with_name("same.safetensors"))
    (home / "elsewhere").rename(home / "gone")
    nodes = {node.digest: node for node in api.log(child).nodes}
    [parent] = api.log(child).nodes[0].parents
    assert nodes[parent].found == "store"
    assert nodes[parent].operation == "convert"
    # by its weights alone, too
    assert named(child.with_name("same.safetensors"))[weights(a)] == "store"


def test_a_conversion_is_not_taken_for_its_own_parent(home: Path) -> None:
    """It has its parent's weights: where that is gone, the chain ends."""
    a = file(home / "a.safetensors", 1)
    api.convert(a, home / "peft", "peft")
    api.convert(home / "peft", home / "back.safetensors", "adaptr")
    a.unlink()
    (home / "peft").rename(home.parent / f"{home.name}-gone")
    nodes = api.log(home / "back.safetensors").nodes
    assert [node.operation for node in nodes] == ["convert", ""]


def test_the_same_adapter_in_two_formats_is_given_once(home: Path) -> None:
    a = file(home / "a.safetensors", 1)
    api.convert(a, home / "peft", "peft")
    with pytest.raises(UsageError, match="given twice"):
        adaptr.compose([a, home / "peft"])
    # the same numbers at another scale are another adapter
    one = adaptr.load(a)
    other = {path: replace(t, config={**t.config, "alpha": 7.0}) for path, t in one.targets.items()}
    assert adaptr.compose([one, one.replace(targets=other, config={**one.config, "alpha": 7.0})]).adapter.targets


def test_a_recipe_may_want_the_weights_or_the_file(home: Path) -> None:
    a, b = file(home / "a.safetensors", 1), file(home / "b.safetensors", 2)
    for wanted in (weights(a), adaptr.inspect(a).file_digest):
        assert compose(Recipe((Input(a, 1.0, wanted), Input(b)))).adapter
    with pytest.raises(UsageError, match="the recipe wants"):
        compose(Recipe((Input(a, 1.0, weights(b)), Input(b))))


def test_a_forged_circle_is_refused(home: Path) -> None:
    """A file can't contain its own digest, but a name it can."""
    adapter = shaken(adaptr.create(tiny.model("llama"), "lora", ["attn.q"], r=2), 1)
    odd = {"operation": "x", "parents": [{"name": "n"}, {"name": "n", "weights": "x"}, 3, {}]}
    adaptr.save(adapter.replace(lineage=odd), home / "odd.safetensors")
    nodes = api.log(home / "odd.safetensors").nodes
    assert [node.name for node in nodes][1:] == ["n"]
    with pytest.raises(InputError):
        api.log(home / "nonsuch")


DRAWINGS = {
    "line": ({"c": "b", "b": "a", "a": ""}, ["* c", "* b", "* a"]),
    "two": ({"c": "ab", "a": "", "b": ""}, ["* c", "|\\", "* | a", " /", "* b"]),
    "diamond": ({"d": "bc", "b": "a", "c": "a", "a": ""}, ["* d", "|\\", "* | b", "| * c", "|/", "* a"]),
    "three": ({"d": "abc", "a": "", "b": "", "c": ""}, None),
    "far": ({"e": "bd", "b": "a", "d": "ca", "c": "a", "a": ""}, None),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_graphs(name: str) -> None:
    parents, wanted = DRAWINGS[name]
    drawn = [f"{lines} {node}" if node else lines for lines, node in draw(list(parents), parents)]
    if wanted is not None:
        assert drawn == wanted
    assert next(line for line in drawn if "*" in line) == f"* {next(iter(parents))}"
    assert sum("*" in line for line in drawn) == len(parents)


def test_the_command_draws_and_tells(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from adaptr.cli import run

    a, b = file(home / "a.safetensors", 1), file(home / "b.safetensors", 2)
    ab = mixed(home / "ab.safetensors", a, b)
    assert run(["log", str(ab)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("* ")
    assert "compose" in lines[0]
    assert lines[1] == "|\\"
    assert run(["log", str(ab), "--json"]) == 0
    assert '"operation": "compose"' in capfd.readouterr().out


def bases(home: Path) -> None:
    """The `llama` that adapters of `tiny` are for, and one that was tuned, which comes before it in the folder."""
    model = tiny.model("llama")
    model.save_pretrained(home / "llama")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    model.save_pretrained(home / "above-it")


def said(node: Node) -> tuple[str, str, str]:
    return node.role, node.name, Path(node.found).name


def test_the_base_that_lies_beside_is_named_by_what_is_in_it(home: Path) -> None:
    bases(home)
    a, b = file(home / "a.safetensors", 1), file(home / "b.safetensors", 2)
    ab = mixed(home / "ab.safetensors", a, b)
    found = api.log(a).nodes
    assert [said(node) for node in found] == [("", "a", "a.safetensors"), ("base", "llama", "llama")]
    assert [said(node)[1] for node in api.log(ab).nodes if node.role == "base"] == ["llama"], "once"
    api.convert(a, home / "peft", "peft")
    a.unlink()
    assert ("base", "llama", "llama") in map(said, api.log(home / "peft").nodes)
    assert "adapter" not in api.log(b).as_dict()["nodes"][0]


def test_the_base_of_a_merge_and_of_an_extraction_too(home: Path) -> None:
    bases(home)
    api.merge(home / "llama", [file(home / "a.safetensors")], home / "merged")
    api.extract(home / "llama", home / "above-it", home / "x.safetensors", rank=2)
    for name in ("merged", "x.safetensors"):
        assert [said(node) for node in api.log(home / name).nodes if node.role == "base"] == [
            ("base", "llama", "llama")
        ]


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_samples_are_rounded_as_torch_rounds(dtype: str) -> None:
    bits = torch.randint(0, 256, (80_000,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    values = bits.view(torch_dtype(dtype))
    values = values[~values.isnan()]
    assert as_bf16(bytes(values.view(torch.uint8).tolist()), dtype) == value_bytes(values)
