"""Copies between layouts: every size of element, shapes that are no whole squares, results larger than the cache."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import pydl

DTYPES = ["bool", "int8", "float16", "int16", "float32", "int32", "float64", "int64"]
LARGE = [
    ((700, 1024), (1, 0)), ((1025, 512), (1, 0)), ((3000, 304), (1, 0)), ((2, 64, 1003, 17), (0, 1, 3, 2)),
    ((8, 256, 20, 20), (0, 2, 3, 1)), ((8, 20, 20, 256), (0, 3, 1, 2)), ((3, 700, 7, 64), (0, 3, 1, 2)),
]  # fmt: skip


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (rng.standard_normal(shape) * 100).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_and_odd(dtype: str, rng: np.random.Generator) -> None:
    for rows, cols in itertools.product([1, 2, 3, 4, 7, 8, 15, 16, 17, 33, 64, 70], [1, 2, 5, 8, 16, 31, 67]):
        x = values(rng, (rows, cols), dtype)
        np.testing.assert_array_equal(pydl.tensor(x).T.contiguous().numpy(), x.T, f"{rows} {cols}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axes"), LARGE, ids=str)
def test_large(shape: tuple[int, ...], axes: tuple[int, ...], dtype: str, rng: np.random.Generator, threads) -> None:
    x = values(rng, shape, dtype)
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        np.testing.assert_array_equal(pydl.tensor(x).permute(*axes).contiguous().numpy(), x.transpose(axes))


@pytest.mark.parametrize("columns", [5, 16, 1000])
@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
def test_what_lies_beside_is_left_alone(dtype: str, columns: int, rng: np.random.Generator) -> None:
    x = values(rng, (1040, columns), dtype)
    around = pydl.ones(columns + 3, 1040 + 24, dtype=getattr(pydl, dtype))
    around[1 : 1 + columns, 16 : 16 + 1040] = pydl.tensor(x).T
    expected = np.ones((columns + 3, 1040 + 24), dtype)
    expected[1 : 1 + columns, 16 : 16 + 1040] = x.T
    np.testing.assert_array_equal(around.numpy(), expected)


def test_to_another_type(rng: np.random.Generator) -> None:
    x = values(rng, (77, 130), "float32")
    np.testing.assert_array_equal(pydl.tensor(x).T.astype(pydl.float64).numpy(), x.T.astype("float64"))


@pytest.mark.parametrize("dtype", ["bool", "int16", "float32", "float64"])
def test_backwards(dtype: str, rng: np.random.Generator) -> None:
    x = values(rng, (37, 66), dtype)
    for k in range(4):
        turned = pydl.rot90(pydl.tensor(x), k)
        assert turned.is_contiguous()
        np.testing.assert_array_equal(turned.numpy(), np.rot90(x, k))
    for axes in ((0,), (1,), (0, 1)):
        np.testing.assert_array_equal(pydl.flip(pydl.tensor(x).T, axes).numpy(), np.flip(x.T, axes))
        copied = pydl.flip(pydl.tensor(x).T, axes).astype(pydl.float64)
        np.testing.assert_array_equal(copied.numpy(), np.flip(x.T, axes).astype("float64"))
