"""Mathematical functions in long double that NumPy lacks: the exact side of the tests. No pydl here."""

from __future__ import annotations

import numpy as np

PI = np.longdouble("3.14159265358979323846264338327950288")
LN2 = np.longdouble("0.693147180559945309417232121458176568")


def wide(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, dtype=np.longdouble)


def _erf_series(x: np.ndarray) -> np.ndarray:
    """2/sqrt(pi) exp(-x^2) sum of (2x^2)^n x / (2n+1)!!: all terms positive, good to |x| = 3."""
    term = x.copy()
    total = x.copy()
    for n in range(1, 110):
        term = term * (2 * x * x) / (2 * n + 1)
        total = total + term
    return 2 / np.sqrt(PI) * np.exp(-x * x) * total


def _erfc_fraction(x: np.ndarray) -> np.ndarray:
    """erfc for x >= 1 as the continued fraction exp(-x^2)/sqrt(pi) / (x + (1/2)/(x + (2/2)/(x + ...)))."""
    tail = x.copy()
    for n in range(240, 0, -1):
        tail = x + (np.longdouble(n) / 2) / tail
    return np.exp(-x * x) / np.sqrt(PI) / tail


def erf(x: np.ndarray) -> np.ndarray:
    x = wide(x)
    size = np.abs(x)
    small = _erf_series(np.minimum(size, 2.5))
    large = 1 - _erfc_fraction(np.clip(size, 2.5, 120))
    return np.where(np.isnan(x), x, np.copysign(np.where(size < 2.5, small, large), x))


def erfinv(y: np.ndarray) -> np.ndarray:
    """The x of erf(x) = y: Winitzki's start, then Halley's steps; by erfc where 1 - |y| is exact, a series near 0."""
    y = np.asarray(y, np.longdouble)
    size = np.abs(y)
    small = np.sqrt(PI) / 2 * size * (1 + PI / 12 * size * size)
    result = np.where(size < 1e-5, small, np.where(size == 1, np.inf, np.nan))
    steps = (size >= 1e-5) & (size < 1)
    a = size[steps]
    log = np.log1p(-a * a)
    b = 2 / (PI * np.longdouble(0.147)) + log / 2
    x = np.sqrt(np.sqrt(b * b - log / np.longdouble(0.147)) - b)
    for _ in range(3):
        error = np.where(a > 0.5, (1 - a) - erfc(x), erf(x) - a)
        u = error * np.exp(x * x) * np.sqrt(PI) / 2
        x = x - u / (1 + x * u)
    result[steps] = x
    return np.copysign(result, y)


def erfc(x: np.ndarray) -> np.ndarray:
    x = wide(x)
    small = 1 - np.copysign(_erf_series(np.minimum(np.abs(x), 2)), x)
    large = _erfc_fraction(np.clip(x, 1, 110))
    result = np.where(x < -2, 2 - _erfc_fraction(np.clip(-x, 2, 110)), np.where(x > 1, large, small))
    return np.where(np.isnan(x), x, result)


def _zeta_less_one(k: int) -> np.longdouble:
    """The sum of n^-k over n = 2, 3, ...: 199 terms, then Euler and Maclaurin's."""
    n = np.longdouble(200)
    total = np.sum(np.arange(2, 200, dtype=np.longdouble) ** -k)
    total += n ** (1 - k) / (k - 1) + n**-k / 2
    return total + k * n ** -(k + 1) / 12 - k * (k + 1) * (k + 2) * n ** -(k + 3) / 720


EULER_GAMMA = np.longdouble("0.577215664901532860606512090082402431")
_BERNOULLI = [(1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6)]  # B2, B4, ...


def lgamma(x: np.ndarray) -> np.ndarray:
    """log|gamma(x)|, by reflection below zero."""
    x = wide(x)
    with np.errstate(all="ignore"):
        value = _lgamma_of_positive(np.where(x < 0, 1 - x, x))
        reflected = -np.log(np.abs(np.sin(PI * (x - np.round(x))) / PI)) - value
    return np.where(np.isinf(x) | ((x <= 0) & (x == np.floor(x))), np.inf, np.where(x < 0, reflected, value))


