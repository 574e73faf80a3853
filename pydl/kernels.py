"""The recurrent kernels themselves, without automatic differentiation: backpropagation through time by hand. And which
kernel a convolution uses."""

from __future__ import annotations

from collections.abc import Sequence

from pydl import _C
from pydl._tensor import Tensor

__all__ = ["convolution_algorithms", "rnn_backward", "rnn_forward"]


def rnn_forward(
    x: Tensor, h0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """An Elman network over a whole sequence: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    Args:
        x: (T, B, D). h0: (B, H). w_ih: (H, D). w_hh: (H, H). b_ih, b_hh: (H).

    Returns:
        y (T, B, H), all hidden states; h_n (B, H), the last; and what rnn_backward needs.
    """
    y, h_n = _C.rnn_forward(x, h0, w_ih, w_hh, b_ih, b_hh)
    return y, h_n, y


def rnn_backward(
    d_y: Tensor,
    d_h_n: Tensor | None,
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    y: Tensor,
    workspace: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Backpropagation through time of rnn_forward: the gradients of x, h0, w_ih, w_hh, b_ih and b_hh.

    Args:
        d_y: (T, B, H), the gradient of every hidden state from above. d_h_n: (B, H) or None, of the last one.
    """
    return _C.rnn_backward(d_y, d_h_n, x, h0, w_ih, w_hh, b_ih, b_hh, y)


def convolution_algorithms(
    input: Tensor,
    weight: Tensor,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    transposed: bool = False,
) -> tuple[str, str, str]:
    """What computes a convolution of these tensors: forward, the gradient of the input and that of the weight.

    Returns:
        Of each: ``"gemm"`` (a matrix product of patches), ``"pointwise"`` (of the pixels, or the planes, themselves),
        ``"winograd"`` (tiles of 6x6 inputs, of kernels in parts of 3 to 5 taps, float32), ``"depthwise"`` (groups of at
        most 16 channels to at most 16, in float64 8, and no fewer than a quarter) or ``"narrow"`` (to few channels).

    >>> import pydl
    >>> convolution_algorithms(pydl.ones((1, 64, 56, 56)), pydl.ones((64, 64, 3, 3)), padding=1)[0]
    'winograd'
    """
    return _C.convolution_algorithms(weight.ndim - 2, input, weight, stride, padding, dilation, groups, transposed)
