"""Type promotion: the array API standard's table, PyTorch where the standard is silent; Python scalars are weak."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest

import pydl

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
ALL = ("bool", *SIGNED, *UNSIGNED, *FLOATS)


def width(name: str) -> int:
    return int("".join(c for c in name.replace("bfloat", "float") if c.isdigit()))


def promoted(a: str, b: str) -> str | None:
    """Written from the standard's text, then PyTorch's rules for mixed kinds. None: neither says."""
    if a == b:
        return a
    if "bool" in (a, b):
        return b if a == "bool" else a
    if (a in FLOATS) != (b in FLOATS):
        return a if a in FLOATS else b
    if a in FLOATS:
        return "float32" if {a, b} == {"float16", "bfloat16"} else max(a, b, key=width)
    if (a in SIGNED) == (b in SIGNED):
        return max(a, b, key=width)
    signed, unsigned = (a, b) if a in SIGNED else (b, a)
    if width(signed) > width(unsigned):
        return signed
    return None if unsigned == "uint64" else f"int{2 * width(unsigned)}"


PAIRS = [(a, b) for a, b in itertools.product(ALL, ALL) if promoted(a, b) is not None]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_two_tensors(a: str, b: str) -> None:
    x = pydl.ones((3,), dtype=getattr(pydl, a))
    y = pydl.ones((3,), dtype=getattr(pydl, b))
    wanted = getattr(pydl, promoted(a, b) or "")
    assert pydl.result_type(x.dtype, y.dtype) == wanted
    got = x * y
    assert got.dtype == wanted
    assert got.astype(pydl.float64).numpy().tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize(("scalar", "kind"), [(True, "b"), (2, "i"), (1.5, "f")])
def test_python_scalars_are_weak(dtype: str, scalar: bool | int | float, kind: str) -> None:
    own = "b" if dtype == "bool" else "f" if dtype in FLOATS else "i"
    wanted = dtype if "bif".index(kind) <= "bif".index(own) else {"i": "int64", "f": "float32"}[kind]
    x = pydl.ones((2,), dtype=getattr(pydl, dtype))
    for got in (x * scalar, scalar * x):
        assert got.dtype == getattr(pydl, wanted)
        assert got.astype(pydl.float64).numpy().tolist() == [float(scalar)] * 2


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED])
def test_true_division_of_integers_gives_the_default_float(dtype: str) -> None:
    x = pydl.asarray(np.array([1, 2, 9], dtype))
    got = x / pydl.asarray(np.array([2, 4, 4], dtype))
    assert got.dtype == pydl.float32
    assert got.numpy().tolist() == [0.5, 0.5, 2.25]


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "bool"])
@pytest.mark.parametrize("name", ["exp", "sqrt", "sin", "tanh", "log1p", "sigmoid"])
def test_functions_of_integers_give_the_default_float(name: str, dtype: str) -> None:
    x = np.array([0, 1], dtype)
    got = getattr(pydl, name)(pydl.asarray(x))
    assert got.dtype == pydl.float32
    wanted = getattr(pydl, name)(pydl.asarray(x.astype(np.float32))).numpy()
    np.testing.assert_array_equal(got.numpy(), wanted)


def test_mixed_values_are_converted_before_the_operation() -> None:
    small = pydl.asarray(np.array([100, -128], np.int8))
    big = pydl.asarray(np.array([100_000, 3], np.int64))
    assert (small + big).numpy().tolist() == [100_100, -125]
    assert (small + pydl.asarray(np.array([200, 255], np.uint8))).numpy().tolist() == [300, 127]
    third = pydl.asarray(np.array([1 / 3], np.float32))
    assert (third - pydl.asarray(np.array([1 / 3]))).numpy()[0] == float(np.float32(1 / 3)) - 1 / 3


def test_comparisons_promote_too() -> None:
    a = pydl.asarray(np.array([2**53 + 1], np.int64))
    assert (a == pydl.asarray(np.array([2**53], np.int64))).numpy().tolist() == [False]
    assert (pydl.asarray(np.array([-1], np.int8)) < pydl.asarray(np.array([200], np.uint8))).numpy().tolist() == [True]


@pytest.mark.parametrize("symbol", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
def test_operators_with_scalars_on_either_side(symbol: str) -> None:
    f = getattr(operator, symbol)
    a = np.array([1.5, 2.0, 4.0])
    np.testing.assert_allclose(f(pydl.asarray(a), 3).numpy(), f(a, 3), rtol=1e-15)
    np.testing.assert_allclose(f(3, pydl.asarray(a)).numpy(), f(3, a), rtol=1e-15)


@pytest.mark.parametrize("symbol", ["iadd", "isub", "imul", "itruediv"])
def test_in_place_operators_keep_dtype_and_memory(symbol: str) -> None:
    x = pydl.asarray(np.array([1.0, 2.0, 4.0], np.float32))
    alias = x[1:]
    y = getattr(operator, symbol)(x, 2)
    assert y is x
    wanted = getattr(operator, symbol)(np.array([1.0, 2.0, 4.0], np.float32), 2)
    np.testing.assert_array_equal(x.numpy(), wanted, strict=True)
    np.testing.assert_array_equal(alias.numpy(), wanted[1:])


def test_in_place_does_not_change_to_a_wider_type() -> None:
    x = pydl.asarray(np.array([1, 2], np.int32))
    with pytest.raises(TypeError, match=r"\["):
        x += 1.5
    y = pydl.asarray(np.array([1.0], np.float32))
    y += pydl.asarray(np.array([2.0]))
    assert y.dtype == pydl.float32
    assert y.numpy().tolist() == [3.0]


def test_gradients_have_the_operands_dtype() -> None:
    x = pydl.asarray(np.array([1.5], np.float32)).requires_grad_()
    y = pydl.asarray(np.array([2.5])).requires_grad_()
    (x * y).backward(pydl.asarray(np.array([3.0])))
    assert (x.grad.dtype, y.grad.dtype) == (pydl.float32, pydl.float64)
    assert (x.grad.numpy()[0], y.grad.numpy()[0]) == (7.5, 4.5)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_rounds_to_nearest_even(half: str, rng: np.random.Generator) -> None:
    """Against bit arithmetic on float32: keep the top bits, round half to even."""
    x = np.concatenate(
        [rng.normal(size=5000), rng.uniform(-6e4, 6e4, 2000), [0.0, -0.0, np.inf, -np.inf, 1 + 2**-11, 1 + 3 * 2**-11]]
    )
    x = x.astype(np.float32)
    got = pydl.asarray(x).astype(getattr(pydl, half)).astype(pydl.float32).numpy()
    if half == "float16":
        wanted = x.astype(np.float16).astype(np.float32)
    else:
        bits = x.view(np.uint32).astype(np.uint64)
        wanted = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    np.testing.assert_array_equal(got, wanted)


def test_every_float16_survives_float32() -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    got = pydl.asarray(every).astype(pydl.float32).numpy()
    np.testing.assert_array_equal(got, every.astype(np.float32))


@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("target", [*SIGNED, *UNSIGNED, "bool"])
def test_astype_truncates_toward_zero(source: str, target: str) -> None:
    x = np.array([0.0, 0.9, 1.0, 1.9, 100.5] + ([-0.9, -1.9, -100.5] if target in SIGNED else []), source)
    got = pydl.asarray(x).astype(getattr(pydl, target)).numpy()
    np.testing.assert_array_equal(got, x.astype(target), strict=True)


@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("target", ["int32", "int64"])
def test_casts_saturate_among_many_ordinary_values(source: str, target: str) -> None:
    edges = [np.nan, np.inf, -np.inf, 2.0**31, -(2.0**31), 2.0**31 - 128, 2.0**63, -(2.0**63), 1e30, 0.5, -0.5, -0.0]
    values = (np.random.default_rng(0).standard_normal(3000) * 100).astype(source)
    values[np.arange(len(edges)) * 211] = edges
    info = np.iinfo(target)
    wanted = [0 if v != v else int(min(max(float(v), float(info.min)), float(info.max))) for v in values]
    wanted = [min(w, info.max) for w in wanted]
    for count in (len(values), 1500, 7):
        assert pydl.asarray(values[:count]).astype(getattr(pydl, target)).tolist() == wanted[:count]
