"""Whether code comes by an adapted layer where no source shows it: seen when the model runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import adaptr
import tiny
from adaptr import errors
from adaptr.testing import assert_close
from attached import X, fresh, seeded


class Sly(nn.Module):
    """Takes a weight where no adapter can be, of one of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.other = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor, branch: bool = False) -> Tensor:
        x = F.linear(x, dict(self.named_parameters())["lin.weight"])
        return self.other(x) if branch else x


def test_a_layer_that_was_never_reached_is_an_error_at_each_forward() -> None:
    model = nn.Sequential(seeded(Sly))
    handle = adaptr.attach(model, fresh(model, "lora", ["0.lin"]))
    for _ in range(2):
        with pytest.raises(errors.Unsupported, match=r"`0.lin` does nothing.*forward of `0`"):
            model(X)
    handle.detach()
    assert model(X).isfinite().all()


def test_a_branch_not_taken_is_none() -> None:
    model = seeded(Sly)
    with adaptr.attach(model, fresh(model, "lora", ["other"])):
        assert_close(model(X), seeded(Sly)(X))


class Experts(nn.Module):
    """Tokens go to the first two of four experts."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            if i < 2:
                out = out + expert(x)
        return out


def test_experts_without_tokens_are_no_error() -> None:
    model = seeded(Experts)
    with adaptr.train(model, fresh(model, "lora", ["all-linear"])) as session:
        model(X).sum().backward()
        session.after_step()
        assert [p.grad is None for p in session.parameters()] == [False] * 4 + [True] * 4


def test_a_tower_that_did_not_run_is_no_error() -> None:
    model = tiny.model("clip")
    with adaptr.train(model, fresh(model, "lora", ["all-linear"])) as session:
        model.get_text_features(torch.arange(8)[None]).pooler_output.sum().backward()
        session.after_step()
