"""What a maker of a host is, and a checkpoint as it writes it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

#: The weights by the path of their module, and what makes the host anew.
Made = tuple[dict[str, Tensor], Callable[[], Any]]
Maker = Callable[[Any, Path], Made]


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    return {path: m for path, m in model.named_modules() if isinstance(m, nn.Linear) and path != "lm_head"}


def loading(folder: Path, **options: Any) -> Callable[[], Any]:
    return lambda: AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def copied(load: Callable[[], Any]) -> Callable[[], Any]:
    """The same of a model that is loaded once, where loading takes seconds."""
    model = load()
    return lambda: copy.deepcopy(model)


def written(model: Any, folder: Path, tensors: dict[str, Tensor], said: dict[str, Any]) -> None:
    """A checkpoint of the model with `tensors` in the place of its linear layers' weights."""
    own = {f"{path}.weight" for path in linears(model)}
    rest = {k: t for k, t in model.state_dict().items() if k not in own and k not in tensors}
    save_file({k: t.contiguous() for k, t in (rest | tensors).items()}, folder / "model.safetensors", {"format": "pt"})
    config = {**json.loads(model.config.to_json_string(use_diff=True)), "quantization_config": said}
    config |= {"architectures": [type(model).__name__], "dtype": str(model.dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
