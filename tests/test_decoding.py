"""Greedy, sampled and beam decoding against naive loops and exhaustive search, on small tables of probabilities."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import pydl
from pydl.models.decoding import Decoded, beam_search, decode_rows, length_penalty, log_softmax
from pydl.models.sampling import Sampler

START, STOP = 1, 2
LIMITS = {"start": START, "stop": STOP}


class Table:
    """A network whose logits depend on all tokens so far: its state is the row's number and its history."""

    def __init__(self, size: int, seed: int = 0, spread: float = 1.5) -> None:
        self.size, self.seed, self.spread = size, seed, spread

    def logits(self, row: int, history: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng([self.seed, row, *history]).normal(size=self.size) * self.spread

    def step(self, tokens: np.ndarray, state: Any) -> Any:
        state = [(row, (*history, int(token))) for (row, history), token in zip(state, tokens, strict=True)]
        attention = np.array([[row, len(history), history[-1]] for row, history in state], float)
        return np.stack([self.logits(*each) for each in state]), state, attention

    @staticmethod
    def select(state: Any, rows: np.ndarray) -> Any:
        return [state[i] for i in rows]

    @staticmethod
    def first(rows: list[int]) -> Any:
        return [(row, ()) for row in rows]

    def beam(self, rows: list[int], **options: Any) -> Decoded:
        return beam_search(self.step, self.select, self.first(rows), len(rows), **{**LIMITS, **options})

    def greedy(self, rows: list[int], **options: Any) -> Decoded:
        return decode_rows(self.step, self.first(rows), len(rows), **{**LIMITS, **options})

    def log_p(self, row: int, history: tuple[int, ...]) -> np.ndarray:
        logits = self.logits(row, (START, *history))
        return logits - math.log(np.exp(logits).sum())

    def exhaustive(self, row: int, longest: int, alpha: float) -> tuple[float, tuple[int, ...]]:
        """The best of all sequences that end by the stop token or are cut after `longest` tokens."""
        tokens = [t for t in range(self.size) if t != STOP]
        found = []
        for length in range(longest + 1):
            for sequence in itertools.product(tokens, repeat=length):
                total = sum(self.log_p(row, sequence[:i])[sequence[i]] for i in range(length))
                if length < longest:
                    total += self.log_p(row, sequence)[STOP]
                found.append((total / length_penalty(min(length + 1, longest), alpha), sequence))
        return max(found)


def naive_beam(table: Table, row: int, beam: int, longest: int, alpha: float) -> tuple[float, tuple[int, ...]]:
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    finished: list[tuple[float, tuple[int, ...]]] = []
    for t in range(1, longest + 1):
        candidates = [(s + table.log_p(row, h)[v], (*h, v)) for s, h in live for v in range(table.size)]
        candidates.sort(key=lambda c: -c[0])
        finished += [(s / length_penalty(t, alpha), h[:-1]) for s, h in candidates[:beam] if h[-1] == STOP]
        live = [(s, h) for s, h in candidates if h[-1] != STOP][:beam]
        if len(finished) >= beam and (beam == 1 or live[0][0] / length_penalty(longest, alpha) <= max(finished)[0]):
            return max(finished)
    return max(finished + [(s / length_penalty(longest, alpha), h) for s, h in live])


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_a_full_beam_finds_what_exhaustive_search_finds(alpha: float) -> None:
    table, rows = Table(6, seed=3), list(range(40))
    found = table.beam(rows, beam=6, max_length=2, alpha=alpha)
    for row in rows:
        score, tokens = table.exhaustive(row, 2, alpha)
        assert tuple(found.tokens[row]) == tokens
        assert found.scores[row] == pytest.approx(score, rel=1e-12)


def test_the_length_penalty_changes_what_is_best() -> None:
    table, rows = Table(5), list(range(60))
    short, long = (table.beam(rows, beam=5, max_length=8, alpha=alpha) for alpha in (0.0, 2.0))
    assert sum(map(len, long.tokens)) > sum(map(len, short.tokens)) + 20


@pytest.mark.parametrize(("beam", "alpha"), [(1, 0.6), (2, 0.0), (3, 0.6), (5, 1.0)])
def test_beams_of_many_rows_are_those_of_a_naive_loop(beam: int, alpha: float) -> None:
    table, rows = Table(7, seed=1), list(range(30))
    found = table.beam(rows, beam=beam, max_length=7, alpha=alpha)
    for row in rows:
        score, tokens = naive_beam(table, row, beam, 7, alpha)
        assert tuple(found.tokens[row]) == tokens
        assert found.scores[row] == pytest.approx(score, rel=1e-12)
    assert len({len(tokens) for tokens in found.tokens}) > 3


def test_a_beam_finds_what_greedy_misses() -> None:
    class Trap(Table):
        def logits(self, row: int, history: tuple[int, ...]) -> np.ndarray:
            p = {(START,): [0.6, 0.0, 0.0, 0.4], (START, 0): [0.3, 0.25, 0.25, 0.2], (START, 3): [0.0, 0.0, 1.0, 0.0]}
            return np.log(np.maximum(p.get(history, [0, 0, 1, 0]), 1e-12))

    assert Trap(4).greedy([0], max_length=5).tokens[0].tolist() == [0, 0]
    found = Trap(4).beam([0], beam=2, max_length=5, alpha=0.0)
    assert found.tokens[0].tolist() == [3]
    assert found.scores[0] == pytest.approx(math.log(0.4), abs=1e-9)


def test_a_beam_does_not_stop_before_a_better_one_that_lives() -> None:
    class Late(Table):
        def logits(self, row: int, history: tuple[int, ...]) -> np.ndarray:
            p = [0.0, 0.0, 1.0, 0.0] if len(history) == 7 else [0.98, 0.005, 0.01, 0.005]
            return np.log(np.maximum(p, 1e-12))

    for beam in (1, 2, 3, 4):
        found = Late(4).beam([0], beam=beam, max_length=20)
        assert found.tokens[0].tolist() == [0] * 6
        assert found.scores[0] == pytest.approx(6 * math.log(0.98) / length_penalty(7, 0.6), abs=1e-9)


def test_greedy_is_a_beam_of_one_and_a_naive_loop() -> None:
    table, rows = Table(6, seed=2), list(range(25))
    found = table.greedy(rows, max_length=6)
    beams = table.beam(rows, beam=1, max_length=6, alpha=0.0)
    for row in rows:
        tokens: tuple[int, ...] = ()
        score = 0.0
        while len(tokens) < 6:
            log_p = table.log_p(row, tokens)
            score += log_p.max()
            if int(log_p.argmax()) == STOP:
                break
            tokens = (*tokens, int(log_p.argmax()))
        assert tuple(found.tokens[row]) == tuple(beams.tokens[row]) == tokens
        assert found.scores[row] == pytest.approx(score, rel=1e-12)
        assert beams.scores[row] == pytest.approx(score, rel=1e-12)


def test_attention_follows_the_hypotheses() -> None:
    table, rows = Table(6, seed=5), [4, 9, 11]
    for found in (table.greedy(rows, max_length=6), table.beam(rows, beam=4, max_length=6)):
        assert found.attention is not None
        for row, tokens, looks in zip(rows, found.tokens, found.attention, strict=True):
            read = [START, *tokens[:-1].tolist()] if len(tokens) else []
            assert looks.tolist() == [[row, t + 1, token] for t, token in enumerate(read)]


def test_samples_depend_on_their_seed_alone_and_follow_the_distribution() -> None:
    table, sampler = Table(5, seed=7, spread=1.0), Sampler()
    many = table.greedy([3] * 4000, max_length=1, sampler=sampler, seeds=range(4000))
    drawn = [int(tokens[0]) if len(tokens) else STOP for tokens in many.tokens]
    p = np.exp(table.log_p(3, ()))
    assert np.abs(np.bincount(drawn, minlength=5) / 4000 - p).max() < 4 * 0.5 / math.sqrt(4000)
    rows, seeds = [0, 3, 8], [10, 11, 12]
    together = table.greedy(rows, max_length=8, sampler=sampler, seeds=seeds)
    for i in range(3):
        alone = table.greedy(rows[i : i + 1], max_length=8, sampler=sampler, seeds=seeds[i : i + 1])
        assert alone.tokens[0].tolist() == together.tokens[i].tolist()
        expected: list[int] = []
        for uniform in pydl.rand(8, generator=pydl.Generator(seeds[i]), dtype=pydl.float64).tolist():
            token = sampler(table.logits(rows[i], (START, *expected)), uniform)
            if token == STOP:
                break
            expected.append(token)
        assert together.tokens[i].tolist() == expected


def test_bad_arguments_and_numbers() -> None:
    with pytest.raises(ValueError, match="beam 6, expected at most the vocabulary's size, 5"):
        Table(5).beam([0], beam=6, max_length=3)
    with pytest.raises(ValueError, match="beam 0"):
        Table(5).beam([0], beam=0, max_length=3)
    with pytest.raises(ValueError, match="not finite"):
        log_softmax(np.array([0.0, np.nan]))
    assert log_softmax(np.array([0.0, -np.inf])).tolist() == [0.0, -np.inf]
