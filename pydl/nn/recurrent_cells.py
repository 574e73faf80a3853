"""Single steps of recurrent layers: RNNCell, LSTMCell, GRUCell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module
from pydl.nn.recurrent import GATES, check_sizes, elman_mode, other_dtype, start, state_pair

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pydl import Tensor
    from pydl.nn.arguments import AttachedToCell

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RNNCellBase"]


class RNNCellBase(Module):
    """What the cells share: ``weight_ih`` (G·H, D), ``weight_hh`` (G·H, H), ``bias_ih``, ``bias_hh`` (G·H).

    All start uniform in ±1/√H, or as ``init="keras"`` has them in :class:`RNNBase`.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        bias: bool,
        device: Any = None,
        dtype: Any = None,
        *,
        init: str = "torch",
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        if init not in ("torch", "keras"):
            raise ValueError(f"[{type(self).__name__}] got init {init!r}, expected 'torch' or 'keras'")
        self.init = init
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        rows = GATES[mode] * hidden_size
        self.weight_ih = new_parameter((rows, input_size), device, dtype)
        self.weight_hh = new_parameter((rows, hidden_size), device, dtype)
        if bias:
            self.bias_ih = new_parameter((rows,), device, dtype)
            self.bias_hh = new_parameter((rows,), device, dtype)
        else:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    @property
    def bias(self) -> bool:
        """Whether the cell has biases."""
        return self.bias_ih is not None

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        start(self, self.init, self.hidden_size)

    def _step(self, input: Tensor, h: Tensor | None, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
        name, shape = type(self).__name__, tuple(input.shape)
        if len(shape) not in (1, 2) or shape[-1] != self.input_size:
            expected = f"(B, {self.input_size}) or ({self.input_size},)"
            raise ValueError(f"[{name}] got input of shape {shape}, expected {expected}, as input_size says")
        if input.dtype != self.weight_ih.dtype:
            raise other_dtype(name, input, self.weight_ih)
        expected_state = (*shape[:-1], self.hidden_size)
        for what, state in (("h", h), ("c", c)):
            if state is not None and tuple(state.shape) != expected_state:
                raise ValueError(f"[{name}] got state {what} of shape {tuple(state.shape)}, expected {expected_state}")
        if h is None:
            h = pydl.zeros(expected_state, dtype=input.dtype, device=input.device)
        if c is None and self.mode == "lstm":
            c = pydl.zeros(expected_state, dtype=input.dtype, device=input.device)
        batched = len(shape) == 2
        if not batched:
            input, h = pydl.expand_dims(input, axis=0), pydl.expand_dims(h, axis=0)
            c = None if c is None else pydl.expand_dims(c, axis=0)
        h, c = _C.recurrent_cell(self.mode, input, h, c, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        if batched:
            return h, c
        return pydl.squeeze(h, axis=0), None if c is None else pydl.squeeze(c, axis=0)

    def extra_repr(self) -> str:
        """The constructor's arguments where they differ from the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        if not self.bias:
            text += ", bias=False"
        if self.mode == "rnn_relu":
            text += ", nonlinearity=relu"
        return text


class RNNCell(RNNCellBase):
    """One step of :class:`RNN`: h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Args:
        input_size, hidden_size: D and H.
        bias: whether there are biases; default True.
        nonlinearity: ``"tanh"`` (default) or ``"relu"``.
        device, dtype: of the parameters; default CPU and float32.
        init: ``"torch"`` (default) or ``"keras"``, as in :class:`RNNBase`.

    Shapes:
        input (B, D) or (D), state (B, H) or (H), default zeros -> new state.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.RNNCell(10, 20)(pydl.ones((3, 10))).shape
    (3, 20)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
        *,
        init: str = "torch",
        **attached: Unpack[AttachedToCell],
    ) -> None:
        super().__init__(elman_mode(nonlinearity, "RNNCell"), input_size, hidden_size, bias, device, dtype, init=init)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(B, D), (B, H) -> (B, H)."""
        return self._step(input, hx, None)[0]


class LSTMCell(RNNCellBase):
    """One step of :class:`LSTM`, with its formulas.

    Args:
        input_size, hidden_size, bias, device, dtype, init: as in :class:`RNNCell`.

    Shapes:
        input (B, D) or (D), states (h, c) each (B, H) or (H), default zeros -> new (h, c).

    >>> import pydl
    >>> from pydl import nn
    >>> h, c = nn.LSTMCell(10, 20)(pydl.ones((3, 10)))
    >>> h.shape, c.shape
    ((3, 20), (3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        init: str = "torch",
        **attached: Unpack[AttachedToCell],
    ) -> None:
        super().__init__("lstm", input_size, hidden_size, bias, device, dtype, init=init)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(B, D), ((B, H), (B, H)) -> ((B, H), (B, H))."""
        h, c = (None, None) if hx is None else state_pair("LSTMCell", hx)
        return self._step(input, h, c)  # type: ignore[return-value]


class GRUCell(RNNCellBase):
    """One step of :class:`GRU`, with its formulas.

    Args:
        input_size, hidden_size, bias, device, dtype, init: as in :class:`RNNCell`.

    Shapes:
        input (B, D) or (D), state (B, H) or (H), default zeros -> new state.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.GRUCell(10, 20)(pydl.ones((3, 10))).shape
    (3, 20)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        init: str = "torch",
        **attached: Unpack[AttachedToCell],
    ) -> None:
        super().__init__("gru", input_size, hidden_size, bias, device, dtype, init=init)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(B, D), (B, H) -> (B, H)."""
        return self._step(input, hx, None)[0]
