"""Answers that are texts. Where several are right, the nearest counts."""

from __future__ import annotations

import functools
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from adaptr.errors import phrases
from adaptr.evaluating.metrics.base import Mean, OfSums, ratio, references

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    from adaptr.evaluating.metrics.base import Array

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class ExactMatch(Mean):
    name = "exact_match"
    summary = "share of answers that are a right one, spaces around them aside"
    takes = "text"

    def worth(self, predicted: object, wanted: object) -> float:
        return float(str(predicted).strip() in {one.strip() for one in references(wanted)})


class SquadExact(Mean):
    name = "squad_exact"
    summary = "the same without regard to case, punctuation and articles, as SQuAD counts"
    takes = "text"

    def worth(self, predicted: object, wanted: object) -> float:
        return float(_words(str(predicted)) in [_words(one) for one in references(wanted)])


class SquadF1(Mean):
    name = "squad_f1"
    summary = "F1 of the words that answer and right answer share, as SQuAD counts"
    takes = "text"

    def worth(self, predicted: object, wanted: object) -> float:
        return max(_shared(_words(str(predicted)), _words(one)) for one in references(wanted))


class _Rouge(Mean):
    """F-measure, with Porter's stems. Lin 2004."""

    takes = "text"

    def worth(self, predicted: object, wanted: object) -> float:
        score = _scorer(self.name).score
        return max(float(score(one, str(predicted))[self.name].fmeasure) for one in references(wanted))


class Rouge1(_Rouge):
    name = "rouge1"
    summary = "F-measure of the words that are shared"


class Rouge2(_Rouge):
    name = "rouge2"
    summary = "F-measure of the pairs of words that are shared"


class RougeL(_Rouge):
    name = "rougeL"
    summary = "F-measure of the longest common subsequence of words"


class Bleu(OfSums):
    """Kept of a record: the 1- to 4-grams that match, those that there are, both lengths."""

    name = "bleu"
    summary = "BLEU of the whole, 0 to 100, as sacrebleu counts it"
    takes = "text"

    def rows(self, predicted: Sequence[Any], wanted: Sequence[Any]) -> Array:
        import numpy as np

        # every length counts on its own here, so that sums over records are the corpus'
        score = _sacrebleu()(effective_order=True).sentence_score
        found = [score(str(p), references(w)) for p, w in zip(predicted, wanted, strict=True)]
        return np.array([[*f.counts, *f.totals, f.sys_len, f.ref_len] for f in found], dtype=np.float64)

    def figure(self, sums: Array) -> Array:
        import numpy as np

        figure = functools.partial(_sacrebleu().compute_bleu, smooth_method="exp")
        lines = ([round(v) for v in line] for line in sums.tolist())
        return np.array([figure(line[:4], line[4:8], *line[8:]).score for line in lines])


class WordErrors(OfSums):
    name = "wer"
    summary = "words to be put in, left out or changed, of those wanted"
    takes = "text"
    rising = False

    def rows(self, predicted: Sequence[Any], wanted: Sequence[Any]) -> Array:
        import numpy as np

        pairs = [(str(p).split(), references(w)[0].split()) for p, w in zip(predicted, wanted, strict=True)]
        return np.array([[_edits(p, w), len(w)] for p, w in pairs], dtype=np.float64)

    def figure(self, sums: Array) -> Array:
        return ratio(sums[:, 0], sums[:, 1])


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _shared(one: Sequence[str], two: Sequence[str]) -> float:
    if not one or not two:
        return float(one == two)
    both = (Counter(one) & Counter(two)).total()
    return 2 * both / (len(one) + len(two))


def _edits(one: Sequence[str], two: Sequence[str]) -> int:
    """Levenshtein's distance."""
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(two, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


@functools.cache
def _scorer(name: str) -> RougeScorer:
    try:
        from rouge_score import rouge_scorer
    except ImportError as error:
        raise phrases.extra(f"`{name}`", "rouge-score", "eval") from error
    return rouge_scorer.RougeScorer([name], use_stemmer=True)


def _sacrebleu() -> type[BLEU]:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise phrases.extra("`bleu`", "sacrebleu", "eval") from error
    found: type[BLEU] = metrics.BLEU
    return found
