"""AdapterHub's set-ups that are no adapter, as blocks of a live model, and its stacks of several of a sort.

That its library does the same is held by `oracles/adapterhub-read`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr.testing import assert_close, logits, shaken, tiny_llama

IDS = torch.arange(21).view(3, 7) + 3
SINGLE = [{"type": "single", "children": [name]} for name in "ab"]


def setup(folder: Path, model: Any, made: dict[str, adaptr.Adapter], kind: str, **said: Any) -> Path:
    form = foreign.get("adapterhub")
    for name, one in made.items():
        form.write(form.based(one, model).replace(name=name), folder / name)
    children = said.pop("children", SINGLE)
    block = {"type": kind, "children": children, **({"kwargs": said} if said else {})}
    (folder / "adapter_setup.json").write_text(json.dumps({"adapter_setup": block}))
    return folder


def two(model: Any, method: str, **config: Any) -> dict[str, adaptr.Adapter]:
    return {name: shaken(adaptr.create(model, method, **config), seed) for seed, name in enumerate("ab")}


def out(model: Any, what: Any) -> torch.Tensor:
    with torch.no_grad(), adaptr.attach(model, what):
        return logits(model(input_ids=IDS))


@pytest.mark.parametrize("method", ["pfeiffer", "lora"])
@pytest.mark.parametrize("kind", ["BatchSplit", "Parallel", "Split"])
def test_rows_and_tokens_are_whose_the_setup_says(kind: str, method: str, tmp_path: Path) -> None:
    model = tiny_llama()
    config = {"m": 3, "residual": True} if method == "pfeiffer" else {"targets": ["attn.q", "attn.v"], "r": 2}
    parts = two(model, method, **config)
    sizes = {"BatchSplit": ("batch_sizes", [2, 1]), "Split": ("splits", [3, 4])}.get(kind)
    folder = setup(tmp_path, model, parts, kind, **({sizes[0]: sizes[1]} if sizes else {}))
    with pytest.raises(e.Unsupported, match="says what of a batch or a text is for whom; put it on a live model"):
        adaptr.load(folder, model)
    if (kind, method) == ("Split", "lora"):
        with pytest.raises(e.Unsupported, match="AdapterHub's `Split` has no `lora` of some"):
            adaptr.block(folder, model)
        return
    own: Any = getattr(adaptr, kind)(*parts.values(), **({"sizes": sizes[1]} if sizes else {}))
    assert_close(out(model, adaptr.block(folder, model)), out(model, own))


def test_a_block_stands_on_an_adapter(tmp_path: Path) -> None:
    model = tiny_llama()
    parts = {
        **two(model, "pfeiffer", m=3, residual=True),
        "c": shaken(adaptr.create(model, "pfeiffer", m=2, residual=True), 5),
    }
    inner = {"type": "BatchSplit", "children": SINGLE, "kwargs": {"batch_sizes": [1, 2]}}
    children = [{"type": "single", "children": ["c"]}, inner]
    folder = setup(tmp_path, model, parts, "Stack", children=children)
    with pytest.raises(e.Unsupported, match="it is a `Stack` of blocks"):
        adaptr.load(folder, model)
    own = adaptr.Stack(parts["c"], adaptr.BatchSplit(parts["a"], parts["b"], sizes=[1, 2]))
    assert_close(out(model, adaptr.block(folder, model)), out(model, own))


def test_its_average_is_none(tmp_path: Path) -> None:
    model = tiny_llama()
    folder = setup(tmp_path, model, two(model, "pfeiffer", m=3, residual=True), "Average", weights=[0.5, 0.5])
    for opened in (adaptr.block, adaptr.load):
        with pytest.raises(e.Unsupported, match=r"by the number of its adapters once more.*`adaptr.Average\("):
            opened(folder, model)


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        ({"batch_sizes": [2]}, e.ConfigConflict, "`batch_sizes`"),
        ({"batch_sizes": [2, True]}, e.ConfigConflict, "`batch_sizes`"),
        ({}, e.ConfigConflict, "`batch_sizes`"),
        ({"batch_sizes": [2, 1], "children": [*SINGLE[:1], {"type": "Parallel", "children": SINGLE}]}, e.Unsupported,
         "it is a `BatchSplit` of blocks"),
    ],
)  # fmt: skip
def test_a_block_that_is_none_is_refused(
    said: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    model = tiny_llama()
    folder = setup(tmp_path, model, two(model, "pfeiffer", m=3, residual=True), "BatchSplit", **said)
    with pytest.raises(error, match=match):
        adaptr.block(folder, model)


@pytest.mark.parametrize("kind", ["MultiTask", {"type": "single"}, None])
def test_a_block_of_another_sort_is_refused(kind: Any, tmp_path: Path) -> None:
    model = tiny_llama()
    folder = setup(tmp_path, model, two(model, "pfeiffer", m=3, residual=True), kind)
    for opened in (adaptr.block, adaptr.load):
        with pytest.raises(e.Unsupported, match="adaptr has no block like AdapterHub's"):
            opened(folder, model)


def test_what_is_done_around_adapters_must_be_one_for_all(tmp_path: Path) -> None:
    model = tiny_llama()
    parts = {"a": adaptr.create(model, "pfeiffer", m=3, residual=True), "b": adaptr.create(model, "houlsby", m=3)}
    folder = setup(tmp_path, model, parts, "Parallel")
    with pytest.raises(e.Unsupported, match="not at the same places"):
        adaptr.block(folder, model)


def test_an_adapter_is_no_block(tmp_path: Path) -> None:
    model = tiny_llama()
    adaptr.save(adaptr.create(model, "lora", r=2), tmp_path / "a.safetensors")
    with pytest.raises(e.Unsupported, match="is one adapter, and no block of several"):
        adaptr.block(tmp_path / "a.safetensors")


def test_the_second_lora_of_a_stack_gets_what_the_first_puts_out(tmp_path: Path) -> None:
    model = tiny_llama()
    made = {
        name: shaken(adaptr.create(model, "lora", targets, r=r, alpha=3.0), r)
        for name, targets, r in (("a", ["attn.q"], 3), ("b", ["attn.q"], 2))
    }
    found = adaptr.load(setup(tmp_path, model, made, "Stack"), model)
    assert (found.method, {t.config["r"] for t in found.targets.values()}) == ("lora", {2})
    for path in found.targets:
        torch.testing.assert_close(found[path].dense(), made["b"][path].dense() @ made["a"][path].dense())


def test_loras_that_do_not_fit_on_each_other_are_not_stacked(tmp_path: Path) -> None:
    model = tiny_llama()
    folder = setup(tmp_path, model, two(model, "lora", targets=["attn.q", "attn.v"], r=2), "Stack")
    with pytest.raises(e.Unsupported, match="gives the second LoRA of a stack what the first puts out"):
        adaptr.load(folder, model)


def test_vectors_are_multiplied_and_prefixes_stand_behind_each_other(tmp_path: Path) -> None:
    model = tiny_llama()
    vectors = two(model, "ia3", targets=["attn.k", "attn.v"], side="out")
    found = adaptr.load(setup(tmp_path / "i", model, vectors, "Stack"), model)
    for path in found.targets:
        assert_close(found.at(path)["l"], vectors["a"].at(path)["l"] * vectors["b"].at(path)["l"])
    prefixes = two(model, "prefix", tokens=2)
    found = adaptr.load(setup(tmp_path / "p", model, prefixes, "Stack"), model)
    assert found.config["tokens"] == 4
    for path in found.targets:
        assert torch.equal(found.at(path)["K"], torch.cat([prefixes[n].at(path)["K"] for n in "ba"], 1))


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        (
            ("lora", {"targets": ["attn.q"], "r": 2}),
            ("ia3", {"targets": ["attn.q"], "side": "out"}),
            "has `lora` and `ia3`",
        ),
        (
            ("pfeiffer", {"m": 3, "residual": True}),
            ("loreft", {"r": 2, "finished": True}),
            "leaves out of all but",
        ),
    ],
)
def test_what_its_stacks_do_otherwise_is_refused(first: Any, second: Any, match: str, tmp_path: Path) -> None:
    model = tiny_llama()
    made = {
        name: adaptr.create(model, method, **config)
        for name, (method, config) in zip("ab", (first, second), strict=True)
    }
    folder = setup(tmp_path, model, made, "Stack")
    with pytest.raises(e.Unsupported, match=match):
        adaptr.load(folder, model)
