"""What follows from the formats that are registered: whose a path is, what can be chosen, what is packed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign
from adaptr.foreign import detect, formats
from adaptr.registry import pack, terms
from adaptr.registry.store import Store
from foreign.test_detect import KEYS, safetensors


class Point:
    """What stands for an installed entry point, as far as it is used."""

    name, module, by = "format", "somewhere", ("somewhere",)

    def __init__(self, found: Any) -> None:
        self.value, self.found = "somewhere:Format", found

    def load(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Twin(foreign.Format):
    """Takes PEFT's folders for its own, and any file that begins as its own do."""

    name = "twin"
    tool, called = "Twin", "a twin"
    marks = foreign.Marks(files=("adapter_model.safetensors", "twin.safetensors"), first=(b"twin",))


class Mine(foreign.Format):
    """Reads and writes a folder with one file."""

    name = "mine"
    tool, called = "Mine", "an adapter of Mine"
    marks = foreign.Marks(files=("mine.safetensors",), config=("mine_type",))

    def read(self, path: Path, base: Any = None) -> adaptr.Adapter:
        target = adaptr.Target("m", "norm", (2,))
        return adaptr.Adapter(
            "bitfit", {}, {"m": target}, {"m:b": torch.ones(2)}, name="mine", source=str(self.weights(path))
        )

    def lost(self, adapter: adaptr.Adapter) -> list[str]:
        return ["its name"] if adapter.name else []

    def save(self, adapter: adaptr.Adapter, out: Path, force: bool) -> foreign.Written:
        out.mkdir(exist_ok=True)
        (out / "adapter_config.json").write_text('{"mine_type": "bias"}')
        safetensors(out / "mine.safetensors", ["m.bias"])
        return foreign.Written(out / "mine.safetensors")

    def about(self, config: Any) -> dict[str, str]:
        return {"method": "bitfit"}


class Vit(foreign.Format):
    """Has the name of a tool that is known and not read."""

    name = "lora-vit"
    tool, called = "LoRA-ViT", "a LoRA-ViT file"
    marks = foreign.Marks(files=("vit.safetensors",), keys=(r"w_[ab]_\d+",), config=("vit_type",))


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    monkeypatch.setattr("adaptr.discovery._points", lambda group: found if group == "adaptr.formats" else {})
    foreign.get.cache_clear()
    yield found
    foreign.get.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    adaptr.save(adaptr.create(tiny.model("llama"), "lora", ["attn.q"], r=2), tmp_path / "a.safetensors")
    adaptr.convert(tmp_path / "a.safetensors", tmp_path / "peft", to="peft")
    return tmp_path / "peft"


# ---------------------------------------------------------------- whose a path is


def test_a_path_that_two_formats_claim_is_refused_by_their_names(points: dict[str, Any], folder: Path) -> None:
    points["twin"] = Point(Twin)
    with pytest.raises(e.FormatAmbiguous, match=r"`peft` \(by `adapter_model.safetensors`\) and `twin`"):
        adaptr.load(folder)


