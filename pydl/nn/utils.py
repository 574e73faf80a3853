"""Things done with all gradients or all parameters of a model at once."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, TypeVar

import pydl
from pydl import _C
from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydl import Tensor

_M = TypeVar("_M", bound=Module)

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "fuse_conv_bn_eval",
    "fuse_linear_bn_eval",
    "get_total_norm",
    "parameters_to_vector",
    "vector_to_parameters",
]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients by min(1, max_norm/(norm + 10⁻⁶)), where norm is that of all of them as one vector.

    Pascanu et al., "On the difficulty of training recurrent neural networks", arXiv:1211.5063 (2013).

    Args:
        parameters: tensors; those without a gradient count for nothing.
        max_norm: the bound, 0 or more.
        norm_type: which p-norm; ``float("inf")`` is the largest magnitude; default 2.
        error_if_nonfinite: refuse a norm that is NaN or infinite, before anything is changed; default False.
        foreach: accepted and ignored.

    Returns:
        The norm before clipping, a 0-d tensor.

    Raises:
        ValueError: max_norm is negative or NaN, or the norm is not finite and should be.

    >>> w = pydl.zeros((2,), requires_grad=True)
    >>> (w * pydl.asarray([3.0, 4.0])).sum().backward()
    >>> clip_grad_norm_([w], 1.0).item()
    5.0
    """
    grads = _grads(parameters)
    if not max_norm >= 0:
        raise ValueError(f"[clip_grad_norm_] got max_norm {max_norm}, expected 0 or more")
    if not grads:
        return pydl.zeros(())
    if error_if_nonfinite:
        norm = get_total_norm(grads, norm_type)
        if not math.isfinite(norm.item()):
            raise ValueError(f"[clip_grad_norm_] the gradients' norm is {norm.item()}; nothing was changed")
    return _C.clip_grad_norm(grads, float(max_norm), float(norm_type))


def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """The p-norm of all tensors taken as one vector, a 0-d tensor; ``norm_type`` as in :func:`clip_grad_norm_`."""
    tensors = list(tensors)
    return _C.clip_grad_norm(tensors, math.inf, float(norm_type)) if tensors else pydl.zeros(())


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Bring every element of every gradient into [-clip_value, clip_value].

    Raises:
        ValueError: clip_value is negative or NaN.
    """
    if not clip_value >= 0:
        raise ValueError(f"[clip_grad_value_] got clip_value {clip_value}, expected 0 or more")
    grads = _grads(parameters)
    if grads:
        _C.clip_grad_value(grads, float(clip_value))


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements in one vector (N), parameter after parameter; gradients flow through it.

    >>> from pydl import nn
    >>> parameters_to_vector(nn.Linear(3, 2).parameters()).shape
    (8,)
    """
    return pydl.concat([parameter.reshape((-1,)) for parameter in parameters], axis=0)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy a vector (N) into the parameters, the inverse of :func:`parameters_to_vector`.

    Raises:
        ValueError: the vector has more or fewer elements than the parameters; nothing is changed.
    """
    parameters = list(parameters)
    sizes = [math.prod(parameter.shape) for parameter in parameters]
    if tuple(vec.shape) != (sum(sizes),):
        raise ValueError(f"[vector_to_parameters] got a vector of shape {tuple(vec.shape)}, expected ({sum(sizes)},)")
    start = 0
    with pydl.no_grad():
        for parameter, size in zip(parameters, sizes, strict=True):
            parameter.copy_(vec[start : start + size].reshape(tuple(parameter.shape)))
            start += size


def _grads(parameters: Any) -> list[Tensor]:
    if isinstance(parameters, pydl.Tensor):
        parameters = (parameters,)
    return [grad for parameter in parameters if (grad := parameter.grad) is not None]


def fuse_conv_bn_eval(conv: _M, bn: Any, transpose: bool = False) -> _M:
    """A copy of a convolution that does what it and the batch normalization after it do in evaluation.

    Each output channel's weights are multiplied by weight/√(running variance + ε), and the bias follows.

    Args:
        conv: a convolution layer, in evaluation mode.
        bn: the batch normalization of its output, in evaluation mode, with running statistics.
        transpose: whether the convolution is a transposed one, whose output channels are the weight's second axis.

    Raises:
        ValueError: a layer is in training mode; no running statistics; other channels.

    >>> import pydl
    >>> from pydl import nn
    >>> conv, bn = nn.Conv2d(3, 8, 3).eval(), nn.BatchNorm2d(8).eval()
    >>> x = pydl.ones((1, 3, 5, 5))
    >>> bool(((nn.utils.fuse_conv_bn_eval(conv, bn)(x) - bn(conv(x))).abs().max() < 1e-6).item())
    True
    """
    groups = getattr(conv, "groups", 1)
    return _fuse("fuse_conv_bn_eval", conv, bn, groups if transpose else 0)


def fuse_linear_bn_eval(linear: _M, bn: Any) -> _M:
    """The same for a linear layer and the batch normalization of its output (N, C); see :func:`fuse_conv_bn_eval`."""
    return _fuse("fuse_linear_bn_eval", linear, bn, 0)


def _fuse(op: str, layer: _M, bn: Any, transposed_groups: int) -> _M:
    if layer.training or bn.training:
        raise ValueError(f"[{op}] a layer is in training mode; call eval() on both first")
    mean, var = bn.running_mean, bn.running_var
    if mean is None or var is None:
        raise ValueError(f"[{op}] the batch normalization has no running statistics to fold in")
    fused = copy.deepcopy(layer)
    weight, bias = fused.get_parameter("weight"), fused.__dict__["bias"]
    outputs = weight.shape[1] * transposed_groups if transposed_groups else weight.shape[0]
    if tuple(mean.shape) != (outputs,):
        raise ValueError(f"[{op}] got {outputs} output channels and statistics of {mean.shape[0]}, expected the same")
    with pydl.no_grad():
        scale = (var + bn.eps) ** -0.5
        if bn.weight is not None:
            scale = scale * bn.weight
        shift = -mean if bias is None else bias - mean
        shift = shift * scale
        if bn.bias is not None:
            shift = shift + bn.bias
        ones = (1,) * (weight.ndim - 2)
        if transposed_groups:  # (in, out / groups, ...): inputs and outputs of a group belong together
            per_group = scale.reshape((transposed_groups, 1, -1, *ones))
            split = weight.reshape((transposed_groups, -1, *weight.shape[1:]))
            scaled = (split * per_group).reshape(weight.shape)
        else:
            scaled = weight * scale.reshape((-1, 1, *ones))
        weight.copy_(scaled)
        fused.register_parameter("bias", Parameter(shift.astype(weight.dtype), weight.requires_grad))
    return fused
