"""Initializers: the distribution each promises, seeds and errors; PyTorch's numbers where nothing is random."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from pydl.nn import init

SHAPE = (200, 50, 3, 2)  # fan-in 300, fan-out 1200
COUNT = math.prod(SHAPE)

UNIFORM: list[tuple[Callable[..., Any], float]] = [
    (init.uniform_, 1 / 12),
    (lambda t, **k: init.uniform_(t, -2.0, 2.0, **k), 16 / 12),
    (init.xavier_uniform_, 2 / 1500),
    (lambda t, **k: init.xavier_uniform_(t, gain=3.0, **k), 18 / 1500),
    (init.kaiming_uniform_, 2 / 300),
    (lambda t, **k: init.kaiming_uniform_(t, a=2.0, mode="fan_out", **k), 2 / 5 / 1200),
    (init.lecun_uniform_, 1 / 300),
]
NORMAL: list[tuple[Callable[..., Any], float]] = [
    (init.normal_, 1.0),
    (lambda t, **k: init.normal_(t, std=0.3, **k), 0.09),
    (init.xavier_normal_, 2 / 1500),
    (init.kaiming_normal_, 2 / 300),
    (lambda t, **k: init.kaiming_normal_(t, nonlinearity="tanh", **k), 25 / 9 / 300),
    (lambda t, **k: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu", **k), 2 / 1200),
    (init.lecun_normal_, 1 / 300),
]


def drawn(function: Callable[..., Any], shape: tuple[int, ...] = SHAPE, seed: int = 1) -> np.ndarray:
    tensor = pydl.empty(shape, dtype=pydl.float64)
    assert function(tensor, generator=pydl.Generator(seed)) is tensor
    return tensor.numpy().copy()


@pytest.mark.parametrize(("function", "variance"), UNIFORM)
def test_uniform_ones_have_their_variance_and_bounds(function: Callable[..., Any], variance: float) -> None:
    x = drawn(function).ravel()
    half = math.sqrt(3 * variance)
    middle = 0.5 if function is init.uniform_ else 0.0
    assert np.all((x >= middle - half) & (x < middle + half))
    assert x.max() - x.min() > 1.99 * half
    assert abs(x.mean() - middle) < 5 * math.sqrt(variance / COUNT)
    assert abs(x.var() / variance - 1) < 5 * math.sqrt(0.8 / COUNT)


@pytest.mark.parametrize(("function", "variance"), NORMAL)
def test_normal_ones_have_their_variance_and_tails(function: Callable[..., Any], variance: float) -> None:
    x = drawn(function).ravel() / math.sqrt(variance)
    assert abs(x.mean()) < 5 / math.sqrt(COUNT)
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / COUNT)
    assert abs((np.abs(x) > 2).mean() - 0.0455) < 5 * math.sqrt(0.0455 / COUNT)


RANDOM = [f for f, _ in UNIFORM + NORMAL] + [init.trunc_normal_, init.orthogonal_]


@pytest.mark.parametrize("function", RANDOM)
def test_seeds_repeat(function: Callable[..., Any]) -> None:
    shape = (7, 5, 2)
    assert np.array_equal(drawn(function, shape), drawn(function, shape))
    assert not np.array_equal(drawn(function, shape), drawn(function, shape, seed=2))
    tensors = []
    for _ in range(2):
        pydl.manual_seed(11)
        tensors.append(function(pydl.empty(shape)).numpy().copy())
    assert np.array_equal(*tensors)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0, 1, -2, 2), (1, 0.5, 0.5, 3), (0, 1, 5, 6), (0, 1, 4, 1e9), (0, 2, -0.1, 0.1), (3, 1, -9, -5)],
)
def test_truncated_normal(mean: float, std: float, a: float, b: float) -> None:
    x = drawn(lambda t, **k: init.trunc_normal_(t, mean, std, a, b, **k), (40_000,))
    assert a <= x.min() < x.max() <= b
    low = (a - mean) / std
    grid = np.linspace(low, min((b - mean) / std, low + 60), 2_000_001)
    density = np.exp(-0.5 * (grid**2 - np.min(grid**2)))
    density /= density.sum()
    exact_mean = (grid * density).sum()
    exact_var = ((grid - exact_mean) ** 2 * density).sum()
    assert abs((x.mean() - mean) / std - exact_mean) < 5 * math.sqrt(exact_var / x.size) + 1e-4
    assert abs(x.var() / std**2 / exact_var - 1) < 0.1
    assert abs((x <= mean + std * exact_mean).mean() - density[grid <= exact_mean].sum()) < 0.015


def test_truncated_normal_of_no_spread_and_errors() -> None:
    assert init.trunc_normal_(pydl.empty((3,)), 9.0, 0.0).numpy().tolist() == [2.0] * 3
    for arguments in ((0, 1, 2, 2), (0, -1, -2, 2), (0, float("nan"), -2, 2)):
        with pytest.raises(ValueError, match=r"\[trunc_normal_\]"):
            init.trunc_normal_(pydl.empty((3,)), *arguments)


def test_constants() -> None:
    assert init.zeros_(pydl.empty((2, 2))).numpy().tolist() == [[0, 0], [0, 0]]
    assert init.ones_(pydl.empty((2,))).numpy().tolist() == [1, 1]
    assert init.constant_(pydl.empty((2,)), 0.3).numpy().tolist() == [np.float32(0.3)] * 2
    assert init.eye_(pydl.empty((2, 3))).numpy().tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (3, 2, 4), (1, 1)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    x = drawn(lambda t, **k: init.orthogonal_(t, gain=3.0, **k), shape).reshape(shape[0], -1)
    gram = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
    np.testing.assert_allclose(gram, 9 * np.eye(len(gram)), atol=1e-13)


def test_orthogonal_has_no_preferred_signs() -> None:
    first = [init.orthogonal_(pydl.empty((3, 3)))[0, 0].item() for _ in range(200)]
    assert 60 < sum(x > 0 for x in first) < 140


def test_sparse() -> None:
    x = drawn(lambda t, **k: init.sparse_(t, 0.1, std=2.0, **k), (95, 300))
    assert ((x == 0).sum(0) == 10).all()
    assert len({tuple(column) for column in (x == 0).T}) > 290
    assert abs(x[x != 0].std() - 2) < 0.1


@pytest.mark.parametrize(
    ("shape", "groups"), [((3, 3, 5), 1), ((4, 2, 3, 3), 1), ((2, 4, 3, 4), 1), ((4, 3, 2, 3, 3), 2), ((6, 2, 3), 3)]
)
def test_dirac(shape: tuple[int, ...], groups: int) -> None:
    x = init.dirac_(pydl.empty(shape), groups).numpy()
    assert x.sum() == groups * min(shape[0] // groups, shape[1])
    centre = tuple(n // 2 for n in shape[2:])
    per = shape[0] // groups
    assert all(x[(g * per + d, d, *centre)] == 1 for g in range(groups) for d in range(min(per, shape[1])))
    torch = pytest.importorskip("torch")
    assert np.array_equal(x, torch.nn.init.dirac_(torch.empty(shape), groups).numpy())


def test_gains() -> None:
    assert init.calculate_gain("linear") == init.calculate_gain("conv2d") == init.calculate_gain("sigmoid") == 1
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("relu") == init.calculate_gain("leaky_relu", 0.0) == math.sqrt(2)
    assert init.calculate_gain("leaky_relu") == math.sqrt(2 / (1 + 0.01**2))
    assert init.calculate_gain("selu") == 0.75
    with pytest.raises(ValueError, match="nonlinearity 'swish'"):
        init.calculate_gain("swish")
    with pytest.raises(ValueError, match="slope"):
        init.calculate_gain("leaky_relu", "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "xavier_uniform_",
        "xavier_normal_",
        "kaiming_uniform_",
        "kaiming_normal_",
        "lecun_uniform_",
        "lecun_normal_",
        "orthogonal_",
    ],
)
def test_vectors_have_no_fans(name: str) -> None:
    with pytest.raises(ValueError, match=rf"\[{name}\] got shape \(3,\), expected two axes or more"):
        getattr(init, name)(pydl.empty((3,)))
    getattr(init, name)(pydl.empty((0, 3)))


def test_other_errors() -> None:
    for wrong in (
        lambda: init.kaiming_normal_(pydl.empty((2, 2)), mode="fan_avg"),
        lambda: init.uniform_(pydl.empty((2,)), 1.0, 0.0),
        lambda: init.normal_(pydl.empty((2,)), std=-1.0),
        lambda: init.eye_(pydl.empty((2,))),
        lambda: init.dirac_(pydl.empty((2, 2))),
        lambda: init.dirac_(pydl.empty((3, 2, 2)), groups=2),
        lambda: init.sparse_(pydl.empty((2, 2)), 1.5),
        lambda: init.sparse_(pydl.empty((2,)), 0.5),
    ):
        with pytest.raises(ValueError, match=r"\["):
            wrong()


def test_parameters_may_be_filled_without_a_graph() -> None:
    weight = pydl.zeros((3, 2), requires_grad=True)
    for function in (init.xavier_normal_, init.orthogonal_, init.trunc_normal_, init.eye_, init.ones_):
        function(weight)
        assert weight.is_leaf
        assert weight.requires_grad


def erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf)(x)


def kolmogorov(sample: np.ndarray, cdf: Callable[[np.ndarray], np.ndarray]) -> float:
    """√n times the largest distance of the sample's distribution from the promised one; over 1.95 once in 1000."""
    x = np.sort(sample)
    exact = cdf(x)
    steps = np.arange(len(x) + 1) / len(x)
    return math.sqrt(len(x)) * max(np.max(exact - steps[:-1]), np.max(steps[1:] - exact))


