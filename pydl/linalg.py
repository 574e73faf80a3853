"""Linear algebra under the names of the array API standard and PyTorch: products and norms by pydl's kernels, solving
and factoring by NumPy's LAPACK on the CPU, with gradients. Matrices are the last two axes; further axes are batches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from pydl import _C
from pydl import _functions as ops
from pydl._functions import diagonal, matmul, matrix_transpose, outer, tensordot, trace, vecdot
from pydl._matrix_norms import cond, matrix_norm, matrix_rank, norm, vector_norm
from pydl._tensor import Tensor
from pydl.autograd import Function

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vander",
    "vecdot",
    "vector_norm",
]


class QR(NamedTuple):
    """Q of orthonormal columns and R, upper triangular."""

    Q: Tensor
    R: Tensor


class SVD(NamedTuple):
    """U, the singular values in descending order, and Vᵀ."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class Eigh(NamedTuple):
    """Eigenvalues in ascending order, and eigenvectors as columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SignLogDet(NamedTuple):
    """The determinant's sign, and the logarithm of its absolute value."""

    sign: Tensor
    logabsdet: Tensor


class LeastSquares(NamedTuple):
    """What lstsq gives."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def _lapack(name: str, *matrices: Tensor, **options: Any) -> Any:
    """NumPy's function of that name on the matrices; a tensor, or a tuple of them."""
    import numpy as np

    for x in matrices[:1]:
        if not x.dtype.is_floating_point:
            raise TypeError(f"[{name}] got a matrix of {x.dtype}, expected a floating dtype")
        square = x.ndim >= 2 and (name in ("qr", "svd", "pinv", "matrix_rank") or x.shape[-1] == x.shape[-2])
        if not square:
            raise ValueError(f"[{name}] got shape {x.shape}, expected square matrices (..., N, N)")
    arrays = [(x if x.dtype.itemsize >= 4 else _C.astype(x, _C.float32)).detach().cpu().numpy() for x in matrices]
    try:
        found = getattr(np.linalg, name)(*arrays, **options)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"[{name}] {str(error)[0].lower()}{str(error)[1:]}; shape {matrices[0].shape}") from None

    def tensor(part: Any) -> Tensor:
        array = np.array(part, order="C")
        kind = matrices[0].dtype if array.dtype.kind == "f" else None
        return ops.asarray(array, dtype=kind, device=matrices[0].device)

    return tuple(map(tensor, found)) if isinstance(found, tuple) else tensor(found)


def _column(x: Tensor) -> Tensor:
    return _C.expand_dims(_C.expand_dims(x, -1), -1)


def _eye_like(x: Tensor, n: int) -> Tensor:
    return _C.eye(n, n, 0, x.dtype)


# ---- solving


