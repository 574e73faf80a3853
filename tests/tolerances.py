"""How far a result may be from the exact one: every tolerance of the tests, per dtype, in one place.

Elementwise results are measured in ULPs of the exact value, sums and products of many terms by the error that a
blocked sum of k terms makes. References are computed in a wider type: float64 for float32, long double for float64.
"""

from __future__ import annotations

import pathlib
import re

import numpy as np

EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
WIDE = {"float16": np.float64, "bfloat16": np.float64, "float32": np.float64, "float64": np.longdouble}

CORRECTLY_ROUNDED = 0.501  # the reference of float64 is itself rounded from long double, hence the 0.001
GRAD_RTOL, GRAD_ATOL = 1e-8, 1e-9  # float64 gradients against long double finite differences
TORCH_RTOL, TORCH_ATOL = 1e-11, 1e-12  # float64 against PyTorch's float64
RECURRENT_ULP = 64.0  # float32 recurrent outputs after a few steps, in eps of the largest value


def widened(x: np.ndarray, dtype: str) -> np.ndarray:
    """x in the type in which the reference for dtype is computed; integers and bool stay as they are."""
    return x.astype(WIDE[dtype]) if x.dtype.kind == "f" else x


def spacing(x: np.ndarray, dtype: str) -> np.ndarray:
    """One ULP of dtype at |x|, subnormals included; x may be of a wider type."""
    info = {"float32": np.finfo(np.float32), "float64": np.finfo(np.float64)}[dtype]
    wide = np.abs(np.asarray(x, dtype=np.longdouble))
    _, exponent = np.frexp(np.where(np.isfinite(wide) & (wide > 0), wide, 1))
    smallest = info.minexp - info.nmant
    ulp = np.ldexp(np.longdouble(1), np.maximum(exponent - 1 - info.nmant, smallest))
    return np.where(wide == 0, np.ldexp(np.longdouble(1), smallest), ulp)


def ulp_error(got: np.ndarray, exact: np.ndarray, dtype: str, scale: np.ndarray | float = 0.0) -> np.ndarray:
    """|got - exact| in ULPs of the larger of |exact| and scale. Two NaN agree; an infinity is the next power of two."""
    got = np.asarray(got)
    exact = np.asarray(exact, dtype=np.longdouble)
    limit = np.ldexp(np.longdouble(1), np.finfo(getattr(np, dtype)).maxexp)
    nan_mismatch = np.isnan(got) != np.isnan(exact)
    with np.errstate(invalid="ignore"):  # a signalling NaN warns when it is converted
        wide = np.where(np.isnan(got), 0, np.clip(np.asarray(got, dtype=np.longdouble), -limit, limit))
    target = np.where(np.isnan(exact), 0, np.clip(exact, -limit, limit))
    wide = np.where(np.isnan(exact), 0, wide)
    size = np.fmax(np.abs(target), np.where(np.isfinite(scale), scale, 0))
    error = np.abs(wide - target) / spacing(np.minimum(size, limit / 2), dtype)
    return np.where(nan_mismatch, np.inf, error)


def assert_ulp(
    got: np.ndarray, exact: np.ndarray, dtype: str, bound: float, what: str = "", scale: np.ndarray | float = 0.0
) -> None:
    """Every element of got is within bound ULPs of exact (of scale, where that is larger); shapes agree."""
    assert np.shape(got) == np.shape(exact), f"{what}: shape {np.shape(got)}, expected {np.shape(exact)}"
    if np.size(got) == 0:
        return
    error = ulp_error(got, exact, dtype, scale)
    worst = np.unravel_index(int(np.argmax(error)), error.shape)
    assert error[worst] <= bound, (
        f"{what}: {float(error[worst]):.3g} ULP at {tuple(map(int, worst))}, bound {bound}: "
        f"got {np.asarray(got)[worst]!r}, expected {np.asarray(exact)[worst]!r}"
    )


def assert_sum_close(got: np.ndarray, exact: np.ndarray, scale: np.ndarray, terms: int, dtype: str, what: str) -> None:
    """got is the sum of `terms` products whose absolute values add up to scale."""
    assert np.shape(got) == np.shape(exact), f"{what}: shape {np.shape(got)}, expected {np.shape(exact)}"
    if np.size(got) == 0:
        return
    tolerance = EPS[dtype] * (1 + np.sqrt(terms) / 8) * np.maximum(scale, np.finfo(np.float64).tiny)
    error = np.abs(np.asarray(got, dtype=np.longdouble) - exact)
    same_special = ~np.isfinite(np.asarray(exact, dtype=np.longdouble)) & np.equal(got, exact)
    both_nan = np.isnan(got) & np.isnan(exact)
    ratio = np.where(same_special | both_nan, 0, np.where(np.isnan(error), np.inf, error / tolerance))
    worst = np.unravel_index(int(np.argmax(ratio)), np.shape(ratio))
    assert ratio[worst] <= 1, (
        f"{what}: error is {float(ratio[worst]):.3g} of what is allowed at {tuple(map(int, worst))}: "
        f"got {np.asarray(got)[worst]!r}, expected {np.asarray(exact)[worst]!r} (sum of {terms} terms)"
    )


def assert_near(got: np.ndarray, expected: np.ndarray, rtol: float, atol: float, what: str = "") -> None:
    """numpy.testing.assert_allclose with the shape check it lacks (it broadcasts)."""
    assert np.shape(got) == np.shape(expected), f"{what}: shape {np.shape(got)}, expected {np.shape(expected)}"
    np.testing.assert_allclose(np.asarray(got, np.float64), np.asarray(expected, np.float64), rtol, atol, err_msg=what)


def assert_same_bits(got: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """Equal shape, dtype and bytes: signs of zero and payloads of NaN included."""
    got, expected = np.array(got), np.array(expected)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype), f"{what}: {got.dtype}{got.shape}"
    assert got.tobytes() == expected.tobytes(), f"{what}: {np.sum(got != expected)} of {got.size} elements differ"


def stated_bounds() -> dict[str, tuple[float, float]]:
    """The (float32, float64) ULP bounds of the vector functions, read from where they are stated, beside each."""
    source = pathlib.Path(__file__).parent.parent / "csrc" / "backend" / "cpu" / "vec_math.h"
    stated = r"([\d.]+) / ([\d.]+) ULP[^\n]*\n(?:template[^\n]*\n)?[^\n]*?\b(\w+)\(Vec<"
    return {name: (float(single), float(double)) for single, double, name in re.findall(stated, source.read_text())}


VECTOR_MATH_ULP = stated_bounds()
