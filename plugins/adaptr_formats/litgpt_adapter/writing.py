"""From an adapter to LitGPT's file: prompts alone are version 1, with scales, shifts and norms version 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.adapter import REPLACED
from adaptr.errors import ConfigMissing, Unsupported, phrases
from adaptr.files import replacing_folder
from adaptr.foreign import Written, saving
from adaptr_formats.litgpt.reading import FUSED, PROJECTIONS
from adaptr_formats.litgpt_adapter import names
from adaptr_formats.litgpt_adapter.names import BIAS, GATE, ROWS, SCALE, WEIGHT

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.format import BaseModel

PROMPTS, SCALES, NORMS = "llama-adapter", "scale-shift", "ln-tuning"


def with_norms(adapter: Adapter, base: BaseModel) -> Adapter:
    """`adapter` with the norms' own values for what is added to them, which only the base has."""
    from adaptr.foreign.peft import types

    found = {name: adapter.part(name) for name in adapter.parts}
    part = next((one for one in found.values() if one.method == NORMS), None)
    if part is None:
        return adapter
    whole = types.of_method(NORMS).based(part, base).tensors
    rest = adapter.with_parts({name: one for name, one in found.items() if one is not part})
    return rest.replace(tensors={**rest.tensors, **whole})


def lost(adapter: Adapter) -> list[str]:
    """What has no place in such a file. Raises `Unsupported` for a method that LitGPT has no such file of."""
    _parts(adapter)
    whole = [path for path in adapter.replaced_paths if not _norm(path)]
    return [*saving.lost(adapter), *saving.untold(adapter), *(f"the whole parameter `{path}`" for path in whole)]


def save(adapter: Adapter, out: Path, force: bool) -> Written:
    """Raises `Unsupported` for what LitGPT computes otherwise, `ConfigMissing` for norms without their base."""
    import torch

    plain = saving.plain(adapter)
    parts = {part.method: part for part in _parts(plain)}
    tensors: dict[str, Tensor] = dict(_prompts(parts[PROMPTS]))
    if SCALES in parts:
        tensors |= _scales(parts[SCALES])
    norms = [path for path in plain.replaced_paths if _norm(path)]
    tensors |= {f"{_norm(path)}.{WEIGHT}": plain.tensors[f"{path}:{REPLACED}"] for path in norms}
    second = SCALES in parts or bool(norms)
    called = "lit_model.pth.adapter_v2" if second else "lit_model.pth.adapter"
    with replacing_folder(out, force) as folder:
        torch.save({names.INSIDE: {name: tensors[name].contiguous() for name in sorted(tensors)}}, folder / called)
    first = min(parts[PROMPTS].targets.values(), key=_number)
    note = (
        f"LitGPT reads it with `adapter_prompt_length` {first.config['tokens']} and `adapter_start_layer` "
        f"{_number(first)} in its configuration, which it has no file for (its own are 10 and 2)"
    )
    return Written(out / called, notes=(note,))


def _parts(adapter: Adapter) -> list[Adapter]:
    """Prompts, and what may be beside them."""
    found = [adapter.part(name) for name in adapter.parts] or [adapter]
    methods = [part.method for part in found]
    if NORMS in methods:
        raise ConfigMissing(
            "LitGPT's file has the norms' own values, and this adapter what is added to them",
            hint="give the base with its weights (`--base`)",
        )
    if methods.count(PROMPTS) != 1 or methods.count(SCALES) != len(methods) - 1 or len(methods) > 2:
        raise Unsupported(
            f"LitGPT has no LLaMA-Adapter of `{'+'.join(methods)}`",
            hint=f"it can hold {PROMPTS} and llama-adapter-v2",
        )
    if any(weight for weight in (adapter.config.get("weights"), adapter.config.get("off"))):
        raise Unsupported("LitGPT's file has no weights of its parts", hint=phrases.OWN)
    return found


def _number(target: Target) -> int:
    return int(names.theirs(target.path).split(".")[2])


def _prompts(part: Adapter) -> Iterator[tuple[str, Tensor]]:
    tokens = {target.config["tokens"] for target in part.targets.values()}
    if not part.config.get("layers") or len(tokens) > 1:
        raise Unsupported("LitGPT has as many prompts in each of the topmost layers", hint=phrases.OWN)
    for path, target in part.targets.items():
        module, own = names.theirs(path), part.at(path)
        if not module:
            raise Unsupported(f"`{path}` is no attention of a model like Llama, which LitGPT's are", hint=phrases.OWN)
        if target.shape[0] != 1:
            raise Unsupported(
                f"`{path}`: LitGPT since 0.5 would make keys and values of its rows by weights of queries too, as the "
                "base has several groups of them",
                hint=phrases.OWN,
            )
        gate = own["g"] if target.config["activation"] == "none" else own["g"].double().tanh().to(own["g"].dtype)
        heads = _heads(target)
        yield f"{module}.{ROWS}", own["A"]
        yield f"{module}.{GATE}", gate.expand(heads, 1, 1).reshape(1, 1, heads, 1)


def _heads(target: Target) -> int:
    """Raises `Unsupported` for one gate of several heads that are not known."""
    if target.config["gate"] != "head":
        raise Unsupported(f"`{target.path}`: LitGPT has a gate for each head", hint="train it with `gate` head")
    return int(target.config["heads"])


def _scales(part: Adapter) -> dict[str, Tensor]:
    """Of queries, keys and values as of one layer."""
    import torch

    made: dict[str, Tensor] = {}
    fused: dict[str, dict[str, Mapping[str, Tensor]]] = {}
    for path in part.targets:
        owner, _, last = path.rpartition(".")
        if last in PROJECTIONS:
            fused.setdefault(owner, {})[last] = _scaled(path, part.at(path))
            continue
        module = names.theirs(path)
        if not module:
            raise Unsupported(f"`{path}` is no layer of a model like Llama, which LitGPT's are", hint=phrases.OWN)
        made |= {f"{module}.{slot}": value for slot, value in _scaled(path, part.at(path)).items()}
    for owner, found in fused.items():
        if len(found) != len(PROJECTIONS):
            raise Unsupported(f"`{owner}`: LitGPT scales queries, keys and values together", hint=phrases.OWN)
        module = f"{names.theirs(owner).removesuffix('attn')}{FUSED}"
        made |= {f"{module}.{slot}": torch.cat([found[name][slot] for name in PROJECTIONS]) for slot in (SCALE, BIAS)}
    return made


def _scaled(path: str, own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """y = s (W x + b + t / s). Raises `Unsupported` where an output is shifted and scaled by 0."""
    s = own["s"]
    if "t" not in own:
        return {SCALE: s, BIAS: s.new_zeros(s.shape)}
    if bool(((s == 0) & (own["t"] != 0)).any()):
        raise Unsupported(f"`{path}`: LitGPT scales a shift with the output, and here a scale is 0", hint=phrases.OWN)
    zero = s == 0
    return {SCALE: s, BIAS: (own["t"].double() / s.double().where(~zero, 1.0)).to(own["t"].dtype)}


def _norm(path: str) -> str:
    """What LitGPT calls the norm of a weight, "" for what is none that version 2 has."""
    owner, _, last = path.rpartition(".")
    return names.theirs(owner) if last == WEIGHT and names.is_norm(owner) else ""
