"""How much of a loss's gradient arrives at a recurrent network's states of earlier steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl import nn

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["gradient_flow"]


def gradient_flow(
    layer: nn.RNNBase,
    x: Tensor,
    *,
    loss: Callable[[Tensor], Tensor] | None = None,
    window: int | None = None,
    clip_value: float | None = None,
) -> npt.NDArray[np.float64]:
    """‖∂L/∂s_(T-k)‖ by the distance k, for a loss L of the last output alone: backpropagation through time, by hand.

    s_t is all that is carried from step t to the next: h_t of all layers, and for an LSTM c_t with it. Of a product of
    Jacobians the norm falls or grows exponentially with their number (Pascanu et al., arXiv:1211.5063), which is what
    is called a vanishing or exploding gradient.

    Args:
        layer: an RNN, LSTM or GRU that reads one way, without dropout.
        x: input, (T, N, D), or (N, T, D) where the layer has its batch first.
        loss: of the last output (N, H), to a number; default the half of its squares' sum.
        window: of truncated backpropagation through time: the state's gradient ends where a window begins, the last of
            which ends at step T; default none, all of the steps.
        clip_value: bound of each element of the gradient, at each step back (Graves, arXiv:1308.0850); default none.

    Returns:
        (T,), for k from 0 to T - 1: the norm of the gradients of all the batch.

    Raises:
        TypeError: another kind of layer.
        ValueError: a layer that reads both ways or drops; a window or clip_value that is not positive; no steps.

    Example:
        >>> _ = pydl.manual_seed(0)
        >>> norms = gradient_flow(nn.RNN(3, 16), pydl.randn(20, 4, 3))
        >>> norms.shape, bool(norms[19] < 0.01 * norms[0])
        ((20,), True)
        >>> bool(gradient_flow(nn.RNN(3, 16), pydl.randn(20, 4, 3), window=5)[5:].any())
        False
    """
    where = "[gradient_flow]"
    if not isinstance(layer, nn.RNNBase):
        raise TypeError(f"{where} got a {type(layer).__name__}, expected an RNN, LSTM or GRU")
    if layer.bidirectional or layer.dropout:
        raise ValueError(f"{where} got {layer!r}, expected a layer that reads one way, without dropout")
    for name, value in (("window", window), ("clip_value", clip_value)):
        if value is not None and not value > 0:
            raise ValueError(f"{where} got {name} {value}, expected more than 0")
    axis = 1 if layer.batch_first else 0
    if x.ndim != 3 or not x.shape[axis]:
        raise ValueError(f"{where} got x of shape {tuple(x.shape)}, expected three axes and one step or more")
    steps = x.shape[axis]
    x = x.detach()
    befores: list[list[Tensor]] = []
    afters: list[list[Tensor]] = []
    state: Any = None
    for t in range(steps):
        if state is not None:
            befores.append([part.detach().requires_grad_() for part in afters[-1]])
            state = tuple(befores[-1]) if len(befores[-1]) > 1 else befores[-1][0]
        _, state = layer(x[:, t : t + 1] if axis else x[t : t + 1], state)
        afters.append(list(state) if isinstance(state, tuple) else [state])
    last = afters[-1][0][-1]  # the last layer's h is its output
    total = (last**2).sum() * 0.5 if loss is None else loss(last)
    grads = [
        _or_zeros(g, part) for g, part in zip(pydl.autograd.grad(total, afters[-1], allow_unused=True), afters[-1])
    ]
    norms = np.zeros(steps)
    for k in range(min(steps, window or steps)):
        if clip_value is not None:
            grads = [pydl.clip(g, -clip_value, clip_value) for g in grads]
        norms[k] = np.sqrt(sum(float((g.cpu().numpy().astype(np.float64) ** 2).sum()) for g in grads))
        if k + 1 < steps:
            before, after = befores[steps - 2 - k], afters[steps - 1 - k]
            found = pydl.autograd.grad(after, before, grads, allow_unused=True)
            grads = [_or_zeros(g, part) for g, part in zip(found, before)]
    return norms


def _or_zeros(gradient: Tensor | None, part: Tensor) -> Tensor:
    return pydl.zeros_like(part).detach() if gradient is None else gradient
