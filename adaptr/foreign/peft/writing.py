"""From an adapter to a PEFT folder that PEFT 0.21 loads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported
from adaptr.files import replacing_folder
from adaptr.foreign import placing, same, saving
from adaptr.foreign.format import Written
from adaptr.foreign.peft import keys, told, types, versions
from adaptr.foreign.same import Same
from adaptr.foreign.seen import CONFIG
from adaptr.format import canonical

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter

#: The version of PEFT whose layout is written: readers need it for stacks of experts.
LAYOUT = "0.21.2"
#: The file with the tensors, as it is written.
WEIGHTS = "adapter_model.safetensors"
#: Fields that choose targets together with `target_modules`, and must not when targets are listed one by one.
_SELECTING = ("layers_to_transform", "layers_pattern", "exclude_modules")
#: How the names of classes end, and what PEFT calls their task.
TASKS = (
    ("ForCausalLM", "CAUSAL_LM"),
    ("LMHeadModel", "CAUSAL_LM"),
    ("ForSequenceClassification", "SEQ_CLS"),
    ("ForTokenClassification", "TOKEN_CLS"),
    ("ForQuestionAnswering", "QUESTION_ANS"),
    ("Model", "FEATURE_EXTRACTION"),
)


def save(adapter: Adapter, out: Path, force: bool, minor: int | None = None) -> Written:
    """Write `adapter_config.json` and `adapter_model.safetensors` into the folder `out`, for PEFT 0.`minor`.

    Raises `Unsupported` where PEFT has no such method.
    """
    translator = types.of_method(adapter.method)
    config = config_of(adapter) if minor is None else versions.smallest(config_of(adapter), adapter, minor)
    found: dict[str, tuple[str, Tensor | Same]] = {
        **translator.tensors(saving.plain(adapter)),
        **_replaced(adapter),
    }
    with replacing_folder(out, force) as folder:
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        metadata = {**told.metadata_of(adapter.foreign), "format": "pt", saving.ABOUT: saving.about(adapter)}
        saving.save(folder / WEIGHTS, dict(found.values()), metadata)
        if card := told.card_of(adapter.foreign):
            (folder / told.CARD).write_bytes(card.encode())
    renamed = {ours: theirs for ours, (theirs, _) in found.items()}
    return Written(out / WEIGHTS, renamed, notes=_notes(translator, adapter.method))


def _notes(translator: types.PeftType, method: str) -> tuple[str, ...]:
    if method not in translator.untold:
        return ()
    return (
        f"PEFT's files don't say how `{method}` is trained: this one is the {translator.peft} that does the same, and "
        "goes on training as one",
    )


def lost(adapter: Adapter) -> list[str]:
    """What PEFT's folders can't hold of an adapter. Raises `Unsupported` where PEFT has no such method."""
    return [*saving.lost(adapter), *types.of_method(adapter.method).lost(adapter)]


def _replaced(adapter: Adapter) -> dict[str, tuple[str, Same]]:
    """Whole parameters: inside a wrapper if their module is adapted too."""
    prefix = "base_model." if _type(adapter).prompt else "base_model.model."
    made, adapted = {}, {target.path for _, target in adapter.all_targets}
    kind = _type(adapter)
    own = kind.replaces(adapter)
    for path in adapter.replaced_paths:
        owner, _, name = path.rpartition(".")
        inner = (
            f"{owner}.{kind.whole}.{name}"
            if path in own
            else f"{owner}.{keys.BASE}.{name}"
            if owner in adapted
            else path
        )
        made[f"{path}:="] = prefix + inner, same.whole(adapter, f"{path}:=")
    return made


def _type(adapter: Adapter) -> types.PeftType:
    return types.of_method(adapter.method)


# ---------------------------------------------------------------- configuration


def config_of(adapter: Adapter) -> dict[str, Any]:
    """`adapter_config.json`: the original if the adapter came from PEFT and is as it was, with new fields if not."""
    known = dict(adapter.foreign.get("peft", {}).get("config", {}))
    original = known if "peft_type" in known else {}
    base = {"base_model_name_or_path": adapter.base.id or None, "revision": adapter.base.revision or None}
    moved = {name: value for name, value in base.items() if (original.get(name) or None) != value}
    if original and adapter.foreign["peft"].get("derived") == derived(adapter):
        return {**original, **moved}
    made = {**original, **_derived(adapter), **moved, **{name: None for name in _SELECTING if name in original}}
    if original:
        return made
    # of an adapter that was made of PEFT's, what all of them said
    task = known.get("task_type") or made.get("task_type") or _task(adapter)
    return {**made, **base, "inference_mode": True, "peft_version": LAYOUT, **known, "task_type": task}


def derived(adapter: Adapter) -> str:
    """A digest of the fields that follow from targets and tensors: equal as long as nothing was changed."""
    return "sha256:" + hashlib.sha256(canonical.dumps(_derived(adapter)).encode()).hexdigest()


def _derived(adapter: Adapter) -> dict[str, Any]:
    fields: dict[str, Any] = types.of_method(adapter.method).fields(adapter)
    adapted = {target.path for _, target in adapter.all_targets}
    own = set(_type(adapter).replaces(adapter))
    modules = sorted({path.rpartition(".")[0] for path in adapter.replaced_paths if path not in own} - adapted)
    return {**fields, "modules_to_save": placing.ordered(modules) or None}


def _task(adapter: Adapter) -> str | None:
    architecture = adapter.base.architecture
    if keys.two_stacks(architecture) and architecture.endswith("ForConditionalGeneration"):
        return "SEQ_2_SEQ_LM"
    found = next((task for end, task in TASKS if architecture.endswith(end)), None)
    if found is None and _type(adapter).prompt:
        raise Unsupported(
            "PEFT needs to know a prompt's task, and the adapter's base has no architecture that says it",
            hint="load it with its base (`--base`)",
        )
    if not _type(adapter).prompt:
        return found if found == "CAUSAL_LM" else None
    # for tasks with a head PEFT wants the head in the file
    return found if found == "CAUSAL_LM" or adapter.replaced else "FEATURE_EXTRACTION"
