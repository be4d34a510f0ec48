"""AdapterHub's prompts: rows in front of what the embeddings make of the text, behind their norm and positions.

Its library has them in encoders alone, of texts and of pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported, phrases, shown
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.pieces.module import Layer, complete
from adaptr_formats.adapterhub import keys
from adaptr_formats.adapterhub.config import PROMPT, asked, conflict

if TYPE_CHECKING:
    from adaptr_formats.adapterhub.reading import Reading

SLOT = "prompt_embedding.weight"
#: The types of models whose embeddings are such a module here as well, and of which the text has rows of words.
TYPES = (
    "bert", "roberta", "xlm-roberta", "electra", "distilbert", "albert", "bert-generation", "deberta", "deberta-v2",
)  # fmt: skip
#: Where it puts the rows, and how many tokens of the text that leaves in front.
AHEAD = {"prefix": 0, "prefix_after_bos": 1}
_DEFAULTS: Mapping[str, Any] = {"prompt_length": 10, "combine": "prefix"}


def read(reading: Reading, config: Mapping[str, Any]) -> Iterator[Layer]:
    said, kind = asked(PROMPT, config, _DEFAULTS), reading.said.model_type
    if kind not in TYPES:
        raise Unsupported(
            f"adaptr reads AdapterHub's prompts of texts, of models of the types {phrases.listed(TYPES)}, and this is "
            f"of type `{shown(kind)}`",
            hint="keep it where it was trained",
        )
    found = reading.modules(keys.PROMPTS)
    if len(found) != 1:
        raise conflict("the file holds no prompt, or several")
    (module,), tokens = found, fields_of.size(said, "prompt_length")
    _, width = shape = module.shape(SLOT, (2,))
    module.require(SLOT, shape[0] == tokens, f"{tokens} rows, as the configuration says")
    _require_one_width(reading, width)
    values = {"tokens": tokens, "rows": tokens, "init": "normal", "place": "embeddings", "ahead": _ahead(said)}
    target = Target("", kinds.MODEL, (width,), complete("prompt", values))
    yield Layer("prompt", placing.output(reading.model, target), {"P": module.piece(SLOT, shape)})


def _ahead(said: Mapping[str, Any]) -> int:
    where = str(said["combine"])
    if where not in AHEAD:
        raise Unsupported(
            f"`combine` is `{shown(where)}`, and adaptr knows {phrases.listed(AHEAD)}",
            hint="keep it where it was trained",
        )
    return AHEAD[where]


def _require_one_width(reading: Reading, width: int) -> None:
    hidden = reading.said.whole.get("hidden_size")
    if isinstance(hidden, int) and hidden != width:
        raise Unsupported(
            f"its rows have width {width}, as its words, and the model's layers {hidden}: adaptr has prompts of models "
            "whose words are as wide as their layers",
            hint="keep it where it was trained",
        )
