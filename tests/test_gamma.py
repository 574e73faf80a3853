"""The gamma function's family: log-gamma, its derivatives and the incomplete functions, against long double."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pydl
import special as exact
from tolerances import assert_ulp

EPS = np.finfo(np.float64).eps


def spread(rng: np.random.Generator) -> np.ndarray:
    """Positive numbers of all sizes, many of them where ways of computing meet, or the logarithm is small."""
    meeting = [c + rng.normal(size=300) * 1e-3 for c in (0.5, 1.0, 1.5, 2.0, 2.5, 3.5, 9.5, 10.0)]
    close = [c * (1 + rng.normal(size=300) * 1e-12) for c in (1.0, 2.0)]
    small = np.ldexp(rng.uniform(1, 2, 1000), rng.integers(-100, 0, 1000))
    large = np.ldexp(rng.uniform(1, 2, 1000), rng.integers(3, 100, 1000))
    return np.concatenate([*meeting, *close, small, large, rng.uniform(0.01, 14, 5000)])


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 0.51), ("float64", 8.0)])
def test_log_gamma_of_positive_numbers(dtype: str, bound: float, rng: np.random.Generator) -> None:
    x = spread(rng).astype(dtype)
    assert_ulp(pydl.lgamma(pydl.asarray(x)).numpy(), exact.lgamma(x), dtype, bound)


def test_log_gamma_of_negative_numbers(rng: np.random.Generator) -> None:
    x = np.concatenate([-rng.uniform(0, 30, 5000), -np.ldexp(rng.uniform(1, 2, 1000), rng.integers(-1070, 40, 1000))])
    got = pydl.lgamma(pydl.asarray(x)).numpy()
    np.testing.assert_allclose(got, [math.lgamma(v) for v in x], rtol=1e-13, atol=2e-14)


def test_digamma(rng: np.random.Generator) -> None:
    x = spread(rng)
    wanted = exact.digamma(x)
    error = np.abs(pydl.digamma(pydl.asarray(x)).numpy() - wanted) / np.maximum(np.abs(wanted), 1)
    assert error.max() < 12 * EPS
    x = -x[x < 100]
    x = x[np.abs(x - np.round(x)) > 1e-9]
    np.testing.assert_allclose(pydl.digamma(pydl.asarray(x)).numpy(), exact.digamma(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 20])
def test_polygamma(n: int, rng: np.random.Generator) -> None:
    x = np.concatenate([rng.uniform(0.01, 60, 500), -rng.uniform(0.2, 0.8, 50) - rng.integers(0, 9, 50)])
    z, wanted = exact.wide(x), exact.wide(np.zeros_like(x))
    for _ in range(3000):
        wanted = wanted + z ** -(n + 1)
        z = z + 1
    wanted = wanted + z**-n / n + z ** -(n + 1) / 2 + (n + 1) * z ** -(n + 2) / 12
    wanted = wanted * (-1) ** (n + 1) * math.factorial(n)
    scale = wanted if n % 2 else np.maximum(np.abs(wanted), 1)  # even orders have zeros among the negative numbers
    got = pydl.polygamma(n, pydl.asarray(x)).numpy()
    assert np.max(np.abs((got - wanted) / scale)) < (n + 8) * 4 * EPS


def test_ends() -> None:
    inf, nan = math.inf, math.nan
    for dtype in (pydl.float32, pydl.float64):
        x = pydl.asarray([0.0, -0.0, 1.0, 2.0, -1.0, -300.0, inf, -inf, nan, 1e30], dtype=dtype)
        x[-1] = 1e-30
        tiny = math.log(1e30) if dtype is pydl.float64 else -math.log(np.float32(1e-30))
        wanted = [inf, inf, 0.0, 0.0, inf, inf, inf, inf, nan, tiny]
        np.testing.assert_allclose(pydl.lgamma(x).numpy(), wanted, rtol=1e-6)
        np.testing.assert_array_equal(
            pydl.digamma(x).numpy()[[0, 1, 4, 5, 6, 7, 8]], [-inf, inf, nan, nan, inf, nan, nan]
        )
        np.testing.assert_array_equal(pydl.polygamma(1, x).numpy()[[0, 1, 4, 5, 6, 8]], [inf, inf, inf, inf, 0.0, nan])
    assert np.isnan(pydl.polygamma(2, pydl.asarray(-20000.5)).item())
    far = pydl.asarray([-20000.5, -1e9 - 0.5], dtype=pydl.float64, requires_grad=True)
    pydl.digamma(far).sum().backward()
    np.testing.assert_allclose(far.grad.numpy(), np.pi**2, rtol=1e-4)


def test_orders_are_whole_and_not_too_large() -> None:
    x = pydl.asarray([1.5], dtype=pydl.float64)
    for n in (171, 2**31, -1):
        with pytest.raises(ValueError, match=rf"^\[polygamma\] got the order {n}"):
            pydl.polygamma(n, x)
    with pytest.raises(TypeError, match="float"):
        pydl.polygamma(1.5, x)  # type: ignore[arg-type]
    assert np.isfinite(pydl.polygamma(170, x).item())


def test_each_gradient_is_the_next_function() -> None:
    x = pydl.asarray([0.3, 1.7, 4.0, 12.5, -0.4], dtype=pydl.float64, requires_grad=True)
    function = pydl.lgamma(x)
    for n in range(4):
        (function,) = pydl.autograd.grad(function.sum(), [x], create_graph=True)
        np.testing.assert_array_equal(function.detach().numpy(), pydl.polygamma(n, x).detach().numpy())


def test_in_place_and_other_types() -> None:
    x = pydl.asarray([0.5, 3.0])
    memory = x.data_ptr()
    assert x.lgamma_() is x
    assert x.data_ptr() == memory
    np.testing.assert_allclose(x.numpy(), [math.lgamma(0.5), math.lgamma(3.0)], rtol=1e-6)
    assert pydl.lgamma(pydl.asarray([3, 4])).dtype == pydl.float32
    assert pydl.digamma(pydl.asarray([3.0], dtype=pydl.bfloat16)).dtype == pydl.bfloat16


def test_incomplete_functions_of_all_shapes() -> None:
    for shape in ((), (0,), (1,), (2, 3)):
        a, x = pydl.full(shape, 2.0, dtype=pydl.float64), pydl.full(shape, 1.0, dtype=pydl.float64)
        wanted = np.full(shape, 1 - 2 / math.e)  # 1 - (1 + x) e^-x
        np.testing.assert_allclose(pydl.igamma(a, x).numpy(), wanted, rtol=1e-14)
        np.testing.assert_allclose(pydl.igammac(a, x).numpy(), 1 - wanted, rtol=1e-14)
    large = pydl.asarray([1e7, 3e8], dtype=pydl.float64)
    np.testing.assert_allclose(
        pydl.igamma(large, large).numpy(), 0.5 + 1 / (3 * np.sqrt(2 * np.pi * large.numpy())), rtol=1e-6
    )
    a, x = pydl.asarray([[1.0], [4.0]], dtype=pydl.float64), pydl.asarray([0.5, 2.0, 30.0], dtype=pydl.float64)
    below, above = pydl.igamma(a, x).numpy(), pydl.igammac(a, x).numpy()
    np.testing.assert_allclose(above[0], np.exp([-0.5, -2.0, -30.0]), rtol=1e-13)
    np.testing.assert_allclose(below + above, 1, rtol=1e-15)
