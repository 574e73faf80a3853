"""SampleKeys: random numbers that belong to a sample, whatever batch, worker or thread it meets.

A row's stream starts at a hash of (seed, epoch, index, family, draw), and its j-th number is a hash of start + j·step,
where the step is a second hash: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014). All is
arithmetic on whole columns of 64-bit integers; there is no state, so nothing has to be saved or passed to workers.
"""

from __future__ import annotations

import hashlib
import operator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SampleKeys"]

_Words = npt.NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_N1, _N2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_S11, _S27, _S30, _S31, _S33 = (np.uint64(n) for n in (11, 27, 30, 31, 33))
_GAMMA_TRIES = 64  # one try fails in less than 5 % of the cases


class SampleKeys:
    """The random numbers of a batch of samples; row i depends on (seed, epoch, indices[i]) and the draw alone.

    A draw is named by an int or a text; the same draw of the same keys gives the same numbers again, and numbers of
    different draws are independent. Nothing changes in the object.

    Args:
        seed: any integer.
        epoch: the pass over the data, 0 or more.
        indices: the samples' places in the data set, integers of shape (N,).
        again: how often each sample was drawn before in this epoch, as by a sampler with replacement; integers of
            shape (N,). Default: never. Each time has numbers of its own.

    Raises:
        TypeError: seed or epoch is no integer, or indices are no integers.
        ValueError: indices have not one axis, or epoch is negative.

    >>> keys = SampleKeys(0, 3, [7, 8, 9])
    >>> keys.uniform("angle").shape, keys.normal("noise", 2, 4).shape
    ((3,), (3, 2, 4))
    >>> bool(keys.uniform("angle")[1] == SampleKeys(0, 3, [8]).uniform("angle")[0])
    True
    """

    __slots__ = ("_rows", "epoch", "indices", "seed")

    def __init__(self, seed: int, epoch: int, indices: npt.ArrayLike, again: npt.ArrayLike | None = None) -> None:
        self.seed, self.epoch = _integer("seed", seed), _integer("epoch", epoch)
        if self.epoch < 0:
            raise ValueError(f"[SampleKeys] got epoch {self.epoch}, expected 0 or more")
        array = np.asarray(indices)
        if array.size == 0 and array.ndim == 1:
            array = array.astype(np.int64)
        if array.dtype.kind not in "iu":
            raise TypeError(f"[SampleKeys] got indices of {array.dtype}, expected integers")
        if array.ndim != 1:
            raise ValueError(f"[SampleKeys] got indices of shape {array.shape}, expected one axis, (N,)")
        self.indices: npt.NDArray[np.int64] = array.astype(np.int64)
        self._rows = _fold(self.indices.astype(np.uint64), _code((self.seed, self.epoch)))
        if again is not None:
            times = np.asarray(again)
            if times.shape != array.shape:
                raise ValueError(f"[SampleKeys] got again of shape {times.shape}, expected that of indices")
            more = times > 0
            self._rows[more] = _fold(self._rows[more] + times[more].astype(np.uint64), _code(("again",)))

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"SampleKeys(seed={self.seed}, epoch={self.epoch}, {len(self)} samples)"

    def __getitem__(self, rows: Any) -> SampleKeys:
        """The keys of some of the samples: a slice, a mask or an array of rows."""
        return self._with(self.indices[rows], self._rows[rows])

    def fold(self, name: int | str) -> SampleKeys:
        """Keys of another family: the same draws give other, independent numbers."""
        return self._with(self.indices, _fold(self._rows, _code(("fold", _name(name)))))

    def _with(self, indices: npt.NDArray[np.int64], rows: _Words) -> SampleKeys:
        if indices.ndim != 1:
            raise ValueError("[SampleKeys] rows must be picked by a slice, a mask or an array of rows")
        keys = object.__new__(SampleKeys)
        keys.seed, keys.epoch, keys.indices, keys._rows = self.seed, self.epoch, indices, rows
        return keys

    def bits(self, draw: int | str, *shape: int) -> _Words:
        """64 random bits each, (N, *shape) of uint64."""
        count = 1
        for n in shape:
            count *= _integer("size", n)
        start = _fold(self._rows, _code(("draw", _name(draw))))
        words = np.arange(1, count + 1, dtype=np.uint64) * _step(start)[:, None]  # (N, count)
        words += start[:, None]
        return _mixed(words).reshape((len(self), *shape))

    def uniform(self, draw: int | str, *shape: int, low: float = 0.0, high: float = 1.0) -> npt.NDArray[np.float64]:
        """Uniform in [low, high), (N, *shape) of float64; 53 random bits each."""
        u = (self.bits(draw, *shape) >> _S11).astype(np.float64)
        u *= 2.0**-53
        if (low, high) != (0.0, 1.0):
            u *= high - low
            u += low
        return u

    def normal(self, draw: int | str, *shape: int, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
        """Standard normal, (N, *shape), by Box and Muller's method.

        Args:
            dtype: float64 (default), or float32 for large draws: a quarter of the time, and tails that end at 5.9.
        """
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"[SampleKeys.normal] got dtype {np.dtype(dtype)}, expected float32 or float64")
        count = int(np.prod(shape, dtype=np.int64))
        half = (count + 1) // 2
        if np.dtype(dtype) == np.float32:
            words = self.bits(draw, half)
            u = ((words >> np.uint64(40)).astype(np.float32) + np.float32(0.5)) * np.float32(2**-24)
            angle = ((words & np.uint64(0xFFFFFF)).astype(np.float32)) * np.float32(2 * np.pi / 2**24)
        else:
            uniform = self.uniform(draw, 2, half)
            u, angle = 1.0 - uniform[:, 0], (2 * np.pi) * uniform[:, 1]
        radius = np.sqrt(-2 * np.log(u))
        out = np.empty((len(self), 2, half), dtype)
        np.multiply(radius, np.cos(angle), out=out[:, 0])
        np.multiply(radius, np.sin(angle), out=out[:, 1])
        return out.reshape(len(self), 2 * half)[:, :count].reshape((len(self), *shape))

    def integers(self, draw: int | str, low: int, high: int, *shape: int) -> npt.NDArray[np.int64]:
        """Integers from low to high - 1, (N, *shape) of int64; uneven by less than (high - low) / 2⁵³.

        Raises:
            ValueError: high is not above low, or their distance passes 2³².
        """
        low, high = _integer("low", low), _integer("high", high)
        if not 0 < high - low <= 2**32:
            raise ValueError(
                f"[SampleKeys.integers] got low {low}, high {high}, expected low < high, at most 2³² apart"
            )
        return np.floor(self.uniform(draw, *shape) * (high - low)).astype(np.int64) + low

    def beta(self, draw: int | str, a: float, b: float) -> npt.NDArray[np.float64]:
        """Beta distributed with shapes a, b > 0, (N,): X / (X + Y) for X, Y gamma distributed."""
        if not (a > 0 and b > 0):
            raise ValueError(f"[SampleKeys.beta] got shapes {a} and {b}, expected positive numbers")
        keys = self.fold(draw)
        # In logarithms, as gamma variates of small shape underflow.
        difference = keys.fold("y")._log_gamma_variate(b) - keys.fold("x")._log_gamma_variate(a)
        return 1.0 / (1.0 + np.exp(np.minimum(difference, 700.0)))

    def _log_gamma_variate(self, shape: float) -> npt.NDArray[np.float64]:
        """Marsaglia and Tsang, "A simple method for generating gamma variables" (2000), of shape + 1, then lowered."""
        d = shape + 1 - 1 / 3
        c = 1 / np.sqrt(9 * d)
        out, open_rows = np.zeros(len(self)), np.arange(len(self))
        for attempt in range(_GAMMA_TRIES):
            if not open_rows.size:
                break
            keys = self[open_rows]
            x = keys.normal(f"x{attempt}")
            v = (1 + c * x) ** 3
            log_v = np.log(np.maximum(v, 1e-300))
            accepted = (v > 0) & (np.log(1 - keys.uniform(f"u{attempt}")) < 0.5 * x * x + d - d * v + d * log_v)
            out[open_rows[accepted]] = np.log(d) + log_v[accepted]
            open_rows = open_rows[~accepted]
        return out + np.log(1 - self.uniform("boost")) / shape


