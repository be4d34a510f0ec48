"""One target's tensors at several mounts: one parameter in all of them, learned, copied and saved once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch

import adaptr
import tiny
from adaptr import Method, Param, sites
from adaptr.contract import Mount
from adaptr.errors import TargetNotFound
from adaptr.testing import logits, shaken
from brought import installed


class Both(Method):
    """A scale at the embeddings, and its inverse before the head."""

    name = "both"
    family = "both"
    formulas = ()
    kinds: ClassVar = frozenset({"module"})
    params: ClassVar = {"s": Param("d", init="ones")}
    unmergeable = "non-linear"
    owner = "model.embed_tokens"

    def mounts(self, model: Any, adapter: Any) -> list[Mount]:
        (head,) = sites.site("head").find(model, "")
        return [Mount(next(iter(adapter.targets)), "embed"), Mount(head, "head", shared=(self.owner,))]

    def output(self, h: Any, x: Any, p: Any, cfg: Any) -> Any:
        return h * p["s"]

    def input(self, x: Any, p: Any, cfg: Any) -> Any:
        return x / p["s"]


class Lost(Both):
    """Wants the tensors of a target that there is not."""

    name = "lost"
    owner = "model.nowhere"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with installed(monkeypatch, Both, Lost):
        yield


def test_it_is_one_parameter_that_learns_from_both_sides() -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    adapter = shaken(adaptr.create(model, "both", ["embed_tokens"]))
    with adaptr.train(model, adapter) as session:
        (parameter,) = session.parameters()
        logits(model(**given)).square().mean().backward()
        grad = parameter.grad
        assert grad is not None
        with torch.no_grad():
            parameter.add_(1)
        assert torch.equal(session.adapted().tensors["model.embed_tokens:s"], parameter)
        twin = copy.deepcopy(model)
        first, second = (m.adapters["both"].s for m in (twin.model.embed_tokens, twin.lm_head))
        assert first is second
    scale = adapter.tensors["model.embed_tokens:s"].clone().requires_grad_()
    hooks = [
        model.model.embed_tokens.register_forward_hook(lambda m, a, y: y * scale),
        model.lm_head.register_forward_pre_hook(lambda m, a: (a[0] / scale,)),
    ]
    logits(model(**given)).square().mean().backward()
    torch.testing.assert_close(grad, scale.grad)
    assert all(hook.remove() is None for hook in hooks)


def test_a_mount_without_its_target_is_refused() -> None:
    model = tiny.model("llama")
    adapter = adaptr.create(model, "lost", ["embed_tokens"])
    with pytest.raises(TargetNotFound, match=r"`lost` mounts `model\.nowhere`, which is no target"):
        adaptr.attach(model, adapter)
