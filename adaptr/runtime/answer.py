"""What a model says to one prompt: text, or a label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


#: Who gets the text of an answer while it comes.
Told = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """What the model said to one prompt.

    When generating, `text` and `tokens`; when classifying, `text` is the label and `scores` each label's probability.
    """

    prompt: str
    text: str
    tokens: tuple[int, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    most: int,
    temperature: float,
    seed: int,
    told: Told | None = None,
    special: bool = True,
) -> Answer:
    """At most `most` new tokens; the likeliest at `temperature` 0, else drawn with `seed`. `told` gets the text while
    it comes, where no beams are searched. `special`: the tokenizer's own tokens go around the prompt, which a template
    has already.
    """
    import torch

    torch.manual_seed(seed)
    given = tokenizer(prompt, return_tensors="pt", add_special_tokens=special).to(model.device)
    beams = getattr(model.generation_config, "num_beams", 1) or 1
    streaming = {"streamer": _streamer(model, tokenizer, told)} if told is not None and beams == 1 else {}
    sampling = {"do_sample": True, "temperature": temperature} if temperature else _GREEDY
    end = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.no_grad():
        made = model.generate(**given, max_new_tokens=most, pad_token_id=end, **sampling, **streaming)[0]
    fresh = made if model.config.is_encoder_decoder else made[given["input_ids"].shape[1] :]
    return Answer(prompt, tokenizer.decode(fresh, skip_special_tokens=True), tuple(fresh.tolist()))


def _streamer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, told: Told) -> object:
    """transformers' own, which gives whole words, to `told`."""
    from transformers import TextStreamer

    class Streamer(TextStreamer):  # type: ignore[misc]
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            told(text)

    return Streamer(tokenizer, skip_prompt=not model.config.is_encoder_decoder, skip_special_tokens=True)


#: A model's own generation settings may ask for sampling; these take it back.
_GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def classify(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str) -> Answer:
    """The likeliest label; of a model with one output, its value."""
    import torch

    given = tokenizer(prompt, return_tensors="pt", truncation=True).to(model.device)
    with torch.no_grad():
        logits = model(**given).logits[0].float()
    names = model.config.id2label
    if len(logits) == 1:
        return Answer(prompt, f"{logits.item():.4g}", scores={names.get(0, "value"): logits.item()})
    several = model.config.problem_type == "multi_label_classification"
    shares = logits.sigmoid() if several else logits.softmax(-1)
    scores = {names.get(i, str(i)): share for i, share in enumerate(shares.tolist())}
    return Answer(prompt, max(scores, key=scores.__getitem__), scores=scores)
