"""SampleKeys: even, independent, and a sample's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pydl.data.keys import SampleKeys

KEYS = SampleKeys(0, 0, np.arange(20000))


def chi_square(counts: np.ndarray) -> float:
    """How many standard deviations the statistic lies above its mean, for equally likely cells."""
    expected = counts.sum() / counts.size
    statistic = ((counts - expected) ** 2 / expected).sum()
    degrees = counts.size - 1
    return float((statistic - degrees) / math.sqrt(2 * degrees))


def distance(sample: np.ndarray, cdf: np.ndarray) -> float:
    """Kolmogorov and Smirnov's statistic times √n: below 1.95 in 999 of 1000 cases."""
    n = sample.size
    steps = np.arange(n + 1) / n
    return float(max(np.abs(cdf - steps[1:]).max(), np.abs(cdf - steps[:-1]).max()) * math.sqrt(n))


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])


@pytest.mark.parametrize("seed", [0, 1, -5, 2**70])
def test_uniform_numbers_are_even(seed: int) -> None:
    u = SampleKeys(seed, 3, np.arange(20000)).uniform("a", 5)
    assert u.shape == (20000, 5)
    assert u.min() >= 0
    assert u.max() < 1
    for column in u.T:
        assert abs(chi_square(np.bincount((column * 256).astype(int), minlength=256))) < 5
    # pairs in sequence, along a row and down a column
    for a, b in ((u[:, 0], u[:, 1]), (u[:-1, 0], u[1:, 0])):
        cells = (a * 32).astype(int) * 32 + (b * 32).astype(int)
        assert abs(chi_square(np.bincount(cells, minlength=1024))) < 5
    low = SampleKeys(seed, 3, np.arange(20000)).uniform("a", 5, low=-2, high=4)
    np.testing.assert_allclose(low, 6 * u - 2, rtol=0, atol=1e-12)


def test_every_bit_is_a_fair_coin() -> None:
    bits = np.unpackbits(KEYS.bits("b").view(np.uint8)).reshape(-1, 64)
    share = bits.mean(axis=0)
    assert np.abs(share - 0.5).max() < 5 * 0.5 / math.sqrt(len(bits))
    spread = np.corrcoef(bits.T) - np.eye(64)
    assert np.abs(spread).max() < 5.5 / math.sqrt(len(bits))


def test_seeds_epochs_indices_draws_and_families_are_independent() -> None:
    at = np.arange(20000)
    columns = [
        KEYS.uniform("a"),
        KEYS.uniform("b"),
        KEYS.uniform(0),
        KEYS.uniform(1),
        KEYS.uniform("0"),
        KEYS.uniform("a", 2)[:, 1],
        KEYS.fold(0).uniform("a"),
        KEYS.fold(1).uniform("a"),
        KEYS.fold(1).fold(0).uniform("a"),
        KEYS.fold(0).fold(1).uniform("a"),
        SampleKeys(1, 0, at).uniform("a"),
        SampleKeys(0, 1, at).uniform("a"),
        SampleKeys(1, 1, at).uniform("a"),
        SampleKeys(0, 0, at + 1).uniform("a"),
        SampleKeys(0, 0, at + 20000).uniform("a"),
        SampleKeys(0, 0, -1 - at).uniform("a"),
    ]
    spread = np.abs(np.corrcoef(columns) - np.eye(len(columns)))
    assert spread.max() < 4.5 / math.sqrt(20000)


def test_neighbours_do_not_share_numbers() -> None:
    words = np.concatenate([SampleKeys(s, e, np.arange(500)).bits(0, 50).ravel() for s in range(4) for e in range(4)])
    assert np.unique(words).size == words.size


def test_a_row_does_not_depend_on_its_batch(rng: np.random.Generator) -> None:
    order = rng.permutation(20000)[:300]
    batch = SampleKeys(0, 0, order)
    for draw in (
        lambda keys: keys.uniform("a"),
        lambda keys: keys.uniform("a", 3, 2),
        lambda keys: keys.normal("n", 7),
        lambda keys: keys.normal("n", 7, dtype=np.float32),
        lambda keys: keys.integers("i", -3, 9, 4),
        lambda keys: keys.beta("β", 0.3, 2.0),
        lambda keys: keys.fold(3).fold("x").uniform("a"),
    ):
        everything = draw(KEYS)
        assert np.array_equal(draw(batch), everything[order])
        assert np.array_equal(draw(batch[5:9]), everything[order[5:9]])
        assert np.array_equal(draw(batch[order > 9000]), everything[order[order > 9000]])
        assert draw(SampleKeys(0, 0, [])).shape == (0, *everything.shape[1:])


def test_the_numbers_stay_what_they_are() -> None:
    """A resumed run draws what it would have drawn, in every version and on every machine."""
    assert SampleKeys(7, 2, [0, 12345]).bits("angle", 2).tolist() == [
        [13076429381889970986, 14150716699215965672],
        [6928005939710574552, 233462382044709436],
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_numbers(dtype: type) -> None:
    x = KEYS.normal("n", 3, dtype=dtype)
    assert x.dtype == dtype
    assert x.shape == (20000, 3)
    for column in x.T.astype(np.float64):
        ordered = np.sort(column)
        assert distance(ordered, normal_cdf(ordered)) < 1.95
    assert np.abs(np.corrcoef(x.T) - np.eye(3)).max() < 4.5 / math.sqrt(20000)
    assert KEYS.normal("n", dtype=dtype).shape == (20000,)


def test_integers() -> None:
    x = KEYS.integers("i", -2, 5)
    assert x.dtype == np.int64
    assert abs(chi_square(np.bincount(x + 2, minlength=7))) < 5
    with pytest.raises(ValueError, match="low 3, high 3"):
        KEYS.integers("i", 3, 3)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.5, 0.5), (2.0, 1.0), (1.0, 3.0)])
def test_beta_numbers(a: float, b: float) -> None:
    x = np.sort(KEYS.beta("β", a, b))
    closed = {
        (1.0, 1.0): x,
        (0.5, 0.5): 2 / math.pi * np.arcsin(np.sqrt(x)),
        (2.0, 1.0): x**2,
        (1.0, 3.0): 1 - (1 - x) ** 3,
    }
    assert distance(x, closed[a, b]) < 1.95


def test_beta_of_small_shapes_keeps_to_the_ends() -> None:
    x = KEYS.beta("β", 0.01, 0.01)
    assert np.isfinite(x).all()
    assert abs(x.mean() - 0.5) < 0.02
    assert abs(x.var() - 0.25 / 1.02) < 0.01


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"seed 1\.5"):
        SampleKeys(1.5, 0, [0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epoch -1"):
        SampleKeys(0, -1, [0])
    with pytest.raises(TypeError, match="float64"):
        SampleKeys(0, 0, [0.5])
    with pytest.raises(ValueError, match=r"\(1, 1\)"):
        SampleKeys(0, 0, [[1]])
    with pytest.raises(TypeError, match="draw None"):
        KEYS.uniform(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="int64"):
        KEYS.normal("n", dtype=np.int64)
    with pytest.raises(ValueError, match="shapes 0"):
        KEYS.beta("β", 0, 1)
    with pytest.raises(ValueError, match="a slice, a mask"):
        KEYS[3]
