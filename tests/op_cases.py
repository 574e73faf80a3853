"""One row per op: what it is called, what it must equal, on what it is tried. No test code here.

A row's reference is NumPy, called with long double for float64 (so that its finite differences are exact enough) and
float64 for float32. `samples` are small and serve values, layouts, gradients and PyTorch alike; `big` ones serve values
and threads. Adding an op adds a row here and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import pydl
import special as exact
from tolerances import CORRECTLY_ROUNDED, VECTOR_MATH_ULP

Shape = tuple[int, ...]
Sample = tuple[tuple[Shape, ...], dict[str, Any]]  # operand shapes, keyword arguments

FLOATS = ("float32", "float64")
INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = {"f": FLOATS, "i": INTS, "b": ("bool",)}

ODD_SIZES = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 1000, 1023)
THREADED_SIZE = 300_007  # elements: enough that any sensible split goes to several threads, and odd


@dataclass(frozen=True)
class Domain:
    """Where an operand's values come from; a fixed dtype makes it an operand that has no gradient."""

    draw: Callable[[np.random.Generator, Shape], np.ndarray]
    dtype: str = ""


def real(low: float = -3.0, high: float = 3.0) -> Domain:
    return Domain(lambda rng, shape: rng.uniform(low, high, shape))


def away(*kinks: float, low: float = -3.0, high: float = 3.0) -> Domain:
    """Uniform, but no closer than 0.02 to the points where the derivative jumps."""

    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        x = rng.uniform(low, high, shape)
        for kink in kinks:
            x = np.where(np.abs(x - kink) < 0.02, kink + np.copysign(0.02, x - kink), x)
        return x

    return Domain(draw)


def between_integers(low: int = -4, high: int = 4, half: bool = False) -> Domain:
    """Values at least 0.1 away from every integer (from every half integer with half=True)."""
    shift = 0.5 if half else 0.0
    return Domain(lambda rng, shape: rng.integers(low, high, shape) + shift + rng.uniform(0.1, 0.9, shape))


def nonzero(low: float = 0.3, high: float = 3.0) -> Domain:
    return Domain(lambda rng, shape: rng.uniform(low, high, shape) * rng.choice([-1.0, 1.0], shape))


