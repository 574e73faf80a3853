"""Results too large for the caches, which take another way to memory: the same bits as piece by piece."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import pydl
from pydl import Tensor

ROWS, COLS = 877, 16_384  # 57 MB of float32


CASES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "unary": lambda x, row, column: pydl.exp(x * -0.01),
    "two": lambda x, row, column: x * (x - 3.0),
    "number on the right": lambda x, row, column: x + 2.5,
    "number on the left": lambda x, row, column: 2.5 / x,
    "row": lambda x, row, column: x + row,
    "column": lambda x, row, column: x / column,
    "row and column": lambda x, row, column: row - column + x,
    "parameters": lambda x, row, column: pydl.clip(x, 3.0, 30.0),
    "where": lambda x, row, column: pydl.where(x > 50.0, x, row),
    "copy": lambda x, row, column: x.clone(),
    "gap": lambda x, row, column: x[:, : COLS - 64] + 1.0,
    "other way round": lambda x, row, column: (x.T + 1.0).T,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_as_pieces(case: str, dtype: str, rng: np.random.Generator, threads: None) -> None:
    x, function = pydl.tensor(rng.integers(1, 100, (ROWS, COLS)).astype(dtype)), CASES[case]
    row, column = x[0] * 0.5, x[:, :1] * 0.25
    expected = np.concatenate([function(x[i : i + 40], row, column[i : i + 40]).numpy() for i in range(0, ROWS, 40)])
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        np.testing.assert_array_equal(function(x, row, column).numpy(), expected)


@pytest.mark.parametrize("length", [13_000_001, 12_999_983])
def test_a_rest_after_whole_vectors(length: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal(length).astype("float32")
    ours = pydl.tensor(x)
    np.testing.assert_array_equal((ours + ours).numpy(), x + x)
    np.testing.assert_array_equal((ours + 1.5).numpy(), x + np.float32(1.5))
    np.testing.assert_array_equal(ours.clone().numpy(), x)


def test_into_memory_that_is_not_aligned(rng: np.random.Generator) -> None:
    x = pydl.tensor(rng.standard_normal(13_000_000).astype("float32"))
    around = pydl.ones(13_000_003)
    around[2:-1] = x
    np.testing.assert_array_equal(around[2:-1].numpy(), x.numpy())
    assert around[:2].tolist() == [1.0, 1.0]
    assert around[-1] == 1.0
    np.testing.assert_array_equal((around[2:-1] + x).numpy(), 2 * x.numpy())


def test_bytes(rng: np.random.Generator) -> None:
    x = rng.integers(0, 100, 51_000_001).astype("uint8")
    ours = pydl.tensor(x)
    np.testing.assert_array_equal((ours > 50).numpy(), x > 50)
    np.testing.assert_array_equal((ours + ours).numpy(), x + x)
