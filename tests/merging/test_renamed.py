"""Models whose checkpoints have other names than they have in memory: one adapter, whatever its names and theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close as close

import adaptr
import renamed
from adaptr.adapter import Adapter, Base
from adaptr.errors import ContentMismatch, TargetAmbiguous, TargetNotFound
from adaptr.testing import shaken

LAYOUTS = ("hub", "memory")


def saved(model: nn.Module, folder: Path, layout: str) -> Path:
    """The model as `save_pretrained` writes it, which is under the names of the Hub, or under those in memory."""
    model.save_pretrained(folder)
    if layout == "memory":
        tied = getattr(model, "all_tied_weights_keys", {})
        tensors = {name: t.clone().contiguous() for name, t in model.state_dict().items() if name not in tied}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def lora(model: nn.Module) -> Adapter:
    """A LoRA on all linear layers, those that are read and never called too, with random values."""
    one = adaptr.create(model, "lora", "all-linear", r=2)
    generator = torch.Generator().manual_seed(1)
    return one.replace(tensors={k: v + 0.1 * torch.randn(v.shape, generator=generator) for k, v in one.tensors.items()})


def text_alone(adapter: Adapter, prefix: str) -> Adapter:
    """The adapter's layers of the language model, under the names that they have in that model alone."""
    text = {path: target for path, target in adapter.targets.items() if ".language_model." in path}
    tensors = {key: t for key, t in adapter.tensors.items() if key.rpartition(":")[0] in text}
    new = {path: prefix + path.partition(".language_model.")[2] for path in text}
    return adapter.replace(targets=text, tensors=tensors, base=Base()).renamed(new)


def attached(model: nn.Module, adapter: Adapter) -> torch.Tensor:
    with adaptr.attach(model, adapter):
        return renamed.said(model)


