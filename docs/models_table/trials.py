"""One trial: a method on a tiny model, where it goes when nothing is said, and all that is asked of it in turn."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

import adaptr
import tiny
from adaptr import plugins
from adaptr.errors import AdaptrError
from adaptr.testing.closeness import assert_close, bits_equal
from adaptr.testing.samples import shaken
from methods_table.table import Verdict


def tried(model: str, method: str) -> Verdict:
    """One cell of the table."""
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            on = Trial(model, method)
            on.attached()
            on.padded()
            on.cached()
            on.trained()
    except AdaptrError as error:
        return Verdict(method, model, "no", error.fact)
    except Exception as error:  # the table says so
        return Verdict(method, model, "CRASH", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return Verdict(method, model, "yes")


class Trial:
    """An adapter away from its start, on a model without chance in its forward."""

    def __init__(self, model: str, method: str) -> None:
        self.model, self.inputs = tiny.model(model), tiny.inputs(model)
        small = plugins.method(method).small
        self.adapter = shaken(adaptr.create(self.model, method, **small))

    def attached(self) -> None:
        """It changes what comes out, and leaves no trace."""
        bare = self.output(self.inputs)
        with adaptr.attach(self.model, self.adapter):
            found = self.output(self.inputs)
        assert bool(torch.isfinite(found).all()), "what comes out is not finite"
        assert not bits_equal(found, bare), "it does nothing"
        assert bits_equal(self.output(self.inputs), bare), "it leaves a trace"

    def padded(self) -> None:
        """A padded row is what it is alone, where the bare model's is."""
        ids = self.inputs.get("input_ids")
        if ids is None or set(self.inputs) != {"input_ids"} or not self._pads(ids):
            return
        with adaptr.attach(self.model, self.adapter):
            assert self._pads(ids), "padding changes what comes out"

    def cached(self) -> None:
        """It generates the same tokens with a cache and without."""
        if not self.model.can_generate():
            return
        given = {name: t for name, t in self.inputs.items() if name != "decoder_input_ids"}
        with adaptr.attach(self.model, self.adapter), torch.no_grad():
            one, other = (
                self.model.generate(**given, max_new_tokens=4, do_sample=False, use_cache=cache, pad_token_id=0)
                for cache in (True, False)
            )
        assert torch.equal(one, other), "with a cache it generates other tokens"

    def trained(self) -> None:
        """Gradients come to it, everywhere."""
        with adaptr.train(self.model.train(), self.adapter) as session:
            _seen(self.model(**self.inputs)).float().log_softmax(-1)[..., 0].mean().neg().backward()
            named = session.named()
            idle = {key.rpartition(":")[0] for key in named} - {
                key.rpartition(":")[0] for key, p in named.items() if p.grad is not None and bool(p.grad.any())
            }
            assert all(bool(torch.isfinite(p.grad).all()) for p in named.values() if p.grad is not None)
        assert not idle, f"no gradient comes to {', '.join(sorted(idle)[:3])}"

    def output(self, inputs: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            return _seen(self.model(**inputs))

    def _pads(self, ids: Tensor) -> bool:
        alone = self.output({"input_ids": ids[:1, :4]})
        mask = torch.ones_like(ids)
        if self.model.can_generate():  # on the left, of those that go on
            ids, mask[0, :-4] = torch.cat([ids[:1].roll(-4, 1), ids[1:]]), 0
            found = self.output({"input_ids": ids, "attention_mask": mask})[:1, -4:]
        else:
            mask[0, 4:] = 0
            found = self.output({"input_ids": ids, "attention_mask": mask})[:1]
        try:
            assert_close(found, alone)
        except AssertionError:
            return False
        return True


def _seen(output: Any) -> Tensor:
    """What comes out, whatever it is called."""
    names = ("logits", "logits_per_text", "last_hidden_state")
    found: Tensor = next(output[name] for name in names if name in output)
    return found
