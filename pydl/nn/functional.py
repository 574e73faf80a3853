"""The functions behind the layers, without parameters of their own: thin names for the ops of the extension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]

# Dense and lookup


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b: (..., D), (H, D), (H) -> (..., H)."""
    return _C.linear(input, weight, bias)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1ᵀ W_k x2 + b_k: (..., D1), (..., D2), (H, D1, D2), (H) -> (..., H)."""
    first, second, (out, d1, d2) = input1.shape, input2.shape, weight.shape
    if first[:-1] != second[:-1] or first[-1] != d1 or second[-1] != d2:
        expected = f"(..., {d1}) and (..., {d2}) with equal batch axes"
        raise ValueError(f"[bilinear] got inputs of shapes {tuple(first)} and {tuple(second)}, expected {expected}")
    left = input1.reshape((-1, d1)) @ pydl.permute_dims(weight, (1, 0, 2)).reshape((d1, out * d2))
    y = (left.reshape((-1, out, d2)) * input2.reshape((-1, 1, d2))).sum(axis=-1)
    y = y.reshape((*first[:-1], out))
    return y if bias is None else y + bias


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of ``weight`` (V, E) at ``input`` (...) -> (..., E). Arguments as in :class:`pydl.nn.Embedding`."""
    if sparse:
        raise ValueError("[embedding] got sparse=True, expected False: gradients are dense here")
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    if max_norm is not None:
        _limit_rows(input, weight, max_norm, norm_type)
    rows = _C.embedding(input, weight, -1 if padding_idx is None else padding_idx)
    return _scale_by_frequency(rows, input, weight.shape[0]) if scale_grad_by_freq else rows


def _limit_rows(ids: Tensor, weight: Tensor, max_norm: float, norm_type: float) -> None:
    import numpy as np

    with pydl.no_grad():
        used = pydl.asarray(np.unique(ids.detach().numpy()).astype(np.int64))
        rows = weight.detach()[used]
        norm = (abs(rows) ** norm_type).sum(axis=-1, keepdims=True) ** (1.0 / norm_type)
        weight[used] = pydl.where(norm > max_norm, rows * (max_norm / (norm + 1e-7)), rows)


def _scale_by_frequency(rows: Tensor, ids: Tensor, count: int) -> Tensor:
    import numpy as np

    flat = ids.detach().numpy()
    share = 1.0 / np.bincount(flat.reshape(-1), minlength=count)[flat]
    scale = pydl.asarray(share, dtype=rows.dtype).reshape((*ids.shape, 1))

    class ScaleGradient(pydl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.detach()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * scale

    return ScaleGradient.apply(rows)


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """Whole numbers (...) -> int64 vectors (..., C) with a one at that place; C is by default the largest plus one."""
    if num_classes == -1:
        num_classes = int(input.max().item()) + 1 if input.size else 0
    low, high = (int(input.min().item()), int(input.max().item())) if input.size else (0, -1)
    if low < 0 or high >= num_classes:
        raise ValueError(f"[one_hot] got numbers from {low} to {high}, expected 0 to {num_classes - 1}")
    return _C.equal(pydl.expand_dims(input, axis=-1), pydl.arange(num_classes)).astype(pydl.int64)


def pad(input: Tensor, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Tensor:
    """Put ``value`` (default 0) around the input: pairs (before, after), the last axis first, as in PyTorch.

    A negative width cuts off. Other modes than ``"constant"`` are not known.

    >>> pad(pydl.ones((2,)), (1, 2)).numpy().tolist()
    [0.0, 1.0, 1.0, 0.0, 0.0]
    """
    if mode != "constant":
        raise ValueError(f"[pad] got mode {mode!r}, expected 'constant'")
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"[pad] got {len(pad)} widths for an input of {input.ndim} axes, expected pairs, one an axis")
    widths = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    return _C.pad(input, [(0, 0)] * (input.ndim - len(widths)) + widths, 0.0 if value is None else value)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability ``p`` and scale the others by 1/(1-p); the input itself if not training.

    Srivastava et al., "Dropout", JMLR 15 (2014). ``inplace`` is accepted and changes nothing.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"[dropout] got p = {p}, expected a probability from 0 to 1")
    return _C.dropout(input, p) if training and p > 0 else input


