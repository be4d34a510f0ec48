"""An output head that is the input embedding: one tensor, used twice, and what happens when one use changes."""

from __future__ import annotations

from dataclasses import replace

from adaptr.adapter import Target
from adaptr.checkpoint.names import Names, Place, is_embedding
from adaptr.checkpoint.open import Checkpoint, Stored
from adaptr.errors import NotPossible, TargetNotFound, TiedWeights, Unsupported
from adaptr.ops.change import Change, Tied

HEADS = ("lm_head.weight", "embed_out.weight")
#: How classes are called whose output head may be their input embedding.
TYING = ("LMHeadModel", "ForCausalLM", "ForConditionalGeneration", "ForMaskedLM")


def weight_place(names: Names, target: Target, tied: Tied) -> Place:
    try:
        return names.weight(target)
    except TargetNotFound:
        embedding = tied_embedding(names.checkpoint) if f"{target.path}.weight" in HEADS else None
        if embedding is None:
            raise
        if tied is None:
            raise TiedWeights(_tied_message(target.path, embedding.name)) from None
        return Place(embedding, slice(0, embedding.entry.shape[0]))


def tied_embedding(checkpoint: Checkpoint) -> Stored | None:
    """The input embedding, if the output head shares it."""
    says = checkpoint.config.get("tie_word_embeddings")
    has_head = any(head in checkpoint.tensors for head in HEADS)
    generates = _architecture(checkpoint).endswith(
        ("LMHeadModel", "ForCausalLM", "ForConditionalGeneration", "ForMaskedLM")
    )
    if says is False or (has_head and not says) or not generates:
        return None
    return next((t for name, t in sorted(checkpoint.tensors.items()) if is_embedding(name)), None)


def _architecture(checkpoint: Checkpoint) -> str:
    return str((checkpoint.config.get("architectures") or [""])[0])


def settle(checkpoint: Checkpoint, changes: dict[str, Change], tied: Tied) -> tuple[dict[str, Change], bool]:
    """Settle what happens to an embedding that the output head shares."""
    embedding = tied_embedding(checkpoint)
    new_head = next((head for head in HEADS if head in changes and changes[head].stored is None), None)
    if embedding is None or (embedding.name not in changes and new_head is None):
        return changes, False
    if tied is None:
        raise TiedWeights(_tied_message(new_head or embedding.name, embedding.name if new_head else "the output head"))
    if tied == "both":
        return _both(embedding, changes, new_head), False
    return _untied(checkpoint, embedding, changes, new_head), True


def _both(embedding: Stored, changes: dict[str, Change], new_head: str | None) -> dict[str, Change]:
    if new_head is None:
        return changes
    if embedding.name in changes:
        raise NotPossible(
            f"`{new_head}` and `{embedding.name}` are one tensor, and both are changed; say `--tied untie`"
        )
    head = changes.pop(new_head)
    return {**changes, embedding.name: replace(head, name=embedding.name, stored=embedding)}


def _untied(
    checkpoint: Checkpoint, embedding: Stored, changes: dict[str, Change], new_head: str | None
) -> dict[str, Change]:
    """Give the head a tensor of its own: the old embedding, with the layers that were meant for the head."""
    # elsewhere the head has another name (BERT), or what the model computes depends on the tie itself (T5)
    if not _architecture(checkpoint).endswith(("LMHeadModel", "ForCausalLM")) or not checkpoint.root.is_dir():
        raise Unsupported(
            f"`{embedding.name}` can't be untied: a {_architecture(checkpoint) or 'single file'} has no place for an "
            "output head of its own; say `--tied both`, or keep the adapter attached"
        )
    if new_head is not None:
        return changes
    change = changes.pop(embedding.name)
    if change.what == "replaced":
        return {**changes, embedding.name: change, HEADS[0]: Change(HEADS[0], embedding, "copy")}
    (span,) = change.spans
    inputs = tuple(layer for layer in span.layers if layer.target.kind == "embedding")
    outputs = tuple(layer for layer in span.layers if layer.target.kind != "embedding")
    if inputs:
        changes[embedding.name] = replace(change, spans=(replace(span, layers=inputs),))
    spans = (replace(span, layers=outputs),) if outputs else ()
    changes[HEADS[0]] = Change(HEADS[0], embedding, "weight" if outputs else "copy", spans)
    return changes


def _tied_message(changed: str, other: str) -> str:
    return (
        f"`{changed}` is tied to {other}: the model uses one tensor twice, an attached adapter acts on one use, and "
        "merging would change both. Say `--tied both` to change both, or `--tied untie` to give the output head a "
        "tensor of its own"
    )
