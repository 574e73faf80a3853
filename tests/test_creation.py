"""Tensors from nothing and from Python: every creation function of the standard, values and dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl

DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
SHAPES = ((), (1,), (0,), (3, 5), (2, 0, 3), (1000, 7))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_filled(dtype: str, shape: tuple[int, ...]) -> None:
    kind = getattr(pydl, dtype)
    value = True if dtype == "bool" else 3
    for got, wanted in (
        (pydl.zeros(shape, dtype=kind), np.zeros(shape, dtype)),
        (pydl.ones(shape, dtype=kind), np.ones(shape, dtype)),
        (pydl.full(shape, value, dtype=kind), np.full(shape, value, dtype)),
        (pydl.zeros_like(pydl.ones(shape, dtype=kind)), np.zeros(shape, dtype)),
        (pydl.ones_like(pydl.zeros(shape, dtype=kind)), np.ones(shape, dtype)),
        (pydl.full_like(pydl.zeros(shape, dtype=kind), value), np.full(shape, value, dtype)),
    ):
        np.testing.assert_array_equal(got.numpy(), wanted, strict=True)
    assert pydl.empty(shape, dtype=kind).numpy().shape == shape


def test_defaults() -> None:
    assert pydl.zeros((2,)).dtype == pydl.float32
    assert pydl.full((2,), 1.5).dtype == pydl.float32
    assert pydl.full((2,), 1).dtype == pydl.int64
    assert pydl.full((2,), True).dtype == pydl.bool
    assert pydl.arange(3).dtype == pydl.int64
    assert pydl.arange(3.0).dtype == pydl.float32
    assert pydl.linspace(0, 1, 3).dtype == pydl.float32
    assert pydl.asarray(1.5).dtype == pydl.float32
    assert pydl.asarray(1).dtype == pydl.int64
    assert pydl.asarray(True).dtype == pydl.bool
    assert pydl.asarray([1, 2.5]).dtype == pydl.float32
    assert pydl.asarray(np.array([1.5])).dtype == pydl.float64


@pytest.mark.parametrize("like", ["zeros_like", "ones_like", "empty_like"])
def test_like_takes_another_dtype(like: str) -> None:
    got = getattr(pydl, like)(pydl.zeros((2, 3)), dtype=pydl.int32)
    assert got.dtype == pydl.int32
    assert got.shape == (2, 3)


@pytest.mark.parametrize(
    "arguments", [(5,), (2, 9), (2, 9, 3), (9, 2, -3), (0,), (5, 2), (0.0, 1.0, 0.1), (1.0, -1.0, -0.25), (3, 3)]
)
def test_arange(arguments: tuple[Any, ...]) -> None:
    wanted = np.arange(*arguments)
    got = pydl.arange(*arguments).numpy()
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)
    if wanted.dtype == np.int64:
        np.testing.assert_array_equal(got, wanted, strict=True)


def test_arange_of_many() -> None:
    np.testing.assert_array_equal(pydl.arange(1_000_003).numpy(), np.arange(1_000_003))
    np.testing.assert_array_equal(pydl.arange(2**40, 2**40 + 5).numpy(), np.arange(2**40, 2**40 + 5))
    with pytest.raises(ValueError, match=r"\[arange\]"):
        pydl.arange(0, 5, 0)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 50, 1001])
def test_linspace(number: int) -> None:
    got = pydl.linspace(-1.0, 3.0, number, dtype=pydl.float64).numpy()
    np.testing.assert_allclose(got, np.linspace(-1, 3, number), rtol=1e-14, atol=1e-15)
    if number > 1:
        assert (got[0], got[-1]) == (-1.0, 3.0)
    open_ended = pydl.linspace(-1.0, 3.0, number, endpoint=False, dtype=pydl.float64).numpy()
    np.testing.assert_allclose(open_ended, np.linspace(-1, 3, number, endpoint=False), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(("rows", "columns", "k"), [(3, None, 0), (3, 5, 1), (5, 3, -2), (0, 3, 0), (4, 4, 9)])
def test_eye(rows: int, columns: int | None, k: int) -> None:
    got = pydl.eye(rows, columns, k=k)
    np.testing.assert_array_equal(got.numpy(), np.eye(rows, columns, k=k, dtype=np.float32), strict=True)


@pytest.mark.parametrize(
    "value", [[[1, 2], [3, 4]], [[1.5, 2], [3, 4]], [True, False], 7, 2.5, [], [[], []], ((1, 2), [3, 4])]
)
def test_from_nested_sequences(value: Any) -> None:
    wanted = np.array(value)
    got = pydl.asarray(value).numpy()
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(got, wanted)


def test_from_sequences_of_tensors() -> None:
    got = pydl.asarray([pydl.asarray(1.0), pydl.asarray(2.0)])
    assert got.numpy().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [[[1, 2], [3]], [1, "a"], object(), {"a": 1}, [None]])
def test_what_is_no_array_raises(value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"\[asarray\]"):
        pydl.asarray(value)


def test_item_and_conversions() -> None:
    assert pydl.asarray([[2.5]]).item() == 2.5
    assert (float(pydl.asarray(2.5)), int(pydl.asarray(7)), bool(pydl.asarray(False))) == (2.5, 7, False)
    assert isinstance(pydl.asarray(3).item(), int)
    assert isinstance(pydl.asarray(True).item(), bool)
    assert [10, 20, 30][pydl.asarray(1)] == 20
    for convert in (float, bool, int, lambda t: t.item()):
        with pytest.raises((ValueError, TypeError), match=r"\["):
            convert(pydl.asarray([1.0, 2.0]))


def test_len_iteration_and_membership() -> None:
    x = pydl.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert len(x) == 3
    assert [row.numpy().tolist() for row in x] == [[1, 2], [3, 4], [5, 6]]
    assert 4.0 in x
    assert 7.0 not in x
    with pytest.raises(TypeError):
        len(pydl.asarray(1.0))
    with pytest.raises(TypeError):
        iter(pydl.asarray(1.0))


def test_attributes() -> None:
    x = pydl.zeros((2, 3, 4))
    assert (x.shape, x.ndim, int(x.size), x.size()) == ((2, 3, 4), 3, 24, (2, 3, 4))
    assert x.dtype == pydl.float32
    assert str(x.device) == "cpu"
    assert x.T.shape == (4, 3, 2) or x.mT.shape == (2, 4, 3)
    assert pydl.asarray([[1, 2], [3, 4]]).mT.numpy().tolist() == [[1, 3], [2, 4]]


def test_repr_shows_values_dtype_and_gradient() -> None:
    text = repr(pydl.asarray(np.array([1.5, -2.25])).requires_grad_())
    assert "1.5" in text
    assert "-2.25" in text
    assert "float64" in text
    assert "requires_grad" in text
    assert len(repr(pydl.zeros((1000, 1000)))) < 5000
    assert "nan" in repr(pydl.asarray([float("nan")]))


def test_astype_copies_unless_told() -> None:
    x = pydl.asarray(np.array([1.0, 2.0]))
    same, copy = x.astype(pydl.float64, copy=False), x.astype(pydl.float64)
    copy.fill_(9)
    assert x.numpy().tolist() == [1, 2]
    same.fill_(5)
    assert x.numpy().tolist() == [5, 5]


def test_finfo_iinfo_and_isdtype() -> None:
    assert pydl.finfo(pydl.float32).eps == np.finfo(np.float32).eps
    assert pydl.iinfo(pydl.int16).max == 32767
    assert pydl.isdtype(pydl.float32, "real floating")
    assert not pydl.isdtype(pydl.int8, "real floating")
    assert pydl.can_cast(pydl.float32, pydl.float64)
    assert not pydl.can_cast(pydl.float64, pydl.float32)


@pytest.mark.parametrize("shape", [(-1,), (2, -3), (2**40, 2**40), (1.5,), "ab"])
def test_impossible_shapes_raise(shape: Any) -> None:
    with pytest.raises((ValueError, TypeError, MemoryError), match=r"\["):
        pydl.zeros(shape)


def test_fill_copy_and_zero_in_place() -> None:
    x = pydl.zeros((3, 4))
    x[:, 1:3].fill_(2.0)
    x[1].copy_(pydl.asarray([9, 8, 7, 6]))
    assert x.numpy().tolist() == [[0, 2, 2, 0], [9, 8, 7, 6], [0, 2, 2, 0]]
    x[0].zero_()
    x[2].mul_(3).add_(1)
    assert x.numpy().tolist() == [[0, 0, 0, 0], [9, 8, 7, 6], [1, 7, 7, 1]]
