"""What a forward leaves for the backward, in bytes, from what a model is made of and what of it learns.

Autograd keeps, of an operation on the way from something that learns to the loss, what its derivative needs: a norm
its input; a product of two activations both; an attention q, k, v, its output and a logarithm a row; an activation
function its input; a linear layer nothing while its weight is frozen, else its input. Before the first thing that
learns nothing is kept. Held against what torch keeps by `tests/planning/test_flow.py`, and in `benchmarks/planning.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adaptr.contract import Costs
from adaptr.planning.foundation import Foundation
from adaptr.planning.structure import ATTENDED, DOWN, END, FEED, INPUT, PROJECTED, Block, Layer, Structure

#: Numbers that an activation function keeps for each of its inputs; written in Python, some keep what is in between.
KEPT = {"relu": 0, "gelu_new": 4, "gelu_fast": 4, "quick_gelu": 3}
#: A loss in fp32: probabilities by their logarithm, the gradient of the loss by these, and by the logits.
OF_LOGITS = 3


@dataclass(frozen=True)
class Shape:
    """One row of a batch: its tokens; `keys`: what attentions look at beside these. `narrow`: bytes of a number in the
    dtype of the forward. `device`: on a CPU attentions with dropout are computed in full.
    """

    length: int
    narrow: int = 4
    device: str = "cuda"
    keys: int = 0


@dataclass(frozen=True)
class Learning:
    """`costs`: of what learns, by path. `whole`: parameters that learn themselves, by path. `all`: every one does."""

    costs: Mapping[str, tuple[Costs, ...]]
    whole: frozenset[str]
    all: bool = False

    def weight(self, layer: Layer) -> bool:
        return self.all or f"{layer.path}.weight" in self.whole or layer.path in self.whole

    def reads(self, layer: Layer) -> bool:
        """Whether the input of a layer is kept."""
        return self.weight(layer) or any(one.input for one in self.costs.get(layer.path, ()))

    @property
    def paths(self) -> list[str]:
        """Of what learns in the base, from which on gradients are wanted."""
        inside = [path for path, costs in self.costs.items() if not all(one.apart for one in costs)]
        return [*inside, *(name.removesuffix(".weight").removesuffix(".bias") for name in self.whole)]


@dataclass(frozen=True)
class Flow:
    """Bytes for each row: `blocks`: what each block leaves. `outside`: what is left before and behind them. `input`: of
    one block. `once`: for all rows together.
    """

    blocks: tuple[int, ...]
    outside: int
    input: int
    once: int


def flow(base: Foundation, made: Structure, learns: Learning, shape: Shape) -> Flow:
    """What one forward leaves."""
    at = -1 if learns.all else min(map(made.number, learns.paths), default=len(made.blocks))
    found = []
    for number, block in enumerate(made.blocks):
        if number < at:
            found.append(_Kept(base, block, learns, shape, END).methods * shape.length * shape.narrow)
            continue
        start = INPUT if number > at else _start(made, block, learns, number)
        found.append(_Kept(base, block, learns, shape, start).bytes)
    outside = sum(_layer(one, learns, shape) for one in made.outside)
    return Flow(tuple(found), outside, made.width * shape.length * shape.narrow, _once(learns, shape) * shape.narrow)


def _start(made: Structure, block: Block, learns: Learning, number: int) -> int:
    if learns.all:
        return INPUT
    return min(block.start(path) for path in learns.paths if made.number(path) == number)


def _once(learns: Learning, shape: Shape) -> int:
    """With the masks that attentions with columns need written out."""
    every = [one for costs in learns.costs.values() for one in costs]
    masks = (shape.length * (shape.length + one.columns) for one in every if one.columns)
    return sum(one.once for one in every) + sum(masks)


def _layer(layer: Layer, learns: Learning, shape: Shape) -> int:
    """What a layer of no block leaves: a last norm its input, a head its own."""
    own = sum(one.token for one in learns.costs.get(layer.path, ()))
    if layer.norm:
        own += layer.target.shape[0] * (1 + learns.weight(layer))
    elif learns.reads(layer) and not layer.target.looked_up:
        own += layer.target.shape[1]
    return own * shape.length * shape.narrow


class _Kept:
    """What one block leaves. Numbers for each token, but for attentions, which look at all of a row."""

    def __init__(self, base: Foundation, block: Block, learns: Learning, shape: Shape, start: int) -> None:
        self.base, self.block, self.learns, self.shape, self.start = base, block, learns, shape, start

    @property
    def bytes(self) -> int:
        a, wide = self.shape.narrow, 4
        parts = (self.norms, self.attention * a, self.inputs * a, self.inner * a, self.methods * a, self.dropouts)
        rows = len(self.block.outs) * self._heads * wide if self.start <= PROJECTED else 0
        return int((sum(parts) + rows) * self.shape.length)

    @property
    def norms(self) -> int:
        """In bytes: one without a bias is computed in fp32, whatever its input is in, and keeps a number a row."""
        before = {INPUT: 0, PROJECTED: 1, ATTENDED: 1}.get(self.start, 2)
        main = [one for one in self.block.norms if one.target.shape[0] == self.block.d and "attn" not in one.path]
        kept = main[before:]
        inner = [one for one in self.block.norms if one not in main] if self.start <= PROJECTED else []
        sizes = [(one, self.block.d) for one in kept] + [(one, self._normed(one)) for one in inner]
        a = self.shape.narrow
        return sum(
            (n * (a if one.bias else 4) + 4 + 4 * one.bias) + n * a * self.learns.weight(one) for one, n in sizes
        )

    def _normed(self, norm: Layer) -> int:
        """The width that a norm of heads is applied to, all heads together."""
        return self._out("attn.q") if "q_" in norm.path.rpartition(".")[2] else self._kv

    @property
    def attention(self) -> float:
        if self.start > PROJECTED or not self.block.outs:
            return self._states if self.start <= PROJECTED else 0
        s, q = self.shape, self._q
        kv = self._kv if not s.keys else q  # with a mask keys are repeated for each head
        found = 2 * q + 2 * kv * (s.length + s.keys) / s.length
        if self.block.having("attn.qkv") and self._added_positions:
            found += 2 * kv  # the query stays where query, key and value were made
        if s.device == "cpu" and self._rate("attention_probs_dropout_prob", "attn_pdrop", "attention_dropout"):
            found += 3 * self._heads * (s.length + s.keys) + q + kv
        return found * len(self.block.outs)

    @property
    def _added_positions(self) -> bool:
        """Whether positions are added to embeddings, so that nothing turns queries and keys, which would copy them."""
        return self.base.config.get("n_positions") is not None

    @property
    def _states(self) -> int:
        """Of a state-space block without compiled kernels: what decays, what comes in, and what is, a token."""
        state = self.base.said("state_size", "ssm_state_size")
        inner = self.base.said("intermediate_size") or 2 * self.block.d
        return 3 * inner * state if isinstance(state, int) else 0

    @property
    def inputs(self) -> int:
        """Inputs of layers that are read; those that start from one tensor share it."""
        block, reads = self.block, self.learns.reads
        projections = block.having("attn.q", "attn.k", "attn.v", "attn.qkv")
        found = 0
        if any(map(reads, projections)):
            found += block.d * max(1, len(block.outs) if len(projections) > 3 else 1)
        # what is beside a feed-forward reads what its layers do
        beside = [self.learns.costs.get(one.path.rpartition(".")[0], ()) for one in block.feeds]
        if any(map(reads, block.feeds)) or any(one.input for costs in beside for one in costs):
            found += block.d
        if self.start > PROJECTED:
            found += sum(one.target.shape[1] for one in block.outs if reads(one))
        relu = self._function == "relu" and not self._gated
        shared = relu and self.start <= FEED
        return found + sum(one.target.shape[1] for one in block.downs if reads(one) and not shared)

    @property
    def inner(self) -> int:
        """Of the feed-forward: what goes into its function, and two factors where it is gated."""
        if self.start > FEED or not self.block.downs:
            return 0
        if self._gated:
            return (1 + max(1, KEPT.get(self._function, 1)) + 1) * self._ff
        if self._function == "relu":
            return self._ff
        return KEPT.get(self._function, 1) * self._ff

    @property
    def methods(self) -> int:
        """What adapters keep of their own; experts that a token does not go to keep nothing."""
        costs = self.learns.costs
        paths = [path for path in costs if path.startswith(f"{self.block.path}.") or path == self.block.path]
        return sum(one.token for path in paths for one in costs[path])

    @property
    def dropouts(self) -> int:
        """In bytes: a mask behind the attention and behind the feed-forward; of numbers on a CPU."""
        rate = self._rate("hidden_dropout_prob", "resid_pdrop", "resid_dropout", "dropout", "dropout_rate")
        each = self.block.d * (self.shape.narrow if self.shape.device == "cpu" else 1)
        return each * ((self.start <= ATTENDED) + (self.start <= DOWN)) if rate else 0

    def _rate(self, *names: str) -> float:
        found = self.base.said(*names)
        if found is None:
            found = 0.1 if self.base.config.get("model_type") in DROPPING else 0.0
        return float(found)

    @property
    def _function(self) -> str:
        names = ("hidden_act", "activation_function", "hidden_activation", "activation", "dense_act_fn")
        said = self.base.said(*names)
        return str(said or ("gelu_new" if self.base.config.get("model_type") == "gpt2" else "gelu"))

    @property
    def _ff(self) -> int:
        down = self.block.downs[0].target
        return down.shape[-1] * (self._experts if down.stacked else 1)

    @property
    def _experts(self) -> int:
        return int(self.base.said("num_experts_per_tok", "num_experts_per_token", "moe_topk") or 1)

    @property
    def _gated(self) -> bool:
        down = self.block.downs[0].target
        return sum(one.target.shape[-2] for one in self.block.feeds if not one.norm) >= 2 * down.shape[-1]

    @property
    def _heads(self) -> int:
        names = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads")
        return int(self.base.said(*names) or 1)

    @property
    def _q(self) -> int:
        return self.block.outs[0].target.shape[1]

    @property
    def _kv(self) -> int:
        keys = self._out("attn.k")
        if keys:
            return keys
        fused = self._out("attn.qkv")
        return (fused - self._q) // 2 if fused else self._q

    def _out(self, name: str) -> int:
        return next((one.target.shape[0] for one in self.block.having(name) if not one.norm), 0)


#: Architectures that drop where their configuration says nothing.
DROPPING = frozenset({"gpt2", "bert", "roberta", "distilbert", "t5"})
