"""Which heads of transformers' models compute what AdapterHub's do: the layers that both have, by the model's paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

TEXTS = frozenset({"classification", "multilabel_classification"})
CHOICES, TAGS, SPANS, IMAGES = "multiple_choice", "tagging", "question_answering", "image_classification"
CAUSAL, MASKED, SEQUENCES = "causal_lm", "masked_lm", "seq2seq_lm"
#: Whose last layer is as wide as the vocabulary.
WORDS = frozenset({CAUSAL, MASKED, SEQUENCES})


@dataclass(frozen=True)
class Layout:
    """`kinds`: what AdapterHub calls such heads. `layers`: their paths, the last of which answers. `function`: between
    two; `setting`: the field of the base's configuration that says it, where one does. `norm`: whether the second is
    one. `bias`: whether the last has one. `pooled`: whether it reads what the base's pooler makes; None where
    AdapterHub's do so whatever they say. `given`: fields of the base's configuration that must be so. `scaled`: whether
    what AdapterHub's read is divided by the root of the width before, and what the model's reads not. `apart`: whether
    the last weight is no table in older transformers, which AdapterHub's library runs on, and is one here.
    """

    kinds: frozenset[str]
    layers: tuple[str, ...]
    function: str = ""
    setting: str = ""
    norm: bool = False
    bias: bool = True
    pooled: bool | None = False
    given: Mapping[str, object] = field(default_factory=dict)
    scaled: bool = False
    apart: bool = False

    @property
    def count(self) -> int:
        """How many layers are linear."""
        return len(self.layers) - self.norm

    @property
    def last(self) -> str:
        return self.layers[-1]

    @property
    def parameters(self) -> list[str]:
        """The model's, in the order of the layers."""
        return [
            f"{path}.{name}"
            for path in self.layers
            for name in ("weight", *(("bias",) if self.bias or path != self.last else ()))
        ]

    def is_apart(self, settings: Mapping[str, Any]) -> bool:
        """T5's of version 1.1 do not scale what they read, and have no table for a head."""
        return self.apart or settings.get("scale_decoder_outputs") is False

    def between(self, settings: Mapping[str, Any]) -> str:
        """The function between two layers in a model of this configuration."""
        return str(settings.get(self.setting) or self.function) if self.setting else self.function

    def factor(self, settings: Mapping[str, Any]) -> float:
        """What the last weight of AdapterHub's is multiplied by to be the model's."""
        return float(settings["d_model"]) ** -0.5 if self.scaled and settings.get("scale_decoder_outputs") else 1.0


def _one(
    kinds: frozenset[str] | str,
    path: str,
    bias: bool = True,
    pooled: bool | None = False,
    scaled: bool = False,
    apart: bool = False,
) -> tuple[Layout]:
    return (Layout(_kinds(kinds), (path,), bias=bias, pooled=pooled, scaled=scaled, apart=apart),)


def _two(
    kinds: frozenset[str] | str,
    first: str,
    last: str,
    function: str,
    setting: str = "",
    given: Mapping[str, object] = MappingProxyType({}),
) -> tuple[Layout]:
    return (Layout(_kinds(kinds), (first, last), function, setting, given=given),)


def _kinds(said: frozenset[str] | str) -> frozenset[str]:
    return frozenset({said}) if isinstance(said, str) else said


def _pooled(kinds: frozenset[str] | str, pooler: str) -> tuple[Layout, ...]:
    """A layer behind the base's pooler, which can be a layer of the head."""
    return (*_two(kinds, pooler, "classifier", "tanh"), *_one(kinds, "classifier", pooled=True))


def _words(*layers: str, setting: str = "", given: Mapping[str, object] = MappingProxyType({})) -> tuple[Layout]:
    return (Layout(frozenset({MASKED}), layers, "gelu", setting, norm=True, given=given),)


def _causal(layouts: tuple[Layout]) -> tuple[Layout]:
    (one,) = layouts
    return (Layout(frozenset({CAUSAL}), one.layers, one.function, one.setting, norm=one.norm),)


def _for(task: str, *names: str) -> Iterable[str]:
    return (f"{name}For{task}" for name in names)


