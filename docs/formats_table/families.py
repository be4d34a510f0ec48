"""Every family of adapter files that was found, and what becomes of it here."""

from __future__ import annotations

from dataclasses import dataclass

from adaptr import foreign
from formats_table import oracles, table

HEAD = """\
## Every family

What people's files are of, and what becomes of them. *Proven*: by the tool itself, which computes the same (`make
oracles`), or by files that it wrote; *unproven*: read as its code and documentation say, with no file of it at hand.
What is refused is refused by name, with the reason and the way on.

| family | read as | written | by |
| --- | --- | --- | --- |
"""
#: Tools whose oracle is called otherwise than their format.
_ORACLES = {"kohya": "lycoris", "litgpt-adapter": "litgpt"}
#: Formats that published files are read in, by tests/foreign/test_real.py and test_cloneofsimo.py.
GENUINE = frozenset({"t5x", "cloneofsimo"})


@dataclass(frozen=True)
class Family:
    """`form`: the format that its files are read as, "" for none. `but`: what of it is not, or why nothing is."""

    called: str
    form: str = ""
    but: str = ""


FAMILIES = (
    Family("PEFT, all of its types that have a method here", "peft", "several shards, which PEFT doesn't read either"),
    Family("trainers with PEFT's folders (Unsloth, Axolotl, TRL, sentence-transformers ...), wrapped models", "peft"),
    Family("what vLLM, SGLang, LoRAX, TGI and TensorRT-LLM load", "peft"),
    Family("Tinker", but="its names are its own: `tinker_cookbook.weights.build_lora_adapter` makes PEFT's of them"),
    Family("AdapterHub (`adapters`)", "adapterhub", "heads saved alone, and set-ups with an Average"),
    Family("kohya-ss sd-scripts, musubi-tuner", "kohya"),
    Family("LyCORIS", "kohya", "T-LoRA, and DoRA over inputs or other algorithms"),
    Family("diffusers, of three generations", "diffusers"),
    Family("ComfyUI, BFL, ai-toolkit", "comfyui"),
    Family("XLabs", "xlabs"),
    Family("OneTrainer", "onetrainer"),
    Family("Open Model Initiative", "omi"),
    Family("cloneofsimo/lora, version 2", "cloneofsimo", "the lists of version 1, which name no module"),
    Family("llama.cpp's GGUF, and what Ollama loads", "gguf", "GGUF files of models"),
    Family("llama.cpp before GGUF (ggla)", but="llama.cpp has read it no more since 2024: convert PEFT's again"),
    Family("MLX-LM", "mlx"),
    Family("LitGPT's LoRA", "litgpt", "those of before 0.5"),
    Family(
        "LitGPT's LLaMA-Adapter",
        "litgpt-adapter",
        "files whose keys are of queries' rows, as those of bases with several groups of keys are",
    ),
    Family("torchtune", "torchtune"),
    Family("loralib", "loralib"),
    Family("LLaMA-Adapter's own", "llama-adapter", "those for pictures"),
    Family(
        "T5X's prompts, as arrays, in Flax's msgpack and in zarr", "t5x", "several in one file, and Orbax's database"
    ),
    Family(
        "NeMo 1 (`.nemo`), Megatron-Bridge's tensors",
        "nemo",
        "models of other names than Llama's, which Mistral's, Qwen 2's and Gemma's are",
    ),
    Family(
        "NeMo 2, Megatron (torch_dist)",
        but="their index is a pickle of classes: `nemo llm export path=FOLDER output_path=OUT target=hf-peft`, or "
        "`export_adapter_ckpt` of Megatron-Bridge, makes PEFT's of it",
    ),
    Family("pyreft", "pyreft", "interventions elsewhere than at outputs by position"),
    Family("OpenDelta", "opendelta", "prefixes but of GPT-2, BERT, RoBERTa and BART, and rules that were not trained"),
    Family("X-LoRA's own", but="its experts are adapters, over which `adaptr gate` learns a gate; its own is not read"),
    Family("LoRA-ViT (JamesQFreeman)", but="its numbered pairs name no module"),
    Family("textual inversion", but="a learned word is no adapter"),
    Family("mkultra, TGIS soft prompts", but="pickles of objects, or tensors without a name"),
    Family("TRL's value heads, vLLM's new embeddings", but="they lie beside an adapter and are none: they are named"),
)


def page() -> str:
    return HEAD + "".join(f"| {' | '.join(line)} |\n" for line in map(_line, FAMILIES))


def _line(one: Family) -> list[str]:
    if not one.form:
        return [one.called, f"refused: {one.but}", "", ""]
    left = f"; refused: {one.but}" if one.but else ""
    return [one.called, f"{one.form}{left}", "yes" if foreign.get(one.form).writes else "no", proof(one.form)]


def proof(form: str) -> str:
    """Who has shown that a format is read as its tool reads it."""
    if (oracles.ROOT / _ORACLES.get(form, form) / "result.json").exists() or form == "peft":
        return "proven by the tool"
    genuine = any(one.source == form and "/" in one.sample and one.verdict != "refused" for one in table.load())
    return "proven by its files" if genuine or form in GENUINE else "unproven"
