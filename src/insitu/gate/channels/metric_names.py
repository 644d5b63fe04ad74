"""Which names of metrics leave: those that were declared, and words under a declared pattern.

A pattern lets names through that nobody has seen before, so the rest of such a
name could be base32 of a row in pieces of eight letters. But names that people
give are made of words: of the field's (loss, auc, fold), of the job's own code,
which was signed before it saw any data, and of the dataset's columns, which the
hub knows from the catalogue. Numbers in names count: up to twenty, or those that
stand in the code. And there are only so many names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from insitu.gate.channels.code_words import CodeWords, words_of
from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.names import NameGate, objection_to

_WILD = frozenset("*?[")
_LARGEST_NUMBER = 20
_MOST_PARTS = 8
_MOST_NUMBERS = 2
_MOST_SHORT = 1  # parts of one or two letters that are none of the words

_WORDS_OF_THE_FIELD = frozenset(
    """
    absolute acc accuracy active adj adjusted agreement alpha auc auroc aupr average avg balanced base batch best beta
    bias binary bleu brier bytes calibration calinski ce centroid centroids chance class classes clip cohen coef
    completeness confidence corr correlation count cross cost cpu curve data davies best bouldin decay delta deviance
    dev dice dim disk dist distance div duration early elapsed elbo entropy epoch epochs error estimator estimators eval
    evaluation evaluate examples explained exp factor fall false features final fit fn fnr fold folds forest fp fpr free
    frequency fscore gain gamma gap gini global gpu grad gradient group hamming harabasz hinge hit homogeneity hours huber
    img importance improvement inertia info information init input instances iou iter iteration iterations jaccard
    kappa kernel label labels lambda last layer leaf learning leaves length level lift linear log logistic logit logits
    logloss loss lower lr macro mae map mape matthews max maximum mcc mean measure median memory metric micro min
    minimum minutes model momentum mse multi mutual name ndcg neg negative negatives net neurons nll node nodes norm
    normalized num number objective optimizer out outer output over parameters params penalty percent percentile
    perplexity pixel points pos position positive positives pr precision pred predict prediction predictions prob
    probability product purity quantile rand random rank rate ratio recall reconstruction reg regression regularization
    relative reward rmse rmsle roc root rouge round rounds rows run runtime samples score scores seconds seed
    sensitivity set sigma silhouette size smape soft specificity speed split squared stage std stddev step steps stop
    stopped sum support system target temperature test testing thres threshold throughput time tn tnr top total tpr tp
    train training tree trees true tss tuning unique update updates upper used usage util utilization val valid
    validation value values var variance vali variation vector version warmup weight weighted weights width within word
    worst xent youden zero
    """.split()
)


class MetricNames:
    """The names of one job's metrics.

    Args:
        declared: names and patterns of the job's signed file.
        most: names that may leave under patterns, in all.
        code: what the job's code says of itself, asked when a pattern is first needed.
        column_names: of the job's datasets.
    """

    def __init__(
        self,
        declared: Sequence[str],
        evidence: LiveEvidence,
        *,
        most: int,
        code: Callable[[], CodeWords] = CodeWords,
        column_names: Iterable[str] = (),
    ) -> None:
        self._exact = frozenset(name for name in declared if not _WILD & set(name))
        self._patterns = tuple(name for name in declared if _WILD & set(name))
        self._given = frozenset(words_of(*declared, *column_names)) | _WORDS_OF_THE_FIELD
        self._code = code
        self._known: frozenset[str] | None = None
        self._gate = NameGate(evidence, max_names=most)
        self._left: set[str] = set()

    def objection_to(self, name: str) -> str:
        """The rule that keeps `name` at the site; empty if it may leave, which then counts as done."""
        if name in self._exact or name in self._left:
            return ""
        if not any(fnmatchcase(name, pattern) for pattern in self._patterns):
            return "not-declared"
        rule = objection_to(name) or self._objection_to_words(name) or self._gate.objection_to(name)
        if not rule:
            self._left.add(name)
        return rule

    def _objection_to_words(self, name: str) -> str:
        if self._known is None:
            self._known = self._given | self._code().parts
        parts = [part for part in words_of(name) if not self._is_word(part, self._known)]
        numbers = sum(part.isdigit() for part in words_of(name))
        short = sum(len(part) <= 2 for part in parts)
        too_many = len(words_of(name)) > _MOST_PARTS or numbers > _MOST_NUMBERS or short > _MOST_SHORT
        return "name-words" if too_many or len(parts) > short else ""

    @staticmethod
    def _is_word(part: str, known: frozenset[str]) -> bool:
        if part.isdigit():
            return int(part) <= _LARGEST_NUMBER or part in known
        return part in known or _singular(part) in known


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") else f"{word}s"