def distinct(scale: float = 0.37) -> Domain:
    """No two values equal or close: for max, sort and their like."""

    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        size = int(np.prod(shape))
        return ((rng.permutation(size) - size // 2) * scale).reshape(shape)

    return Domain(draw)


def index(length: int, negative: bool = False) -> Domain:
    return Domain(lambda rng, shape: rng.integers(-length if negative else 0, length, shape), "int64")


def as_dtype(x: np.ndarray, dtype: str, natural: bool = False) -> np.ndarray:
    """x in dtype: rounded away from zero (so never to zero) for integers, its sign for bool."""
    if dtype in FLOATS or x.dtype.name == dtype:
        return np.asarray(x, dtype=dtype)
    if x.dtype == bool:
        return x.astype(dtype)
    if dtype == "bool":
        return x > 0
    whole = np.copysign(np.ceil(np.abs(x)) % 100, x)
    return (np.abs(whole) if natural or dtype.startswith("u") else whole).astype(dtype)


DISTINCT = distinct()
CONDITION = Domain(lambda rng, shape: rng.random(shape) < 0.5, "bool")


@dataclass(frozen=True)
class Op:
    name: str  # where it lives under pydl
    reference: Callable[..., Any]
    operands: tuple[Domain, ...] = (real(),)
    kinds: str = "f"  # dtype groups of DTYPES
    ulp: float = CORRECTLY_ROUNDED  # allowed error in ULPs of the largest of |expected| and scale
    scale: Callable[..., Any] | None = None  # of the same arguments; None: |expected| alone
    terms: str = ""  # "reduced": sums over what the output lacks; "inner": matmul. The tolerance is then a sum's
    gradient: bool = True
    natural: bool = False  # integer operands are not negative
    variants: tuple[dict[str, Any], ...] = ({},)  # keyword arguments of an elementwise op
    samples: tuple[Sample, ...] = ()  # empty: an elementwise op, which gets the common grid of shapes
    big: tuple[Sample, ...] = ()
    call: Callable[..., Any] | None = None  # where the arguments need rearranging
    torch: str | Callable[..., Any] | None = ""  # "": torch's function of the same name; None: it has none

    @property
    def elementwise(self) -> bool:
        return not self.samples

    @property
    def dtypes(self) -> tuple[str, ...]:
        return tuple(dtype for kind in self.kinds for dtype in DTYPES[kind])

    def draw(self, rng: np.random.Generator, shapes: tuple[Shape, ...], dtype: str) -> list[np.ndarray]:
        """The operands as arrays of dtype, or of the operand's own dtype where that is fixed."""
        return [
            as_dtype(operand.draw(rng, shape), operand.dtype or dtype, self.natural)
            for operand, shape in zip(self.operands, shapes, strict=True)
        ]

    def cases(self, shape: Shape, big: bool = False) -> list[Sample]:
        """The row's samples, or for an elementwise op every variant on operands of the one shape."""
        if self.elementwise:
            return [((shape,) * len(self.operands), keywords) for keywords in self.variants]
        return list(self.big if big else self.samples)

    def __call__(self, *tensors: Any, **keywords: Any) -> Any:
        if self.call is not None:
            return self.call(*tensors, **keywords)
        function: Any = pydl
        for part in self.name.split("."):
            function = getattr(function, part)
        return function(*tensors, **keywords)


def unary(
    name: str, reference: Callable, domain: Domain, ulp: float = CORRECTLY_ROUNDED, kinds: str = "f", **more: Any
):
    return Op(name, reference, (domain,), kinds, ulp, **more)


def binary(
    name: str, reference: Callable, a: Domain, b: Domain, ulp: float = CORRECTLY_ROUNDED, kinds: str = "fi", **m: Any
):
    return Op(name, reference, (a, b), kinds, ulp, **m)


def function(name: str, reference: Callable, domain: Domain, ulp: float = 3.0, **more: Any) -> Op:
    return Op("nn.functional." + name, reference, (domain,), "f", ulp, **{"torch": "nn.functional." + name, **more})


def _where(x: np.ndarray, condition: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    return np.where(condition, x, otherwise)


def stated(name: str) -> float:
    """The larger of the bounds that the vector function states for float32 and float64."""
    return max(VECTOR_MATH_ULP[name])


def softplus_scale(x: np.ndarray, beta: float = 1.0, threshold: float = 20.0) -> np.ndarray:
    """Rounding beta x, which a power of two does not, multiplies the error of a small result by |beta x|."""
    rounded = np.frexp(beta)[0] != 0.5
    return exact.softplus(x, beta, threshold) * (1 + rounded * np.abs(beta * x) / 4)


def softmax_scale(x: np.ndarray, axis: int) -> np.ndarray:
    """Rounding x - max(x) multiplies the error of a small result by the size of that difference."""
    return exact.softmax(x, axis) * (1 + (np.max(x, axis=axis, keepdims=True) - x) / 4)


def _nextafter(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The neighbour in the type under test, one narrower than that of the reference."""
    narrow = np.float64 if x.dtype == np.longdouble else np.float32
    return np.nextafter(x.astype(narrow), y.astype(narrow))


def magnitude(x: np.ndarray, **_: Any) -> np.ndarray:
    return np.abs(x)


UNARY = [
    unary("abs", np.abs, away(0), kinds="fi"),
    unary("negative", np.negative, real(), kinds="fi"),
    unary("positive", np.positive, real(), kinds="fi"),
    unary("square", np.square, real(), kinds="fi"),
    unary("sign", np.sign, away(0), kinds="fi"),
    unary("floor", np.floor, between_integers(), kinds="fi"),
    unary("ceil", np.ceil, between_integers(), kinds="fi"),
    unary("trunc", np.trunc, between_integers(), kinds="fi"),
    unary("round", np.round, between_integers(half=True), kinds="fi"),
    unary("sqrt", np.sqrt, real(0.01, 50)),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), real(0.01, 50), stated("rsqrt")),
    unary("reciprocal", lambda x: 1 / x, nonzero()),
    unary("exp", np.exp, real(-20, 20), stated("exp")),
    unary("exp2", np.exp2, real(-20, 20), stated("exp2")),
    unary("expm1", np.expm1, real(-5, 5), stated("expm1")),
    unary("log", np.log, real(0.01, 50), stated("log")),
    unary("log2", np.log2, real(0.01, 50), stated("log2")),
    unary("log10", np.log10, real(0.01, 50), stated("log10")),
    unary("log1p", np.log1p, real(-0.9, 50), stated("log1p")),
    unary("sin", np.sin, real(-20, 20), stated("sin")),
    unary("cos", np.cos, real(-20, 20), stated("cos")),
    unary("tan", np.tan, real(-1.4, 1.4), stated("tan")),
    unary("asin", np.arcsin, real(-0.98, 0.98), stated("asin")),
    unary("acos", np.arccos, real(-0.98, 0.98), stated("acos")),
    unary("atan", np.arctan, real(-9, 9), stated("atan")),
    unary("sinh", np.sinh, real(-9, 9), stated("sinh")),
    unary("cosh", np.cosh, real(-9, 9), stated("cosh")),
    unary("tanh", np.tanh, real(-9, 9), stated("tanh")),
    unary("asinh", np.arcsinh, real(-9, 9), stated("asinh")),
    unary("acosh", np.arccosh, real(1.05, 9), stated("acosh")),
    unary("atanh", np.arctanh, real(-0.98, 0.98), stated("atanh")),
    unary("erf", exact.erf, real(-4, 4), stated("erf")),
    unary("erfc", exact.erfc, real(-4, 8), stated("erfc")),
    unary("erfinv", exact.erfinv, real(-0.98, 0.98), stated("erfinv")),
    unary("lgamma", exact.lgamma, real(0.01, 20), 8.0, scale=np.ones_like),  # terms of that size cancel below zero
    unary("digamma", exact.digamma, real(2, 20), 12.0, scale=np.ones_like),
    unary("sigmoid", exact.sigmoid, real(-20, 20), stated("sigmoid")),
    unary("isnan", np.isnan, real(), kinds="fi", gradient=False),
    unary("isinf", np.isinf, real(), kinds="fi", gradient=False),
    unary("isfinite", np.isfinite, real(), kinds="fi", gradient=False),
    unary("signbit", np.signbit, real(), gradient=False),
    unary("logical_not", np.logical_not, CONDITION, kinds="b", gradient=False),
    unary("bitwise_invert", np.invert, real(), kinds="ib", gradient=False, torch="bitwise_not"),
]

BINARY = [
    binary("add", np.add, real(), real()),
    binary("subtract", np.subtract, real(), real()),
    binary("multiply", np.multiply, real(), real()),
    binary("divide", np.divide, real(), nonzero(), kinds="f"),
    binary("floor_divide", np.floor_divide, real(-30, 30), nonzero(), gradient=False),
    binary("remainder", np.remainder, real(-30, 30), nonzero(), ulp=1, scale=lambda x, y: np.abs(y)),
    binary("pow", np.power, real(0.1, 4), real(-3, 3), ulp=1, natural=True),
    binary("atan2", np.arctan2, nonzero(), nonzero(), ulp=stated("atan2"), kinds="f"),
    binary("hypot", np.hypot, nonzero(), nonzero(), ulp=stated("hypot"), kinds="f"),
    binary(
        "logaddexp",
        np.logaddexp,
        real(-9, 9),
        real(-9, 9),
        ulp=3,
        kinds="f",
        scale=lambda x, y: np.maximum(abs(x), abs(y)),
    ),
    binary("copysign", np.copysign, nonzero(), nonzero(), kinds="f"),
    binary("nextafter", _nextafter, real(), real(), kinds="f", gradient=False),
    binary("maximum", np.maximum, real(), real()),
    binary("minimum", np.minimum, real(), real()),
    binary("equal", np.equal, real(), real(), kinds="fib", gradient=False, torch="eq"),
    binary("not_equal", np.not_equal, real(), real(), kinds="fib", gradient=False),
    binary("less", np.less, real(), real(), gradient=False),
    binary("less_equal", np.less_equal, real(), real(), gradient=False),
    binary("greater", np.greater, real(), real(), gradient=False),
    binary("greater_equal", np.greater_equal, real(), real(), gradient=False),
    binary("logical_and", np.logical_and, CONDITION, CONDITION, kinds="b", gradient=False),
    binary("logical_or", np.logical_or, CONDITION, CONDITION, kinds="b", gradient=False),
    binary("logical_xor", np.logical_xor, CONDITION, CONDITION, kinds="b", gradient=False),
    binary("bitwise_and", np.bitwise_and, real(), real(), kinds="ib", gradient=False),
    binary("bitwise_or", np.bitwise_or, real(), real(), kinds="ib", gradient=False),
    binary("bitwise_xor", np.bitwise_xor, real(), real(), kinds="ib", gradient=False),
    binary("bitwise_left_shift", np.left_shift, real(), real(), kinds="i", gradient=False, natural=True),
    binary("bitwise_right_shift", np.right_shift, real(), real(), kinds="i", gradient=False, natural=True),
]

ACTIVATIONS = [
    function("relu", lambda x: np.maximum(x, 0), away(0), CORRECTLY_ROUNDED),
    function("relu6", lambda x: np.clip(x, 0, 6), away(0, 6, low=-8, high=8), CORRECTLY_ROUNDED),
    function("sigmoid", exact.sigmoid, real(-20, 20), stated("sigmoid")),
    function("tanh", np.tanh, real(-9, 9), stated("tanh")),
    function("gelu", exact.gelu, real(-6, 6), 4, scale=magnitude, variants=({}, {"approximate": "tanh"})),
    function("silu", lambda x: x * exact.sigmoid(x), real(-20, 20), 4),
    function("softplus", exact.softplus, away(2, low=-9, high=9), 4, scale=softplus_scale,
             variants=({}, {"beta": 2.0}, {"beta": 3.0, "threshold": 6.0})),
    function("leaky_relu", lambda x, negative_slope=0.01: np.where(x > 0, x, x * negative_slope), away(0), 1,
             variants=({}, {"negative_slope": 0.25})),
    function("elu", exact.elu, away(0, low=-6), variants=({}, {"alpha": 0.5})),
    function("celu", exact.celu, away(0, low=-6), variants=({}, {"alpha": 0.5}), ulp=4),
    function("selu", exact.selu, away(0, low=-6), 4),
    function("hardtanh", lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val), away(-1, 1, -0.5, 2),
             CORRECTLY_ROUNDED, variants=({}, {"min_val": -0.5, "max_val": 2.0})),
    function("hardsigmoid", exact.hardsigmoid, away(-3, 3, low=-5, high=5), torch=None),  # its sixth is a float32
    function("hardswish", lambda x: x * exact.hardsigmoid(x), away(-3, 3, low=-5, high=5), scale=magnitude),
    function("mish", exact.mish, real(-12, 12), 5),
    function("softsign", lambda x: x / (1 + np.abs(x)), away(0)),
    function("logsigmoid", exact.logsigmoid, real(-20, 20), 4),
    function("tanhshrink", lambda x: x - np.tanh(x), real(-6, 6), scale=magnitude),
    function("softshrink", lambda x, lambd=0.5: np.sign(x) * np.maximum(np.abs(x) - lambd, 0),
             away(-0.5, 0.5, 1, -1), 1, variants=({}, {"lambd": 1.0})),
    function("hardshrink", lambda x, lambd=0.5: np.where(np.abs(x) <= lambd, 0, x), away(-0.5, 0.5), CORRECTLY_ROUNDED),
]  # fmt: skip

CLIP = Op("clip", lambda x, min=None, max=None: np.clip(x, min, max), (away(-1, 1, 0.3, 0.2),),
          variants=({"min": -1.0, "max": 1.0}, {"min": 0.3}, {"max": 0.2}))  # fmt: skip
WHERE = Op("where", _where, (real(), CONDITION, real()), "fib", call=lambda x, c, y: pydl.where(c, x, y),
           torch=lambda x, c, y: __import__("torch").where(c, x, y))  # fmt: skip

S345 = (3, 4, 5)


def on(*shapes: Shape, **keywords: Any) -> Sample:
    """The op on operands of these shapes, with these arguments."""
    return shapes, keywords


ALL_AXES = (on(S345), on(S345, axis=0), on(S345, axis=1, keepdims=True), on(S345, axis=-1),
            on(S345, axis=(0, 2)), on(S345, axis=(2, 1), keepdims=True), on((7,), axis=0), on(()))  # fmt: skip
ONE_AXIS = tuple(s for s in ALL_AXES if not isinstance(s[1].get("axis"), tuple))
BIG_AXES = (on((THREADED_SIZE,)), on((65, 1000), axis=0), on((1000, 65), axis=1), on((7, 513, 33), axis=1),
            on((3, 100_003), axis=1), on((100_003, 3), axis=0), on((33, 7, 129), axis=(0, 2)))  # fmt: skip
BIG_AXIS = tuple(s for s in BIG_AXES if not isinstance(s[1].get("axis"), tuple))


def reduction(name: str, reference: Callable, domain: Domain = DISTINCT, **more: Any) -> Op:
    return Op(name, reference, (domain,), **{"samples": ALL_AXES, "big": BIG_AXES, **more})


def _torch_all_axes(name: str) -> Callable[..., Any]:
    """torch.max and its like return pairs when given an axis; amax and its like do not."""
    return lambda x, **k: getattr(__import__("torch"), name)(x, **k)


def vector_norm(x: np.ndarray, ord: float = 2, axis: Any = None, keepdims: bool = False) -> np.ndarray:
    size = np.abs(x)
    if ord == np.inf:
        return np.max(size, axis=axis, keepdims=keepdims)
    return np.sum(size**ord, axis=axis, keepdims=keepdims) ** (1 / np.longdouble(ord))


NORM_SAMPLES = tuple((shapes, {**keywords, "ord": order})
                     for shapes, keywords in ALL_AXES[:5] for order in (1, 2, 3, np.inf))  # fmt: skip
VARIANCE = tuple((shapes, {**keywords, "correction": c}) for shapes, keywords in ALL_AXES[:6] for c in (0, 1))

REDUCTIONS = [
    reduction("sum", np.sum, real(), terms="reduced"),
    reduction("mean", np.mean, real(), terms="reduced"),
    reduction("prod", np.prod, nonzero(0.8, 1.2), ulp=60, big=(on((300, 100), axis=1),), torch=None),
    reduction("var", np.var, real(), ulp=8, samples=VARIANCE,
              scale=lambda x, **k: np.var(x, **k) + 1e-7 * np.max(x * x)),
    reduction("std", np.std, real(), ulp=8, samples=VARIANCE,
              scale=lambda x, **k: np.std(x, **k) + np.max(np.abs(x)) / 4),
    reduction("max", np.max, kinds="fi", torch="amax"),
    reduction("min", np.min, kinds="fi", torch="amin"),
    reduction("any", np.any, CONDITION, kinds="fib", gradient=False, torch=None),
    reduction("all", np.all, CONDITION, kinds="fib", gradient=False, torch=None),
    reduction("argmax", np.argmax, samples=ONE_AXIS, big=BIG_AXIS, kinds="fi", gradient=False),
    reduction("argmin", np.argmin, samples=ONE_AXIS, big=BIG_AXIS, kinds="fi", gradient=False),
    reduction("logsumexp", exact.logsumexp, real(-9, 9), ulp=4, torch=None,
              scale=lambda x, **k: np.max(np.abs(x), **k)),
    reduction("norm", vector_norm, away(0), ulp=8, samples=NORM_SAMPLES, torch="linalg.vector_norm"),
    Op("cumulative_sum", np.cumulative_sum, (real(),), terms="cumulative", torch=None, samples=(
        on((7,)), on((1000,)), on(S345, axis=0), on(S345, axis=1), on(S345, axis=-1),
        on(S345, axis=1, include_initial=True)), big=(on((33, 10_001), axis=1), on((1001, 65), axis=0))),
]  # fmt: skip


def _descending(x: np.ndarray, axis: int = -1, descending: bool = False) -> np.ndarray:
    ordered = np.sort(x, axis=axis)
    return np.flip(ordered, axis=axis) if descending else ordered


def _argsort(x: np.ndarray, axis: int = -1, descending: bool = False) -> np.ndarray:
    return np.argsort(-x if descending else x, axis=axis, kind="stable")


def _topk(x: np.ndarray, k: int, axis: int = -1, largest: bool = True) -> np.ndarray:
    return np.take(_descending(x, axis, largest), range(k), axis=axis)


SORTED = (on((7,)), on(S345), on(S345, axis=0), on(S345, axis=1, descending=True))
TOPK = (on((9,), k=4), on(S345, k=5), on(S345, k=2, axis=1, largest=False), on((6,), k=0))
BIG_SORT = (on((100_003,)), on((65, 1001), axis=1), on((1001, 65), axis=0))
ORDERING = [
    Op("sort", _descending, (distinct(),), "f", samples=SORTED, big=BIG_SORT,
       torch=lambda x, **k: __import__("torch").sort(x, **k).values),
    Op("argsort", _argsort, (distinct(),), "f", samples=SORTED, big=BIG_SORT, gradient=False),
    Op("topk", _topk, (distinct(),), "f", samples=TOPK, big=(on((100_003,), k=50), on((65, 1001), k=10)),
       call=lambda x, **k: pydl.topk(x, **k)[0], torch=lambda x, **k: __import__("torch").topk(x, **k).values),
]  # fmt: skip


def _matmul_samples(*pairs: tuple[Shape, Shape]) -> tuple[Sample, ...]:
    return tuple((pair, {}) for pair in pairs)


EINSUMS = {"ij,jk->ik": ((3, 4), (4, 5)), "bij,bjk->bik": ((2, 3, 4), (2, 4, 2)), "ij,ij->": ((3, 4), (3, 4)),
           "i,j": ((3,), (4,)), "bhid,bhjd->bhij": ((2, 2, 3, 2), (2, 2, 2, 2)), "ij,kj->ki": ((3, 2), (4, 2)),
           "...ij,...jk->...ik": ((2, 3, 4), (2, 4, 3)), "abc,cd,->dab": ((2, 3, 2), (2, 3), ())}  # fmt: skip

PRODUCTS = [
    Op("matmul", np.matmul, (real(), real()), terms="inner", samples=_matmul_samples(
        ((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4, 2)), ((2, 3, 4), (2, 4, 2)),
        ((3, 4), (2, 4, 2)), ((2, 1, 3, 4), (3, 4, 2)), ((1, 1), (1, 1)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)),
        ((3, 1), (1, 5))), big=_matmul_samples(
        ((65, 127), (127, 33)), ((1, 513), (513, 129)), ((257, 1), (1, 255)), ((50, 128), (128, 512)),
        ((1000,), (1000,)), ((300, 301), (301, 299)), ((7, 31, 33), (7, 33, 17)), ((9, 1, 65, 31), (5, 31, 7)),
        ((129, 700), (700,)), ((700,), (700, 129)), ((14, 2000), (2000, 6)))),
    *(Op(f"einsum[{spec}]", lambda *x, spec=spec: np.einsum(spec, *x), (real(),) * len(shapes), terms="inner",
         samples=((shapes, {}),), call=lambda *x, spec=spec: pydl.einsum(spec, *x),
         torch=lambda *x, spec=spec: __import__("torch").einsum(spec, *x)) for spec, shapes in EINSUMS.items()),
    Op("einsum[ii]", np.trace, (real(),), terms="reduced", samples=(on((4, 4)),), torch="trace",
       call=lambda x: pydl.einsum("ii", x)),
    Op("einsum[abc->ca]", lambda x: np.einsum("abc->ca", x), (real(),), terms="reduced", samples=(on(S345),),
       call=lambda x: pydl.einsum("abc->ca", x), torch=None),
    Op("nn.functional.linear", lambda x, w, b: x @ w.T + b, (real(), real(), real()), terms="inner",
       torch="nn.functional.linear",
       samples=(on((3, 4), (5, 4), (5,)), on((2, 3, 4), (2, 4), (2,)), on((4,), (3, 4), (3,))),
       big=(on((50, 128), (65, 128), (65,)),)),
]  # fmt: skip


def shape_op(name: str, reference: Callable, *samples: Sample, **more: Any) -> Op:
    """Moves elements and computes nothing: every dtype, exact."""
    return Op(name, reference, **{"kinds": "fib", "samples": samples, "torch": None, **more})


def _listed(name: str) -> Callable[..., Any]:
    return lambda *tensors, **keywords: getattr(pydl, name)(list(tensors), **keywords)


def _np_pad(x: np.ndarray, pad: tuple[int, ...], value: float = 0.0) -> np.ndarray:
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    return np.pad(x, pairs, constant_values=value)


def _np_split(x: np.ndarray, sizes: list[int], axis: int) -> np.ndarray:
    return np.concatenate(np.split(x, np.cumsum(sizes)[:-1], axis=axis)[::-1], axis=axis)


X, Y = real(), real()
SHAPES = [
    shape_op("reshape", np.reshape, on(S345, shape=(5, 12)), on(S345, shape=(-1,)), on(S345, shape=(2, -1, 3)),
             on((1,), shape=()), on((), shape=(1, 1))),
    shape_op("permute_dims", np.transpose, on(S345, axes=(2, 0, 1)), on(S345, axes=(0, -1, 1))),
    shape_op("moveaxis", np.moveaxis, on(S345, source=0, destination=2), on(S345, source=(0, 1), destination=(-1, 0))),
    shape_op("matrix_transpose", lambda x: np.swapaxes(x, -1, -2), on(S345), on((3, 2))),
    shape_op("expand_dims", np.expand_dims, on(S345, axis=0), on(S345, axis=-1), on(S345, axis=2), on((), axis=0)),
    shape_op("squeeze", np.squeeze, on((3, 1, 4), axis=1), on((1, 3, 1), axis=(0, -1))),
    shape_op("broadcast_to", np.broadcast_to, on((3, 1), shape=(2, 3, 4)), on((1,), shape=(5,)), on((), shape=(2, 2))),
    shape_op("flip", np.flip, on(S345), on(S345, axis=1), on(S345, axis=(0, -1))),
    shape_op("roll", np.roll, on(S345, shift=2, axis=1), on(S345, shift=-7),
             on(S345, shift=(1, -2), axis=(0, 2)), on(S345, shift=100, axis=0)),
    shape_op("tile", lambda x, repetitions: np.tile(x, repetitions), on(S345, repetitions=(2, 1, 3)),
             on((3,), repetitions=(2, 2)), on((2, 3), repetitions=(2,))),
    shape_op("repeat", np.repeat, on(S345, repeats=2, axis=1), on((4,), repeats=3), on(S345, repeats=2, axis=-1)),
    shape_op("tril", np.tril, on((4, 5)), on((2, 5, 4), k=1), on((4, 4), k=-2)),
    shape_op("triu", np.triu, on((4, 5)), on((2, 5, 4), k=1), on((4, 4), k=-2)),
    shape_op("nn.functional.pad", _np_pad, on(S345, pad=(1, 2)), on(S345, pad=(0, 1, 2, 0)),
             on((3,), pad=(2, 3), value=7.0), kinds="f"),
    shape_op("concat", lambda *x, axis=0: np.concatenate(x, axis=axis), (on((2, 3), (4, 3), (1, 3))),
             on((2, 3), (2, 0), (2, 5), axis=1), on((2, 3), (2, 3), (2, 2), axis=-1),
             operands=(X, Y, X), call=_listed("concat")),
    shape_op("concat[axis=None]", lambda x, y: np.concatenate([x.ravel(), y.ravel()]), on((2, 3), (4,)),
             operands=(X, Y), call=lambda x, y: pydl.concat([x, y], axis=None)),
    shape_op("stack", lambda *x, axis=0: np.stack(x, axis=axis), on((2, 3), (2, 3)), on((2, 3), (2, 3), axis=1),
             on((2, 3), (2, 3), axis=-1), on((), ()), operands=(X, Y), call=_listed("stack")),
    shape_op("split", _np_split, on(S345, sizes=[1, 3], axis=1), on(S345, sizes=[2, 1, 2], axis=-1),
             call=lambda x, sizes, axis: pydl.concat(list(pydl.split(x, sizes, axis=axis))[::-1], axis=axis)),
    shape_op("unstack", lambda x, axis: np.concatenate(list(np.moveaxis(x, axis, 0))[::-1], axis=0),
             on(S345, axis=1),
             call=lambda x, axis: pydl.concat(list(pydl.unstack(x, axis=axis))[::-1], axis=0)),
]  # fmt: skip


def _scatter_add(x: np.ndarray, at: np.ndarray, source: np.ndarray, axis: int) -> np.ndarray:
    result = x.copy()
    grid = list(np.indices(at.shape))
    grid[axis] = at
    np.add.at(result, tuple(grid), source[tuple(slice(0, n) for n in at.shape)])
    return result


GATHERS = [
    Op("take", np.take, (real(), index(3)), "fib", torch=None, samples=(
        on(S345, (7,), axis=0), on(S345, (4,), axis=1), on(S345, (2,), axis=-1), on((9,), (5,), axis=0)),
       big=(on((3, 1001), (301,), axis=0), on((1001, 3), (40,), axis=1))),
    Op("take_along_axis", np.take_along_axis, (real(), index(3)), "fib", torch=None, samples=(
        on(S345, (6, 4, 5), axis=0), on(S345, (3, 2, 5), axis=1), on(S345, (3, 4, 9), axis=-1)),
       big=(on((3, 10_001), (9, 10_001), axis=0), on((1001, 3), (1001, 40), axis=1))),
    Op("scatter_add", _scatter_add, (real(), index(3), real()), torch=None, terms="scattered", samples=(
        on(S345, (5, 4, 5), (5, 4, 5), axis=0), on(S345, (3, 2, 5), (3, 2, 5), axis=1),
        on(S345, (2, 4, 6), (3, 4, 6), axis=2)), big=(on((3, 1000), (500, 1000), (500, 1000), axis=0),),
       call=lambda x, at, source, axis: pydl.scatter_add(x, axis, at, source)),
    Op("nn.functional.embedding", lambda ids, weight: weight[ids], (index(5), real()),
       torch="nn.functional.embedding", samples=(
        on((7,), (5, 3)), on((2, 6), (6, 2)), on((), (5, 3))), big=(on((50, 51), (65, 129)),)),
]  # fmt: skip

SOFTMAX_AXES = (on((4, 7), axis=-1), on((4, 7), axis=0), on(S345, axis=1), on((5, 1), axis=1))
SOFTMAX_BIG = (
    on((33, 1000), axis=1),
    on((1000, 33), axis=0),
    on((7, 65, 129), axis=1),
    on((4096, 65), axis=-1),
)
SOFTMAX = [
    Op("nn.functional.softmax", exact.softmax, (real(-9, 9),), ulp=6, scale=softmax_scale,
       samples=SOFTMAX_AXES, big=SOFTMAX_BIG,
       torch="nn.functional.softmax"),
    Op("nn.functional.log_softmax", exact.log_softmax, (real(-9, 9),), ulp=4, samples=SOFTMAX_AXES, big=SOFTMAX_BIG,
       scale=lambda x, axis: np.broadcast_to(np.max(np.abs(x), axis=axis, keepdims=True), x.shape),
       torch="nn.functional.log_softmax"),
    Op("nn.functional.mse_loss", lambda x, y, reduction="mean": np.square(x - y) if reduction == "none" else
       getattr(np, reduction)(np.square(x - y)), (real(), real()), ulp=8, torch="nn.functional.mse_loss", samples=(
           on(S345, S345), on(S345, S345, reduction="sum"), on(S345, S345, reduction="none")),
       big=(on((1001, 65), (1001, 65)),)),
]  # fmt: skip

OPS: list[Op] = [
    *UNARY,
    *BINARY,
    *ACTIVATIONS,
    CLIP,
    WHERE,
    *REDUCTIONS,
    *ORDERING,
    *PRODUCTS,
    *SHAPES,
    *GATHERS,
    *SOFTMAX,
]
ELEMENTWISE = [op for op in OPS if op.elementwise]