_ROBERTA, _LAST = _two(TEXTS, "classifier.dense", "classifier.out_proj", "tanh"), _one(TEXTS, "score", bias=False)
_EOS = _two(TEXTS, "classification_head.dense", "classification_head.out_proj", "tanh")
_PREDICTIONS = tuple(f"cls.predictions.{name}" for name in ("transform.dense", "transform.LayerNorm", "decoder"))
_LM_HEAD = tuple(f"lm_head.{name}" for name in ("dense", "layer_norm", "decoder"))
_BERT_WORDS, _ROBERTA_WORDS = _words(*_PREDICTIONS, setting="hidden_act"), _words(*_LM_HEAD)
_DEBERTA_WORDS = _words(*_PREDICTIONS, setting="hidden_act", given={"legacy": True})
_ELECTRA_WORDS = _words("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head")
_SUMMARY = {"summary_type": "first", "summary_activation": "gelu"}
_ENCODERS = ("Bert", "Roberta", "XLMRoberta", "Albert", "Electra", "DistilBert", "Deberta", "DebertaV2")
LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "BertForSequenceClassification": _pooled(TEXTS, "bert.pooler.dense"),
    "AlbertForSequenceClassification": _pooled(TEXTS, "albert.pooler"),
    **dict.fromkeys(_for("SequenceClassification", "Roberta", "XLMRoberta"), _ROBERTA),
    "ElectraForSequenceClassification": _two(TEXTS, "classifier.dense", "classifier.out_proj", "gelu"),
    "DistilBertForSequenceClassification": _two(TEXTS, "pre_classifier", "classifier", "relu"),
    **dict.fromkeys(
        _for("SequenceClassification", "Deberta", "DebertaV2"),
        _two(TEXTS, "pooler.dense", "classifier", "gelu", "pooler_hidden_act"),
    ),
    **dict.fromkeys(_for("SequenceClassification", "GPT2", "GPTJ", "Llama", "Mistral"), _LAST),
    **dict.fromkeys(_for("SequenceClassification", "Bart", "MBart", "PLBart", "T5", "MT5"), _EOS),
    "BertForMultipleChoice": _pooled(CHOICES, "bert.pooler.dense"),
    "AlbertForMultipleChoice": _pooled(CHOICES, "albert.pooler"),
    **dict.fromkeys(_for("MultipleChoice", "Roberta", "XLMRoberta"), _pooled(CHOICES, "roberta.pooler.dense")),
    "ElectraForMultipleChoice": _two(CHOICES, "sequence_summary.summary", "classifier", "gelu", given=_SUMMARY),
    "DistilBertForMultipleChoice": _two(CHOICES, "pre_classifier", "classifier", "relu"),
    "DebertaV2ForMultipleChoice": _two(CHOICES, "pooler.dense", "classifier", "gelu", "pooler_hidden_act"),
    **dict.fromkeys(_for("TokenClassification", *_ENCODERS, "GPT2"), _one(TAGS, "classifier")),
    **dict.fromkeys(_for("TokenClassification", "Llama", "Mistral"), _one(TAGS, "score")),
    **dict.fromkeys(
        _for("QuestionAnswering", *_ENCODERS, "GPT2", "GPTJ", "Llama", "Mistral", "Bart", "MBart", "MT5"),
        _one(SPANS, "qa_outputs"),
    ),
    "T5ForQuestionAnswering": _one(SPANS, "qa_outputs", scaled=True),
    "BertForMaskedLM": _BERT_WORDS,
    **dict.fromkeys(_for("MaskedLM", "Roberta", "XLMRoberta"), _ROBERTA_WORDS),
    "AlbertForMaskedLM": _words(
        "predictions.dense", "predictions.LayerNorm", "predictions.decoder", setting="hidden_act"
    ),
    "ElectraForMaskedLM": _ELECTRA_WORDS,
    "DistilBertForMaskedLM": _words("vocab_transform", "vocab_layer_norm", "vocab_projector", setting="activation"),
    **dict.fromkeys(_for("MaskedLM", "Deberta", "DebertaV2"), _DEBERTA_WORDS),
    "BertLMHeadModel": _causal(_BERT_WORDS),
    **dict.fromkeys(_for("CausalLM", "Roberta", "XLMRoberta"), _causal(_ROBERTA_WORDS)),
    "ElectraForCausalLM": _causal(_ELECTRA_WORDS),
    "BertGenerationDecoder": _one(CAUSAL, "lm_head.decoder"),
    "GPTJForCausalLM": _one(CAUSAL, "lm_head"),
    **dict.fromkeys(("GPT2LMHeadModel", *_for("CausalLM", "Llama", "Mistral")), _one(CAUSAL, "lm_head", bias=False)),
    **dict.fromkeys(
        _for("ConditionalGeneration", "Bart", "MBart", "PLBart", "T5"), _one(SEQUENCES, "lm_head", bias=False)
    ),
    "MT5ForConditionalGeneration": _one(SEQUENCES, "lm_head", bias=False, apart=True),
    "WhisperForConditionalGeneration": _one(SEQUENCES, "proj_out", bias=False),
    "ViTForImageClassification": _one(IMAGES, "classifier"),
    "BeitForImageClassification": _one(IMAGES, "classifier", pooled=None),
}
_SCALED = ("d_model", "scale_decoder_outputs")
_ASKED = sorted(
    {one for layouts in LAYOUTS.values() for layout in layouts for one in (layout.setting, *layout.given) if one}
)


def settings(config: object) -> dict[str, Any]:
    """What a base's configuration says of heads."""
    return {one: getattr(config, one) for one in (*_ASKED, *_SCALED) if hasattr(config, one)}