@pytest.mark.parametrize(("function", "variance"), UNIFORM)
def test_uniform_ones_by_kolmogorov_and_smirnov(function: Callable[..., Any], variance: float) -> None:
    half = math.sqrt(3 * variance)
    low = 0.0 if function is init.uniform_ else -half
    assert kolmogorov(drawn(function).ravel(), lambda x: (x - low) / (2 * half)) < 1.95


@pytest.mark.parametrize(("function", "variance"), NORMAL)
def test_normal_ones_by_kolmogorov_and_smirnov(function: Callable[..., Any], variance: float) -> None:
    assert kolmogorov(drawn(function).ravel(), lambda x: 0.5 * (1 + erf(x / math.sqrt(2 * variance)))) < 1.95


def test_truncated_and_orthogonal_ones_by_kolmogorov_and_smirnov() -> None:
    inside = math.erf(2 / math.sqrt(2))
    assert kolmogorov(drawn(init.trunc_normal_).ravel(), lambda x: 0.5 + 0.5 * erf(x / math.sqrt(2)) / inside) < 1.95
    # One row of a random orthogonal matrix is nearly normal with variance 1/n.
    rows = np.concatenate([drawn(init.orthogonal_, (200, 200), seed)[0] for seed in range(20)])
    assert kolmogorov(rows, lambda x: 0.5 * (1 + erf(x * 10))) < 1.95


def test_old_names_without_the_underscore() -> None:
    assert init.xavier_uniform is init.xavier_uniform_  # type: ignore[attr-defined]
    assert not hasattr(init, "xavier")
