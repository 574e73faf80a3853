"""weight_norm and spectral_norm as PyTorch had them first: ``weight_g`` and ``weight_v``, ``weight_orig`` and so on.

:mod:`pydl.nn.utils.parametrizations` has the newer forms, under other names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pydl
from pydl.nn.module import Module, Parameter
from pydl.nn.utils.computed import computed_rule, install, take_parameter, uninstall

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "as_matrix",
    "norm_except",
    "remove_spectral_norm",
    "remove_weight_norm",
    "spectral_axis",
    "spectral_norm",
    "unit",
    "weight_norm",
]

AnyModule = TypeVar("AnyModule", bound=Module)


def weight_norm(module: AnyModule, name: str = "weight", dim: int | None = 0) -> AnyModule:
    """Split a weight into length and direction, both trained: w = g·v/‖v‖.

    Salimans and Kingma, "Weight normalization", arXiv:1602.07868 (2016).

    Args:
        module: a layer; its parameter ``name`` gives way to ``name_g`` and ``name_v``.
        name: default ``"weight"``.
        dim: the axis whose entries have a length each; default 0, None: one length for all.

    Returns:
        The module.

    Raises:
        ValueError: there is no such parameter, or it is computed already.

    >>> from pydl import nn
    >>> layer = weight_norm(nn.Linear(20, 40))
    >>> layer.weight_g.shape, layer.weight_v.shape
    ((40, 1), (40, 20))
    """
    weight = take_parameter("weight_norm", module, name)
    with pydl.no_grad():
        length = norm_except(weight.detach(), dim)
    module.register_parameter(name + "_g", Parameter(length, weight.requires_grad))
    module.register_parameter(name + "_v", weight)
    install(module, name, _WeightNorm(name, dim))
    return module


def remove_weight_norm(module: AnyModule, name: str = "weight") -> AnyModule:
    """Make the weight a parameter again, with its present value. ValueError where it has no weight norm."""
    return _remove("weight_norm", module, name, _WeightNorm, ("_g", "_v"))


class _WeightNorm:
    def __init__(self, name: str, dim: int | None) -> None:
        self.name = name
        self.dim = dim

    def value(self, module: Any) -> Tensor:
        v = getattr(module, self.name + "_v")
        return v * (getattr(module, self.name + "_g") / norm_except(v, self.dim))

    def assign(self, module: Any, value: Any) -> None:
        raise ValueError(f"[weight_norm] {self.name!r} is computed; assign to {self.name}_g and {self.name}_v")


def spectral_norm(
    module: AnyModule, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> AnyModule:
    """Divide a weight by its largest singular value, found by power iteration: one each forward pass in training.

    Miyato et al., "Spectral normalization for generative adversarial networks", arXiv:1802.05957 (2018).

    Args:
        module: a layer; its parameter ``name`` becomes ``name_orig``, beside buffers ``name_u`` and ``name_v``.
        name: default ``"weight"``.
        n_power_iterations: default 1.
        eps: added to no norm, but the least one; default 1e-12.
        dim: the axis of the outputs; default 0, and 1 of transposed convolutions.

    Returns:
        The module.

    Raises:
        ValueError: there is no such parameter, it is computed already, or n_power_iterations is below 1.

    >>> from pydl import nn
    >>> layer = spectral_norm(nn.Linear(20, 40))
    >>> layer.weight_u.shape
    (40,)
    """
    if n_power_iterations < 1:
        raise ValueError(f"[spectral_norm] got n_power_iterations {n_power_iterations}, expected 1 or more")
    weight = take_parameter("spectral_norm", module, name)
    axis = spectral_axis(module, dim)
    with pydl.no_grad():
        matrix = as_matrix(weight.detach(), axis)
        u, v = (unit(pydl.randn(size, dtype=weight.dtype), eps) for size in matrix.shape)
    module.register_parameter(name + "_orig", weight)
    module.register_buffer(name + "_u", u)
    module.register_buffer(name + "_v", v)
    rule = _SpectralNorm(name, n_power_iterations, axis, eps)
    install(module, name, rule)
    rule.hook = module.register_forward_pre_hook(rule)
    return module


def remove_spectral_norm(module: AnyModule, name: str = "weight") -> AnyModule:
    """Make the weight a parameter again, with its present value. ValueError where it has no spectral norm."""
    rule = computed_rule(module, name)
    _remove("spectral_norm", module, name, _SpectralNorm, ("_orig", "_u", "_v"))
    rule.hook.remove()
    return module


class _SpectralNorm:
    hook: Any = None

    def __init__(self, name: str, iterations: int, axis: int, eps: float) -> None:
        self.name = name
        self.iterations = iterations
        self.axis = axis
        self.eps = eps

    def __call__(self, module: Any, args: Any) -> None:
        """Before each forward pass."""
        if not module.training:
            return
        u, v = getattr(module, self.name + "_u"), getattr(module, self.name + "_v")
        with pydl.no_grad():
            matrix = as_matrix(getattr(module, self.name + "_orig").detach(), self.axis)
            for _ in range(self.iterations):
                v.copy_(unit(matrix.T @ u, self.eps))
                u.copy_(unit(matrix @ v, self.eps))

    def value(self, module: Any) -> Tensor:
        weight = getattr(module, self.name + "_orig")
        u, v = (getattr(module, self.name + end).clone() for end in ("_u", "_v"))
        return weight / (u * (as_matrix(weight, self.axis) @ v)).sum()

    def assign(self, module: Any, value: Any) -> None:
        raise ValueError(f"[spectral_norm] {self.name!r} is computed; assign to {self.name}_orig")


def norm_except(x: Tensor, dim: int | None) -> Tensor:
    """The 2-norm along all axes but one, which are kept with size 1; of everything, 0-d, for None."""
    if dim is None or dim == -1:
        return (x * x).sum() ** 0.5
    axes = tuple(axis for axis in range(x.ndim) if axis != dim % x.ndim)
    return (x * x).sum(axis=axes, keepdims=True) ** 0.5 if axes else x.abs()


def as_matrix(weight: Tensor, axis: int) -> Tensor:
    """(size of the axis, everything else)."""
    if axis != 0:
        weight = pydl.permute_dims(weight, (axis, *(i for i in range(weight.ndim) if i != axis)))
    return weight.reshape((weight.shape[0], -1))


def unit(x: Tensor, eps: float) -> Tensor:
    """x/max(‖x‖, eps) of a vector."""
    return x / pydl.clip((x * x).sum() ** 0.5, eps)


def spectral_axis(module: Module, dim: int | None) -> int:
    """The axis of a layer's outputs in its weight."""
    if dim is not None:
        return dim
    return 1 if any(base.__name__.startswith("ConvTranspose") for base in type(module).__mro__) else 0


def _remove(op: str, module: AnyModule, name: str, kind: type, endings: tuple[str, ...]) -> AnyModule:
    if not isinstance(computed_rule(module, name), kind):
        raise ValueError(f"[remove_{op}] {name!r} of {type(module).__name__} has no {op}")
    with pydl.no_grad():
        value = getattr(module, name).detach().clone()
    trained = getattr(module, name + endings[-1 if op == "weight_norm" else 0]).requires_grad
    uninstall(module, name)
    for ending in endings:
        delattr(module, name + ending)
    module.register_parameter(name, Parameter(value, trained))
    return module
