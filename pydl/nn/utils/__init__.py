"""Gradients and parameters of a whole model at once, weights that are computed from others, layers that become one."""

from __future__ import annotations

from pydl.nn.utils import parametrizations, parametrize, rnn, stateless
from pydl.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from pydl.nn.utils.gradients import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from pydl.nn.utils.normalized import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm
from pydl.nn.utils.vectors import parameters_to_vector, vector_to_parameters

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "fuse_conv_bn_eval",
    "fuse_linear_bn_eval",
    "get_total_norm",
    "parameters_to_vector",
    "parametrizations",
    "parametrize",
    "remove_spectral_norm",
    "remove_weight_norm",
    "rnn",
    "spectral_norm",
    "stateless",
    "vector_to_parameters",
    "weight_norm",
]
