"""Adapters that were changed, that PEFT can't hold, or whose targets only the base knows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
from adaptr import errors as e
from adaptr import foreign


@pytest.fixture
def model(shared: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(shared / "real-data" / "tinyshakes-llama")
    config.attention_bias = True
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).eval()


def config_of(folder: Path) -> Any:
    return json.loads((folder / "adapter_config.json").read_text())


def test_a_changed_adapter_has_new_fields_and_keeps_the_others(shared: Path, tmp_path: Path) -> None:
    adapter = adaptr.load(shared / "real" / "ref-peft-tinyshakes" / "lora-pattern")
    kept = {path: target for path, target in adapter.targets.items() if ".0." in path}
    tensors = {key: t for key, t in adapter.tensors.items() if ".0." in key}
    adaptr.save(adapter.replace(targets=kept, tensors=tensors), tmp_path / "a.adaptr.safetensors")
    adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "peft", to="peft")
    config = config_of(tmp_path / "peft")
    assert set(config["target_modules"]) == set(kept)
    assert config["rank_pattern"] == {r"model\.layers\.0\.self_attn\.v_proj": 2}
    assert config["qalora_group_size"] == 16
    assert adaptr.load(tmp_path / "peft").targets == kept


@pytest.mark.parametrize("method", ["houlsby", "parallel", "bitfit", "mam"])
def test_what_peft_has_no_equivalent_for(model: Any, tmp_path: Path, method: str) -> None:
    adapter = adaptr.create(model, method)
    with pytest.raises(e.Unsupported, match=f"no equivalent of `{method}`"):
        foreign.get("peft").write(adapter, tmp_path / "p", False, False)
    assert not (tmp_path / "p").exists()


def test_integers_are_lost_and_only_when_asked(model: Any, tmp_path: Path) -> None:
    adapter = adaptr.create(model, "lora", "attn.q")
    adaptr.save(adaptr.quantize(adapter, "int8"), tmp_path / "a.adaptr.safetensors")
    with pytest.raises(e.LossyConversion, match="int8"):
        adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "p", to="peft")
    report = adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "p", to="peft", lossy=True)
    assert len(report.lost) == 1
    key = "model.layers.0.self_attn.q_proj:A"
    assert torch.allclose(adaptr.load(tmp_path / "p").tensors[key], adapter.tensors[key], atol=1e-2)


def test_casts_stay_casts(model: Any, tmp_path: Path) -> None:
    adapter = adaptr.quantize(adaptr.create(model, "lora", "attn.q"), "bf16")
    adaptr.save(adapter, tmp_path / "a.adaptr.safetensors")
    adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "p", to="peft")
    assert set(adaptr.inspect(tmp_path / "p").dtypes) == {"BF16"}


def test_prefix_without_shift_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="shifts"):
        foreign.get("peft").write(adaptr.create(model, "prefix"), tmp_path / "p", False, False)


def test_numbered_layers_find_their_place(model: Any, tmp_path: Path) -> None:
    """A prefix without a base has numbered targets; attaching resolves them, or says why not."""
    adapter = adaptr.create(model, "prefix", tokens=3, position_offset="shift")
    adaptr.save(adapter, tmp_path / "a.adaptr.safetensors")
    adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "p", to="peft")
    report = adaptr.convert(tmp_path / "p", tmp_path / "numbered.adaptr.safetensors")
    assert report.unplaced
    numbered = adaptr.load(tmp_path / "numbered.adaptr.safetensors")
    assert list(numbered.targets)[:2] == ["attention.0", "attention.1"]
    ids = torch.tensor([[3, 5, 7]])
    with torch.no_grad(), adaptr.attach(model, adapter):
        want = model(ids).logits
    with torch.no_grad(), adaptr.attach(model, numbered):
        assert torch.equal(model(ids).logits, want)
    placed = adaptr.load(tmp_path / "numbered.adaptr.safetensors", base=model)
    assert set(placed.targets) == set(adapter.targets)
    fewer = dict(list(numbered.targets.items())[:2])
    with pytest.raises(e.TargetMismatch, match="2 layers, the base has 4"):
        adaptr.attach(model, numbered.replace(targets=fewer))


def test_prefix_of_two_stacks_is_refused_on_a_model(shared: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=40, d_model=768, d_kv=64, d_ff=8, num_layers=1, num_heads=12, decoder_start_token_id=0
    )
    adapter = adaptr.load(shared / "real" / "peft-prefix-t5-base-bin")
    with pytest.raises(e.Unsupported, match="encoder-decoder"):
        adaptr.attach(transformers.T5ForConditionalGeneration(config), adapter)


def test_wrong_base_is_noticed_when_loading(shared: Path, model: Any) -> None:
    with pytest.raises(e.TargetNotFound, match="transformer"):
        adaptr.load(shared / "real" / "peft-lora-gpt2-tigrinya", base=model)
    with pytest.raises(e.TargetMismatch, match=r"wanted .* by the adapter"):
        adaptr.load(shared / "real" / "peft-lora-gemma3-270m", base=model)


def test_a_folder_as_base_is_only_built_where_it_is_needed(shared: Path) -> None:
    """Merging must not pay for transformers: a LoRA names its modules itself."""
    adapter, base = shared / "real" / "ref-peft-tinyshakes" / "lora", shared / "real-data" / "tinyshakes-llama"
    code = f"""