def _lgamma_of_positive(x: np.ndarray) -> np.ndarray:
    """Its power series around 2 where it is small, Stirling's series from 60 on elsewhere."""
    x = wide(x)
    w = np.where(x < 0.5, x, np.where(x < 1.5, x - 1, np.clip(x, 1.5, 2.5) - 2))
    near = (1 - EULER_GAMMA) * w
    for k in range(2, 70):
        near = near + (-1) ** k * _zeta_less_one(k) * w**k / k
    near = near - np.where(x < 0.5, np.log(x * (x + 1)), np.where(x < 1.5, np.log(x), 0))
    z, product = x, np.ones_like(x)
    for _ in range(60):
        product = np.where(z < 60, product * z, product)
        z = np.where(z < 60, z + 1, z)
    far = (z - np.longdouble(0.5)) * np.log(z) - z + np.log(2 * PI) / 2 - np.log(product)
    for k, (b, c) in enumerate(_BERNOULLI, 1):
        far = far + np.longdouble(b) / c / (2 * k * (2 * k - 1)) / z ** (2 * k - 1)
    return np.where(x < 2.5, near, far)


def digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of lgamma, by reflection below zero."""
    x = wide(x)
    with np.errstate(all="ignore"):
        value = _digamma_of_positive(np.where(x < 0, 1 - x, x))
        reflected = value - PI / np.tan(PI * (x - np.round(x)))
    value = np.where(x < 0, np.where(x == np.floor(x), np.nan, reflected), value)
    return np.where(x == 0, np.copysign(np.inf, -x), value)


def _digamma_of_positive(x: np.ndarray) -> np.ndarray:
    """Its asymptotic series from 60 on."""
    z, passed = wide(x), np.zeros_like(wide(x))
    for _ in range(60):
        passed = np.where(z < 60, passed + 1 / z, passed)
        z = np.where(z < 60, z + 1, z)
    value = np.log(z) - 1 / (2 * z)
    for k, (b, c) in enumerate(_BERNOULLI, 1):
        value = value - np.longdouble(b) / c / (2 * k) / z ** (2 * k)
    return value - passed


def sigmoid(x: np.ndarray) -> np.ndarray:
    x = wide(x)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def softplus(x: np.ndarray, beta: float = 1.0, threshold: float = 20.0) -> np.ndarray:
    x = wide(x)
    scaled = beta * x
    smooth = (np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))) / beta
    return np.where(scaled > threshold, x, smooth)


def logsigmoid(x: np.ndarray) -> np.ndarray:
    x = wide(x)
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def gelu(x: np.ndarray, approximate: str = "none") -> np.ndarray:
    """x Phi(x) (Hendrycks and Gimpel 2016), or its tanh approximation."""
    x = wide(x)
    if approximate == "tanh":
        return x / 2 * (1 + np.tanh(np.sqrt(2 / PI) * (x + wide(0.044715) * x**3)))
    return x / 2 * erfc(-x / np.sqrt(np.longdouble(2)))


def elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    x = wide(x)
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def celu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    x = wide(x)
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def selu(x: np.ndarray) -> np.ndarray:
    """Klambauer et al. 2017, with their constants."""
    return np.longdouble("1.0507009873554804934193349852946") * elu(
        x, np.longdouble("1.6732632423543772848170429916717")
    )


def mish(x: np.ndarray) -> np.ndarray:
    return wide(x) * np.tanh(softplus(x, threshold=np.inf))


def hardsigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(wide(x) + 3, 0, 6) / 6


def log_softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    shifted = wide(x) - np.max(wide(x), axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.exp(log_softmax(x, axis=axis))


def logsumexp(x: np.ndarray, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> np.ndarray:
    top = np.max(wide(x), axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        result = top + np.log(np.sum(np.exp(wide(x) - top), axis=axis, keepdims=True))
    return result if keepdims else np.squeeze(result, axis=axis)
