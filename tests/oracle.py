"""Checks one result of one row of op_cases against its reference, and makes gradients by finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tolerances
from op_cases import FLOATS, Op

STEP = np.longdouble(1e-6)  # truncation and rounding of a central difference are then both near 1e-13


def expected(op: Op, arrays: Sequence[np.ndarray], keywords: dict[str, Any], dtype: str) -> np.ndarray:
    """The reference on operands widened from dtype."""
    wide = [tolerances.widened(a, dtype) if dtype in FLOATS else a for a in arrays]
    with np.errstate(all="ignore"):
        return np.asarray(op.reference(*wide, **keywords))


def _terms(op: Op, arrays: Sequence[np.ndarray], result: np.ndarray, keywords: dict[str, Any]) -> int:
    if op.terms == "inner":
        return max(1, arrays[0].shape[-1] if arrays[0].ndim else 1)
    if op.terms == "reduced":
        return arrays[0].size // max(1, result.size)
    if op.terms == "cumulative":
        return arrays[0].shape[keywords.get("axis", 0)] ** 2  # one after the other: equal terms err all to one side
    return arrays[1].shape[keywords["axis"]] ** 2  # scattered: all of them may fall on one place


def check_value(op: Op, got: np.ndarray, arrays: Sequence[np.ndarray], keywords: dict[str, Any], dtype: str) -> None:
    """got is what the row's reference says, to the row's tolerance; integers and bool exactly."""
    exact = expected(op, arrays, keywords, dtype)
    what = f"{op.name} {dtype} {[a.shape for a in arrays]} {keywords}"
    if dtype not in FLOATS or exact.dtype.kind in "bi":
        assert got.dtype.kind == exact.dtype.kind, f"{what}: got {got.dtype}, expected {exact.dtype}"
        if exact.dtype.kind != "b" and dtype not in FLOATS and op.name[:3] != "arg":
            assert got.dtype == exact.dtype, f"{what}: got {got.dtype}, expected {exact.dtype}"
        np.testing.assert_array_equal(got, exact, err_msg=what, strict=False)
        assert got.shape == exact.shape, what
        return
    assert got.dtype == dtype, f"{what}: got {got.dtype}"
    wide = [tolerances.widened(a, dtype) for a in arrays]
    if op.terms:
        sizes = op.reference(*[np.abs(a) if a.dtype.kind == "f" else a for a in wide], **keywords)
        tolerances.assert_sum_close(got, exact, np.asarray(sizes), _terms(op, arrays, exact, keywords), dtype, what)
    else:
        tolerances.assert_ulp(got, exact, dtype, op.ulp, what, scale_of(op, wide, keywords))


def scale_of(op: Op, wide: Sequence[np.ndarray], keywords: dict[str, Any]) -> np.ndarray | float:
    """The size whose ULP the row's bound counts, beside that of the result itself."""
    with np.errstate(all="ignore"):
        return 0.0 if op.scale is None else np.asarray(op.scale(*wide, **keywords))


def finite_differences(
    function: Callable[..., Any], arrays: Sequence[np.ndarray], wanted: Sequence[bool], upstream: np.ndarray
) -> list[np.ndarray | None]:
    """d(sum of upstream * function)/d array for each wanted array, by central differences in long double."""
    wide = [a.astype(np.longdouble) if a.dtype.kind == "f" else a for a in arrays]
    gradients: list[np.ndarray | None] = []
    for which, want in enumerate(wanted):
        if not want:
            gradients.append(None)
            continue
        gradient = np.zeros(wide[which].shape, np.longdouble)
        for at in np.ndindex(*wide[which].shape):
            sides = []
            for step in (STEP, -STEP):
                moved = list(wide)
                moved[which] = wide[which].copy()
                moved[which][at] += step
                sides.append(np.asarray(function(*moved)))
            gradient[at] = np.sum(upstream * (sides[0] - sides[1])) / (2 * STEP)
        gradients.append(gradient)
    return gradients
