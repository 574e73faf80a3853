"""Paths of their own: softmax and cross entropy of columns and of rows of any length, integers by float64, rows that
are parts of longer ones."""

from __future__ import annotations

import numpy as np
import pytest

import pydl
from pydl.nn import functional as F

LANES = [((4, 70, 33), 1), ((40, 16), 0), ((3, 33, 8), 1), ((2, 5, 256), 1), ((2, 300, 256), 1), ((700, 24), 0),
         ((5000, 9), 0), ((50, 31), 1), ((50, 40), 1), ((50, 63), 1), ((50, 64), 1), ((9, 1), 1),
         ((37, 5, 3), 1), ((100, 30, 2), 1), ((3, 18, 7), 1), ((20, 63, 2), 1), ((33, 1, 4), 1)]  # fmt: skip


def expected_log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    x = x.astype(np.longdouble)
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), LANES, ids=str)
def test_softmax_of_lanes(shape: tuple[int, ...], axis: int, dtype: str, rng: np.random.Generator) -> None:
    x, g = (rng.standard_normal(shape).astype(dtype) * 4 for _ in range(2))
    eps = np.finfo(dtype).eps
    log_y = expected_log_softmax(x, axis)
    y = np.exp(log_y)
    total = np.abs(g).sum(axis, keepdims=True)
    gradients = {
        "softmax": (y * (g - (g * y).sum(axis, keepdims=True)), y * total),
        "log_softmax": (g - y * g.sum(axis, keepdims=True), np.abs(g) + y * total),
    }
    for name, expected, scale in (("softmax", y, y * (2 - log_y)), ("log_softmax", log_y, 1 - log_y)):
        t = pydl.asarray(x, requires_grad=True)
        out = getattr(F, name)(t, axis)
        assert np.all(np.abs(out.detach().numpy() - expected) <= 12 * eps * scale)
        out.backward(pydl.asarray(g))
        assert t.grad is not None
        d_x, d_scale = gradients[name]
        assert np.all(np.abs(t.grad.numpy() - d_x) <= 24 * eps * d_scale)
    lse = x.max(axis).astype(np.longdouble) - log_y.max(axis)
    assert np.all(np.abs(pydl.logsumexp(pydl.asarray(x), axis).numpy() - lse) <= 12 * eps * (1 + np.abs(lse)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), [lane for lane in LANES if lane[1] == 1], ids=str)
