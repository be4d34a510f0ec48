"""LoRA that was trained on a changed base: PiSSA and OLoRA take their first factors out of the weights.

W' = W - s B0 A0 + s B A, so on W itself the change is s (B A - B0 A0), exactly, at twice the rank. B0 and A0 follow
from W, or are those of the adapter that was saved before training. Meng et al. 2024, arXiv:2404.02948; Büyükakyüz 2024,
arXiv:2406.01775.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported
from adaptr.foreign.draft import Piece

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.foreign.peft.source import Source

#: The way on where the base says nothing of what it was changed to.
_CONVERT = (
    "give the adapter saved before training (`--initial FOLDER`; in Python `adaptr.source(..., initial=...)`), "
    "convert it where it was trained (PEFT's `save_pretrained(..., path_initial_model_for_weight_conversion=...)`; "
    "LLaMA-Factory's is in `pissa_converted`) and load the result; or set `init_lora_weights` to true in its "
    "`adapter_config.json`, if the base that you use is the changed one"
)
#: Initialisations that take their first factors out of the weights.
CHANGING = ("pissa", "olora", "corda", "lora_ga")
#: Those whose first factors follow from the base's weights alone.
EXACT = frozenset({"pissa", "olora"})
#: Fields that the adapter before training has as the trained one.
SAME = ("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "use_dora")


def changed(config: Mapping[str, Any]) -> bool:
    """Whether the base was changed before training, and by what can be known."""
    return _name(config).startswith(CHANGING)


def _name(config: Mapping[str, Any]) -> str:
    init = config.get("init_lora_weights")
    return init.lower() if isinstance(init, str) else ""


def of(source: Source) -> str:
    """The initialisation where base or initial adapter say the rest, "" where the base was not changed. Raises
    `Unsupported`.
    """
    init, name = source.config.get("init_lora_weights"), _name(source.config)
    if name.startswith("loftq"):
        raise Unsupported(
            "`init_lora_weights` is `loftq`: it corrects the errors of one quantised base and is wrong on any other",
            hint="merge it there, or save it with `init_lora_weights` true if it was trained on and used with "
            "that base only",
        )
    if not changed(source.config):
        return ""
    if source.begun is not None:
        _require_same(source, source.begun)
        return name
    if name in EXACT and source.weights is not None:
        return name
    way = "give that base (`--base`), or " if name in EXACT else ""
    raise Unsupported(
        f"`init_lora_weights` is `{init}`: it was trained on a base that `{init}` changed first, so on the base itself "
        "it is wrong",
        hint=f"{way}{_CONVERT}",
    )


def _require_same(source: Source, begun: Source) -> None:
    """Raises `ConfigConflict` for the initial adapter of another one."""
    other = next((name for name in SAME if source.config.get(name) != begun.config.get(name)), "its tensors' shapes")
    if other in SAME or source.shapes != begun.shapes:
        raise ConfigConflict(
            f"`{begun.path.parent}` is not what `{source.path.parent}` was before training: `{other}` differs",
            hint="give the adapter that was saved after `get_peft_model`, before the first step",
        )


def undone(
    source: Source, init: str, target: Target, pieces: Mapping[str, Piece]
) -> tuple[dict[str, Any], dict[str, Piece]]:
    """Configuration and pieces, of twice the rank, that do to the base what `target` did to the changed one."""
    said = source.begun is not None
    if target.kind != kinds.LINEAR and (target.kind != kinds.LINEAR_T or not (said or init == "pissa")):
        raise Unsupported(
            f"`{target.path}`: `{init}` of a {target.kind} layer can't be undone",
            hint="convert it where it was trained (`path_initial_model_for_weight_conversion`)",
        )
    values, (a, b) = dict(target.config), (pieces["A"], pieces["B"])
    scale = values["alpha"] / (values["r"] ** 0.5 if values["rslora"] else values["r"])
    if source.begun is not None:
        A, B = source.begun.tensors[a.source], source.begun.tensors[b.source]
    else:
        assert source.weights is not None
        stored = source.weights.weight(target.path).detach().float()
        A, B = _factors(init, stored.t() if target.transposed else stored, values["r"], scale)
    doubled = {"r": 2 * values["r"], "alpha": values["alpha"] * (2**0.5 if values["rslora"] else 2)}
    return {**values, **doubled}, {
        **pieces,
        "A": Piece(a.source, (2 * a.shape[0], a.shape[1]), then=functools.partial(_beside, A, 0)),
        "B": Piece(b.source, (b.shape[0], 2 * b.shape[1]), then=functools.partial(_beside, -B, 1)),
    }


def _factors(init: str, W: Tensor, r: int, scale: float) -> tuple[Tensor, Tensor]:
    """A0 (r, in) and B0 (out, r) of W (out, in), as PEFT computes them in fp32."""
    import torch

    if init == "olora":
        Q, R = torch.linalg.qr(W)
        return R[:r], Q[:, :r]
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    root = (S[:r] / scale).sqrt()
    return root[:, None] * Vh[:r], U[:, :r] * root


def _beside(first: Tensor, axis: int, trained: Tensor) -> Tensor:
    import torch

    dtype = torch.promote_types(trained.dtype, first.dtype)
    return torch.cat([trained.to(dtype), first.to(dtype)], axis)
