"""Special functions: by kernels, by other ops, or by NumPy in float64, with gradients made of ops that go on."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl import _functions as ops
from pydl._tensor import Tensor
from pydl.autograd import Function

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = [
    "digamma",
    "entr",
    "erfinv",
    "expit",
    "gammainc",
    "gammaincc",
    "gammaln",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "igamma",
    "igammac",
    "lgamma",
    "log_ndtr",
    "logaddexp2",
    "logit",
    "mvlgamma",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "sinc",
    "xlog1py",
    "xlogy",
]


def _floating(x: Any) -> Tensor:
    x = x if isinstance(x, Tensor) else ops.asarray(x)
    return x if x.dtype.is_floating_point else _C.astype(x, _C.default_dtype())


class _Numpy(Function):
    """compute(x) by NumPy; its gradient is derivative(x), a function of tensors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, compute: Any, derivative: Any) -> Tensor:
        import numpy as np

        ctx.save_for_backward(x)
        ctx.derivative = derivative
        wide = _C.astype(x, _C.float64)
        with np.errstate(all="ignore"):
            return ops.asarray(np.asarray(compute(wide.detach().cpu().numpy())), dtype=x.dtype, device=x.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return grad * ctx.derivative(x), None, None


def _apply(x: Any, compute: Callable[[Array], Array], derivative: Callable[[Tensor], Tensor]) -> Tensor:
    result: Tensor = _Numpy.apply(_floating(x), compute, derivative)
    return result


# ---- the gamma function's family


def lgamma(x: Tensor) -> Tensor:
    """log|Γ(x)|, element by element."""
    return _C.lgamma(_floating(x))


def digamma(x: Tensor) -> Tensor:
    """Γ'(x) / Γ(x), the derivative of lgamma."""
    return _C.digamma(_floating(x))


def polygamma(n: int, x: Tensor) -> Tensor:
    """The n-th derivative of digamma, n up to 170; for n above 1, NaN where x is below -10,000."""
    if isinstance(n, Tensor):  # as a method: x.polygamma(n)
        n, x = x, n
    n = operator.index(n)
    if not 0 <= n <= 170:
        raise ValueError(f"[polygamma] got the order {n}, expected 0 to 170, whose factorials are numbers of float64")
    return digamma(x) if n == 0 else _C.polygamma(_floating(x), n)


def mvlgamma(x: Tensor, p: int) -> Tensor:
    """log of the multivariate gamma function of p dimensions; x above (p - 1) / 2."""
    x = _floating(x)
    total = lgamma(x)
    for i in range(1, p):
        total = total + lgamma(x - i / 2)
    return total + p * (p - 1) / 4 * math.log(math.pi)


def _most_terms(a: Array) -> int:
    """More than either sum needs: about 10·√a of them where x is near a."""
    return 1000 + int(20 * math.sqrt(a.max(initial=0.0)))


def _area_series(a: Array, x: Array) -> Array:
    """1/a·(1 + x/(a + 1) + x²/((a + 1)(a + 2)) + ...), A&S 6.5.29, for x below a + 1."""
    term = 1.0 / a
    total = term.copy()
    for k in range(1, _most_terms(a)):
        term = term * x / (a + k)
        total += term
        if not (term > total * 1e-17).any():
            break
    return total


def _area_fraction(a: Array, x: Array) -> Array:
    """The continued fraction 1/(x + 1 - a - (1 - a)/(x + 3 - a - ...)), A&S 6.5.31, for x from a + 1 on; evaluated as
    Lentz does (1976).
    """
    import numpy as np

    b = x + 1.0 - a
    c, d = np.full_like(b, 1e300), 1.0 / b
    fraction = d
    for k in range(1, _most_terms(a)):
        b, n = b + 2.0, k * (a - k)
        d = 1.0 / (n * d + b)
        c = b + n / c
        fraction = fraction * c * d
        if not (np.abs(c * d - 1.0) > 4e-16).any():
            break
    return fraction


def _gamma_areas(a: Array, x: Array) -> tuple[Array, Array]:
    """The gamma distribution's areas below x and above: one by a series or a fraction, the other by it."""
    import numpy as np

    a, x = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(x, np.float64))
    inside = (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
    a_, x_ = a[inside], x[inside]
    below = x_ < a_ + 1.0
    area = np.exp(a_ * np.log(x_) - x_ - _C.lgamma(ops.asarray(a_, device="cpu")).numpy())
    area[below] *= _area_series(a_[below], x_[below])
    area[~below] *= _area_fraction(a_[~below], x_[~below])
    wrong = np.isnan(a) | np.isnan(x) | (a < 0) | (x < 0) | ((a == 0) & (x == 0)) | (np.isinf(a) & np.isinf(x))
    low = np.array(np.where(wrong, np.nan, np.where((x == 0) | np.isinf(a), 0.0, 1.0)))
    high = np.array(1.0 - low)
    low[inside], high[inside] = np.where(below, area, 1.0 - area), np.where(below, 1.0 - area, area)
    return low, high


class _GammaArea(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, above: bool) -> Tensor:
        import numpy as np

        ctx.save_for_backward(a, x)
        ctx.above = above
        arrays = [_C.astype(t, _C.float64).detach().cpu().numpy() for t in (a, x)]
        with np.errstate(all="ignore"):
            return ops.asarray(_gamma_areas(*arrays)[above], dtype=_C.result_type(a, x), device=x.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        from pydl._compositions.shaping import sum_to_size

        a, x = ctx.saved_tensors
        if ctx.needs_input_grad[0]:
            raise NotImplementedError("[igamma] has no gradient of its first argument; detach it")
        density = _C.exp((a - 1.0) * _C.log(x) - x - lgamma(a))
        return None, sum_to_size(grad * (-density if ctx.above else density), x.shape), None


def igamma(a: Tensor, x: Tensor) -> Tensor:
    """The regularized lower incomplete gamma function: ∫₀ˣ tᵃ⁻¹e⁻ᵗ dt / Γ(a). Differentiable by x, as in PyTorch."""
    result: Tensor = _GammaArea.apply(_floating(a), _floating(x), False)
    return result


def igammac(a: Tensor, x: Tensor) -> Tensor:
    """The regularized upper incomplete gamma function: 1 - igamma(a, x), with all its digits from x = a + 1 on."""
    result: Tensor = _GammaArea.apply(_floating(a), _floating(x), True)
    return result


# ---- of the normal distribution


def erfinv(x: Tensor) -> Tensor:
    """The inverse of erf on (-1, 1); ±∞ at its ends, NaN outside."""
    return _C.erfinv(_floating(x))


def ndtr(x: Tensor) -> Tensor:
    """The normal distribution's area up to x."""
    return _C.erfc(_floating(x) * -math.sqrt(0.5)) * 0.5


def log_ndtr(x: Tensor) -> Tensor:
    """log(ndtr(x)), by the asymptotic series (A&S 26.2.12) where ndtr underflows."""
    x = _floating(x)
    far = _C.less(x, -20.0)
    near = _C.log(ndtr(_C.where(far, _C.full((), 0.0, x.dtype), x)))
    z = _C.where(far, x, _C.full((), -20.0, x.dtype))
    r = 1.0 / (z * z)
    series = 1.0 - r * (1.0 - 3.0 * r * (1.0 - 5.0 * r * (1.0 - 7.0 * r * (1.0 - 9.0 * r * (1.0 - 11.0 * r)))))
    return _C.where(far, z * z * -0.5 - _C.log(-z) - 0.5 * math.log(2 * math.pi) + _C.log(series), near)


def ndtri(p: Tensor) -> Tensor:
    """The inverse of ndtr: the normal distribution's quantile."""
    return erfinv(2.0 * _floating(p) - 1.0) * math.sqrt(2.0)


# ---- Bessel functions


def _bessel(x: Array, order: int) -> Array:
    """exp(-|x|)·I0 or I1: the power series (A&S 9.6.10) below 30, the asymptotic one (9.7.1) above."""
    import numpy as np

    a = np.abs(x)
    small = np.minimum(a, 30.0)
    term = np.ones_like(a) if order == 0 else small / 2
    value = term.copy()
    for k in range(1, 75):
        term = term * (small / 2) ** 2 / (k * (k + order))
        value = value + term
    value = value * np.exp(-small)
    large = np.maximum(a, 30.0)
    term, tail = np.ones_like(a), np.ones_like(a)
    for k in range(1, 25):
        term = term * ((2 * k - 1) ** 2 - 4 * order * order) / (8 * k * large)
        tail = tail + term
    value = np.where(a < 30.0, value, tail / np.sqrt(2 * np.pi * large))
    return np.sign(x) * value if order else value


def i0(x: Tensor) -> Tensor:
    """The modified Bessel function of the first kind and order 0."""
    import numpy as np

    return _apply(x, lambda a: _bessel(a, 0) * np.exp(np.abs(a)), i1)


def i0e(x: Tensor) -> Tensor:
    """exp(-|x|)·i0(x)."""
    x = _floating(x)
    return _apply(x, lambda a: _bessel(a, 0), lambda t: i1e(t) - _C.sign(t) * i0e(t))


def i1(x: Tensor) -> Tensor:
    """The modified Bessel function of the first kind and order 1."""
    import numpy as np

    def slope(t: Tensor) -> Tensor:
        zero = _C.equal(t, 0.0)
        safe = _C.where(zero, _C.full((), 1.0, t.dtype), t)
        return _C.where(zero, _C.full((), 0.5, t.dtype), i0(safe) - i1(safe) / safe)

    return _apply(x, lambda a: _bessel(a, 1) * np.exp(np.abs(a)), slope)


def i1e(x: Tensor) -> Tensor:
    """exp(-|x|)·i1(x)."""
    x = _floating(x)
    return i1(x) * _C.exp(-_C.abs(x))


# ---- made of ops


def logit(x: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), of x kept within [eps, 1 - eps] where eps is given."""
    x = _floating(x)
    x = x if eps is None else ops.clip(x, eps, 1 - eps)
    return _C.log(x) - _C.log1p(-x)


def xlogy(x: Any, y: Any) -> Tensor:
    """x·log(y), and 0 where x is 0 and y is no NaN."""
    x, y = (v if isinstance(v, Tensor) else _C.full((), v, None) for v in (x, y))
    nothing = _C.logical_and(_C.equal(x, 0), _C.logical_not(_C.isnan(y)))
    return _C.where(nothing, x * 0.0, x * _C.log(_C.where(nothing, y * 0.0 + 1.0, y)))


def xlog1py(x: Any, y: Any) -> Tensor:
    """x·log(1 + y), and 0 where x is 0 and y is no NaN."""
    x, y = (v if isinstance(v, Tensor) else _C.full((), v, None) for v in (x, y))
    nothing = _C.logical_and(_C.equal(x, 0), _C.logical_not(_C.isnan(y)))
    return _C.where(nothing, x * 0.0, x * _C.log1p(_C.where(nothing, y * 0.0, y)))


def entr(x: Tensor) -> Tensor:
    """-x·log(x), 0 at 0 and -∞ below."""
    x = _floating(x)
    return _C.where(_C.less(x, 0.0), _C.full((), -math.inf, x.dtype), -xlogy(x, x))


def sinc(x: Tensor) -> Tensor:
    """sin(πx) / (πx), and 1 at 0."""
    x = _floating(x)
    zero = _C.equal(x, 0.0)
    z = _C.where(zero, _C.full((), 1.0, x.dtype), x * math.pi)
    return _C.where(zero, _C.full((), 1.0, x.dtype), _C.sin(z) / z)


def logaddexp2(x: Tensor, y: Tensor) -> Tensor:
    """log2(2ˣ + 2ʸ) without overflow."""
    ln2 = math.log(2.0)
    return _C.logaddexp(x * ln2, y * ln2) * (1 / ln2)


expit = _C.sigmoid
gammainc = igamma
gammaincc = igammac
gammaln = lgamma
psi = digamma
