"""An adapter as PEFT trains it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def as_peft(model: Any, adapter: Any, folder: Path) -> Any:
    """PEFT's model around `model`, with the adapter's own tensors; `folder`: for files that are needed meanwhile."""
    from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    import adaptr

    adaptr.save(adapter, folder / "a.safetensors")
    adaptr.convert(folder / "a.safetensors", folder / "peft", to="peft")
    config = PeftConfig.from_pretrained(folder / "peft")
    config.inference_mode = False
    made = get_peft_model(model, config)
    set_peft_model_state_dict(made, load_file(folder / "peft" / "adapter_model.safetensors"))
    return made


def callbacks(model: Any, clock: Any) -> Iterator[Any]:
    """What a trainer of transformers calls at each step: `clock.stepped`, and the schedule of a method that has one."""
    from transformers import TrainerCallback

    class Ticks(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *given: Any, **_: Any) -> None:
            clock.stepped(None)

        def on_optimizer_step(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            said = model.peft_config["default"]
            if (getattr(said, "total_step", None) or 0) > 1:  # AdaLoRA with a schedule, before gradients are cleared
                model.base_model.update_and_allocate(state.global_step)

    yield Ticks()
