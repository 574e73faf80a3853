"""BLEU: how many of a translation's runs of words a reference has too."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.metrics.base import Metric

__all__ = ["BLEU", "bleu_score"]


class BLEU(Metric):
    """Corpus BLEU, of Papineni et al., ACL 2002 (P02-1040), from 0 to 1.

    With c the translations' tokens, r those of the references (of each translation's, the one nearest in length, the
    shorter of two), and p_n the share of the n-grams that are in a reference, each counted as often as it comes in the
    one that has it most,

        BLEU = min(1, exp(1 - r / c)) · (p_1 p_2 ... p_N)^(1/N).

    Counts are summed over the whole corpus, so the result is no mean of sentences, and does not depend on batches.

    Strings are cut into words and single punctuation marks, as :class:`pydl.text.WordVocabulary` cuts them, with
    upper and lower case apart; figures of other tools with other cutting differ. Sequences of tokens or ids are taken
    as they are.

    Args:
        max_n: N, the longest n-grams; default 4.
        smoothing: added to matches and totals of the n-grams from n = 2 on (1: Lin and Och, COLING 2004, C04-1072),
            for single sentences and tiny corpora. Default 0, the paper's: no 4-gram that matches, and BLEU is 0.
        name: default ``"bleu"``.

    Example:
        >>> metric = BLEU()
        >>> metric.update(["the cat sat on the mat"], ["the cat sat on a mat"])
        >>> round(metric.result(), 4)  # (5/6 · 3/5 · 2/4 · 1/3)^(1/4)
        0.5373
    """

    _sums = ("matches", "totals", "length", "reference_length")
    matches: Any
    totals: Any
    length: float
    reference_length: float

    def __init__(self, max_n: int = 4, *, smoothing: float = 0.0, name: str = "bleu") -> None:
        if max_n < 1 or not 0.0 <= smoothing < math.inf:
            raise ValueError(f"[BLEU] got max_n {max_n}, smoothing {smoothing}, expected max_n >= 1, smoothing >= 0")
        self.max_n = max_n
        self.smoothing = smoothing
        super().__init__(name)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.matches, self.totals = np.zeros(self.max_n), np.zeros(self.max_n)

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count translations.

        Args:
            prediction: N strings, or N sequences of tokens or ids.
            target: N references of the same kind, or N lists of several.
            weight: there is none.

        Raises:
            ValueError: another number of references, or none for a translation.
            TypeError: weights, one string in place of several, or a reference of another kind.
        """
        if weight is not None:
            raise TypeError("[BLEU] got weights, expected none: n-grams are counted over the whole corpus")
        for name, value in (("prediction", prediction), ("target", target)):
            if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
                raise TypeError(f"[BLEU] got a {type(value).__name__} as {name}, expected a list of N")
        if len(prediction) != len(target):
            raise ValueError(
                f"[BLEU] got {len(prediction)} translations and {len(target)} references, expected as many"
            )
        # All is cut before anything is counted, so that an error counts nothing.
        pairs = [
            (_tokens(said), _references(i, said, wanted)) for i, (said, wanted) in enumerate(zip(prediction, target))
        ]
        for tokens, references in pairs:
            self._count(tokens, references)

    def _count(self, tokens: Sequence[Any], references: list[Sequence[Any]]) -> None:
        self.length += len(tokens)
        self.reference_length += min((abs(len(r) - len(tokens)), len(r)) for r in references)[1]
        for n in range(1, self.max_n + 1):
            found, allowed = _ngrams(tokens, n), Counter[Any]()
            for reference in references:
                allowed |= _ngrams(reference, n)
            self.matches[n - 1] += sum((found & allowed).values())
            self.totals[n - 1] += max(0, len(tokens) - n + 1)

    def result(self) -> float:
        """BLEU; NaN of nothing, 0 where some n has no match."""
        if not self.reference_length:
            return float("nan")
        extra = np.where(np.arange(self.max_n) == 0, 0.0, self.smoothing)
        matches, totals = self.matches + extra, self.totals + extra
        if not matches.all():
            return 0.0
        brevity = min(0.0, 1.0 - self.reference_length / self.length)
        return math.exp(brevity + float(np.log(matches / totals).mean()))


def bleu_score(y_true: Any, y_pred: Any, *, max_n: int = 4, smoothing: float = 0.0) -> float:
    """:class:`BLEU` of all translations at once, in scikit-learn's order: references first.

    >>> bleu_score([["it is late", "it is late now"]], ["it is late now"])
    1.0
    """
    return float(BLEU(max_n, smoothing=smoothing)(y_pred, y_true))


def _tokens(text: Any) -> Sequence[Any]:
    if isinstance(text, str):
        from pydl.text.tokens import cut_words

        return cut_words(text)
    return text.tolist() if hasattr(text, "tolist") else list(text)


def _references(place: int, said: Any, wanted: Any) -> list[Sequence[Any]]:
    """One reference or several, as lists of tokens. A translation that is a string has strings as references."""
    several: Any
    if isinstance(said, str):
        several = [wanted] if isinstance(wanted, str) else list(wanted)
        wrong = [type(each).__name__ for each in several if not isinstance(each, str)]
    else:
        wrong = ["str"] if isinstance(wanted, str) else []
        listed = [] if wrong else _tokens(wanted)
        several = listed if listed and hasattr(listed[0], "__len__") and not isinstance(listed[0], str) else [listed]
    if wrong:
        kind = "a string" if isinstance(said, str) else "a sequence of tokens"
        raise TypeError(f"[BLEU] reference {place} is of type {wrong[0]}, expected {kind} as its translation is")
    found = [_tokens(each) for each in several]
    if not any(found):
        raise ValueError(f"[BLEU] reference {place} is empty, expected at least one token")
    return found


def _ngrams(tokens: Sequence[Any], n: int) -> Counter[Any]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
