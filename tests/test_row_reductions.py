"""Reductions, extremes' places and running sums of rows, short ones above all, and of integers: against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from tolerances import assert_same_bits

LENGTHS = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 20, 31, 32, 33, 70, 129, 300, 1030]  # of rows: in a vector and beyond
ROWS = [1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 200]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype.startswith("float"):
        return rng.uniform(0.9, 1.1, shape).astype(dtype) * rng.choice([-1, 1], shape).astype(dtype)
    info = np.iinfo(dtype)  # the ends of the range among them: sums and products wrap around
    return rng.choice(np.array([info.min, info.min + 1, 0, 1, 3, info.max - 1, info.max], dtype), shape)


def check(name: str, x: np.ndarray, axis: int | None) -> None:
    if x.dtype.kind == "f" and name in ("sum", "prod", "cumsum", "cumprod"):
        got = getattr(pydl, name)(pydl.asarray(x), axis=axis).numpy()
        wanted = getattr(np, name)(x.astype(np.float64), axis=axis)
        np.testing.assert_allclose(got, wanted, rtol=3e-5 if x.itemsize == 4 else 1e-12, atol=1e-4)
        return
    with np.errstate(over="ignore"):
        wanted = getattr(np, name)(x, axis=axis)
    np.testing.assert_array_equal(getattr(pydl, name)(pydl.asarray(x), axis=axis).numpy(), wanted, f"{name} {x.shape}")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "int64", "uint64"])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "argmax", "argmin", "cumsum", "cumprod", "any", "all"])
def test_rows_of_any_length(name: str, dtype: str, rng: np.random.Generator) -> None:
    for n in LENGTHS:
        check(name, values(rng, (rng.choice(ROWS), n), dtype), 1)
    for rows in ROWS:
        for n in (3, 8, 20):
            check(name, values(rng, (rows, n), dtype), 1)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "argmax", "argmin", "cumsum", "cumprod", "any", "all"])
def test_integers_along_each_axis(name: str, dtype: str, rng: np.random.Generator) -> None:
    for shape in ((5, 7), (1, 3000), (3000, 1), (600, 37), (37, 2100), (3, 40_000)):
        for axis in (0, 1):
            check(name, values(rng, shape, dtype), axis)
        if not name.startswith("cum"):
            check(name, values(rng, shape, dtype), None)


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_of_integers_are_not_among_the_identities(name: str) -> None:
    for dtype in INTEGERS:
        info = np.iinfo(dtype)
        for shape in ((4, 3), (4, 20), (2, 700), (700, 2)):
            for value in (info.min, info.max, 5):
                for axis in (0, 1, None):
                    check(name, np.full(shape, value, dtype), axis)


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin", "sum", "prod"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinities_in_short_rows(name: str, dtype: str, rng: np.random.Generator) -> None:
    for n in (1, 3, 8, 16, 17, 32, 33):
        x = rng.choice(
            np.array([1.0, -1.0, 2.0, np.nan, np.inf, -np.inf], dtype), (300, n), p=[0.3, 0.3, 0.2, 0.1, 0.05, 0.05]
        )
        with np.errstate(invalid="ignore"):
            wanted = getattr(np, name)(x, axis=1)
        np.testing.assert_array_equal(getattr(pydl, name)(pydl.asarray(x), axis=1).numpy(), wanted)
        if name in ("max", "min"):
            found: Any = getattr(pydl, name)(pydl.asarray(x), dim=1)
            np.testing.assert_array_equal(found.values.numpy(), wanted)
            np.testing.assert_array_equal(found.indices.numpy(), getattr(np, "arg" + name)(x, axis=1))


@pytest.mark.parametrize("name", ["sum", "prod", "max", "argmax", "cumsum", "cumprod"])
@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_rows_have_the_same_bits_for_any_thread_count(
    name: str, dtype: str, rng: np.random.Generator, threads: None
) -> None:
    for n in (3, 8, 20, 33):
        x = pydl.asarray(values(rng, (200_003 // n, n), dtype))
        pydl.set_num_threads(1)
        alone = getattr(pydl, name)(x, axis=1).numpy()
        for part in (1, 13, 17):  # whatever rows stand beside them
            assert_same_bits(getattr(pydl, name)(x[5 : 5 + part], axis=1).numpy(), alone[5 : 5 + part], name)
        for count in (2, 3):
            pydl.set_num_threads(count)
            assert_same_bits(getattr(pydl, name)(x, axis=1).numpy(), alone, f"{name} of {n} with {count} threads")


def test_the_gradient_of_a_running_sum_of_short_rows() -> None:
    x = pydl.asarray(np.arange(21, dtype=np.float32).reshape(7, 3), requires_grad=True)
    pydl.cumsum(x, axis=1).backward(pydl.asarray(np.arange(21, dtype=np.float32).reshape(7, 3)))
    assert x.grad is not None
    wanted = np.arange(21).reshape(7, 3)[:, ::-1].cumsum(1)[:, ::-1]
    np.testing.assert_array_equal(x.grad.numpy(), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("inner", [1, 2, 3, 5, 7, 8])
def test_running_sums_of_few_columns(inner: int, dtype: str, rng: np.random.Generator) -> None:
    for outer, n in ((1, 1), (3, 17), (11, 4), (6, 0)):
        x = rng.integers(-9, 9, (outer, n, inner)).astype(dtype)
        t = pydl.asarray(x)
        np.testing.assert_array_equal(pydl.cumsum(t, axis=1).numpy(), x.cumsum(1))
        np.testing.assert_array_equal(pydl.cumprod(t % 3, axis=1).numpy(), (x % 3).cumprod(1))
        if dtype != "int64":
            t.requires_grad_(True)
            pydl.cumsum(t, axis=1).backward(pydl.asarray(x))
            assert t.grad is not None
            np.testing.assert_array_equal(t.grad.numpy(), x[:, ::-1].cumsum(1)[:, ::-1])


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
def test_bincount(dtype: str, rng: np.random.Generator) -> None:
    x = rng.integers(0, 2 if dtype == "bool" else 100, 5000).astype(dtype)
    for part in (x, x[::3], x[:1]):
        got = pydl.bincount(pydl.asarray(part), minlength=7)
        assert got.dtype == pydl.int64
        np.testing.assert_array_equal(got.numpy(), np.bincount(part.astype(np.int64), minlength=7))
    assert pydl.bincount(pydl.asarray(x[:0])).shape == (0,)
    assert pydl.bincount(pydl.asarray(x[:0]), minlength=3).tolist() == [0, 0, 0]
    weights = rng.normal(size=5000)
    got = pydl.bincount(pydl.asarray(x), pydl.asarray(weights)).numpy()
    np.testing.assert_allclose(got, np.bincount(x.astype(np.int64), weights), rtol=1e-10, atol=1e-10)


def test_bincount_of_negative_numbers() -> None:
    with pytest.raises(ValueError, match=r"\[bincount\] got -4"):
        pydl.bincount(pydl.asarray([3, -4, 1]))