import sys, adaptr
adapter = adaptr.load(*{[str(adapter), str(base)]!r})
print(adapter.base.architecture, "transformers" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "LlamaForCausalLM False\n"


def test_prefix_is_placed_from_a_folder(shared: Path, model: Any, tmp_path: Path) -> None:
    adapter = adaptr.create(model, "prefix", tokens=3, position_offset="shift")
    foreign.get("peft").write(adapter, tmp_path / "p", False, False)
    found = adaptr.load(tmp_path / "p", base=shared / "real-data" / "tinyshakes-llama")
    assert set(found.targets) == set(adapter.targets)


def test_square_stacks_of_an_old_peft_are_ambiguous(tmp_path: Path) -> None:
    """Before 0.19 the sides were those of the storage; shapes tell on rectangles only."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 20}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 3}
    base = transformers.MixtralForCausalLM(transformers.MixtralConfig(**sizes, **heads))
    adapter = adaptr.create(base, "lora", "experts.down_proj", r=2)
    foreign.get("peft").write(adapter, tmp_path / "p", False, False)
    assert adaptr.load(tmp_path / "p", base=base).targets == adapter.targets
    old = {**config_of(tmp_path / "p"), "peft_version": "0.18.1"}
    (tmp_path / "p" / "adapter_config.json").write_text(json.dumps(old))
    with pytest.raises(e.Unsupported, match=r"before 0\.19"):
        adaptr.load(tmp_path / "p", base=base)


def test_folder_with_an_adaptr_file_loads(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    report = adaptr.convert(shared / "real" / "ref-peft-tinyshakes" / "lora", tmp_path / "d")
    assert Path(report.out).name == "adapter.adaptr.safetensors"
    assert adaptr.load(tmp_path / "d").method == "lora"
    (tmp_path / "d" / "other.adaptr.safetensors").write_bytes(Path(report.out).read_bytes())
    with pytest.raises(e.InputError, match="name one"):
        adaptr.load(tmp_path / "d")


class Plain(foreign.Format):
    """A format of a third party: one file that says its method."""

    name = "plain"
    tool, called = "Plain", "a plain adapter"
    marks = foreign.Marks(first=(b"plain ",))
    folder = False

    def read(self, path: Path, base: Any = None) -> adaptr.Adapter:
        target = adaptr.Target("m", "norm", (2,))
        return adaptr.Adapter("bitfit", {}, {"m": target}, {"m:b": torch.ones(2)}, source=str(path))

    def save(self, adapter: adaptr.Adapter, out: Path, force: bool) -> foreign.Written:
        out.write_text(f"plain {adapter.method}")
        return foreign.Written(out)


def test_a_third_party_format_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Point:
        name, value = "plain", "somewhere:Plain"

        def load(self) -> Any:
            return Plain

    monkeypatch.setattr("adaptr.discovery._points", lambda group: {"plain": Point()} if "formats" in group else {})
    (tmp_path / "x.plain").write_text("plain x")
    report = adaptr.convert(tmp_path / "x.plain", tmp_path / "y.plain", to="plain")
    assert (report.source_format, report.format, (tmp_path / "y.plain").read_text()) == (
        "plain",
        "plain",
        "plain bitfit",
    )
