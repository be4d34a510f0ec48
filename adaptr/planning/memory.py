"""Bytes of a training by what they are for, and their peak: held against measured processes in `benchmarks`."""

from __future__ import annotations

from dataclasses import dataclass

from adaptr.planning.counts import BYTES, Counts
from adaptr.planning.flow import OF_LOGITS, Flow
from adaptr.planning.structure import Structure

#: Bytes that an optimiser keeps for a number that trains; of Adafactor the rows and columns of matrices.
STATES = {"adamw": 8, "sgd": 0, "adamw_8bit": 2, "paged_adamw": 8, "paged_adamw_8bit": 2}
OPTIMIZERS = (*STATES, "adafactor")
#: Bytes of a weight: nf4 has a scale of fp32 for each 64, or one of 8 bits and one of fp32 for each 256 of these.
NF4, NF4_DOUBLE, INT8 = 0.5 + 4 / 64, 0.5 + 1 / 64 + 4 / (64 * 256), 1.0
WIDE = 4


@dataclass(frozen=True)
class Memory:
    """Bytes. `weights`: of the base. `adapter`: its tensors. `gradients`, `optimizer`: of what trains. `activations`:
    what a forward leaves for the backward. `logits`: they, their probabilities and gradients. `temporary`: what is
    there for a moment. `peak`: most of these together, not all, as gradients come while activations go.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    temporary: int
    peak: int

    @property
    def fixed(self) -> int:
        """What is there whatever the batch."""
        return self.weights + self.adapter + self.optimizer


@dataclass(frozen=True)
class Terms:
    """How it is trained: bytes of a number in the forward, and whether weights that learn are copied to that dtype."""

    narrow: int
    quant: str = "none"
    double_quant: bool = False
    checkpointing: bool = False
    optimizer: str = "adamw"
    device: str = "cuda"
    rows: int = 1


def memory(made: Structure, counts: Counts, flow: Flow, terms: Terms, whole: bool, logits: int) -> Memory:
    """`whole`: full fine-tuning, whose weights are in fp32. `logits`: numbers of them in a batch."""
    weights = made.total * WIDE if whole else weights_of(made, terms)
    adapter = 0 if whole else counts.trained * WIDE * (2 if terms.device == "cpu" else 1)  # and as it was made
    states, gradients = _states(counts, terms.optimizer), counts.trained * WIDE
    fixed = weights + adapter + states
    kept = _activations(flow, terms)
    if whole and terms.narrow < WIDE:
        kept += made.total * terms.narrow  # autocast keeps the weights that it has cast
    last = terms.rows * max(flow.blocks, default=0) if terms.checkpointing else 0
    table = counts.largest * WIDE
    temporary = _dequantised(made, terms)
    loss = logits * WIDE
    moments = {
        "loss": kept + OF_LOGITS * loss,
        "backward": kept + last + (loss if not whole else loss + table),
        "step": gradients + table,
    }
    return Memory(
        weights, adapter, gradients, states, kept + last, OF_LOGITS * loss, max(temporary, table),
        fixed + temporary + max(moments.values()),
    )  # fmt: skip


def weights_of(made: Structure, terms: Terms) -> int:
    """The base's weights as they are loaded: quantised ones are those of linear layers, but the head."""
    if terms.quant == "none":
        return made.total * terms.narrow
    packed, _ = made.packed
    each = INT8 if terms.quant == "int8" else NF4_DOUBLE if terms.double_quant else NF4
    return int(packed * each + (made.total - packed) * terms.narrow)


def _dequantised(made: Structure, terms: Terms) -> int:
    """The largest quantised weight, as it is multiplied with."""
    if terms.quant == "none":
        return 0
    _, largest = made.packed
    return largest * terms.narrow


def _activations(flow: Flow, terms: Terms) -> int:
    """Of blocks that are computed twice only the inputs are kept."""
    if not terms.checkpointing:
        return terms.rows * (sum(flow.blocks) + flow.outside) + flow.once
    return terms.rows * (len([one for one in flow.blocks if one]) * flow.input + flow.outside) + flow.once


def _states(counts: Counts, optimizer: str) -> int:
    if optimizer == "adafactor":
        return counts.factored * WIDE
    return counts.trained * STATES[optimizer]


def narrow(dtype: str) -> int:
    """Bytes of a number in a dtype."""
    return BYTES[dtype]
