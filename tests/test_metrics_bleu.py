"""BLEU against values computed by hand from the paper's formulas, however the sentences are dealt out."""

from __future__ import annotations

import math
from copy import deepcopy
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import pydl
from pydl.metrics import BLEU, bleu_score

# The paper's first example: candidate 1 and its three references.
PAPER = "It is a guide to action which ensures that the military always obeys the commands of the party"
REFERENCES = [
    "It is a guide to action that ensures that the military will forever heed Party commands",
    "It is the guiding principle which guarantees the military forces always being under the command of the Party",
    "It is the practical guide for the army always to heed the directions of the party",
]


def geometric(*shares: Fraction) -> float:
    return float(math.prod(shares)) ** (1 / len(shares))


def test_one_sentence_by_hand() -> None:
    # Unigrams: the (2 of 2 allowed once), cat, sat, on, mat; "the" comes once in the reference.
    value = bleu_score(["the cat sat on a mat"], ["the cat sat on the mat"])
    assert value == pytest.approx(geometric(Fraction(5, 6), Fraction(3, 5), Fraction(2, 4), Fraction(1, 3)), abs=1e-12)


def test_the_papers_example() -> None:
    """17 of 18 unigrams (all but "obeys"), 10 of 17 bigrams, 7 of 16 trigrams, 4 of 15 4-grams; 18 tokens, r = 18."""
    metric = BLEU()
    metric.update([PAPER], [REFERENCES])
    assert metric.matches.tolist() == [17, 10, 7, 4]
    assert metric.totals.tolist() == [18, 17, 16, 15]
    assert (metric.length, metric.reference_length) == (18, 18)
    expected = geometric(Fraction(17, 18), Fraction(10, 17), Fraction(7, 16), Fraction(4, 15))
    assert metric.result() == pytest.approx(expected, abs=1e-12)


def test_clipping_is_by_the_reference_that_has_most() -> None:
    said = ["the the the the the the the"]
    references = [["The cat is on the mat, the", "There is a cat on the mat"]]
    assert bleu_score(references, said, max_n=1) == pytest.approx(2 / 7)  # the paper has "The" and "the" as one


def test_brevity_is_of_the_corpus_and_the_nearest_length() -> None:
    said = ["a b c d", "a b c d e f"]
    references = [["a b c d x y z", "a b c d e"], ["a b c d e f g h"]]
    shares = [Fraction(10, 10), Fraction(8, 8), Fraction(6, 6), Fraction(4, 4)]
    assert bleu_score(references, said) == pytest.approx(geometric(*shares) * math.exp(1 - 13 / 10), abs=1e-12)
    # Lengths 3 and 5 are as near to 4: the shorter one counts, and nothing is lost.
    assert bleu_score([["a b c", "a b c d e"]], ["a b c d"]) == pytest.approx(1.0)
    assert bleu_score([["a b c d e f"]], ["a b c d e f g h"]) == pytest.approx(
        geometric(Fraction(6, 8), Fraction(5, 7), Fraction(4, 6), Fraction(3, 5))
    )


def test_smoothing() -> None:
    said, wanted = ["a b x"], ["a b c"]
    assert bleu_score(wanted, said) == 0.0
    expected = geometric(Fraction(2, 3), Fraction(1 + 1, 2 + 1), Fraction(0 + 1, 1 + 1), Fraction(0 + 1, 0 + 1))
    assert bleu_score(wanted, said, smoothing=1.0) == pytest.approx(expected, abs=1e-12)
    assert bleu_score(wanted, ["x y z"], smoothing=1.0) == 0.0  # no word is right


def test_words_marks_ids_and_tokens() -> None:
    assert bleu_score(["Ça alors !"], ["Ça alors!"], max_n=3) == pytest.approx(1.0)
    assert bleu_score(["go on."], ["Go on."], max_n=1) == pytest.approx(2 / 3)
    ids = [np.array([4, 5, 6, 7]), np.array([9, 8])]
    assert bleu_score(ids, [[4, 5, 6, 7], [9, 8]]) == pytest.approx(1.0)
    assert bleu_score([[[4, 5], [4, 6, 6]]], [[4, 6]], max_n=1) == pytest.approx(1.0)
    assert bleu_score([["new york", "is"]], [["new york", "was"]], max_n=1) == pytest.approx(0.5)
    assert bleu_score(pydl.asarray([[4, 5], [6, 7]]), [[4, 5], [6, 6]], max_n=1) == pytest.approx(3 / 4)


def test_parts_are_merged(rng: np.random.Generator) -> None:
    said = [rng.integers(0, 2, rng.integers(0, 12)).tolist() for _ in range(40)]
    wanted = [rng.integers(0, 2, rng.integers(1, 12)).tolist() for _ in range(40)]
    whole, first, second = BLEU(), BLEU(), BLEU()
    whole.update(said, wanted)
    first.update(said[:7], wanted[:7])
    second.update(said[7:], wanted[7:])
    copy = deepcopy(first)
    copy.load_state_dict(second.state_dict())
    first.merge(copy)
    assert 0 < whole.result() == pytest.approx(first.result(), abs=1e-15)
    assert math.isnan(BLEU().result())
    assert BLEU()([[]], [[4]]) == 0.0


def test_mistakes() -> None:
    metric = BLEU()
    cases: list[tuple[type[Exception], str, Any, Any]] = [
        (TypeError, "got a str as prediction", "a b", ["a b"]),
        (TypeError, "got a str as target", ["a b"], "a b"),
        (ValueError, "2 translations and 1 references", ["a", "b"], ["a"]),
        (ValueError, "reference 0 is empty", ["a"], [""]),
        (ValueError, "reference 0 is empty", ["a"], [[]]),
        (TypeError, "reference 1 is of type str", [["a"], ["a"]], [["a"], "a"]),
        (TypeError, "reference 0 is of type int", ["a"], [[4, 5]]),
    ]
    for kind, message, said, wanted in cases:
        with pytest.raises(kind, match=message):
            metric.update(said, wanted)
    assert metric.length == 0
    with pytest.raises(TypeError, match="weights"):
        metric.update(["a"], ["a"], [1.0])
    with pytest.raises(ValueError, match="max_n 0"):
        BLEU(0)
    with pytest.raises(ValueError, match="smoothing -1"):
        BLEU(smoothing=-1.0)
