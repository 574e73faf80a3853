"""Looking inside a CharLM: its hidden and cell states over a text, and which units follow which feature of the text.

States are recorded in chunks, and scores are summed up chunk by chunk, so a long text needs no more memory than a
short one. The page that shows all this is made in pydl.models.inspection_page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl.models.char_lm import CharLM

if TYPE_CHECKING:
    from pydl.models.char_lm import State

    Array = npt.NDArray[Any]

__all__ = ["StateRecord", "UnitScores", "iterate_states", "rank_units", "record_states", "score_units"]

_UNKNOWN_NAMED = 5  # characters that an error lists


@dataclass(frozen=True)
class StateRecord:
    """What a model had in mind after reading each character of a text; T characters, L layers, H units.

    Attributes:
        text: the characters read.
        h: hidden states, float32 of shape (T, L, H); ``h[t]`` is after ``text[t]`` has been read.
        c: cell states of an LSTM, float32 of shape (T, L, H); None for other cells. They are not bounded by -1 and 1.
        top_ids: the ids of the most probable next characters, int64 of shape (T, K), the most probable first.
        top_probabilities: their probabilities, float32 of shape (T, K).
        state: where the model stands after the last character, to go on from.
    """

    text: str
    h: Array
    c: Array | None
    top_ids: Array
    top_probabilities: Array
    state: State

    def __len__(self) -> int:
        return len(self.text)


def _check(model: CharLM, text: str, top_k: int, chunk: int) -> None:
    where = "[record_states]"
    if not isinstance(model, CharLM):
        raise TypeError(f"{where} got a model of type {type(model).__name__}, expected a CharLM")
    if not isinstance(text, str):
        raise TypeError(f"{where} got a text of type {type(text).__name__}, expected str")
    if not text:
        raise ValueError(f"{where} got an empty text, expected at least one character")
    for name, value in (("top_k", top_k), ("chunk", chunk)):
        if value < 1:
            raise ValueError(f"{where} got {name} {value}, expected 1 or more")
    unknown = sorted(set(text) - set(model.vocabulary.symbols), key=text.index)
    if unknown:
        named = ", ".join(f"{c!r} (U+{ord(c):04X}) at position {text.index(c)}" for c in unknown[:_UNKNOWN_NAMED])
        more = f" and {len(unknown) - _UNKNOWN_NAMED} more" if len(unknown) > _UNKNOWN_NAMED else ""
        raise ValueError(
            f"{where} the text has characters that are not among the vocabulary's {len(model.vocabulary)}: "
            f"{named}{more}; use a text like the one the model was trained on"
        )


def iterate_states(
    model: CharLM, text: str, *, top_k: int = 5, chunk: int = 4096, state: State | None = None
) -> Iterator[StateRecord]:
    """The records of `record_states` for one chunk of the text after the other; memory is that of one chunk.

    Args:
        model: a CharLM, as trained or quantized. It is run in evaluation mode and left in the mode it was in.
        text: what is read, of the vocabulary's characters.
        top_k: K, next characters to keep; at most the vocabulary's size are kept.
        chunk: characters in a record; the last one may have fewer.
        state: as of `CharLM.forward`; default zeros.

    Raises:
        TypeError: `model` is no CharLM, or `text` no string.
        ValueError: the text is empty or has characters that are not in the vocabulary, which are named; `top_k` or
            `chunk` is below 1; the model's output is not finite.

    Example:
        >>> model = CharLM("hello", hidden_size=8, num_layers=2)
        >>> [len(record) for record in iterate_states(model, "hello", chunk=2)]
        [2, 2, 1]
    """
    _check(model, text, top_k, chunk)
    return _records(model, text, min(top_k, len(model.vocabulary)), chunk, state)


def _records(model: CharLM, text: str, top_k: int, chunk: int, state: State | None) -> Iterator[StateRecord]:
    for begin in range(0, len(text), chunk):
        part = text[begin : begin + chunk]
        training = model.training
        model.eval()
        try:
            with pydl.no_grad():
                record = _record(model, part, top_k, state)
        finally:
            model.train(training)
        state = record.state
        yield record


def _record(model: CharLM, text: str, top_k: int, state: State | None) -> StateRecord:
    steps, shape = len(text), (len(text), model.num_layers, model.hidden_size)
    embedded = model.embedding(pydl.asarray(model.vocabulary.encode(text)[:, None]))  # (T, 1, E)
    h = np.empty(shape, np.float32)
    c = np.empty(shape, np.float32) if model.cell == "lstm" else None
    # The kernels for whole sequences keep the last cell state only, so the network is taken step by step.
    for t in range(steps):
        _, state = model.rnn(embedded[t : t + 1], state)
        if isinstance(state, tuple) and c is not None:
            h[t], c[t] = state[0].cpu().numpy()[:, 0], state[1].cpu().numpy()[:, 0]
        else:
            h[t] = state.cpu().numpy()[:, 0]  # type: ignore[union-attr]
    logits = model.output(pydl.asarray(h[:, -1])).cpu().numpy().astype(np.float64)  # (T, V)
    if not np.isfinite(logits).all():
        raise ValueError("[record_states] the model's output is not finite; its weights are damaged or it diverged")
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    top = np.argsort(-odds, axis=1, kind="stable")[:, :top_k]
    best = np.take_along_axis(odds, top, axis=1).astype(np.float32)
    assert state is not None
    return StateRecord(text, h, c, top, best, state)


def record_states(model: CharLM, text: str, *, top_k: int = 5, state: State | None = None) -> StateRecord:
    """Hidden and cell states of a model after each character of a text, and what it expects to come next.

    The arrays take 8 T L H bytes for an LSTM; `iterate_states` gives them in pieces.

    Args:
        model: a CharLM, as trained or quantized. It is run in evaluation mode and left in the mode it was in.
        text: what is read, of the vocabulary's characters.
        top_k: K, next characters to keep; at most the vocabulary's size are kept.
        state: as of `CharLM.forward`; default zeros.

    Raises:
        TypeError, ValueError: as `iterate_states`.

    Example:
        >>> model = CharLM("hello", hidden_size=8, num_layers=2)
        >>> record = record_states(model, "hell", top_k=3)
        >>> record.h.shape, record.c.shape, record.top_ids.shape
        ((4, 2, 8), (4, 2, 8), (4, 3))
    """
    (record,) = iterate_states(model, text, top_k=top_k, chunk=max(1, len(text)), state=state)
    return record


class UnitScores:
    """Pearson's correlation of every unit with every feature, from any number of pieces of a text.

    For values v of a unit and f of a feature over the characters seen,

        r = sum (v - mean v)(f - mean f) / sqrt(sum (v - mean v)^2 sum (f - mean f)^2),

    which for a feature of zeros and ones is the point-biserial correlation. The sums are float64 and merged piece by
    piece about the running means (Chan, Golub and LeVeque, 1979), so nothing is cancelled away. r is 0 for a unit or
    a feature that never changes.

    Example:
        >>> scores = UnitScores()
        >>> scores.update(np.array([[0.0, 1.0], [1.0, 1.0]]), {"digit": np.array([0, 1])})
        >>> scores.update(np.array([[0.5, 1.0]]), {"digit": np.array([0])})
        >>> scores.result()["digit"].round(3).tolist()
        [0.866, 0.0]
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def update(self, values: npt.ArrayLike, features: Mapping[str, npt.ArrayLike]) -> None:
        """Adds a piece of text.

        Args:
            values: what the units were, shape (T, ...), T at least 1; the later axes are the same for every piece.
            features: name -> numbers or booleans of shape (T,); the same names for every piece.

        Raises:
            ValueError: shapes or names do not fit.
        """
        array = np.asarray(values, np.float64)
        names = tuple(features)
        if array.ndim < 1 or not len(array):
            raise ValueError(f"[UnitScores.update] got values of shape {array.shape}, expected (T, ...) with T >= 1")
        for name, column in features.items():
            if np.shape(column) != array.shape[:1]:
                raise ValueError(
                    f"[UnitScores.update] got the feature {name!r} of shape {np.shape(column)}, expected"
                    f" {array.shape[:1]}: a number for each character"
                )
        units = array.reshape(len(array), -1)
        table = np.array([np.asarray(features[name], np.float64) for name in names]).reshape(len(names), len(array)).T
        if not self._count:
            self._names, self._shape = names, array.shape[1:]
            self._mean_v, self._mean_f = np.zeros(units.shape[1]), np.zeros(len(names))
            self._square_v, self._square_f = np.zeros(units.shape[1]), np.zeros(len(names))
            self._product = np.zeros((len(names), units.shape[1]))
        elif (names, array.shape[1:]) != (self._names, self._shape):
            raise ValueError(
                f"[UnitScores.update] got units of shape {array.shape[1:]} and the features {names}, expected"
                f" {self._shape} and {self._names} as before"
            )
        count = self._count + len(units)
        mean_v, mean_f = units.mean(axis=0), table.mean(axis=0)
        shift_v, shift_f = mean_v - self._mean_v, mean_f - self._mean_f
        weight = self._count * len(units) / count
        centred_v, centred_f = units - mean_v, table - mean_f
        self._square_v += (centred_v**2).sum(axis=0) + weight * shift_v**2
        self._square_f += (centred_f**2).sum(axis=0) + weight * shift_f**2
        self._product += centred_f.T @ centred_v + weight * np.outer(shift_f, shift_v)
        self._mean_v += shift_v * len(units) / count
        self._mean_f += shift_f * len(units) / count
        self._count = count

    def result(self) -> dict[str, Array]:
        """Feature -> r, float64, of the units' shape; the same whatever the pieces, up to rounding.

        Raises:
            ValueError: nothing has been added.
        """
        if not self._count:
            raise ValueError("[UnitScores.result] got no values; call update first")
        # What rounding leaves of a constant is no variance.
        constant_v = self._square_v <= 1e-24 * self._count * (self._mean_v**2 + 1e-30)
        constant_f = self._square_f <= 1e-24 * self._count * (self._mean_f**2 + 1e-30)
        constant = constant_f[:, None] | constant_v
        scale = np.sqrt(np.outer(self._square_f, self._square_v))
        r = np.where(constant, 0.0, self._product / np.where(constant, 1.0, scale)).clip(-1.0, 1.0)
        return {name: r[i].reshape(self._shape) for i, name in enumerate(self._names)}