class _Inv(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y: Tensor = _lapack("inv", x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return -(y.mT @ grad @ y.mT)


def inv(x: Tensor) -> Tensor:
    """The inverse of square matrices (..., N, N).

    Raises:
        ValueError: a matrix is singular, or not square.

    >>> import pydl
    >>> pydl.linalg.inv(pydl.asarray([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    result: Tensor = _Inv.apply(x)
    return result


class _Solve(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        shape = _C.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        y: Tensor = _lapack("solve", _C.broadcast_to(a, (*shape, *a.shape[-2:])), b)
        ctx.save_for_backward(a, y)
        ctx.shapes = a.shape, b.shape
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        from pydl._compositions.shaping import sum_to_size

        a, y = ctx.saved_tensors
        of_b = _Solve.apply(a.mT, grad)
        shape_a, shape_b = ctx.shapes
        return sum_to_size(-(of_b @ y.mT), shape_a), sum_to_size(of_b, shape_b)


def solve(a: Tensor, b: Tensor) -> Tensor:
    """x of a @ x = b, for a (..., N, N) and b (..., N, K), or vectors (..., N) in the batches of a."""
    vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    result: Tensor = _Solve.apply(a, _C.expand_dims(b, -1) if vector else b)
    return _C.squeeze(result, -1, False) if vector else result


def solve_triangular(a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """x of a @ x = b (or x @ a = b with left=False), of whose a only one triangle is read."""
    a = _C.triu(a, 1 if unitriangular else 0) if upper else _C.tril(a, -1 if unitriangular else 0)
    if unitriangular:
        a = a + _eye_like(a, a.shape[-1])
    return solve(a, b) if left else solve(a.mT, b.mT).mT


def lstsq(a: Tensor, b: Tensor, rcond: float | None = None, *, driver: str | None = None) -> LeastSquares:
    """The x of least |a @ x - b| (of several the shortest), for a (..., M, N) and b (..., M, K) or (M).

    ``residuals`` are the squares of |a @ x - b|, (..., K); as in NumPy and PyTorch of no elements where M <= N.
    ``driver``, the name of a routine of LAPACK's, is accepted and ignored.
    """
    vector = b.ndim == 1
    right = _C.expand_dims(b, -1) if vector else b
    x = pinv(a, rtol=rcond) @ right
    over = a.shape[-2] > a.shape[-1]
    residuals = _C.sum(_C.square(a @ x - right), -2, False, None) if over else _C.full((0,), 0, a.dtype, a.device)
    solution = _C.squeeze(x, -1, False) if vector else x
    return LeastSquares(solution, residuals, matrix_rank(a), svdvals(a))


class _Det(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y: Tensor = _lapack("det", x)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return _column(grad * y) * inv(x).mT


def det(x: Tensor) -> Tensor:
    """The determinant of square matrices. Its gradient needs an inverse: a singular matrix is an error there."""
    result: Tensor = _Det.apply(x)
    return result


class _LogDet(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        sign, value = _lapack("slogdet", x)
        ctx.save_for_backward(x)
        return sign, value

    @staticmethod
    def backward(ctx: Any, sign: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _column(grad) * inv(x).mT


def slogdet(x: Tensor) -> SignLogDet:
    """The sign of the determinant and the logarithm of its absolute value, without overflow."""
    sign, value = _LogDet.apply(x)
    return SignLogDet(sign.detach(), value)


class _Pinv(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rtol: Any) -> Tensor:
        y: Tensor = _lapack("pinv", x, **({} if rtol is None else {"rcond": rtol}))
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        # Golub and Pereyra, "The differentiation of pseudo-inverses" (1973).
        x, y = ctx.saved_tensors
        left = _eye_like(x, x.shape[-2]) - x @ y
        right = _eye_like(x, x.shape[-1]) - y @ x
        return left @ grad.mT @ y @ y.mT + y.mT @ y @ grad.mT @ right - y.mT @ grad @ y.mT, None


def pinv(x: Tensor, *, rtol: float | None = None, hermitian: bool = False) -> Tensor:
    """The pseudo-inverse by Moore and Penrose, (..., M, N) -> (..., N, M); singular values below rtol times the largest
    count as 0 (default max(M, N)·eps). ``hermitian`` is accepted: a symmetric matrix needs no other way.
    """
    default = max(x.shape[-2:]) * ops.finfo(x.dtype).eps if x.ndim >= 2 else None
    result: Tensor = _Pinv.apply(x, default if rtol is None else rtol)
    return result


# ---- factoring


class _Cholesky(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y: Tensor = _lapack("cholesky", x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # Murray, "Differentiation of the Cholesky decomposition" (2016).
        (y,) = ctx.saved_tensors
        phi = _C.tril(y.mT @ grad, 0)
        phi = phi - 0.5 * _C.tril(_C.triu(phi, 0), 0)
        back = inv(y)
        s = back.mT @ phi @ back
        return (s + s.mT) * 0.5


def cholesky(x: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L of symmetric positive definite x = L·Lᵀ; with upper, Lᵀ."""
    lower: Tensor = _Cholesky.apply(x)
    return lower.mT if upper else lower


class _Saved:
    def __init__(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors


class _QR(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mode: str) -> tuple[Tensor, Tensor]:
        q, r = _lapack("qr", x, mode=mode)
        ctx.save_for_backward(q, r)
        ctx.mode = mode
        return q, r

    @staticmethod
    def backward(ctx: Any, grad_q: Tensor, grad_r: Tensor) -> Any:
        # Walter and Lehmann, "Algorithmic differentiation of linear algebra functions" (2010).
        q, r = ctx.saved_tensors
        rows, columns = r.shape[-2], r.shape[-1]
        if q.shape[-1] > columns:
            raise ValueError("[qr] has no gradient in mode 'complete' for more rows than columns; use mode='reduced'")
        if rows < columns:  # the columns behind the square part are Q times theirs of R
            behind, grad_behind = r[..., rows:], grad_r[..., rows:]
            square = _QR.backward(_Saved(q, r[..., :rows]), grad_q + q @ behind @ grad_behind.mT, grad_r[..., :rows])
            return ops.concat([square[0], q @ grad_behind], axis=-1), None
        m = r @ grad_r.mT - grad_q.mT @ q
        low = _C.tril(m, -1)
        whole = low + low.mT + _C.tril(_C.triu(m, 0), 0)
        return (grad_q + q @ whole) @ inv(r).mT, None


def qr(x: Tensor, mode: str = "reduced") -> QR:
    """Q·R = x (..., M, N); mode "reduced" (default) or "complete"."""
    if mode not in ("reduced", "complete"):
        raise ValueError(f"[qr] got mode {mode!r}, expected 'reduced' or 'complete'")
    return QR(*_QR.apply(x, mode))


def _differences(values: Tensor) -> Tensor:
    """1 / (v_j - v_i) off the diagonal, 0 on it."""
    gaps = _C.expand_dims(values, -2) - _C.expand_dims(values, -1)
    eye = _C.equal(_eye_like(values, values.shape[-1]), 1.0)
    return _C.where(eye, _C.full((), 0.0, values.dtype), 1.0 / _C.where(eye, _C.full((), 1.0, values.dtype), gaps))


class _SVD(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, full_matrices: bool) -> tuple[Tensor, ...]:
        u, s, vh = _lapack("svd", x, full_matrices=full_matrices)
        ctx.save_for_backward(u, s, vh)
        return u, s, vh

    @staticmethod
    def backward(ctx: Any, grad_u: Tensor, grad_s: Tensor, grad_vh: Tensor) -> Any:
        # Townsend, "Differentiating the singular value decomposition" (2016).
        u, s, vh = ctx.saved_tensors
        k = s.shape[-1]
        u, grad_u, v, grad_v = u[..., :k], grad_u[..., :k], vh.mT[..., :k], grad_vh.mT[..., :k]
        f, row = _differences(s * s), _C.expand_dims(s, -2)
        middle = (f * (u.mT @ grad_u - grad_u.mT @ u)) * row
        middle = middle + _C.expand_dims(s, -1) * (f * (v.mT @ grad_v - grad_v.mT @ v))
        middle = middle + _eye_like(s, k) * _C.expand_dims(grad_s, -2)
        outer_u = grad_u / row
        outer_v = grad_v / row
        result = u @ middle @ v.mT
        result = result + (outer_u - u @ (u.mT @ outer_u)) @ v.mT
        return result + u @ (outer_v - v @ (v.mT @ outer_v)).mT, None


def svd(x: Tensor, full_matrices: bool = True) -> SVD:
    """U·diag(S)·Vᵀ = x (..., M, N). Gradients of U and Vᵀ need singular values that differ."""
    return SVD(*_SVD.apply(x, full_matrices))


class _SingularValues(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        u, s, vh = _lapack("svd", x, full_matrices=False)
        ctx.save_for_backward(u, vh)
        return s

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        u, vh = ctx.saved_tensors
        return (u * _C.expand_dims(grad, -2)) @ vh


def svdvals(x: Tensor) -> Tensor:
    """The singular values in descending order."""
    result: Tensor = _SingularValues.apply(x)
    return result


class _Eigh(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, uplo: str) -> tuple[Tensor, Tensor]:
        values, vectors = _lapack("eigh", x, UPLO=uplo)
        ctx.save_for_backward(values, vectors)
        return values, vectors

    @staticmethod
    def backward(ctx: Any, grad_values: Tensor, grad_vectors: Tensor) -> Any:
        values, v = ctx.saved_tensors
        middle = _differences(values) * (v.mT @ grad_vectors)
        middle = middle + _eye_like(v, v.shape[-1]) * _C.expand_dims(grad_values, -2)
        return v @ middle @ v.mT, None


def eigh(x: Tensor, UPLO: str = "L") -> Eigh:
    """Eigenvalues and eigenvectors of symmetric matrices, of which one triangle is read, "L" or "U"."""
    if UPLO not in ("L", "U"):
        raise ValueError(f"[eigh] got UPLO {UPLO!r}, expected 'L' or 'U'")
    return Eigh(*_Eigh.apply(x, UPLO))


def eigvalsh(x: Tensor, UPLO: str = "L") -> Tensor:
    """Eigenvalues of symmetric matrices in ascending order."""
    return eigh(x, UPLO).eigenvalues


# ---- products


def matrix_power(x: Tensor, n: int) -> Tensor:
    """Square matrices times themselves, n times; the identity for 0, the inverse's powers below."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"[matrix_power] got shape {x.shape}, expected square matrices (..., N, N)")
    if n < 0:
        return matrix_power(inv(x), -n)
    if n == 0:
        return _C.clone(_C.broadcast_to(_eye_like(x, x.shape[-1]), x.shape))
    if n == 1:
        return x
    half = matrix_power(x, n // 2)
    return half @ half @ x if n % 2 else half @ half


def matrix_exp(x: Tensor) -> Tensor:
    """The exponential series of square matrices, of a matrix scaled down and squared up again."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"[matrix_exp] got shape {x.shape}, expected square matrices (..., N, N)")
    largest = _C.max(_C.sum(_C.abs(x.detach()), -2, False, None), None, False).item() if x.numel() else 0.0
    halvings = max(0, math.ceil(math.log2(largest / 0.5))) if 0.0 < largest < math.inf else 0
    a = x * 2.0**-halvings
    eye = _C.broadcast_to(_eye_like(x, x.shape[-1]), x.shape)
    result = eye + a * (1 / 14)
    for k in range(13, 0, -1):  # Horner's scheme
        result = eye + a @ result * (1 / k)
    for _ in range(halvings):
        result = result @ result
    return result


def multi_dot(matrices: Sequence[Tensor]) -> Tensor:
    """The product of several matrices; the first and the last may be vectors."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = result @ matrix
    return result


def cross(x: Tensor, y: Tensor, *, axis: int = -1, dim: int | None = None) -> Tensor:
    """Vector products along an axis of size 3."""
    from pydl._compositions.products import cross

    return cross(x, y, axis if dim is None else dim)


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """The powers of vectors' elements as rows, from the 0th on."""
    powers = ops.arange(x.shape[-1] if N is None else N)
    return ops.pow(_C.expand_dims(x, -1), powers)
