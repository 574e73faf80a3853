"""NaN, infinities, signed zeros and subnormals: every op does with them what IEEE 754, C99 and NumPy say."""

from __future__ import annotations

import numpy as np
import pytest

import pydl
from op_cases import ELEMENTWISE, FLOATS, Op
from oracle import expected, scale_of
from tolerances import ulp_error

SPECIALS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0, -2.5, 0.5, -0.5, 1e-30, -1e-30, 1e30, -1e30, 3.0, -3.0]
SUBNORMAL = {"float32": 1e-40, "float64": 1e-310}
UNARY = [op for op in ELEMENTWISE if len(op.operands) == 1 and "float32" in op.dtypes]
BINARY = [op for op in ELEMENTWISE if len(op.operands) == 2 and "float32" in op.dtypes]
LIMITS = {"nn.functional." + name for name in ("gelu", "mish", "hardswish", "silu", "tanhshrink")}
NAN_PASSES = [op for op in UNARY if not op.name.startswith("is") and op.name != "signbit"]


def special_values(dtype: str) -> np.ndarray:
    """A length that fills vectors and leaves a tail, each special at several lanes."""
    values = np.array([*SPECIALS, SUBNORMAL[dtype], -SUBNORMAL[dtype]], dtype)
    return np.concatenate([values, values[::-1], values])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", UNARY, ids=[op.name for op in UNARY])
def test_unary_specials(op: Op, dtype: str) -> None:
    x = special_values(dtype)
    got = op(pydl.asarray(x), **op.variants[0]).numpy()
    exact = expected(op, [x], op.variants[0], dtype)
    if op.name in LIMITS:  # the formulas give inf * 0 at an infinity
        assert np.all(np.isnan(got[np.isnan(x)]))
        assert np.all(got[x == np.inf] == np.inf)
        keep = np.isfinite(x)
        got, exact, x = got[keep], exact[keep], x[keep]
    if exact.dtype == bool:
        np.testing.assert_array_equal(got, exact)
        return
    bad = ulp_error(got, exact, dtype, scale_of(op, [x], {})) > op.ulp
    assert not np.any(bad), [tuple(map(float, row)) for row in zip(x[bad], got[bad], exact[bad], strict=True)][:8]


@pytest.mark.parametrize("op", NAN_PASSES, ids=[op.name for op in NAN_PASSES])
@pytest.mark.parametrize("size", [1, 4, 8, 11, 33])
def test_nan_reaches_the_result_and_nothing_else(op: Op, size: int, rng: np.random.Generator) -> None:
    (x,) = op.draw(rng, ((size,),), "float32")
    keywords = op.variants[0]
    for at in range(size):
        poisoned = x.copy()
        poisoned[at] = np.nan
        got = np.isnan(op(pydl.asarray(poisoned), **keywords).numpy())
        assert got[at]
        assert got.sum() == 1


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", BINARY, ids=[op.name for op in BINARY])
def test_binary_specials(op: Op, dtype: str) -> None:
    """Every pair of special values. Zeros compare equal whatever their sign, except where the sign is the point."""
    a, b = (grid.ravel() for grid in np.meshgrid(special_values(dtype)[:19], special_values(dtype)[:19]))
    if op.name in ("remainder", "floor_divide"):
        keep = np.isfinite(a) & np.isfinite(b) & (np.abs(a / 1e9) < np.abs(b))
        a, b = a[keep], b[keep]
    got = op(pydl.asarray(a), pydl.asarray(b)).numpy()
    exact = expected(op, [a, b], {}, dtype)
    if exact.dtype == bool:
        np.testing.assert_array_equal(got, exact)
        return
    bad = ulp_error(got, exact, dtype, scale_of(op, [a, b], {})) > op.ulp
    assert not np.any(bad), [tuple(map(float, row)) for row in zip(a[bad], b[bad], got[bad], exact[bad], strict=True)][
        :8
    ]


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "var", "std", "logsumexp"])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_reductions_pass_nan_on(name: str, axis: int | None, rng: np.random.Generator) -> None:
    x = rng.normal(size=(37, 41)).astype(np.float32)
    for at in ((0, 0), (36, 40), (17, 33), (5, 8)):
        poisoned = x.copy()
        poisoned[at] = np.nan
        got = np.isnan(getattr(pydl, name)(pydl.asarray(poisoned), axis=axis).numpy())
        wanted = np.zeros(got.shape, bool)
        wanted[() if axis is None else at[1 - axis]] = True
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_argmax_finds_the_first_nan(name: str) -> None:
    x = np.array([[1, np.nan, 3, np.nan], [1, 2, 3, 0]], np.float32)
    got = getattr(pydl, name)(pydl.asarray(x), axis=1).numpy()
    np.testing.assert_array_equal(got, getattr(np, name)(x, axis=1))


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_maximum_passes_nan_from_either_side(name: str) -> None:
    a = np.array([np.nan, 1, np.nan, np.inf], np.float32)
    b = np.array([1, np.nan, np.nan, np.nan], np.float32)
    assert np.all(np.isnan(getattr(pydl, name)(pydl.asarray(a), pydl.asarray(b)).numpy()))


def test_clip_passes_nan() -> None:
    got = pydl.clip(pydl.asarray(np.array([np.nan, np.inf, -np.inf], np.float32)), min=-1.0, max=1.0).numpy()
    np.testing.assert_array_equal(got, np.array([np.nan, 1, -1], np.float32))


def test_zero_times_infinity_in_matmul() -> None:
    """No skipping of zero factors: 0 * inf is NaN, in any block."""
    for n in (1, 5, 33, 130):
        a, b = np.zeros((n, n), np.float32), np.ones((n, n), np.float32)
        b[n // 2, n // 3] = np.inf
        got = pydl.matmul(pydl.asarray(a), pydl.asarray(b)).numpy()
        assert np.all(np.isnan(got[:, n // 3]))
        assert np.isnan(got).sum() == n


@pytest.mark.parametrize("size", [3, 9, 65, 1000])
def test_softmax_of_infinities(size: int) -> None:
    """-inf is a probability of zero; a row of nothing but -inf has no answer (NaN); a NaN spoils its row alone."""
    x = np.zeros((4, size), np.float32)
    x[0, 1:] = -np.inf
    x[1] = -np.inf
    x[2, size // 2] = np.nan
    got = pydl.nn.functional.softmax(pydl.asarray(x), axis=1).numpy()
    assert got[0].tolist() == [1.0] + [0.0] * (size - 1)
    assert np.all(np.isnan(got[1:3]))
    np.testing.assert_allclose(got[3], 1 / size, rtol=1e-6)


def test_logsumexp_of_infinities() -> None:
    x = np.array([[-np.inf, -np.inf], [np.inf, 1], [-np.inf, 2], [1000, 1000], [-1000, -1000]], np.float64)
    got = pydl.logsumexp(pydl.asarray(x), axis=1).numpy()
    np.testing.assert_allclose(got, [-np.inf, np.inf, 2, 1000 + np.log(2), -1000 + np.log(2)], rtol=1e-15)


def test_where_keeps_the_other_branch_out() -> None:
    """The value and the gradient of the branch not taken do not leak."""
    x = pydl.asarray(np.array([0.0, 4.0])).requires_grad_()
    safe = pydl.where(x > 0, x, 1.0)
    y = pydl.where(x > 0, pydl.log(safe), 0.0)
    y.sum().backward()
    assert y.detach().numpy().tolist() == [0.0, np.log(4.0)]
    assert x.grad.numpy().tolist() == [0.0, 0.25]
