"""Whether a model keeps records that share a row apart, as their positions say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import nn

#: Ids of two short records.
FIRST, SECOND = (5, 3, 4, 6, 7), (4, 7, 3, 5)
#: How far logits may be apart, as a share: in fp32, and in fewer bits.
ROUNDING, COARSE = 1e-3, 3e-2
ALONE = "leave `pack` out"


def require_isolation(model: nn.Module, adapter: str = "") -> None:
    """Measures it with a forward of two short rows: the second record alone, and behind another in one row. `adapter`:
    the method of what is attached, which may add tokens to a row that only its first record would see.

    Raises `Unsupported` for a model that sees across: what is packed would be learned in the context of strangers.
    """
    import torch

    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([SECOND], device=device), use_cache=False).logits[0].float()
            row = torch.tensor([[*FIRST, *SECOND]], device=device)
            places = torch.tensor([[*range(len(FIRST)), *range(len(SECOND))]], device=device)
            beside = model(input_ids=row, position_ids=places, use_cache=False).logits[0, len(FIRST) :].float()
    except (TypeError, ValueError) as error:
        raise Unsupported(
            f"{type(model).__name__} takes no positions, so records can't share a row", hint=ALONE
        ) from error
    finally:
        model.train(training)
    apart = float((alone - beside).norm() / alone.norm())
    beside = f" with `{adapter}` on it" if adapter else ""
    fine = next(model.parameters()).dtype == torch.float32
    if not apart <= (ROUNDING if fine else COARSE):
        raise Unsupported(
            f"{type(model).__name__}{beside} does not keep records in one row apart: logits differ by {apart:.1e}",
            hint=ALONE,
        )
