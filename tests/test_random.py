"""Random numbers: the right distribution, the same ones for the same seed and any thread count, a state to keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
import special as exact

N = 400_003
FLOATS = ("float32", "float64")


def ks_distance(sample: np.ndarray, cdf: Callable[[np.ndarray], np.ndarray]) -> float:
    """The Kolmogorov-Smirnov statistic times sqrt(n): above 2.2 once in ten thousand."""
    ordered = np.sort(sample.astype(np.float64))
    n = ordered.size
    expected = np.asarray(cdf(ordered), dtype=np.float64)
    steps = np.arange(n + 1) / n
    return float(max(np.max(steps[1:] - expected), np.max(expected - steps[:-1])) * np.sqrt(n))


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return np.asarray(exact.erfc(-x / np.sqrt(2)), np.float64) / 2


def chi2_excess(counts: np.ndarray, expected: np.ndarray) -> float:
    """Standard deviations by which chi-squared exceeds its mean."""
    chi2 = np.sum((counts - expected) ** 2 / expected)
    freedom = counts.size - 1
    return float((chi2 - freedom) / np.sqrt(2 * freedom))


# name: draws an array of about the given size from a generator
DRAWS: dict[str, Callable[[int, Any], pydl.Tensor]] = {
    "rand": lambda n, g: pydl.rand(n, generator=g),
    "rand64": lambda n, g: pydl.rand(n, generator=g, dtype=pydl.float64),
    "randn": lambda n, g: pydl.randn(n, generator=g),
    "randn64": lambda n, g: pydl.randn(n, generator=g, dtype=pydl.float64),
    "randint": lambda n, g: pydl.randint(-3, 1000, (n,), generator=g),
    "randperm": lambda n, g: pydl.randperm(n, generator=g),
    "bernoulli": lambda n, g: pydl.bernoulli(pydl.ones((n,)) * 0.3, generator=g),
    "multinomial": lambda n, g: pydl.multinomial(pydl.asarray([1.0, 2.0, 5.0]), n, replacement=True, generator=g),
    "uniform_": lambda n, g: pydl.empty((n,)).uniform_(-2, 3, generator=g),
    "normal_": lambda n, g: pydl.empty((n,)).normal_(1, 2, generator=g),
}
BY_DRAW = pytest.mark.parametrize("draw", DRAWS)


@BY_DRAW
def test_same_seed_same_numbers_at_any_thread_count(draw: str, threads: None) -> None:
    results = []
    for count in (1, 2, 3, 4, 8):
        pydl.set_num_threads(count)
        results.append(DRAWS[draw](N, pydl.Generator(42)).numpy().tobytes())
    assert len(set(results)) == 1
    assert DRAWS[draw](N, pydl.Generator(43)).numpy().tobytes() != results[0]


@BY_DRAW
def test_successive_draws_differ_and_do_not_overlap(draw: str) -> None:
    g = pydl.Generator(7)
    first, second = DRAWS[draw](1000, g).numpy(), DRAWS[draw](1000, g).numpy()
    assert not np.array_equal(first, second)
    if draw in ("rand64", "randn64"):
        assert np.intersect1d(first, second).size == 0


@BY_DRAW
@pytest.mark.parametrize("size", [1, 5, 1000, 4097])
def test_saved_state_continues_where_it_was(draw: str, size: int) -> None:
    g = pydl.Generator(5)
    DRAWS[draw](size, g)
    state = g.get_state()
    wanted = [DRAWS[draw](size, g).numpy().copy() for _ in range(3)]
    other = pydl.Generator(99)
    DRAWS[draw](3, other)
    other.set_state(state)
    for w in wanted:
        np.testing.assert_array_equal(DRAWS[draw](size, other).numpy(), w)


@pytest.mark.parametrize("draw", ["rand", "rand64", "randn", "randn64", "randint", "bernoulli"])
def test_a_number_depends_on_its_position_alone(draw: str) -> None:
    """Counter-based: a shorter draw is the beginning of a longer one."""
    long = DRAWS[draw](5003, pydl.Generator(3)).numpy()
    for size in (1, 2, 3, 7, 64, 1001):
        np.testing.assert_array_equal(DRAWS[draw](size, pydl.Generator(3)).numpy(), long[:size])


def test_seeds_are_integers_modulo_2_to_the_64() -> None:
    for seed, same in ((-1, 2**64 - 1), (2**64 + 3, 3), (np.int64(7), 7), (True, 1)):
        assert pydl.Generator(seed).initial_seed() == same
        assert pydl.Generator(0).manual_seed(seed).initial_seed() == same
        assert pydl.manual_seed(seed).initial_seed() == same
    for wrong in (1.5, "1", [1]):
        for call in (pydl.Generator, pydl.Generator(0).manual_seed, pydl.manual_seed):
            with pytest.raises(TypeError, match=r"got .*1.* as seed, expected an integer"):
                call(wrong)


def test_manual_seed_sets_the_default_generator() -> None:
    pydl.manual_seed(12)
    first = [pydl.rand(10).numpy(), pydl.randn(10).numpy(), pydl.randperm(10).numpy()]
    pydl.manual_seed(12)
    second = [pydl.rand(10).numpy(), pydl.randn(10).numpy(), pydl.randperm(10).numpy()]
    pydl.manual_seed(13)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(pydl.rand(10).numpy(), first[0])


def test_the_default_generator_leaves_others_alone() -> None:
    g = pydl.Generator(1)
    pydl.manual_seed(1)
    pydl.rand(100)
    np.testing.assert_array_equal(pydl.rand(5, generator=g).numpy(), pydl.rand(5, generator=pydl.Generator(1)).numpy())


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_distribution(dtype: str) -> None:
    x = pydl.rand(N, generator=pydl.Generator(1), dtype=getattr(pydl, dtype)).numpy()
    assert x.dtype == dtype
    assert x.min() >= 0
    assert x.max() < 1
    assert ks_distance(x, lambda v: v) < 2.2
    for lag in (1, 2, 4, 8, 16):
        correlation = np.corrcoef(x[:-lag], x[lag:])[0, 1]
        assert abs(correlation) < 5 / np.sqrt(N)
    low_bits = np.bincount((x * 2**23).astype(np.int64) & 15, minlength=16)
    assert abs(chi2_excess(low_bits, np.full(16, N / 16))) < 6


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal_distribution(dtype: str) -> None:
    x = pydl.randn(N, generator=pydl.Generator(2), dtype=getattr(pydl, dtype)).numpy().astype(np.float64)
    assert ks_distance(x, normal_cdf) < 2.2
    for power, wanted, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(x**power) - wanted) < 5 * np.sqrt(variance / N)
    beyond = 2 * (1 - normal_cdf(np.array([3.0])))[0]
    assert abs(np.mean(np.abs(x) > 3) - beyond) < 5 * np.sqrt(beyond / N)
    assert np.max(np.abs(x)) > 4
    for lag in (1, 2, 4, 8):
        assert abs(np.mean(x[:-lag] * x[lag:])) < 5 / np.sqrt(N)
    squares = x * x - 1
    assert abs(np.mean(squares[0:-1:2] * squares[1::2])) < 5 * 2 / np.sqrt(N / 2)  # pairs of one transform


def test_uniform_and_normal_with_parameters() -> None:
    g = pydl.Generator(4)
    u = pydl.empty((N,)).uniform_(-2.0, 3.0, generator=g).numpy()
    assert (u.min() >= -2, u.max() < 3) == (True, True)
    assert ks_distance(u, lambda v: (v + 2) / 5) < 2.2
    n = pydl.empty((N,)).normal_(10.0, 0.5, generator=g).numpy()
    assert ks_distance(n, lambda v: normal_cdf((v - 10) / 0.5)) < 2.2
    u = pydl.uniform(-1.0, 1.0, (N,), generator=g).numpy()
    assert ks_distance(u, lambda v: (v + 1) / 2) < 2.2
    n = pydl.normal(-1.0, 2.0, (N,), generator=g).numpy()
    assert ks_distance(n, lambda v: normal_cdf((v + 1) / 2)) < 2.2


@pytest.mark.parametrize(
    ("low", "high"), [(0, 2), (-5, 5), (0, 7), (0, 1000), (-(2**62), 2**62), (0, 3 * 2**61), (5, 6)]
)
def test_randint(low: int, high: int) -> None:
    """No modulo bias: 3 * 2^61 would show it as a factor of two."""
    x = pydl.randint(low, high, (N,), generator=pydl.Generator(6)).numpy()
    assert x.dtype == np.int64
    assert x.min() >= low
    assert x.max() < high
    bins = min(high - low, 12)
    counts = np.bincount(((x.astype(object) - low) * bins // (high - low)).astype(np.int64), minlength=bins)
    if bins > 1:
        edges = [-(-k * (high - low) // bins) for k in range(bins + 1)]
        expected = np.diff(np.array(edges, dtype=object)).astype(np.float64) / (high - low) * N
        assert abs(chi2_excess(counts, expected)) < 6


@pytest.mark.parametrize("n", [0, 1, 2, 17, 1000, 100_003])
def test_randperm_is_a_permutation(n: int) -> None:
    x = pydl.randperm(n, generator=pydl.Generator(n)).numpy()
    assert x.dtype == np.int64
    np.testing.assert_array_equal(np.sort(x), np.arange(n))
    if n >= 1000:
        assert np.sum(x == np.arange(n)) < 12
        assert abs(np.corrcoef(x, np.arange(n))[0, 1]) < 5 / np.sqrt(n)


def test_randperm_is_uniform_over_all_orders() -> None:
    g = pydl.Generator(8)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(12_000):
        order = tuple(pydl.randperm(4, generator=g).numpy().tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert abs(chi2_excess(np.array(list(counts.values())), np.full(24, 500.0))) < 6


@pytest.mark.parametrize("p", [0.0, 0.01, 0.5, 0.9, 1.0])
def test_bernoulli(p: float) -> None:
    x = pydl.bernoulli(pydl.asarray(np.full(N, p, np.float32)), generator=pydl.Generator(9)).numpy()
    assert set(np.unique(x)) <= {0.0, 1.0}
    assert abs(x.mean() - p) <= 5 * np.sqrt(p * (1 - p) / N) + 1e-7 * (0 < p < 1)


def test_bernoulli_takes_a_probability_for_each_element() -> None:
    p = np.linspace(0, 1, 11).astype(np.float32)
    x = pydl.bernoulli(pydl.asarray(np.broadcast_to(p, (20_000, 11)).copy()), generator=pydl.Generator(10)).numpy()
    assert np.all(np.abs(x.mean(0) - p) < 5 * np.sqrt(p * (1 - p) / 20_000) + 1e-9)
    with pytest.raises(ValueError, match=r"\[bernoulli\]"):
        pydl.bernoulli(pydl.asarray(np.array([0.5, 1.5])))


def test_multinomial_with_replacement() -> None:
    weights = np.array([[1.0, 0.0, 3.0, 6.0], [5.0, 5.0, 0.0, 0.0]])
    x = pydl.multinomial(pydl.asarray(weights), 50_000, replacement=True, generator=pydl.Generator(11)).numpy()
    assert x.shape == (2, 50_000)
    for row, w in zip(x, weights, strict=True):
        share = np.bincount(row, minlength=4) / row.size
        p = w / w.sum()
        assert np.all(np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / row.size))


def test_multinomial_without_replacement() -> None:
    weights = np.array([1.0, 2.0, 3.0, 0.0, 4.0])
    g = pydl.Generator(12)
    draws = np.array([pydl.multinomial(pydl.asarray(weights), 2, generator=g).numpy() for _ in range(20_000)])
    assert np.all(draws[:, 0] != draws[:, 1])
    assert not np.any(draws == 3)
    p = weights / 10
    first = np.bincount(draws[:, 0], minlength=5) / 20_000
    assert np.all(np.abs(first - p) <= 5 * np.sqrt(p * (1 - p) / 20_000))
    second = np.array([sum(p[i] * p[j] / (1 - p[i]) for i in range(5) if i != j) for j in range(5)])
    share = np.bincount(draws[:, 1], minlength=5) / 20_000
    assert np.all(np.abs(share - second) <= 5 * np.sqrt(second * (1 - second) / 20_000))


@pytest.mark.parametrize(
    ("weights", "count"),
    [([0.0, 0.0], 1), ([1.0, -1.0], 1), ([np.nan, 1.0], 1), ([np.inf, 1.0], 1), ([1.0, 0.0, 2.0], 3), ([], 1)],
)
def test_multinomial_of_bad_weights_raises(weights: list[float], count: int) -> None:
    with pytest.raises(ValueError, match=r"\[multinomial\]"):
        pydl.multinomial(pydl.asarray(np.array(weights)), count)


def test_other_bad_arguments_raise() -> None:
    with pytest.raises(ValueError, match=r"\[randint\]"):
        pydl.randint(5, 5, (3,))
    with pytest.raises(ValueError, match=r"\[randperm\]"):
        pydl.randperm(-1)
    with pytest.raises(ValueError, match=r"\[(rand|uniform)\]"):
        pydl.rand(-2)
    with pytest.raises(ValueError, match=r"\["):
        pydl.empty((3,)).uniform_(2, 1)
    with pytest.raises(ValueError, match=r"\["):
        pydl.empty((3,)).normal_(0, -1)
    with pytest.raises((ValueError, TypeError), match=r"\["):
        pydl.Generator(1).set_state(pydl.zeros((1,)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", FLOATS)
def test_dropout_scales_what_it_keeps(p: float, dtype: str, rng: np.random.Generator) -> None:
    a = rng.uniform(1, 2, (301, 997)).astype(dtype)
    x = pydl.asarray(a).requires_grad_()
    pydl.manual_seed(3)
    y = pydl.nn.functional.dropout(x, p, True)
    kept = y.detach().numpy() != 0
    assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / a.size)
    np.testing.assert_allclose(y.detach().numpy()[kept], (a / (1 - p))[kept], rtol=4 * np.finfo(dtype).eps)
    upstream = rng.uniform(-1, 2, a.shape).astype(dtype)
    y.backward(pydl.asarray(upstream))
    np.testing.assert_allclose(x.grad.numpy(), np.where(kept, upstream / (1 - p), 0), rtol=4 * np.finfo(dtype).eps)
    rows, columns = kept.mean(1), kept.mean(0)
    assert np.all(np.abs(rows - (1 - p)) < 6 * np.sqrt(p * (1 - p) / 997))
    assert np.all(np.abs(columns - (1 - p)) < 6 * np.sqrt(p * (1 - p) / 301))


def test_dropout_at_its_ends_and_in_evaluation() -> None:
    a = np.array([1.0, np.inf, -3.0])
    x = pydl.asarray(a)
    np.testing.assert_array_equal(pydl.nn.functional.dropout(x, 0.5, False).numpy(), a)
    np.testing.assert_array_equal(pydl.nn.functional.dropout(x, 0.0, True).numpy(), a)
    np.testing.assert_array_equal(pydl.nn.functional.dropout(pydl.asarray(a[[0, 2]]), 1.0, True).numpy(), [0, 0])
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"\[dropout\]"):
            pydl.nn.functional.dropout(x, p, True)


def test_dropout_masks_do_not_depend_on_threads_or_layout(threads: None) -> None:
    results = []
    for count in (1, 2, 3, 8):
        pydl.set_num_threads(count)
        pydl.manual_seed(17)
        results.append(pydl.nn.functional.dropout(pydl.ones((1001, 300)), 0.4, True).numpy().tobytes())
    pydl.manual_seed(17)
    turned = pydl.permute_dims(pydl.ones((300, 1001)), (1, 0))
    results.append(np.ascontiguousarray(pydl.nn.functional.dropout(turned, 0.4, True).numpy()).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 16, 255, 256, 257, 1000])
def test_dropout_keeps_where_bernoulli_has_ones(dtype: str, n: int) -> None:
    """Both compare the same words with a probability; a rest after whole vectors is no exception."""
    x = pydl.arange(1, n + 1, dtype=getattr(pydl, dtype))
    for p in (0.0, 0.25, 0.5, 1.0):
        pydl.manual_seed(3)
        dropped = pydl.nn.functional.dropout(x, p).numpy()
        pydl.manual_seed(3)
        kept = 1 - pydl.bernoulli(pydl.full((n,), p, dtype=x.dtype)).numpy()
        scale = 0 if p == 1 else 1 / (1 - p)
        np.testing.assert_allclose(dropped, kept * x.numpy() * scale, rtol=1e-6)
        pydl.manual_seed(3)
        np.testing.assert_array_equal(pydl.empty(n, dtype=x.dtype).bernoulli_(p).numpy(), 1 - kept)
