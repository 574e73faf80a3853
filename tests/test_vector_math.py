"""The ULP bounds that the vector functions state, over the whole range of float32 and a dense sample of float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import pydl
import special as exact
from tolerances import VECTOR_MATH_ULP, assert_same_bits, ulp_error

_erf64 = np.vectorize(math.erf, otypes=[np.float64])
_erfc64 = np.vectorize(math.erfc, otypes=[np.float64])

# name: (reference for float32 in float64, reference for float64 in long double)
FUNCTIONS: dict[str, tuple[Callable, Callable]] = {
    "exp": (np.exp, np.exp),
    "exp2": (np.exp2, np.exp2),
    "expm1": (np.expm1, np.expm1),
    "log": (np.log, np.log),
    "log2": (np.log2, np.log2),
    "log10": (np.log10, np.log10),
    "log1p": (np.log1p, np.log1p),
    "tanh": (np.tanh, np.tanh),
    "sigmoid": (lambda x: exact.sigmoid(x).astype(np.float64), exact.sigmoid),
    "erf": (_erf64, exact.erf),
    "erfc": (_erfc64, exact.erfc),
    "erfinv": (lambda x: exact.erfinv(x).astype(np.float64), exact.erfinv),
    "sin": (np.sin, np.sin),
    "cos": (np.cos, np.cos),
    "tan": (np.tan, np.tan),
    "asin": (np.arcsin, np.arcsin),
    "acos": (np.arccos, np.arccos),
    "atan": (np.arctan, np.arctan),
    "sinh": (np.sinh, np.sinh),
    "cosh": (np.cosh, np.cosh),
    "asinh": (np.arcsinh, np.arcsinh),
    "acosh": (np.arccosh, np.arccosh),
    "atanh": (np.arctanh, np.arctanh),
}
ODD = ("expm1", "log1p", "tanh", "erf", "erfinv", "sin", "tan", "asin", "atan", "sinh", "asinh", "atanh")
SPECIALS = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]


def patterns32(step: int, chunk: int = 2**20) -> Iterator[np.ndarray]:
    """Every step-th float32 by bit pattern: all exponents, both signs, subnormals, infinities and NaN."""
    bits = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32)
    for start in range(0, bits.size, chunk):
        yield bits[start : start + chunk].view(np.float32)


def near_multiples(dtype: str) -> np.ndarray:
    """The neighbours of multiples of pi/4, where an argument reduction loses most."""
    k = np.concatenate([np.arange(-2000, 2000), 2 ** np.arange(11, 28), 3 ** np.arange(7, 17)])
    centre = (k * (exact.PI / 4)).astype(dtype)
    return np.concatenate([centre, np.nextafter(centre, np.inf), np.nextafter(centre, -np.inf)]).astype(dtype)


def worst(name: str, x: np.ndarray) -> tuple[float, float]:
    """The largest error in ULPs, and where."""
    dtype = x.dtype.name
    reference = FUNCTIONS[name][dtype == "float64"]
    with np.errstate(all="ignore"):
        wanted = reference(x.astype(np.float64 if dtype == "float32" else np.longdouble))
    error = ulp_error(getattr(pydl, name)(pydl.asarray(x)).numpy(), wanted, dtype)
    at = int(np.argmax(error))
    return float(error[at]), float(x[at])


def assert_bound(name: str, x: np.ndarray) -> None:
    bound = VECTOR_MATH_ULP[name][x.dtype.name == "float64"]
    error, at = worst(name, x)
    assert error <= bound, f"{name}({at!r}) in {x.dtype}: {error:.3g} ULP, bound {bound}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_bound_over_all_patterns(name: str) -> None:
    for x in patterns32(9973):
        assert_bound(name, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_bound_over_many_more_patterns(name: str) -> None:
    for x in patterns32(251):
        assert_bound(name, x)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bound_where_networks_live(name: str, dtype: str, rng: np.random.Generator) -> None:
    size = 200_000 if dtype == "float32" else 20_000
    for x in (rng.normal(size=size), rng.uniform(-1, 1, size), rng.uniform(-100, 100, size), near_multiples(dtype)):
        assert_bound(name, x.astype(dtype))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_bound_over_all_exponents(name: str, rng: np.random.Generator) -> None:
    x = rng.integers(0, 2**64, 20_000, dtype=np.uint64).view(np.float64)
    small = np.ldexp(rng.uniform(1, 2, 20_000), rng.integers(-40, 12, 20_000)) * rng.choice([-1, 1], 20_000)
    assert_bound(name, x)
    assert_bound(name, small)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erfinv_where_its_two_ways_meet(dtype: str, rng: np.random.Generator) -> None:
    assert_bound("erfinv", np.concatenate([[0.5000510377164438], rng.uniform(0.49, 0.8, 20_000)]).astype(dtype))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values_are_exact(name: str, dtype: str) -> None:
    x = np.array(SPECIALS, dtype)
    with np.errstate(all="ignore"):
        wanted = np.asarray(FUNCTIONS[name][1](x.astype(np.longdouble)))
    got = getattr(pydl, name)(pydl.asarray(x)).numpy()
    plain = ~np.isfinite(wanted) | (wanted == 0) | (np.abs(wanted) == 1)
    np.testing.assert_array_equal(got[plain], wanted[plain].astype(dtype))
    zero = wanted == 0
    if name in ODD:
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(x[zero]))


@pytest.mark.parametrize("name", [n for n in ODD if n not in ("expm1", "log1p")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_odd_functions_are_odd_to_the_bit(name: str, dtype: str, rng: np.random.Generator) -> None:
    x = rng.uniform(0, 1 if name in ("asin", "atanh", "erfinv") else 30, 4001).astype(dtype)
    function = getattr(pydl, name)
    np.testing.assert_array_equal(function(pydl.asarray(-x)).numpy(), -function(pydl.asarray(x)).numpy())


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_does_not_depend_on_the_place_in_the_vector(name: str, dtype: str, rng: np.random.Generator) -> None:
    x = rng.uniform(0.1, 0.9, 67).astype(dtype)
    function = getattr(pydl, name)
    whole = function(pydl.asarray(x)).numpy()
    for start in range(17):
        for stop in (start + 1, start + 5, 67):
            assert_same_bits(
                function(pydl.asarray(x[start:stop].copy())).numpy(), whole[start:stop], f"{name}[{start}:{stop}]"
            )


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 23), ("float64", 52)])
def test_exp_and_log_at_the_edges_of_the_range(dtype: str, bits: int) -> None:
    """Overflow and gradual underflow happen where they must, not a few values early."""
    info = np.finfo(dtype)
    top, bottom = np.log(np.longdouble(info.max)), np.log(np.longdouble(info.smallest_subnormal))
    for edge in (top, bottom, np.log(np.longdouble(info.tiny))):
        centre = np.array([edge], dtype)
        x = np.concatenate([centre + np.spacing(centre) * k for k in range(-40, 41)]).astype(dtype)
        assert_bound("exp", x)
    tiny = (np.arange(1, 2000) * info.smallest_subnormal).astype(dtype)
    assert_bound("log", tiny)
    assert_bound("log2", tiny)
    assert_bound("log1p", tiny)
    assert_bound("tanh", tiny)
    powers = np.ldexp(np.ones(1, dtype), np.arange(info.minexp - bits, info.maxexp)).astype(dtype)
    np.testing.assert_array_equal(pydl.log2(pydl.asarray(powers)).numpy(), np.arange(info.minexp - bits, info.maxexp))
    whole = np.arange(info.minexp - bits, info.maxexp).astype(dtype)
    np.testing.assert_array_equal(pydl.exp2(pydl.asarray(whole)).numpy(), powers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("power", [0, 1, 2, 3, 4, 0.5, -0.5, -1, -2, 2.5, -3])
def test_powers_by_a_number(dtype: str, power: float, rng: np.random.Generator) -> None:
    """Those that are products and roots too; NumPy takes a root of its own only where the power is one number."""
    x = np.concatenate([np.exp(rng.uniform(-9, 9, 1001)), -np.exp(rng.uniform(-9, 9, 1001))]).astype(dtype)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0], dtype)
    with np.errstate(all="ignore"):
        exact, wanted = np.power(x.astype(np.longdouble), power), np.power(special, np.full_like(special, power))
    got = (pydl.asarray(x) ** power).numpy()
    np.testing.assert_allclose(got, exact.astype(dtype), rtol=2 * np.finfo(dtype).eps)
    np.testing.assert_array_equal((pydl.asarray(special) ** power).numpy(), wanted)
    np.testing.assert_array_equal(np.signbit((pydl.asarray(special[:2]) ** power).numpy()), np.signbit(wanted[:2]))


def test_every_function_states_a_good_bound() -> None:
    assert set(FUNCTIONS) <= set(VECTOR_MATH_ULP)
    assert max(max(bounds) for bounds in VECTOR_MATH_ULP.values()) <= 4.5


def test_the_loss_of_one_ulp_is_seen() -> None:
    """The measure itself: a neighbour is 1 ULP off, the rounded value at most half."""
    x = np.array([1.0, 3.7, 1e-40, 1e38], np.float32)
    wanted = np.exp(np.log(x.astype(np.float64)))
    assert np.all(ulp_error(x, wanted, "float32") < 0.51)
    error = ulp_error(np.nextafter(x, np.float32(np.inf)), x.astype(np.float64), "float32")
    np.testing.assert_allclose(error, 1.0)
    assert ulp_error(np.array([np.nan]), np.array([1.0]), "float64")[0] == np.inf
    assert ulp_error(np.array([np.inf]), np.array([np.inf]), "float64")[0] == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_remainders_are_exact(dtype: str, rng: np.random.Generator) -> None:
    """Of quotients of every size: small, next to whole numbers, past the mantissa; each in a vector of its own kind."""
    tiny, big = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    b = rng.standard_normal(4096).astype(dtype)
    k = np.round(rng.uniform(-1000, 1000, b.size)).astype(dtype)
    kinds = [
        (rng.uniform(-30, 30, b.size).astype(dtype), b), (k * b, b), (np.nextafter(k * b, 0).astype(dtype), b),
        (np.nextafter(k * b, np.inf).astype(dtype), b), ((rng.standard_normal(b.size) * 2.0**60).astype(dtype), b),
        (np.full(64, big, dtype), np.full(64, tiny, dtype)), (np.full(64, tiny, dtype), np.full(64, big, dtype)),
        (np.full(64, big, dtype), np.full(64, 3.0, dtype)), (b[:64], np.full(64, np.inf, dtype)),
        (np.array([*SPECIALS * 7], dtype), np.repeat(np.array(SPECIALS, dtype), 7)),
    ]  # fmt: skip
    for x, y in kinds:
        xs, ys = pydl.asarray(x), pydl.asarray(y)
        with np.errstate(all="ignore"):
            wanted, floored = np.fmod(x, y), np.remainder(x, y)
        got = pydl.fmod(xs, ys).numpy()
        np.testing.assert_array_equal(got, wanted)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(wanted))
        finite = np.isfinite(x) & np.isfinite(y) & (y != 0)
        np.testing.assert_array_equal(pydl.remainder(xs, ys).numpy()[finite], floored[finite])


def test_powers_of_single_precision_keep_to_their_bound(rng: np.random.Generator) -> None:
    x = np.exp(rng.uniform(-80, 80, 200_000)).astype(np.float32)
    y = (rng.uniform(-88, 88, x.size) / np.log(x.astype(np.float64))).astype(np.float32)
    near_one = (1 + rng.uniform(-1e-3, 1e-3, x.size)).astype(np.float32)
    for a, b in ((x, y), (near_one, rng.uniform(-5e4, 5e4, x.size).astype(np.float32)), (-x[:999], y[:999].round())):
        got = pydl.pow(pydl.asarray(a), pydl.asarray(b)).numpy()
        with np.errstate(all="ignore"):
            wanted = np.power(a.astype(np.float64), b.astype(np.float64))
        assert float(np.max(ulp_error(got, wanted, "float32"))) <= 0.52
    odd = np.array([0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, np.inf, -np.inf, np.nan, 1e-40, -1e-40], np.float32)
    a, b = (t.ravel() for t in np.meshgrid(odd, odd))
    with np.errstate(all="ignore"):
        wanted = np.power(a, b)
    got = pydl.pow(pydl.asarray(a), pydl.asarray(b)).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(wanted)]), np.signbit(wanted[~np.isnan(wanted)]))
