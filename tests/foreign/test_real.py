"""Every PEFT adapter of the collection loads and goes there and back, or is refused with the reason in its index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr.foreign.peft import source

#: Folder of the collection to (method, targets, numbers trained, whole parameters).
PEFT = {
    "peft-ia3-t5-base-bin": ("ia3", 96, 129_024, 0),
    "peft-lora-bloom560m": ("lora", 24, 786_432, 0),
    "peft-lora-distilbert-emotion": ("lora", 12, 147_456, 4),
    "peft-lora-distilbert-imdb": ("lora", 12, 147_456, 4),
    "peft-lora-gemma3-270m": ("lora", 72, 368_640, 0),
    "peft-lora-gemma3-270m-stage1": ("lora", 72, 368_640, 0),
    "peft-lora-gpt2-seqcls": ("lora", 12, 294_912, 1),
    "peft-lora-gpt2-tigrinya": ("lora", 36, 811_008, 0),
    "peft-lora-opencalm1b-r1": ("lora", 24, 196_608, 0),
    "peft-lora-privacy-filter-tokencls": ("lora", 32, 589_824, 2),
    "peft-lora-sd-unet": ("lora", 64, 398_592, 0),
    "peft-lora-sidkris-bin": ("lora", 18, 442_368, 4),
    "peft-lora-t5small": ("lora", 36, 294_912, 0),
    "peft-lora-vit-age": ("lora", 24, 589_824, 2),
    "peft-lora-whisper-base": ("lora", 36, 294_912, 0),
    "peft-mislabelled-t5small": ("prompt", 1, 20_480, 0),
    "peft-prefix-flan-t5-base": ("prefix", 12, 368_640, 0),
    "peft-prefix-t5-base-bin": ("prefix", 12, 368_640, 0),
    "peft-prompt-flan-t5-base": ("prompt", 1, 30_720, 0),
    "peft-prompt-t5-base-bin": ("prompt", 1, 30_720, 0),
    "peft-ptuning-t5-base-bin": ("p-tuning", 1, 30_720, 0),
    "peft-ptuning-t5small": ("p-tuning", 1, 20_480, 0),
    **{
        f"ref-peft-tinyshakes/{name}": found
        for name, found in {
            "boft": ("boft", 16, 7_168, 0),
            "hra": ("hra", 16, 6_144, 0),
            "ln-tuning": ("ln-tuning", 0, 0, 9),
            "adalora": ("adalora", 16, 7_344, 0),
            "c3a": ("c3a", 8, 4_608, 0),
            "delora": ("delora", 8, 5_896, 0),
            "hira": ("hira", 8, 5_120, 0),
            "vblora": ("vblora", 8, 2_816, 0),
            "ia3": ("ia3", 12, 1_280, 0),
            "lokr": ("lokr", 16, 1_664, 0),
            "lora": ("lora", 28, 27_136, 0),
            "lora-all-linear": ("lora", 28, 27_136, 0),
            "lora-bf16": ("lora", 16, 10_240, 0),
            "lora-bias": ("lora", 4, 3_456, 0),
            "lora-dora": ("dora", 28, 30_592, 0),
            "lora-emb-head": ("lora", 6, 4_632, 2),
            "lora-modules_to_save": ("lora", 8, 5_120, 10),
            "lora-pattern": ("lora", 16, 9_984, 0),
            "lora-rslora": ("lora", 16, 10_240, 0),
            "oft": ("oft", 16, 5_376, 0),
            "prompt": ("prompt", 1, 576, 0),
            "ptuning": ("p-tuning", 1, 576, 0),
            "trainable-tokens": ("trainable-tokens", 1, 288, 0),
        }.items()
    },
}
DIFFUSERS = (
    "diffusers-lora-sd15", "diffusers-lora-sd15-bin", "diffusers-lora-sd15-mri", "diffusers-lora-sd15-unet-prefix",
)  # fmt: skip
MLX = dict.fromkeys(("mlx-lora-qwen25-05b", "mlx-lora-qwen25-05b/adapters.safetensors"), ("lora", 8, 90112, 0))
HUB = {
    "adapters-pfeiffer-bertmini-mlm": ("pfeiffer", 4, 33_856, 0),
    "adapters-pfeiffer-mbert-md": ("pfeiffer", 12, 894_528, 0),
}
T5X = {"t5x-prompt-sst2": ("prompt", 1, 76_800, 0)}
LOADS = {**PEFT, **MLX, **HUB, **T5X, **dict.fromkeys(DIFFUSERS, ("lora", 128, 797_184, 0))}
#: Folder or file to the error and a word of its message.
REFUSED = {
    "lfs-pointer-finsenti": (e.LfsPointer, "git lfs pull"),
    "lfs-pointer-mlx": (e.LfsPointer, "git lfs pull"),
    "lfs-pointer-finsenti/ggml-adapter-model.bin": (e.LfsPointer, "167800832 bytes"),
    "peft-lora-smolvla-bin": (e.NoAdapterTensors, "606 scales"),
    "config-only-adalora-flan-t5-base": (e.NoAdapterTensors, "no weights"),
    "config-only-dora-flan-t5-base": (e.NoAdapterTensors, "no weights"),
    "ref-peft-tinyshakes/lora-pissa": (e.Unsupported, "pissa"),
    "ref-peft-tinyshakes/vera": (e.ConfigMissing, "how wide its layers are; give the base"),
    "ref-peft-tinyshakes/fourierft": (e.ConfigMissing, "how large its layer is; give the base"),
    "ref-peft-tinyshakes/waveft": (e.ConfigMissing, "how large its layer is; give the base"),
    **{
        f"ref-peft-tinyshakes/{name}": (e.ConfigMissing, "how wide its layers are; give the base")
        for name in ("miss", "randlora", "road")
    },
    "ref-peft-tinyshakes/adaption-prompt": (e.TensorAbsent, "`adapter_layers`.*give the base"),
    "ref-peft-tinyshakes/shira": (e.ConfigMissing, "how large its layers are; give the base"),
    "broken-kohya-sd15": (e.TensorUnknown, "no tool reads it"),
    "loralib-roberta-base-mnli": (e.ConfigMissing, "alpha of the adapter is not in the file.*16 for RoBERTa"),
    "loravit-custom": (e.UnknownFormat, "a LoRA-ViT file"),
    "mkultra-softprompt": (e.UnknownFormat, "a pickle of no known tool"),
    "adapters-compacter-xlmr-legal": (e.TensorAbsent, "no `phm_rule`, which all its layers share"),
    "adapters-compacter-xlmr-legal/pytorch_model_head.bin": (e.UnknownFormat, "the head of a task"),
    "cloneofsimo-kiriko-te-pt": (e.UnknownFormat, r"a list of tensors \(torch\) of no known tool"),
    "cloneofsimo-kiriko-te-pt/lora_kiriko2.ti.pt": (e.UnknownFormat, "load_textual_inversion"),
    "cloneofsimo-pop-pt": (e.UnknownFormat, r"a list of tensors \(torch\) of no known tool"),
    "config-only-dora-flan-t5-base/adapter_config.json": (e.UnknownFormat, "name the folder that it lies in"),
}
#: What is read in tests of its own, and what is no adapter's but a list of others' names.
ELSEWHERE = {"cloneofsimo-analog-svd", "cloneofsimo-disney", "ref-peft-tinyshakes", "headers-invokeai"}


@pytest.mark.parametrize("name", LOADS)
def test_loads(shared: Path, name: str) -> None:
    # how they were scaled is not in them; ranks are what diffusers takes
    place = adaptr.source(shared / "real" / name, scale=1.0) if name in DIFFUSERS else shared / "real" / name
    found = adaptr.inspect(place, finite=True)
    targets = sum(group.count for group in found.targets)
    assert (found.method, targets, found.trained, len(found.replaced)) == LOADS[name]
    assert found.nonfinite == ()
    assert found.file_digest.startswith("sha256:")


def test_all_that_was_found_is_in_a_table(shared: Path) -> None:
    folders = {path.name for path in (shared / "real").iterdir() if path.is_dir()}
    assert folders == {name.partition("/")[0] for name in (*LOADS, *REFUSED)} | ELSEWHERE


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(shared: Path, name: str) -> None:
    error, word = REFUSED[name]
    with pytest.raises(error, match=word) as caught:
        adaptr.load(shared / "real" / name)
    assert caught.value.hint


def test_every_reference_adapter_is_in_the_table_or_of_a_type_that_is_named(shared: Path) -> None:
    root = shared / "real" / "ref-peft-tinyshakes"
    known = {name.partition("/")[2] for name in {*LOADS, *REFUSED} if name.startswith(root.name)}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and path.name not in known):
        kind = json.loads((folder / "adapter_config.json").read_text())["peft_type"]
        with pytest.raises(e.Unsupported, match=f"of type {kind}, which adaptr can't read yet: "):
            adaptr.load(folder)


@pytest.mark.parametrize("name", PEFT)
def test_there_and_back(shared: Path, name: str, tmp_path: Path) -> None:
    there_and_back(shared, name, tmp_path, base=None)


@pytest.mark.parametrize("name", ["fourierft", "miss", "randlora", "road", "shira", "vera", "waveft"])
def test_there_and_back_with_the_base(shared: Path, name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    name = f"ref-peft-tinyshakes/{name}"
    there_and_back(shared, name, tmp_path, base=shared / "real-data" / "tinyshakes-llama")


def there_and_back(shared: Path, name: str, tmp_path: Path, base: Path | None) -> None:
    """Every tensor has the same bytes, dtype and name; no field of the configuration is lost or changed."""
    first = adaptr.convert(shared / "real" / name, tmp_path / "a.adaptr.safetensors", base=base)
    second = adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "back", to="peft")
    assert (first.lost, second.lost) == ((), ())
    places = (shared / "real" / name, tmp_path / "back")
    before, after = (source.read(foreign.get("peft").weights(place)) for place in places)
    assert json.loads((tmp_path / "back" / "adapter_config.json").read_text()) == before.config
    assert set(after.tensors) == set(before.tensors)
    for key in before.tensors:
        assert after.tensors[key].dtype == before.tensors[key].dtype
        assert torch.equal(_bytes(after.tensors[key]), _bytes(before.tensors[key])), key


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


def test_same_input_same_bytes(shared: Path, tmp_path: Path) -> None:
    folder = shared / "real" / "ref-peft-tinyshakes" / "lora-pattern"
    (tmp_path / "elsewhere").mkdir()
    one = adaptr.convert(folder, tmp_path / "1.adaptr.safetensors")
    two = adaptr.convert(folder, tmp_path / "elsewhere" / "2.adaptr.safetensors")
    assert one.digest == two.digest
    text = (tmp_path / "1.adaptr.safetensors").read_bytes()
    assert str(tmp_path).encode() not in text
    assert str(shared).encode() not in text


def test_lineage_names_the_parent(shared: Path, tmp_path: Path) -> None:
    folder = shared / "real" / "ref-peft-tinyshakes" / "lora"
    adaptr.convert(folder, tmp_path / "a.adaptr.safetensors")
    made = adaptr.load(tmp_path / "a.adaptr.safetensors").lineage
    assert made["operation"] == "convert"
    assert made["parents"][0]["digest"] == adaptr.inspect(folder).file_digest
    adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "peft", to="peft")
    again = adaptr.load(tmp_path / "peft").lineage
    assert again["parents"][0]["digest"] == adaptr.inspect(tmp_path / "a.adaptr.safetensors").file_digest


def test_patterns_are_resolved(shared: Path) -> None:
    adapter = adaptr.load(shared / "real" / "ref-peft-tinyshakes" / "lora-pattern")
    q = adapter.targets["model.layers.1.self_attn.q_proj"].config
    v = adapter.targets["model.layers.1.self_attn.v_proj"].config
    k = adapter.targets["model.layers.1.self_attn.k_proj"].config
    assert [(c["r"], c["alpha"]) for c in (q, v, k)] == [(8, 8), (2, 16), (4, 8)]
