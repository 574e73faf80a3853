"""From a network that tells the next token's logits to whole sequences: greedy, sampled, or by beam search.

The network is two functions: ``step(tokens, state) -> (logits, state, attention)`` for tokens (R,), logits (R, V) and
attention (R, S) or None, and ``select(state, rows) -> state``, the state of some rows, in any order and number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import pydl
from pydl.models.sampling import Sampler

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]
Step = Callable[[Ids, Any], tuple[Floats, Any, "Floats | None"]]
Select = Callable[[Any, Ids], Any]


class Decoded(NamedTuple):
    """What was decoded for each row."""

    tokens: list[Ids]  # (T_i,) each, without the stop token
    scores: npt.NDArray[np.float64]  # (N,) log-probabilities, of beams normalized by length
    attention: list[Floats] | None  # (T_i, S) each


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Logits (..., V) -> log-probabilities in float64.

    Raises:
        ValueError: a logit is NaN or positive infinity.
    """
    shifted = logits.astype(np.float64)
    top = shifted.max(axis=-1, keepdims=True)
    if not np.isfinite(top).all():
        raise ValueError("[decode] got a logit that is not finite; did the training diverge?")
    shifted -= top
    out: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return out


def length_penalty(length: int, alpha: float) -> float:
    """((5 + length) / 6)^alpha, by which a beam's log-probability is divided. Wu et al., arXiv:1609.08144, eq. 14.

    >>> length_penalty(1, 0.6), length_penalty(7, 1.0)
    (1.0, 2.0)
    """
    return float(((5 + length) / 6) ** alpha)


def decode_rows(
    step: Step,
    state: Any,
    rows: int,
    *,
    start: int,
    stop: int,
    max_length: int,
    sampler: Sampler | None = None,
    seeds: Sequence[int] = (),
) -> Decoded:
    """One sequence a row, token by token until the stop token: the most probable token, or one that is drawn.

    Args:
        step, state: the network, and where it stands, for so many rows.
        rows: N.
        start, stop: the ids of the first input and of the end.
        max_length: tokens at most, without the stop token.
        sampler: draws tokens; default: the most probable one is taken.
        seeds: (N,) of each row's random numbers, where a sampler is given.
    """
    uniforms = [
        pydl.rand(max_length, generator=pydl.Generator(seed), dtype=pydl.float64).cpu().numpy()
        for seed in seeds
        if sampler
    ]
    last = np.full(rows, start, np.int64)
    tokens: list[list[int]] = [[] for _ in range(rows)]
    looks: list[list[Floats]] = [[] for _ in range(rows)]
    scores = np.zeros(rows)
    live = np.ones(rows, bool)
    attended = False
    for t in range(max_length):
        logits, state, attention = step(last, state)
        attended = attention is not None
        log_p = log_softmax(logits)
        last = log_p.argmax(axis=1)
        for row in np.flatnonzero(live):
            if sampler is not None:
                last[row] = sampler(logits[row], float(uniforms[row][t]))
            token = int(last[row])
            scores[row] += log_p[row, token]
            if token == stop:
                live[row] = False
                continue
            tokens[row].append(token)
            if attention is not None:
                looks[row].append(attention[row])
        if not live.any():
            break
    return Decoded([np.array(t, np.int64) for t in tokens], scores, _stacked(looks) if attended else None)


class _Hypothesis(NamedTuple):
    score: float
    tokens: tuple[int, ...]
    looks: tuple[Floats, ...]


