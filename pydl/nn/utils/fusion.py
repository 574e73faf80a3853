"""Layers that become one in evaluation."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import pydl
from pydl.nn.module import Module, Parameter

_M = TypeVar("_M", bound=Module)

__all__ = ["fuse_conv_bn_eval", "fuse_linear_bn_eval"]


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