def merged(base: Path, adapter: Adapter, out: Path, cls: type) -> torch.Tensor:
    adaptr.merge(base, [adapter], out, tied="both")
    model, told = cls.from_pretrained(out, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    return renamed.said(model.eval())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", renamed.MAKERS)
def test_an_adapter_of_the_live_model_merges_into_its_checkpoint(tmp_path: Path, kind: str, layout: str) -> None:
    model = renamed.model(kind)
    one, plain = lora(model), renamed.said(model)
    want = attached(model, one)
    assert float((want - plain).abs().max()) > 0.01
    close(merged(saved(model, tmp_path / "base", layout), one, tmp_path / "out", type(model)), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", ["model.", "", "base_model.model.model.", "module.model."])
@pytest.mark.parametrize("kind", renamed.LANGUAGE)
def test_an_adapter_of_the_language_model_alone_is_found_in_the_whole(tmp_path: Path, kind: str, prefix: str) -> None:
    model = renamed.model(kind)
    one = lora(model)
    text = text_alone(one, "model.language_model.")
    want, alone = attached(model, text), text_alone(one, prefix)
    assert torch.equal(attached(model, alone), want)
    for layout in LAYOUTS if kind in {"llava", "qwen2_5_vl"} else ["hub"]:
        base = saved(model, tmp_path / layout, layout)
        close(merged(base, alone, tmp_path / f"{layout}-out", type(model)), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "gemma3", "vit", "deit"])
def test_extracting_gives_the_names_of_the_live_model(tmp_path: Path, kind: str) -> None:
    """Whatever the checkpoint calls them, so the digest of the base is one."""
    model = renamed.model(kind)
    one = lora(model)
    contents = set()
    for layout in LAYOUTS:
        base = saved(model, tmp_path / f"{layout}-base", layout)
        adaptr.merge(base, [one], tmp_path / f"{layout}-tuned", tied="both")
        adaptr.extract(base, tmp_path / f"{layout}-tuned", tmp_path / f"{layout}.safetensors", rank=2)
        found = adaptr.load(tmp_path / f"{layout}.safetensors")
        assert set(found.targets) == set(one.targets)
        close(attached(model, found), attached(model, one), rtol=0, atol=1e-4)
        contents.add(found.base.content)
    assert contents == {one.base.content}


def test_what_is_replaced_is_extracted_under_its_live_name(tmp_path: Path) -> None:
    model = renamed.model("llava")
    base = saved(model, tmp_path / "base", "hub")
    with torch.no_grad():
        model.model.language_model.norm.weight.add_(1)
    model.save_pretrained(tmp_path / "tuned")
    adaptr.extract(base, tmp_path / "tuned", tmp_path / "a.safetensors", rank=2)
    assert list(adaptr.load(tmp_path / "a.safetensors").replaced) == ["model.language_model.norm.weight"]


def stored(adapter: Adapter) -> Adapter:
    """A LLaVA adapter under the names that the Hub's checkpoints have, and older models had in memory."""
    new = {path: re.sub("^model.language_model", "language_model.model", path) for path in adapter.targets}
    return adapter.renamed({path: name.removeprefix("model.") for path, name in new.items()})


def test_the_digest_of_the_base_holds_under_every_spelling(tmp_path: Path) -> None:
    model = renamed.model("llava")
    one, other = lora(model), renamed.model("llava")
    with torch.no_grad():
        other.model.language_model.layers[1].mlp.down_proj.weight.mul_(1.5)
    for layout in LAYOUTS:
        right, wrong = saved(model, tmp_path / layout, layout), saved(other, tmp_path / f"{layout}-other", layout)
        for number, adapter in enumerate((one, stored(one))):
            adaptr.merge(right, [adapter], tmp_path / f"{layout}-{number}")
            adaptr.verify(tmp_path / f"{layout}-{number}", right, [one])
            with pytest.raises(ContentMismatch):
                adaptr.merge(wrong, [adapter], tmp_path / "never")
    assert torch.equal(attached(model, stored(one)), attached(model, one))
    with pytest.raises(ContentMismatch):
        adaptr.attach(other, stored(one))


def test_what_is_attached_under_new_names_is_saved_with_a_digest_that_holds(tmp_path: Path) -> None:
    model = renamed.model("llava")
    with adaptr.train(model, stored(lora(model))) as session:
        adaptr.save(session.adapted(), tmp_path / "a.safetensors")
    found = adaptr.load(tmp_path / "a.safetensors")
    assert all(path.startswith("model.") for path in found.targets)
    adaptr.attach(renamed.model("llava"), found).detach()


def test_a_name_that_fits_two_parts_is_refused_naming_both(tmp_path: Path) -> None:
    model = renamed.model("clip")
    one = adaptr.create(model, "lora", "text_model.encoder.layers.0.self_attn.q_proj", r=2)
    both = one.renamed({path: path.removeprefix("text_model.") for path in one.targets}).replace(base=Base())
    with pytest.raises(TargetAmbiguous, match=r"`text_model\.encoder.*`vision_model\.encoder"):
        adaptr.attach(model, both)
    with pytest.raises(TargetAmbiguous):
        adaptr.merge(saved(model, tmp_path / "base", "hub"), [both], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_deeper_model_is_not_completed_from_another_part() -> None:
    """Layers 0 and 1 are the model's own; a third is not, wherever else there may be one."""
    model = renamed.model("llava")
    one = adaptr.create(model, "lora", "model.language_model.layers.*.q_proj", r=2)
    paths = list(one.targets)
    deeper = one.renamed({paths[1]: paths[1].replace(".1.", ".2.")}).replace(base=Base())
    with pytest.raises(TargetNotFound):
        adaptr.attach(model, deeper)


def test_diff_sees_one_place_under_two_names(tmp_path: Path) -> None:
    """Given the base, which alone can say so."""
    model = renamed.model("llava")
    base, one = saved(model, tmp_path / "base", "hub"), lora(model)
    norm = "model.language_model.norm.weight"
    one = one.replace(tensors={**one.tensors, f"{norm}:=": torch.ones(32)})
    adaptr.save(one, tmp_path / "a.safetensors")
    other = stored(one).renamed({norm: "language_model.model.norm.weight"})
    adaptr.save(other.replace(base=Base()), tmp_path / "b.safetensors")
    report = adaptr.diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors", base=base)
    assert {target.path for target in report.targets} == set(one.targets)
    assert {target.state for target in report.targets} == {"same"}
    assert not report.others
    adaptr.merge(base, [one], tmp_path / "tuned")
    against = adaptr.diff(tmp_path / "b.safetensors", tmp_path / "tuned", base=base)
    assert {target.state for target in against.targets} <= {"same", "changed"}
    assert all(target.cosine > 0.999 for target in against.targets)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_merge_under_other_names_is_taken_back(tmp_path: Path, layout: str) -> None:
    model = renamed.model("qwen2_5_vl")
    base = saved(model, tmp_path / "base", layout)
    adaptr.merge(base, [text_alone(lora(model), "model.")], tmp_path / "out")
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["dora", "loha"])
def test_methods_that_read_the_weight_find_it(tmp_path: Path, method: str) -> None:
    model = renamed.model("vit")
    one = shaken(adaptr.create(model, method, ["*patch_embeddings.projection", "attn.q"], r=4))
    want = attached(model, one)
    close(merged(saved(model, tmp_path / "base", "hub"), one, tmp_path / "out", type(model)), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_what_loading_stacks_is_merged_apart(tmp_path: Path, kind: str) -> None:
    model = renamed.model(kind)
    one = shaken(adaptr.create(model, "lora", "*experts.down_proj", r=2))
    want = attached(model, one)
    close(merged(saved(model, tmp_path / "base", "hub"), one, tmp_path / "out", type(model)), want, rtol=0, atol=1e-5)


def test_a_stack_that_loading_turns_is_refused(tmp_path: Path) -> None:
    """Its name is the same in the file, and its sides are equal."""
    model = renamed.model("qwen3_vl_moe")
    one = shaken(adaptr.create(model, "lora", "*experts.down_proj", r=2))
    with pytest.raises(TargetNotFound, match="Transpose"):
        adaptr.merge(saved(model, tmp_path / "base", "hub"), [one], tmp_path / "out")


@pytest.mark.parametrize("kind", ["gte", "hrm_text"])
def test_layers_that_loading_cuts_out_of_one_tensor_are_its_rows(tmp_path: Path, kind: str) -> None:
    model = renamed.model(kind)
    one = lora(model)
    want = attached(model, one)
    close(merged(saved(model, tmp_path / "base", "hub"), one, tmp_path / "out", type(model)), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_stacks_that_are_stored_as_stacks_merge(tmp_path: Path, kind: str) -> None:
    model = renamed.model(kind)
    one = shaken(adaptr.create(model, "lora", "*experts*", r=2))
    want = attached(model, one)
    found = merged(saved(model, tmp_path / "base", "memory"), one, tmp_path / "out", type(model))
    close(found, want, rtol=0, atol=1e-5)


def test_a_merged_checkpoint_is_verified_under_other_names(tmp_path: Path) -> None:
    """Saved again by the model, it is the same; with another value it is not."""
    model = renamed.model("llava")
    one, base = lora(model), saved(model, tmp_path / "base", "hub")
    adaptr.merge(base, [one], tmp_path / "out")
    again = type(model).from_pretrained(tmp_path / "out")
    assert adaptr.verify(saved(again, tmp_path / "again", "memory"), base, [one]).exact
    with torch.no_grad():
        again.model.language_model.norm.weight.add_(1)
    assert not adaptr.verify(saved(again, tmp_path / "wrong", "memory"), base, [one]).ok