def test_cross_entropy_of_lanes(shape: tuple[int, ...], axis: int, dtype: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal(shape).astype(dtype) * 4
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    target.flat[0] = -100  # ignored
    log_y = expected_log_softmax(x, axis)
    counts = target != -100
    chosen = np.take_along_axis(log_y, np.expand_dims(np.where(counts, target, 0), 1), 1).squeeze(1)
    one_hot = np.moveaxis(np.eye(shape[1])[np.where(counts, target, 0)], -1, 1)
    t = pydl.asarray(x, requires_grad=True)
    loss = F.cross_entropy(t, pydl.asarray(target))
    loss.backward()
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(loss.item(), -chosen[counts].mean(), rtol=40 * eps)
    assert t.grad is not None
    d_x = (np.exp(log_y) - one_hot) * np.expand_dims(counts, 1) / counts.sum()
    assert np.all(np.abs(t.grad.numpy() - d_x) <= 24 * eps / counts.sum())


def test_nan_and_infinity_stay_in_their_column() -> None:
    x = np.zeros((40, 20), np.float32)
    x[3, 4], x[5, 6], x[:, 8] = np.nan, np.inf, -np.inf
    y = F.softmax(pydl.asarray(x), 0).numpy()
    broken = np.isnan(y).any(0)
    assert np.flatnonzero(broken).tolist() == [4, 6, 8]
    np.testing.assert_allclose(y[:, ~broken], 1 / 40, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integer_products(dtype: str, rng: np.random.Generator) -> None:
    limits = np.iinfo(dtype)
    for shapes in (((40, 30), (30, 20)), ((2, 9, 40), (40, 30)), ((3, 40, 7), (3, 7, 40)), ((0, 30), (30, 90))):
        for low, high in ((0, 9), (limits.min, limits.max)):  # the latter wrap around
            a, b = (rng.integers(low, high, shape, dtype=dtype, endpoint=True) for shape in shapes)
            np.testing.assert_array_equal((pydl.asarray(a) @ pydl.asarray(b)).numpy(), a @ b)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64", "uint64"])
def test_integers_within_bounds(dtype: str, rng: np.random.Generator) -> None:
    x = rng.integers(0, 120, 100).astype(dtype)
    for low, high in ((3, 50), (0, 100), (50, 3)):
        np.testing.assert_array_equal(pydl.clip(pydl.asarray(x), low, high).numpy(), np.clip(x, low, high))
    assert pydl.clip(pydl.asarray(x), 3, 50).dtype == pydl.asarray(x).dtype
    large = pydl.asarray(np.array([2**60 + 1, -(2**60) - 1, 5]))
    assert pydl.clip(large, -(2**60), 2**60 + 7).tolist() == [2**60 + 1, -(2**60), 5]


def test_functions_of_integers(rng: np.random.Generator) -> None:
    for dtype in ("int8", "uint8", "int16", "int32", "int64"):
        x = rng.integers(0 if dtype[0] == "u" else -100, 100, 77).astype(dtype)
        t = pydl.asarray(x)
        for name in ("abs", "negative", "sign", "square", "floor", "ceil", "trunc", "round"):
            out = getattr(pydl, name)(t)
            np.testing.assert_array_equal(out.numpy(), getattr(np, name)(x), err_msg=f"{name} {dtype}")
            assert out.dtype == t.dtype
            assert out.data_ptr() != t.data_ptr()
        np.testing.assert_array_equal(t.astype(pydl.bool).numpy(), x != 0)
        np.testing.assert_array_equal(pydl.isfinite(t).numpy(), np.isfinite(x))
        assert not pydl.isposinf(t).any()
        assert not pydl.isneginf(t).any()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8"])
def test_truth_of_long_rows_of_bytes(dtype: str) -> None:
    for n in (0, 1, 63, 20000, 70000):
        x = np.zeros((3, n), dtype)
        if n:
            x[1, -1] = 1
            x[2] = 1
        t = pydl.asarray(x)
        assert t.any(1).tolist() == x.any(1).tolist()
        assert t.all(1).tolist() == x.all(1).tolist()
        assert t.any().item() == x.any()
        assert t.all().item() == x.all()


@pytest.mark.parametrize("shape", [(50, 9), (7, 33, 5), (3, 20, 8), (1, 2), (50, 17), (5, 400)], ids=str)
def test_rows_that_are_parts_of_longer_ones(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x = rng.standard_normal(shape).astype("float32")
    t = pydl.asarray(x)
    later, earlier = (..., slice(1, None)), (..., slice(None, -1))
    np.testing.assert_array_equal((t[later] - t[earlier]).numpy(), x[later] - x[earlier])
    np.testing.assert_array_equal((t[later] < t[earlier]).numpy(), x[later] < x[earlier])
    np.testing.assert_array_equal(F.leaky_relu(t[later], 0.5).numpy(), np.where(x[later] > 0, x[later], x[later] / 2))
    chosen = pydl.where(t[later] < 0, t[later], t[earlier])
    np.testing.assert_array_equal(chosen.numpy(), np.where(x[later] < 0, x[later], x[earlier]))
    written, expected = pydl.asarray(x.copy()), x.copy()
    written[later] += 1
    expected[later] += 1
    np.testing.assert_array_equal(written.numpy(), expected)


def test_where_of_numbers_lies_as_its_condition_does() -> None:
    condition = pydl.asarray(np.arange(12).reshape(3, 4) % 3 == 0).T
    out = pydl.where(condition, 1.0, 0.0)
    assert out.strides == condition.strides
    np.testing.assert_array_equal(out.numpy(), condition.numpy().astype("float32"))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"])
def test_places_of_extremes_of_integers(dtype: str, rng: np.random.Generator) -> None:
    limits = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    for shape in ((5, 10), (7, 33), (3, 100), (2, 3000), (2, 70_000), (40, 1)):
        x = np.array(limits, dtype)[rng.integers(0, 2, shape)]  # ties of both ends
        if dtype != "bool":
            x[rng.random(shape) < 0.9] = rng.integers(*limits, dtype=dtype)
        for axis in (0, 1):
            for name in ("argmax", "argmin"):
                places = getattr(pydl, name)(pydl.asarray(x), axis)
                np.testing.assert_array_equal(places.numpy(), getattr(np, name)(x, axis), err_msg=f"{name} {shape}")
            values = pydl.max(pydl.asarray(x), axis)[0]
            np.testing.assert_array_equal(values.numpy(), x.max(axis))
