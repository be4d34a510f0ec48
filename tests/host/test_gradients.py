"""Whether all that should learn does: looked at once, behind the first backward."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import adaptr
import tiny
from adaptr import errors
from adaptr.testing import logits
from attached import X, fresh, seeded


class Lost(nn.Module):
    """Of two layers that run, one is cut from the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.cut = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.kept(x) + self.cut(x).detach()


def test_a_trained_tensor_without_a_gradient_is_named_after_the_first_backward() -> None:
    model = seeded(Lost)
    with adaptr.train(model, fresh(model, "lora", ["all-linear"])) as session:
        with pytest.raises(errors.Unsupported, match=r"2 of 4 .*no gradient.*cut:A, cut:B"):
            model(X).sum().backward()
        model(X).sum().backward()  # said once
        session.after_step()


def test_gradients_taken_by_hand_are_not_looked_for() -> None:
    model = seeded(Lost)
    with adaptr.train(model, fresh(model, "lora", ["all-linear"])) as session:
        parameters = list(session.parameters())
        found = torch.autograd.grad(model(X).sum(), parameters, allow_unused=True)
        assert [g is None for g in found] == [False, False, True, True]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_are_judged_when_all_is_done(reentrant: bool) -> None:
    model = tiny.model("llama").train()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    with adaptr.train(model, fresh(model, "lora", ["all-linear"])) as session:
        logits(model(**tiny.inputs("llama"))).sum().backward()
        assert all(p.grad is not None for p in session.parameters())


def test_a_layer_dropped_in_this_forward_is_not_asked() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x: Tensor, drop: bool) -> Tensor:
            x = self.a(x)
            return x if drop else self.b(x)

    model = seeded(Drops)
    with adaptr.train(model, fresh(model, "lora", ["all-linear"])) as session:
        with torch.no_grad():
            model(X, drop=False)
        model(X, drop=True).sum().backward()
        assert sum(p.grad is not None for p in session.parameters()) == 2


def test_a_copy_of_a_model_in_training_has_no_session() -> None:
    model = seeded(Lost)
    with adaptr.train(model, fresh(model, "lora", ["all-linear"])):
        twin = copy.deepcopy(model)
        again = pickle.loads(pickle.dumps(model))
    twin(X).sum().backward()
    again(X).sum().backward()
