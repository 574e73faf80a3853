"""cummax and cummin: every dtype, ties, NaN, long and short axes, gradients; and what is made of them."""

from __future__ import annotations

import numpy as np
import pytest

import pydl

SHAPES = [((5,), 0), ((6, 1), 1), ((7, 9), 0), ((7, 9), 1), ((3, 70, 5), 1), ((2, 300), 1), ((40, 130), 0), ((0, 3), 1)]
DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "uint64", "bool"]


def running(x: np.ndarray, axis: int, greatest: bool) -> tuple[np.ndarray, np.ndarray]:
    """By definition, one element after the other."""
    values, places = x.copy(), np.zeros(x.shape, np.int64)
    rows, row_places = np.moveaxis(values, axis, -1), np.moveaxis(places, axis, -1)
    for at in np.ndindex(rows.shape[:-1]):
        place = 0
        for k in range(rows.shape[-1]):
            new, best = rows[at][k], rows[at][place]
            if new != new or (best == best and (new >= best if greatest else new <= best)):
                place = k
            row_places[at][k] = place
        rows[at][:] = rows[at][row_places[at]]
    return values, places


@pytest.mark.parametrize("greatest", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_every_element_and_place(
    shape: tuple[int, ...], axis: int, dtype: str, greatest: bool, rng: np.random.Generator
) -> None:
    x = rng.integers(0, 6, shape).astype(dtype)
    if dtype == "uint64":
        x = x + np.uint64(2**63 - 3)
    if "float" in dtype and x.size:
        x.flat[rng.integers(0, x.size, x.size // 9)] = np.nan
    function = pydl.cummax if greatest else pydl.cummin
    values, places = function(pydl.asarray(x), axis)
    expected_values, expected_places = running(x, axis, greatest)
    np.testing.assert_array_equal(values.numpy(), expected_values)
    np.testing.assert_array_equal(places.numpy(), expected_places)
    assert values.dtype == pydl.asarray(x).dtype
    assert places.dtype == pydl.int64


def test_bfloat16_zero_axes_and_strided_input() -> None:
    x = pydl.asarray([[1.0, 3.0, 2.0], [4.0, 0.5, 4.0]])
    assert pydl.cummax(x.astype(pydl.bfloat16), 1)[0].astype(pydl.float32).tolist() == [[1, 3, 3], [4, 4, 4]]
    assert pydl.cummin(x.T, 0)[1].tolist() == [[0, 0], [0, 1], [0, 1]]
    assert pydl.cummax(pydl.asarray(2.0), 0)[1].item() == 0


def test_the_gradient_goes_to_the_place_that_was_taken() -> None:
    x = pydl.asarray([1.0, 3.0, 2.0, 3.0, 5.0], requires_grad=True)
    (pydl.cummax(x, 0)[0] * pydl.asarray([1.0, 2.0, 4.0, 8.0, 16.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 6, 0, 8, 16]


def test_the_same_bits_on_any_number_of_threads(rng: np.random.Generator) -> None:
    x = pydl.asarray(rng.standard_normal((64, 3000)).astype("float32"))
    before = pydl.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        pydl.set_num_threads(threads)
        results.append([part.numpy().tobytes() for axis in (0, 1) for part in pydl.cummin(x, axis)])
    pydl.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_an_axis_that_is_not_there() -> None:
    with pytest.raises(IndexError, match=r"^\[cummax\].*axis"):
        pydl.cummax(pydl.zeros((2, 3)), 2)


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
@pytest.mark.parametrize(("shape", "axis"), [((9,), 0), ((7, 60), 1), ((60, 7), 0), ((3, 1), 1)], ids=str)
def test_mode_is_the_smallest_of_the_most_frequent(
    shape: tuple[int, ...], axis: int, dtype: str, rng: np.random.Generator
) -> None:
    x = rng.integers(0, 7, shape).astype(dtype)
    values, places = pydl.mode(pydl.asarray(x), axis)
    rows = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
    for row, value, place in zip(rows, values.numpy().reshape(-1), places.numpy().reshape(-1)):
        found, counts = np.unique(row, return_counts=True)
        assert value == found[counts.argmax()]
        assert place == np.flatnonzero(row == value)[-1]


def test_repeats_that_differ(rng: np.random.Generator) -> None:
    x, repeats = rng.standard_normal((9, 3)).astype("float32"), rng.integers(0, 4, 9)
    for counts in (repeats, np.zeros(9, int), np.arange(9)):
        out = pydl.repeat_interleave(pydl.asarray(x), pydl.asarray(counts), 0)
        np.testing.assert_array_equal(out.numpy(), np.repeat(x, counts, 0))


def test_what_can_not_be_repeated_or_chosen() -> None:
    with pytest.raises(ValueError, match=r"^\[repeat\].*negative, got -1"):
        pydl.repeat_interleave(pydl.zeros(3), pydl.asarray([-1, 3, 1]), 0)
    with pytest.raises(ValueError, match=r"^\[mode\].*size 0"):
        pydl.mode(pydl.zeros((3, 0)), 1)
    with pytest.raises(TypeError):
        pydl.fmax(pydl.asarray([1, 2]), 2.5)  # type: ignore[arg-type]
    assert pydl.fmin(pydl.asarray([1, 5]), pydl.asarray([2, 3])).tolist() == [1, 3]


@pytest.mark.parametrize("how", ["select_scatter", "slice_scatter", "diagonal_scatter"])
def test_gradients_of_both_where_one_is_written_into_the_other(how: str) -> None:
    x, src = pydl.ones((3, 3), requires_grad=True), pydl.zeros((3,), requires_grad=True)
    part = src.reshape((1, 3)) if how == "slice_scatter" else src
    places = {"select_scatter": (0, 1), "slice_scatter": (0, 1, 2), "diagonal_scatter": ()}[how]
    out = getattr(pydl, how)(x, part, *places)
    out.sum().backward()
    assert x.grad is not None
    assert src.grad is not None
    assert x.grad.tolist() == out.detach().tolist()
    assert src.grad.tolist() == [1, 1, 1]
