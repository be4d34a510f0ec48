"""The laws of formats over every built-in one, and that they are laws: a format that breaks one is found."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
from adaptr import foreign
from adaptr.adapter import Adapter
from adaptr.foreign import formats
from adaptr.testing import FormatLaws, shaken
from adaptr.testing.samples import tiny_llama
from adaptr_formats.peft import Peft
from foreign.test_formats import Point


class Pipeline(nn.Module):
    """A base of components, of which there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = tiny_llama()

    def forward(self, **inputs: Any) -> Any:
        return self.text_encoder(**inputs)

    def save_pretrained(self, folder: Path) -> None:
        self.text_encoder.save_pretrained(folder)  # type: ignore[operator]


def one_group() -> nn.Module:
    """A base with one group of keys, which LitGPT's LLaMA-Adapters are right on."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config: Any = tiny_llama().config
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**config.to_dict(), "num_key_value_heads": 1})).eval()


def prompts(laws: FormatLaws, model: nn.Module) -> Iterator[Adapter]:
    yield shaken(adaptr.create(model, "llama-adapter", tokens=3, layers=1, activation="none"))


#: What the samples of a format have to be that is over other bases: the components of a pipeline, one group of keys.
OVER: dict[str, dict[str, Any]] = {
    "diffusers": {"model": lambda laws: Pipeline(), "methods": ("lora", "dora")},
    "litgpt-adapter": {"model": lambda laws: one_group(), "adapters": prompts},
}
for _name in formats.SORT.files():
    _fields = {"format": _name, **OVER.get(_name, {})}
    globals()[f"Test{_name.capitalize()}"] = type(f"Test{_name.capitalize()}", (FormatLaws,), _fields)


class Other(Peft):
    """PEFT's folders under another name of their weights."""

    name = "other"
    marks = foreign.Marks(files=("other.safetensors",), config=("peft_type",))

    def save(self, adapter: Adapter, out: Path, force: bool) -> foreign.Written:
        made = super().save(adapter, out, force)
        made.file.rename(out / "other.safetensors")
        return made


class Rounds(Other):
    def save(self, adapter: Adapter, out: Path, force: bool) -> foreign.Written:
        tensors = {key: tensor.half().float() for key, tensor in adapter.tensors.items()}
        return super().save(adapter.replace(tensors=tensors), out, force)


class Counts(Other):
    written = 0

    def save(self, adapter: Adapter, out: Path, force: bool) -> foreign.Written:
        Counts.written += 1
        made = super().save(adapter, out, force)
        (out / "NOTICE").write_text(str(Counts.written))
        return made


class Grabs(Other):
    marks = foreign.Marks(files=("other.safetensors", "model.safetensors"), config=("peft_type",))


class Forgets(Other):
    def save(self, adapter: Adapter, out: Path, force: bool) -> foreign.Written:
        return super().save(adapter.replace(license=""), out, force)


class Replaces(Other):
    def save(self, adapter: Adapter, out: Path, force: bool) -> foreign.Written:
        shutil.rmtree(out, ignore_errors=True)
        return super().save(adapter, out, force)


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Rounds, "test_law_2_what_is_written_comes_back_bit_for_bit"),
        (Counts, "test_law_3_the_same_adapter_gives_the_same_bytes"),
        (Grabs, "test_law_4_its_files_are_its_own_and_no_other_formats"),
        (Forgets, "test_law_5_what_is_lost_is_said"),
        (Replaces, "test_law_7_what_is_there_is_not_replaced_unasked"),
    ],
)
def test_a_format_that_breaks_a_law_is_found(
    broken: type[foreign.Format], law: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}
    monkeypatch.setattr("adaptr.discovery._points", lambda group: found if group == "adaptr.formats" else {})

    class Laws(FormatLaws):
        format = "other"
        methods = ("lora",)

    for form, place in ((Other, tmp_path / "kept"), (broken, tmp_path / "broken")):
        found["other"] = Point(form)
        foreign.get.cache_clear()
        place.mkdir()
        if form is Other:
            getattr(Laws(), law)(place)
        else:
            with pytest.raises(AssertionError):
                getattr(Laws(), law)(place)
    foreign.get.cache_clear()


class Marked(foreign.Format):
    """Is only read."""

    name = "other"
    tool, called = "Other", "another"
    marks = foreign.Marks(first=(b"other",))


def test_what_a_format_does_not_do_is_skipped_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "adaptr.discovery._points", lambda group: {"other": Point(Marked)} if "formats" in group else {}
    )
    foreign.get.cache_clear()

    class Laws(FormatLaws):
        format = "other"

    with pytest.raises(pytest.skip.Exception, match="`other` is read and not written"):
        Laws().test_law_2_what_is_written_comes_back_bit_for_bit(tmp_path)
    with pytest.raises(pytest.skip.Exception, match="no genuine files of `other`"):
        Laws().test_law_10_genuine_files_are_read()
    Laws().test_law_4_its_files_are_its_own_and_no_other_formats(tmp_path)
    foreign.get.cache_clear()
