"""Histories: of real conversions, compositions and merges; found in the store or beside; forged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import adaptr
import tiny
from adaptr import api
from adaptr.cli.graph import draw
from adaptr.errors import InputError
from adaptr.ops import artifacts
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
    artifacts.tag(str(a), "a")
    a.unlink()
    found = {node.name: node.found for node in api.log(ab).nodes}
    assert found["a"] == "store"
    assert found["b"] == ""
    artifacts.tag(str(ab), "ab")
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


def test_a_forged_circle_is_refused(home: Path) -> None:
    """A file can't contain its own digest, but a name it can."""
    adapter = shaken(adaptr.create(tiny.model("llama"), "lora", ["attn.q"], r=2), 1)
    odd = {"operation": "x", "parents": [{"name": "n"}, {"name": "n"}, 3, {}]}
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