def _integer(what: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"[SampleKeys] got {what} {value!r}, expected an integer") from None


def _name(name: int | str) -> int | str:
    return name if isinstance(name, str) else _integer("draw", name)


@lru_cache(maxsize=4096)
def _code(value: tuple[Any, ...]) -> np.uint64:
    """64 bits for a tuple of ints and texts, the same in every process."""
    return np.uint64(int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=8).digest(), "little"))


def _mixed(words: _Words) -> _Words:
    """SplitMix64's finalizer (Stafford's variant 13), in place."""
    words ^= words >> _S30
    words *= _M1
    words ^= words >> _S27
    words *= _M2
    words ^= words >> _S31
    return words


def _fold(rows: _Words, code: np.uint64) -> _Words:
    """Another 64 bits for each row; two rounds, so that near rows and near codes have nothing in common."""
    words = rows * np.uint64(_GOLDEN)
    words ^= code
    words = _mixed(words)
    words += np.uint64(_GOLDEN)
    return _mixed(words)


def _step(start: _Words) -> _Words:
    """An odd step for each row, with enough changes between its bits (their section 5)."""
    step = start ^ (start >> _S33)
    step *= _N1
    step ^= step >> _S33
    step *= _N2
    step ^= step >> _S33
    step |= np.uint64(1)
    weak = _ones(step ^ (step >> np.uint64(1))) < 24
    step[weak] ^= np.uint64(0xAAAAAAAAAAAAAAAA)
    return step


def _ones(words: _Words) -> _Words:
    """How many bits are set."""
    two, four, eight = (np.uint64(n) for n in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
    words = words - ((words >> np.uint64(1)) & two)
    words = (words & four) + ((words >> np.uint64(2)) & four)
    words = (words + (words >> np.uint64(4))) & eight
    return (words * np.uint64(0x0101010101010101)) >> np.uint64(56)
