"""weight_norm and spectral_norm as parametrizations, with PyTorch's newer names."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pydl
from pydl.nn.module import Module
from pydl.nn.utils.normalized import as_matrix, norm_except, spectral_axis, unit
from pydl.nn.utils.parametrize import register_parametrization

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["spectral_norm", "weight_norm"]

AnyModule = TypeVar("AnyModule", bound=Module)


def weight_norm(module: AnyModule, name: str = "weight", dim: int | None = 0) -> AnyModule:
    """As :func:`pydl.nn.utils.weight_norm`, but g and v are ``parametrizations.NAME.original0`` and ``original1``.

    ``parametrize.remove_parametrizations(module, name)`` takes it off.

    >>> from pydl import nn
    >>> layer = weight_norm(nn.Linear(20, 40))
    >>> layer.parametrizations.weight.original0.shape
    (40, 1)
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


def spectral_norm(
    module: AnyModule, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> AnyModule:
    """As :func:`pydl.nn.utils.spectral_norm`, but the power iteration is made at each access in training mode, after
    15 at the beginning; the weight is ``parametrizations.NAME.original``, the vectors are
    ``parametrizations.NAME.0._u`` and ``_v``.

    >>> import pydl
    >>> from pydl import nn
    >>> layer = spectral_norm(nn.Linear(20, 40))
    >>> layer.parametrizations.weight[0]._u.shape
    (40,)
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, pydl.Tensor):
        raise ValueError(f"[spectral_norm] {type(module).__name__} has no parameter {name!r}")
    if n_power_iterations < 1:
        raise ValueError(f"[spectral_norm] got n_power_iterations {n_power_iterations}, expected 1 or more")
    axis = spectral_axis(module, dim)
    if not -weight.ndim <= axis < weight.ndim:
        raise IndexError(f"[spectral_norm] got dim {axis}, but {name!r} has shape {tuple(weight.shape)}")
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, axis, eps))


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / norm_except(weight_v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except(weight, self.dim), weight


class _SpectralNorm(Module):
    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        self.dim = dim % weight.ndim
        self.eps = eps
        self.n_power_iterations = n_power_iterations
        if weight.ndim > 1:
            with pydl.no_grad():
                matrix = as_matrix(weight.detach(), self.dim)
                u, v = (unit(pydl.randn(size, dtype=weight.dtype), eps) for size in matrix.shape)
            self.register_buffer("_u", u)
            self.register_buffer("_v", v)
            self._iterate(matrix, 15)

    def _iterate(self, matrix: Tensor, times: int) -> None:
        with pydl.no_grad():
            for _ in range(times):
                self._u.copy_(unit(matrix @ self._v, self.eps))
                self._v.copy_(unit(matrix.T @ self._u, self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return unit(weight, self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._iterate(matrix.detach(), self.n_power_iterations)
        return weight / (self._u.clone() * (matrix @ self._v.clone())).sum()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value
