"""Where a training runs, and in what: devices, dtypes, quantised bases and the optimisers that a device has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adaptr.errors import MachineError, MissingExtra, UsageError
from adaptr.models.devices import device
from adaptr.training.recipe import Recipe

#: What transformers calls the optimisers of a recipe.
OPTIMIZERS = {
    "adamw": "adamw_torch",
    "adafactor": "adafactor",
    "sgd": "sgd",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw": "paged_adamw_32bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}


@dataclass(frozen=True)
class Machine:
    """`device`: `cpu`, `cuda` or `mps`. `dtype`: that of the forward, `fp32`, `bf16` or `fp16`.

    A forward in fewer bits is autocast: the base keeps the dtype that it is stored in, and what learns is fp32.
    """

    device: str
    dtype: str

    @property
    def load(self) -> str:
        """The dtype that the base is loaded in."""
        return "float32" if self.dtype == "fp32" else "auto"


def machine(recipe: Recipe) -> Machine:
    """What the recipe means here. Raises `MachineError` for what this machine has not."""
    import torch

    place = _device(recipe.device)
    dtype = recipe.dtype
    if dtype == "auto":
        dtype = "fp32" if place != "cuda" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if dtype == "fp16" and place != "cuda":
        raise MachineError(
            f"fp16 wants its gradients scaled, which is done on CUDA and not on {place}", hint="say `bf16`"
        )
    if recipe.optimizer not in {"adamw", "adafactor", "sgd"} and place != "cuda":
        raise MachineError(
            f"`{recipe.optimizer}` keeps its state in CUDA's memory, by bitsandbytes, and this trains on {place}",
            hint="say `adamw`: an adapter's state is small",
        )
    return Machine(place, dtype)


def _device(asked: str) -> str:
    """transformers takes the best that there is, or the processor."""
    found, best = device(asked), device("auto")
    if found not in ("cpu", best):
        raise UsageError(f"`{asked}` can't be chosen where there is {best}", hint="say `auto`")
    return found


def quantized(recipe: Recipe, machine: Machine) -> Any:
    """How the base is quantised when it is loaded; None where it is not."""
    if recipe.base_quant == "none":
        return None
    import importlib.util

    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra("a quantised base needs bitsandbytes: `pip install 'adaptr[quant]'`")
    if recipe.base_quant == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[machine.dtype]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=recipe.double_quant,
    )