def test_what_one_of_them_alone_claims_is_its_own(points: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    points["twin"] = Point(Twin)
    (tmp_path / "x.bin").write_bytes(b"twin of something")
    assert foreign.of(tmp_path / "x.bin").name == "twin"
    with pytest.raises(e.Unsupported, match="can't read a twin yet"):
        adaptr.load(tmp_path / "x.bin")
    assert foreign.of(folder / "adapter_model.safetensors").name == "peft"


def test_a_folder_with_adapters_of_two_formats_is_refused(points: dict[str, Any], folder: Path) -> None:
    points["mine"] = Point(Mine)
    safetensors(folder / "mine.safetensors", ["m.bias"])
    for read in (lambda: adaptr.load(folder), lambda: pack.selected([f.name for f in folder.iterdir()], "here")):
        with pytest.raises(e.InputError, match=r"mine.safetensors"):
            read()


def test_no_format_claims_what_adaptr_wrote(points: dict[str, Any], folder: Path) -> None:
    class Greedy(Twin):
        marks = foreign.Marks(keys=(".*",))

    points["twin"] = Point(Greedy)
    assert adaptr.load(folder.parent / "a.safetensors").method == "lora"
    assert foreign.claimed(folder.parent / "a.safetensors") is None


@pytest.mark.parametrize("fault", [ImportError("gone"), SystemExit(3)])
def test_a_format_that_does_not_load_stops_no_other_and_is_named_where_none_is_found(
    points: dict[str, Any], folder: Path, tmp_path: Path, fault: Any
) -> None:
    points["broken"] = Point(fault) if isinstance(fault, Exception) else Point(int)
    assert adaptr.load(folder).method == "lora"
    assert {"adaptr", "peft"} <= set(foreign.choices())
    (tmp_path / "x").write_bytes(b"something")
    with pytest.raises(e.UnknownFormat, match="format `broken`"):
        adaptr.load(tmp_path / "x")
    with pytest.raises(e.UsageError, match="format `broken`"):
        adaptr.convert(folder, tmp_path / "out", to="broken")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- tools that are known and not read


@pytest.mark.parametrize(
    "key", [key for key, said in KEYS.items() if said != detect.ATTACHED and not said.endswith(" weights")]
)
def test_one_tool_at_most_names_tensors_like_this(key: str) -> None:
    found = [tool.called for tool in formats.known() if tool.marks.named([key])]
    assert len(found) <= 1
    assert found == [KEYS[key]] or KEYS[key].endswith("of no known tool")


@pytest.mark.parametrize("name", sorted(formats.KNOWN.files()))
def test_a_known_tool_has_marks_and_says_that_it_is_not_read(name: str, tmp_path: Path) -> None:
    tool = formats.KNOWN.load(name, foreign.Format)
    assert (tool.tool, tool.called) != ("", "")
    assert tool.marks != foreign.Marks()
    assert not tool.writes
    with pytest.raises(e.Unsupported, match="can't read"):
        tool.read(tmp_path)


def test_a_file_that_looks_like_two_tools_is_said_to_be_either(tmp_path: Path) -> None:
    file = safetensors(tmp_path / "a.safetensors", ["w_a_000", "v_head.weight"])
    assert detect.name_of(file) == "a LoRA-ViT file or a TRL value head"


def test_a_format_takes_the_place_of_the_tool_of_its_name(points: dict[str, Any], tmp_path: Path) -> None:
    points["lora-vit"] = Point(Vit)
    file = safetensors(tmp_path / "a.safetensors", ["w_a_000"])
    with pytest.raises(e.ConfigMissing, match=r"holds LoRA-ViT weights without the `adapter_config.json`"):
        adaptr.load(file)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "adapter_config.json").write_text('{"vit_type": "lora"}')
    with pytest.raises(e.NoAdapterTensors, match=r"a LoRA-ViT configuration \(lora\) and no weights"):
        adaptr.load(tmp_path / "only")


# ---------------------------------------------------------------- what can be chosen, and what is packed


def test_a_format_that_can_be_written_is_offered_and_another_is_not(points: dict[str, Any]) -> None:
    points |= {"mine": Point(Mine), "twin": Point(Twin)}
    assert {"adaptr", "mine", "peft"} <= set(foreign.choices())


def test_what_a_format_can_not_hold_is_refused_before_anything_is_written(
    points: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    points["mine"] = Point(Mine)
    adapter = adaptr.load(folder).replace(name="style")
    with pytest.raises(e.LossyConversion, match="Mine can't hold its name; `lossy=True`"):
        foreign.get("mine").write(adapter, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    assert foreign.get("mine").write(adapter, tmp_path / "mine", lossy=True).lost == ("its name",)


def test_what_a_format_writes_is_packed_under_its_name(
    points: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points["mine"] = Point(Mine)
    adaptr.convert(folder, tmp_path / "mine", to="mine")
    (tmp_path / "mine" / "other.safetensors").write_bytes((tmp_path / "mine" / "mine.safetensors").read_bytes())
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    found = pack.stored(tmp_path / "mine", Store.default())
    assert set(found.files()) == {"adapter_config.json", "mine.safetensors"}
    assert found.annotations[terms.FORMAT] == "mine"


def test_artifacts_are_written_in_any_format_that_is_registered(
    points: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points["mine"] = Point(Mine)
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    layout = f"file://{tmp_path / 'layout'}"
    adaptr.push(folder, f"{layout}:1", "mine")
    pulled = adaptr.pull(f"{layout}:1", tmp_path / "out", "adaptr")
    assert pulled.annotations[terms.FORMAT] == "mine"
    assert adaptr.load(tmp_path / "out").method == "bitfit"
    with pytest.raises(e.UsageError, match=r"known: as-is, adaptr, .*mine.*, peft"):
        adaptr.push(folder, f"{layout}:2", "twin")


PLUGIN = """
from adaptr.foreign import Format, Marks, Written

class Mine(Format):
    name = "mine"
    tool, called = "Mine", "an adapter of Mine"
    marks = Marks(files=("mine.safetensors",))

    def save(self, adapter, out, force):
        raise NotImplementedError
"""


def test_the_help_of_every_command_that_offers_formats_names_an_installed_one(tmp_path: Path) -> None:
    (tmp_path / "theirs-1.0.dist-info").mkdir()
    (tmp_path / "theirs-1.0.dist-info" / "entry_points.txt").write_text("[adaptr.formats]\nmine = theirs:Mine\n")
    (tmp_path / "theirs.py").write_text(PLUGIN)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for command in ("convert", "pull", "push"):
        run = [sys.executable, "-m", "adaptr", command, "--help"]
        ran = subprocess.run(run, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
        assert "mine" in ran.stdout, ran.stderr