def score_units(values: npt.ArrayLike, features: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """How well each unit follows each feature: Pearson's correlation, from -1 to 1; see `UnitScores`.

    Args:
        values: what the units were, (T, ...), such as the ``h`` of a `StateRecord`.
        features: name -> numbers of shape (T,), such as those of `pydl.text.text_features`.

    Returns:
        Feature -> correlations of the shape of ``values[0]``.

    Example:
        >>> from pydl.text import text_features
        >>> text = 'he said "no" (twice) '
        >>> record = record_states(CharLM(text, hidden_size=8, num_layers=1), text)
        >>> score_units(record.h, text_features(text))["in quotes"].shape
        (1, 8)
    """
    scores = UnitScores()
    scores.update(values, features)
    return scores.result()


def rank_units(scores: npt.ArrayLike) -> list[tuple[int, ...]]:
    """The indices of all units, those first whose score is farthest from 0; ties keep the units' order.

    Example:
        >>> rank_units([[0.1, -0.9], [0.5, 0.0]])
        [(0, 1), (1, 0), (0, 0), (1, 1)]
    """
    array = np.asarray(scores, np.float64)
    order = np.argsort(-np.abs(array), axis=None, kind="stable")
    return [tuple(int(i) for i in np.unravel_index(position, array.shape)) for position in order]
