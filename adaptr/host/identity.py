"""Which base this is: what can be told from a live model, cheaply."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from adaptr.adapter import Adapter, Base, Target, public
from adaptr.adapter.sampled import SAMPLES, digest_of
from adaptr.errors import ContentMismatch
from adaptr.host.experts import part_of
from adaptr.host.layer import original as class_of
from adaptr.host.originals import original
from adaptr.host.packed import packing_of
from adaptr.targets import describe, submodule


def base_of(model: nn.Module, targets: Mapping[str, Target]) -> Base:
    """What is known of a live base model."""
    config, quantized = getattr(model, "config", None), quantization_of(model)
    shapes = sorted((name, shape) for name, shape in _shapes(model) if ".adapters." not in name)
    text = "\n".join(f"{name} {','.join(map(str, shape))}" for name, shape in shapes)
    return Base(
        id=public.name(str(getattr(config, "_name_or_path", "") or "")),
        revision=str(getattr(config, "_commit_hash", "") or ""),
        architecture=class_of(model).__name__,
        structure="sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        content="" if quantized else content_of(model, targets),  # its values are near those of its original
        ties=_ties(model),
        quantization=quantized,
    )


def quantization_of(model: nn.Module) -> str:
    """How transformers says that a base is quantised, "" if it is not: its values are near those of its original."""
    said = getattr(getattr(model, "config", None), "quantization_config", None)
    found = said.get("quant_method") if isinstance(said, Mapping) else getattr(said, "quant_method", None)
    return str(getattr(found, "value", found) or "")


def _shapes(model: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Parameters and their shapes; of packed layers those that they would have unpacked."""
    packed = {path: m for path, m in model.named_modules() if packing_of(m) is not None}
    for name, parameter in model.named_parameters():
        owner, _, last = name.rpartition(".")
        if owner not in packed or last == "bias":
            yield name, tuple(parameter.shape)
    for path, module in packed.items():
        target = describe(path, module)
        if target is not None:
            yield f"{path}.weight", target.stored_shape


def is_meta(model: nn.Module) -> bool:
    """Whether a model has shapes and no values."""
    first = next(model.parameters(), None)
    return first is not None and first.is_meta


def other_weights(adapter: Adapter, where: str, hint: str) -> ContentMismatch:
    """What is to be said of a base that has other weights than an adapter was trained on."""
    form = adapter.base.quantization
    also = f"; it was trained over a packed form ({form}), and what is unpacked from that has other values too"
    return ContentMismatch(
        f"the weights of {where} at the targets of `{adapter.label}` are not those it was trained on "
        f"({adapter.base.id or 'unnamed base'})",
        hint=f"{hint}{also}" if form else hint,
    )


def content_of(model: nn.Module, targets: Mapping[str, Target], called: Mapping[str, str] | None = None) -> str:
    """A digest of up to 32 values of each target's weight: what tells two revisions apart. "" where there is no value,
    or one can't be read. `called`: what a target is called in the digest, where that is not its path.
    """
    weights = {path: found for path, target in targets.items() for found in _sampled_weight(model, target)}
    if any(weight is None for weight in weights.values()):
        return ""
    return digest_of({(called or {}).get(p, p): sample(w) for p, w in weights.items() if w is not None})


def sample(weight: Tensor) -> bytes:
    """Up to 32 evenly spaced values."""
    flat = weight.detach().reshape(-1)
    step = max(flat.numel() // SAMPLES, 1)
    return value_bytes(flat[::step][:SAMPLES])


def value_bytes(values: Tensor) -> bytes:
    """As little-endian bf16, so that a base loaded in fewer bits than it was trained with is still the same base."""
    return bytes(values.to(torch.bfloat16).cpu().contiguous().view(torch.uint8).tolist())


def _sampled_weight(model: nn.Module, target: Target) -> Iterator[Tensor | None]:
    """The base's own values, whatever is merged into them; None for codes, nothing where there is no weight."""
    part = part_of(model, target)
    path = part.path if part is not None else target.path if target.stacked else f"{target.path}.weight"
    owner, _, name = path.rpartition(".")
    module = submodule(model, owner)
    weight = module._parameters.get(name)
    if packing_of(module) is not None or (weight is not None and (weight.is_meta or not weight.is_floating_point())):
        yield None
    elif weight is not None:
        found = original(module, name, weight)
        yield found if part is None else found[part.number, part.rows]


def _ties(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return tuple(tuple(sorted(names)) for _, names in sorted(groups.items()) if len(names) > 1)