def beam_search(
    step: Step,
    select: Select,
    state: Any,
    rows: int,
    *,
    beam: int,
    start: int,
    stop: int,
    max_length: int,
    alpha: float = 0.6,
) -> Decoded:
    """The best sequence a row among the hypotheses that a beam keeps.

    After each step the `beam` most probable hypotheses that have not ended are kept. One that ends among the `beam`
    best of a step is finished; a row is done when so many are and none that lives can become better than the best of
    them (a beam of 1: when one is, so that it is greedy). The best by log-probability / length_penalty(length)
    is returned, where the length counts the stop token. At `max_length` what has not ended is taken as it is.

    Args:
        step, select, state: the network, and where it stands, for one copy of each row.
        rows: N.
        beam: hypotheses of a row, 1 to V.
        start, stop, max_length: as in `decode_rows`.
        alpha: of the length penalty; 0 for none. Default 0.6.

    Raises:
        ValueError: a beam below 1 or wider than the vocabulary.
    """
    if beam < 1:
        raise ValueError(f"[beam_search] got beam {beam}, expected 1 or more")
    state = select(state, np.repeat(np.arange(rows), beam))
    last = np.full(rows * beam, start, np.int64)
    totals = np.full((rows, beam), -np.inf)
    totals[:, 0] = 0.0  # the copies of a row are the same at first: one of them counts
    empty = _Hypothesis(0.0, (), ())
    live = [[empty] * beam for _ in range(rows)]
    finished: list[list[_Hypothesis]] = [[] for _ in range(rows)]
    done = [False] * rows
    attended = False
    for t in range(1, max_length + 1):
        logits, state, attention = step(last, state)
        attended = attention is not None
        size = logits.shape[1]
        if beam > size:
            raise ValueError(f"[beam_search] got beam {beam}, expected at most the vocabulary's size, {size}")
        flat = (totals[:, :, None] + log_softmax(logits).reshape(rows, beam, size)).reshape(rows, beam * size)
        best = _top(flat, 2 * beam)
        origin = np.arange(rows * beam)
        ended = True
        for row in range(rows):
            kept: list[_Hypothesis] = []
            if not done[row]:
                for rank, place in enumerate(best[row]):
                    score = float(flat[row, place])
                    source, token = divmod(int(place), size)
                    if score == -np.inf or len(kept) == beam:
                        break
                    past = live[row][source]
                    if token == stop:
                        if rank < beam:
                            finished[row].append(past._replace(score=score / length_penalty(t, alpha)))
                        continue
                    looks = past.looks if attention is None else (*past.looks, attention[row * beam + source])
                    origin[row * beam + len(kept)] = row * beam + source
                    last[row * beam + len(kept)] = token
                    kept.append(_Hypothesis(score, (*past.tokens, token), looks))
            if len(finished[row]) >= beam:
                # What lives can't do better: it only loses probability, and the penalty is at most this.
                bound = max(length_penalty(t + 1, alpha), length_penalty(max_length, alpha))
                best_done = max(hypothesis.score for hypothesis in finished[row])
                done[row] = beam == 1 or not kept or kept[0].score / bound <= best_done
            if done[row]:
                kept = []
            totals[row] = -np.inf
            totals[row, : len(kept)] = [hypothesis.score for hypothesis in kept]
            live[row] = kept + [empty] * (beam - len(kept))
            ended = ended and not kept
            if t == max_length:
                finished[row] += [h._replace(score=h.score / length_penalty(t, alpha)) for h in kept]
        if ended:
            break
        state = select(state, origin)
    chosen = [max(hypotheses, key=lambda h: h.score) for hypotheses in finished]
    tokens = [np.array(h.tokens, np.int64) for h in chosen]
    return Decoded(
        tokens, np.array([h.score for h in chosen]), _stacked([h.looks for h in chosen]) if attended else None
    )


def _top(values: Floats, count: int) -> Ids:
    """The places of the largest values of each row, the largest first; of equal ones the first come first."""
    count = min(count, values.shape[1])
    found = np.argpartition(-values, count - 1, axis=1)[:, :count]
    chosen = np.take_along_axis(values, found, axis=1)
    least = chosen.min(axis=1, keepdims=True)
    equal = values == least
    left_out = equal.sum(axis=1) > (chosen == least).sum(axis=1)
    for row in np.flatnonzero(left_out & np.isfinite(least[:, 0])):
        larger = np.flatnonzero(values[row] > least[row])
        found[row] = np.concatenate([larger, np.flatnonzero(equal[row])[: count - len(larger)]])
    found.sort(axis=1)  # so that ties go by place
    order = np.argsort(-np.take_along_axis(values, found, axis=1), axis=1, kind="stable")
    top: Ids = np.take_along_axis(found, order, axis=1)
    return top


def _stacked(looks: Sequence[Sequence[Floats]]) -> list[Floats]:
    return [np.stack(each) if each else np.zeros((0, 0), np.float32) for each in looks]
