"""Metrics against the libraries that define them, on hand examples and on drawn ones."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from adaptr.errors import MissingExtra, UsageError
from adaptr.evaluating import metrics

LABELS = ["cat", "dog", "cow"]
TEXTS = ["the cat sat on the mat", "A dog barked loudly", "cows", "Paris, the capital"]
RIGHT = ["the cat is on the mat", "a dog barks loudly", "the cows", "Paris"]


def value(name: str, predicted: Any, wanted: Any) -> float:
    metric = metrics.get(name)
    return float(metric.score(np.ones((1, len(wanted))), metric.rows(predicted, wanted))[0])


def drawn(n: int = 40) -> tuple[list[str], list[str]]:
    draw = np.random.default_rng(0)
    return draw.choice(LABELS, n).tolist(), draw.choice(LABELS, n, p=[0.7, 0.2, 0.1]).tolist()


def test_classes_by_hand() -> None:
    predicted, wanted = ["cat", "cat", "dog", "dog"], ["cat", "dog", "dog", "dog"]
    assert value("accuracy", predicted, wanted) == 0.75
    assert value("f1_micro", predicted, wanted) == 0.75
    assert value("f1", predicted, wanted) == pytest.approx((2 / 3 + 4 / 5) / 2)


@pytest.mark.parametrize(("name", "average"), [("f1", "macro"), ("f1_micro", "micro")])
def test_f1_is_scikit_learns_on_any_resample(name: str, average: str) -> None:
    from sklearn.metrics import f1_score

    predicted, wanted = drawn()
    metric, counts = metrics.get(name), np.random.default_rng(1).multinomial(40, [1 / 40] * 40, size=5).astype(float)
    found = metric.score(counts, metric.rows(predicted, wanted))
    for line, one in zip(counts.astype(int), found, strict=True):
        many = [np.repeat(column, line) for column in (wanted, predicted)]
        assert one == pytest.approx(f1_score(*many, average=average))


def test_a_class_that_is_only_said_counts_in_the_macro_mean() -> None:
    assert value("f1", ["cat", "dog"], ["cat", "cat"]) == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_rouge_scores(name: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([name], use_stemmer=True)
    want = np.mean([scorer.score(r, p)[name].fmeasure for p, r in zip(TEXTS, RIGHT, strict=True)])
    assert value(name, TEXTS, RIGHT) == pytest.approx(want)


def test_bleu_is_sacrebleus_on_any_resample() -> None:
    from sacrebleu.metrics import BLEU

    metric = metrics.get("bleu")
    rows = metric.rows(TEXTS, RIGHT)
    for counts in ([1, 1, 1, 1], [3, 1, 0, 0], [0, 0, 2, 1]):
        many = [[t for t, c in zip(column, counts, strict=True) for _ in range(c)] for column in (TEXTS, RIGHT)]
        want = BLEU().corpus_score(many[0], [many[1]]).score
        assert metric.score(np.array([counts], dtype=float), rows)[0] == pytest.approx(want)


def test_entities_by_hand_and_as_seqeval() -> None:
    from seqeval.metrics import f1_score

    wanted = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG", "I-ORG"]]
    predicted = [["B-PER", "I-PER", "O", "B-ORG"], ["O", "B-ORG", "O"]]
    assert value("entity_f1", predicted, wanted) == pytest.approx(1 / 3)
    assert value("entity_f1", predicted, wanted) == pytest.approx(f1_score(wanted, predicted))
    assert value("tag_accuracy", predicted, wanted) == pytest.approx(5 / 7)


def test_correlations_are_scipys_with_ties_on_any_resample() -> None:
    from scipy import stats

    draw = np.random.default_rng(2)
    x, y = draw.integers(0, 5, 30).astype(float), draw.normal(size=30)
    counts = draw.multinomial(30, [1 / 30] * 30, size=4)
    for name, want in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        metric = metrics.get(name)
        found = metric.score(counts.astype(float), metric.rows(x.tolist(), y.tolist()))
        for line, one in zip(counts, found, strict=True):
            assert one == pytest.approx(want(np.repeat(x, line), np.repeat(y, line)).statistic)


def test_a_correlation_with_what_does_not_vary_is_none() -> None:
    assert math.isnan(value("pearson", [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    wanted = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.3]
    for name in ("pearson", "spearman"):
        assert math.isnan(value(name, [0.1] * 7, wanted)), "a mean that is rounded"
        assert math.isnan(value(name, wanted, [0.1] * 7))


def test_words_as_squad_counts_them() -> None:
    """The official script's own: case, punctuation and articles don't count; the nearest of several answers does."""
    assert value("squad_exact", ["The Paris!"], [["london", "paris"]]) == 1.0
    assert value("squad_f1", ["in Paris France"], [["Paris", "paris france"]]) == pytest.approx(0.8)
    assert value("squad_f1", [""], [""]) == 1.0
    assert value("exact_match", [" Paris\n"], ["Paris"]) == 1.0
    assert value("exact_match", ["paris"], ["Paris"]) == 0.0


def test_word_errors_are_of_the_whole_and_not_a_mean() -> None:
    assert value("wer", ["a b c", "x"], ["a c", "x y z"]) == pytest.approx(3 / 5)


def test_an_unknown_metric_is_refused_with_a_near_name() -> None:
    with pytest.raises(UsageError, match="did you mean `accuracy`"):
        metrics.get("acuracy")


@pytest.mark.parametrize("name", metrics.METRICS)
def test_every_metric_says_what_it_is(name: str) -> None:
    assert metrics.get(name).name == name
    assert metrics.get(name).summary


@pytest.mark.parametrize(
    ("name", "library", "said"),
    [
        ("rougeL", "rouge_score", ["w1"]),
        ("bleu", "sacrebleu", ["w1"]),
        ("entity_f1", "seqeval.metrics.sequence_labeling", [["O"]]),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    name: str, library: str, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptr.evaluating.metrics import texts

    texts._scorer.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=r"adaptr\[eval\]"):
        metrics.get(name).rows(said, said)