# Activations. ``inplace`` is accepted where PyTorch has it and changes nothing: the result is a new tensor.


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)."""
    return _C.relu(input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return _C.relu6(input)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return _C.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return _C.tanh(input)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x·Φ(x), or with ``approximate="tanh"`` its approximation by a tanh. Hendrycks and Gimpel, arXiv:1606.08415."""
    if approximate == "none":
        return _C.gelu(input)
    if approximate == "tanh":
        return _C.gelu_tanh(input)
    raise ValueError(f"[gelu] got approximate = {approximate!r}, expected 'none' or 'tanh'")


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x·σ(x), also called swish. Ramachandran et al., arXiv:1710.05941."""
    return _C.silu(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·tanh(softplus(x)). Misra, arXiv:1908.08681."""
    return _C.mish(input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(βx))/β, and x itself where βx passes ``threshold``."""
    return _C.softplus(input, beta, threshold)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x for x > 0, otherwise x times the slope."""
    return _C.leaky_relu(input, negative_slope)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x for x > 0, otherwise a·x with a learned slope, one or one for each channel (axis 1). He et al. (2015)."""
    if weight.size != 1:
        channels = input.shape[1] if input.ndim > 1 else None
        if weight.ndim != 1 or weight.size != channels:
            shapes = f"weight of shape {tuple(weight.shape)} for input {tuple(input.shape)}"
            raise ValueError(f"[prelu] got {shapes}, expected one slope or one for each channel (axis 1)")
        weight = weight.reshape((1, -1) + (1,) * (input.ndim - 2))
    elif input.ndim == 0:
        weight = weight.reshape(())
    return pydl.where(input > 0, input, weight * input)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x for x > 0, otherwise α(exp(x) - 1). Clevert et al., arXiv:1511.07289."""
    return _C.elu(input, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Scaled ELU that keeps mean 0 and variance 1. Klambauer et al., arXiv:1706.02515."""
    return _C.selu(input)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """max(0, x) + min(0, α(exp(x/α) - 1)). Barron, arXiv:1704.07483."""
    if alpha == 0:
        raise ValueError("[celu] got alpha = 0, expected another number")
    return _C.celu(input, alpha)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x kept between ``min_val`` and ``max_val``."""
    if min_val > max_val:
        raise ValueError(f"[hardtanh] got min_val = {min_val} above max_val = {max_val}")
    return _C.hardtanh(input, min_val, max_val)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    return _C.hardsigmoid(input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·hardsigmoid(x). Howard et al., arXiv:1905.02244."""
    return _C.hardswish(input)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return _C.softsign(input)


def logsigmoid(input: Tensor) -> Tensor:
    """log σ(x), without overflow."""
    return _C.logsigmoid(input)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return _C.tanhshrink(input)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > λ, otherwise 0."""
    return _C.hardshrink(input, lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by λ, and 0 where |x| <= λ."""
    if not lambd >= 0:
        raise ValueError(f"[softshrink] got lambd = {lambd}, expected 0 or more")
    return _C.softshrink(input, lambd)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, otherwise ``value``."""
    return _C.threshold(input, threshold, value)


def glu(input: Tensor, axis: int = -1, *, dim: int | None = None) -> Tensor:
    """Gated linear unit a·σ(b), for the halves a and b of one axis. Dauphin et al., arXiv:1612.08083."""
    axis = axis if dim is None else dim
    if not -input.ndim <= axis < input.ndim:
        raise IndexError(f"[glu] got input of shape {tuple(input.shape)}, which has no axis {axis}")
    size = input.shape[axis]
    if size % 2:
        raise ValueError(f"[glu] axis {axis} has size {size}, expected an even one")
    half = size // 2
    return _C.slice(input, axis, 0, half) * _C.sigmoid(_C.slice(input, axis, half, half))


def softmax(input: Tensor, axis: int | None = None, *, dim: int | None = None, dtype: Any = None) -> Tensor:
    """exp(x) / Σ exp(x) along one axis, without overflow.

    Without an axis it is 0 for tensors of 0, 1 or 3 axes and 1 for others, as in PyTorch; better give it.
    """
    return _C.softmax(input if dtype is None else input.astype(dtype), _softmax_axis(input, axis, dim))


def softmin(input: Tensor, axis: int | None = None, *, dim: int | None = None, dtype: Any = None) -> Tensor:
    """softmax(-x)."""
    return softmax(-input, axis, dim=dim, dtype=dtype)


def log_softmax(input: Tensor, axis: int | None = None, *, dim: int | None = None, dtype: Any = None) -> Tensor:
    """log softmax(x), without overflow; the axis as in :func:`softmax`."""
    return _C.log_softmax(input if dtype is None else input.astype(dtype), _softmax_axis(input, axis, dim))


def _softmax_axis(input: Tensor, axis: int | None, dim: int | None) -> int:
    if axis is None:
        axis = dim
    if axis is None:
        axis = 0 if input.ndim in (0, 1, 3) else 1
    return axis


def normalize(input: Tensor, p: float = 2.0, axis: int = 1, eps: float = 1e-12, *, dim: int | None = None) -> Tensor:
    """x / max(‖x‖_p, ε) along one axis."""
    axis = axis if dim is None else dim
    return input / pydl.maximum(_norm(input, p, axis), eps)


def cosine_similarity(x1: Tensor, x2: Tensor, axis: int = 1, eps: float = 1e-8, *, dim: int | None = None) -> Tensor:
    """x1·x2 / (max(‖x1‖, ε) max(‖x2‖, ε)) along one axis."""
    axis = axis if dim is None else dim
    norms = pydl.maximum(_norm(x1, 2.0, axis), eps) * pydl.maximum(_norm(x2, 2.0, axis), eps)
    return (x1 * x2 / norms).sum(axis=axis)


def _norm(x: Tensor, p: float, axis: int) -> Tensor:
    if p == 2:
        return pydl.sqrt((x * x).sum(axis=axis, keepdims=True))
    return (abs(x) ** p).sum(axis=axis, keepdims=True) ** (1.0 / p)


# Losses. ``reduction`` is "mean" (default), "sum" or "none".


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(x)[target]; see :class:`pydl.nn.CrossEntropyLoss`."""
    return _C.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-x[target] for log-probabilities x; see :class:`pydl.nn.NLLLoss`."""
    axis = 1 if input.ndim > 1 else 0
    batch = tuple(input.shape[:axis]) + tuple(input.shape[axis + 1 :])
    if input.ndim == 0 or tuple(target.shape) != batch:
        shapes = f"input {tuple(input.shape)} and target {tuple(target.shape)}"
        raise ValueError(f"[nll_loss] got {shapes}, expected (N, C, ...) and (N, ...), or (C) and ()")
    counted = _C.not_equal(target, ignore_index)
    place = pydl.where(counted, target, pydl.zeros_like(target))
    classes = input.shape[axis]
    if place.size and not (int(place.min().item()) >= 0 and int(place.max().item()) < classes):
        raise IndexError(f"[nll_loss] target holds numbers outside 0 to {classes - 1}")
    picked = pydl.squeeze(pydl.take_along_axis(input, pydl.expand_dims(place, axis=axis), axis=axis), axis=axis)
    share = counted.astype(input.dtype)
    if weight is not None:
        share = share * pydl.take(weight, place.reshape((-1,)), axis=0).reshape(batch)
    loss = pydl.where(counted, -picked * share, pydl.zeros_like(picked))
    return loss.sum() / share.sum() if reduction == "mean" else _reduce(loss, reduction, "nll_loss")


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x - y)²."""
    _same_shape(input, target, "mse_loss")
    return _reduce(_C.square(input - target), reduction, "mse_loss")


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|x - y|."""
    _same_shape(input, target, "l1_loss")
    return _reduce(abs(input - target), reduction, "l1_loss")


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """(x - y)²/2β where |x - y| < β, otherwise |x - y| - β/2. Girshick, arXiv:1504.08083."""
    if not beta >= 0:
        raise ValueError(f"[smooth_l1_loss] got beta = {beta}, expected 0 or more")
    if beta == 0:
        return l1_loss(input, target, reduction)
    return huber_loss(input, target, reduction, beta) / beta


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """(x - y)²/2 where |x - y| < δ, otherwise δ(|x - y| - δ/2). Huber (1964)."""
    if not delta > 0:
        raise ValueError(f"[huber_loss] got delta = {delta}, expected more than 0")
    _same_shape(input, target, "huber_loss")
    distance = abs(input - target)
    small = pydl.minimum(distance, delta)  # half its square, and delta times what lies beyond
    return _reduce(small * (distance - 0.5 * small), reduction, "huber_loss")


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) for probabilities p; logarithms end at -100, as in PyTorch."""
    _same_shape(input, target, "binary_cross_entropy")
    yes = pydl.maximum(pydl.log(input), -100.0)
    no = pydl.maximum(pydl.log1p(-input), -100.0)
    loss = -(target * yes + (1.0 - target) * no)
    return _reduce(loss if weight is None else loss * weight, reduction, "binary_cross_entropy")


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-(w y log σ(x) + (1 - y) log(1 - σ(x))) without overflow; see :class:`pydl.nn.BCEWithLogitsLoss`."""
    _same_shape(input, target, "binary_cross_entropy_with_logits")
    rest = (1.0 - target) * input
    if pos_weight is None:
        loss = rest - _C.logsigmoid(input)
    else:
        loss = rest - (1.0 + (pos_weight - 1.0) * target) * _C.logsigmoid(input)
    return _reduce(loss if weight is None else loss * weight, reduction, "binary_cross_entropy_with_logits")


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """y (log y - x) for log-probabilities x; ``reduction="batchmean"`` divides the sum by the batch size."""
    if log_target:
        loss = pydl.exp(target) * (target - input)
    else:
        positive = target > 0
        safe = pydl.where(positive, target, pydl.ones_like(target))
        loss = pydl.where(positive, target * pydl.log(safe), pydl.zeros_like(target)) - target * input
    if reduction == "batchmean":
        return loss.sum() / (input.shape[0] if input.ndim else 1)
    return _reduce(loss, reduction, "kl_div")


def _same_shape(input: Tensor, target: Tensor, op: str) -> None:
    if input.shape != target.shape:
        raise ValueError(
            f"[{op}] got input of shape {tuple(input.shape)} and target of shape {tuple(target.shape)}, "
            "expected the same; reshape one of them"
        )


def _reduce(loss: Tensor, reduction: str, op: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(f"[{op}] got reduction {reduction!r}, expected 'mean', 'sum' or 'none'")
