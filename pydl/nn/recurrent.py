"""Recurrent layers over whole sequences (RNN, LSTM, GRU) and their single steps (RNNCell, LSTMCell, GRUCell)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.nn.linear import new_parameter, uniform_in_fan
from pydl.nn.module import Module

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNBase", "RNNCell", "RNNCellBase"]

_GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}


class RNNBase(Module):
    """What the recurrent layers share: parameters, checks and one call of the fused kernel for the whole sequence.

    Parameters of layer k, with ``_reverse`` appended for the second direction: ``weight_ih_lk`` (G·H, D_k),
    ``weight_hh_lk`` (G·H, H), ``bias_ih_lk`` and ``bias_hh_lk`` (G·H), for G gates. D_0 is D, and D_k is H times the
    number of directions. All start uniform in ±1/√H.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for what, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if isinstance(size, bool) or not isinstance(size, int):
                raise TypeError(f"[{name}] got {what} {size!r}, expected a whole number")
            if size < 1:
                raise ValueError(f"[{name}] got {what} {size}, expected 1 or more")
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(f"[{name}] got dropout {dropout!r}, expected a probability from 0 to 1")
        if proj_size != 0:
            raise ValueError(f"[{name}] got proj_size {proj_size}, expected 0: put a Linear behind the layer instead")
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self._weight_names: list[str] = []  # in the order in which the kernel wants them
        rows = _GATES[mode] * hidden_size
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size * (2 if bidirectional else 1)
            for suffix in ("", "_reverse") if bidirectional else ("",):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, columns), "weight_hh": (rows, hidden_size)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                for kind, shape in shapes.items():
                    self._weight_names.append(f"{kind}_l{layer}{suffix}")
                    self.register_parameter(self._weight_names[-1], new_parameter(shape, device, dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        uniform_in_fan(self.hidden_size, *self.parameters())

    def flatten_parameters(self) -> None:
        """Does nothing: the kernels pack the weights themselves."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters, one list for each layer and direction."""
        step = 4 if self.bias else 2
        flat = [self.__dict__[name] for name in self._weight_names]
        return [flat[i : i + step] for i in range(0, len(flat), step)]

    def _run(
        self, input: Tensor, h0: Tensor | None, c0: Tensor | None, lengths: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        shape = input.shape
        if len(shape) not in (2, 3) or shape[-1] != self.input_size:
            self._refuse_input(shape)
        batched = len(shape) == 3
        if not batched:
            input = pydl.expand_dims(input, axis=0 if self.batch_first else 1)
        if lengths is not None:
            lengths = self._check_lengths(lengths, shape, batched)
        if h0 is not None:
            h0 = self._check_state(h0, "h_0", shape, batched)
        if c0 is not None:
            c0 = self._check_state(c0, "c_0", shape, batched)
        state = self.__dict__
        weights = [state[name] for name in self._weight_names]
        y, h, c = _C.recurrent(
            self.mode,
            input,
            h0,
            c0,
            weights,
            self.num_layers,
            self.bidirectional,
            self.batch_first,
            self.dropout,
            self.training,
            lengths,
            None,
        )
        if batched:
            return y, h, c
        y = pydl.squeeze(y, axis=0 if self.batch_first else 1)
        return y, pydl.squeeze(h, axis=1), None if c is None else pydl.squeeze(c, axis=1)

    def _refuse_input(self, shape: tuple[int, ...]) -> None:
        order = "(B, T, D)" if self.batch_first else "(T, B, D)"
        raise ValueError(
            f"[{type(self).__name__}] got input of shape {tuple(shape)}, expected {order} or (T, D) "
            f"with D = input_size = {self.input_size}"
        )

    def _check_state(self, state: Any, what: str, shape: tuple[int, ...], batched: bool) -> Tensor:
        layers = self.num_layers * (2 if self.bidirectional else 1)
        batch = (shape[0 if self.batch_first else 1],) if batched else ()
        expected = (layers, *batch, self.hidden_size)
        if not isinstance(state, pydl.Tensor):
            hint = "; LSTM takes the pair (h_0, c_0)" if self.mode == "lstm" else ""
            raise TypeError(f"[{type(self).__name__}] {what} is a {type(state).__name__}, expected a Tensor{hint}")
        if tuple(state.shape) != expected:
            raise ValueError(
                f"[{type(self).__name__}] got {what} of shape {tuple(state.shape)}, expected {expected}: "
                f"(layers x directions{', B' if batched else ''}, H)"
            )
        return state if batched else pydl.expand_dims(state, axis=1)

    def _check_lengths(self, lengths: Any, shape: tuple[int, ...], batched: bool) -> Tensor:
        if not isinstance(lengths, pydl.Tensor):
            lengths = pydl.asarray(lengths, dtype=pydl.int64)
        batch = shape[0 if self.batch_first else 1] if batched else 1
        if not batched and lengths.ndim == 0:
            lengths = pydl.expand_dims(lengths, axis=0)
        if tuple(lengths.shape) != (batch,):
            got = tuple(lengths.shape)
            raise ValueError(f"[{type(self).__name__}] got lengths of shape {got}, expected ({batch},), one a sequence")
        return lengths if lengths.dtype == pydl.int64 else lengths.astype(pydl.int64)

    def extra_repr(self) -> str:
        """The constructor's arguments where they differ from the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        if self.mode == "rnn_relu":
            text += ", nonlinearity=relu"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if not self.bias:
            text += ", bias=False"
        if self.batch_first:
            text += ", batch_first=True"
        if self.dropout:
            text += f", dropout={self.dropout}"
        if self.bidirectional:
            text += ", bidirectional=True"
        return text


class RNN(RNNBase):
    """Elman network: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), the same weights at every step.

    Elman, "Finding structure in time", Cognitive Science 14 (1990).

    Args:
        input_size: D, the number of features at each step.
        hidden_size: H, the number of hidden units.
        num_layers: layers on top of each other; default 1.
        nonlinearity: ``"tanh"`` (default) or ``"relu"``.
        bias: whether there are biases; default True.
        batch_first: sequences are (B, T, D) instead of (T, B, D); the states are (L, B, H) all the same; default False.
        dropout: probability of dropping outputs between layers while training; default 0.
        bidirectional: a second set of weights reads each sequence backwards; default False.
        device, dtype: of the parameters; default CPU and float32.

    Shapes, with L = num_layers times directions:
        input (T, B, D), (B, T, D) or, for one sequence, (T, D); ``hx`` (L, B, H) or (L, H), default zeros;
        output (T, B, H·directions) and h_n (L, B, H), each in the layout of the input. Parameters: :class:`RNNBase`.

    ``lengths`` gives each sequence's own number of steps in a padded batch: outputs beyond it are zero, h_n is the
    state at its last step, and the second direction begins there.

    Raises:
        ValueError: a shape that does not fit, with what was expected.

    >>> import pydl
    >>> from pydl import nn
    >>> output, h_n = nn.RNN(10, 20, num_layers=2)(pydl.ones((5, 3, 10)))
    >>> output.shape, h_n.shape
    ((5, 3, 20), (2, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        mode = _elman_mode(nonlinearity, "RNN")
        super().__init__(
            mode,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None, *, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Sequences and first states -> outputs of the last layer at every step, and last states of all layers."""
        y, h, _ = self._run(input, hx, None, lengths)
        return y, h


class LSTM(RNNBase):
    """Long short-term memory, with gates i, f, g, o in this order in the weights:

        i = σ(W_ii x + b_ii + W_hi h + b_hi)        f = σ(W_if x + b_if + W_hf h + b_hf)
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)     o = σ(W_io x + b_io + W_ho h + b_ho)
        c' = f·c + i·g                              h' = o·tanh(c')

    Hochreiter and Schmidhuber, Neural Computation 9 (1997); forget gate of Gers et al. (2000).

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as in
            :class:`RNN`.
        proj_size: must be 0.

    Shapes:
        as in :class:`RNN`; the state is the pair (h, c), both (L, B, H). ``lengths`` as there.

    Raises:
        ValueError: a shape that does not fit, with what was expected.

    >>> import pydl
    >>> from pydl import nn
    >>> output, (h_n, c_n) = nn.LSTM(10, 20, batch_first=True)(pydl.ones((3, 5, 10)), lengths=[5, 2, 1])
    >>> output.shape, h_n.shape, c_n.shape
    ((3, 5, 20), (1, 3, 20), (1, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "lstm",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None, *, lengths: Any = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Sequences and first states (h_0, c_0) -> outputs at every step, and last states (h_n, c_n)."""
        h0 = c0 = None
        if hx is not None:
            h0, c0 = _pair("LSTM", hx)
        y, h, c = self._run(input, h0, c0, lengths)
        return y, (h, c)  # type: ignore[return-value]


class GRU(RNNBase):
    """Gated recurrent unit, with gates r, z, n in this order in the weights:

        r = σ(W_ir x + b_ir + W_hr h + b_hr)        z = σ(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r·(W_hn h + b_hn))
        h' = (1 - z)·n + z·h

    Cho et al., arXiv:1406.1078 (2014), with the reset gate behind the matrix product as in cuDNN.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as in
            :class:`RNN`.

    Shapes:
        as in :class:`RNN`. ``lengths`` as there.

    Raises:
        ValueError: a shape that does not fit, with what was expected.

    >>> import pydl
    >>> from pydl import nn
    >>> output, h_n = nn.GRU(10, 20, bidirectional=True)(pydl.ones((5, 3, 10)))
    >>> output.shape, h_n.shape
    ((5, 3, 40), (2, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "gru",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )

    def forward(self, input: Tensor, hx: Tensor | None = None, *, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Sequences and first states -> outputs of the last layer at every step, and last states of all layers."""
        y, h, _ = self._run(input, hx, None, lengths)
        return y, h


class RNNCellBase(Module):
    """What the cells share: ``weight_ih`` (G·H, D), ``weight_hh`` (G·H, H), ``bias_ih``, ``bias_hh`` (G·H).

    All start uniform in ±1/√H.
    """

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, bias: bool, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"[{type(self).__name__}] got sizes {input_size} and {hidden_size}, expected 1 or more")
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        rows = _GATES[mode] * hidden_size
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
        uniform_in_fan(self.hidden_size, *self.parameters())

    def _step(self, input: Tensor, h: Tensor | None, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
        name, shape = type(self).__name__, tuple(input.shape)
        if len(shape) not in (1, 2) or shape[-1] != self.input_size:
            expected = f"(B, {self.input_size}) or ({self.input_size},)"
            raise ValueError(f"[{name}] got input of shape {shape}, expected {expected}, as input_size says")
        expected_state = (*shape[:-1], self.hidden_size)
        for what, state in (("h", h), ("c", c)):
            if state is not None and tuple(state.shape) != expected_state:
                raise ValueError(f"[{name}] got state {what} of shape {tuple(state.shape)}, expected {expected_state}")
        if h is None:
            h = pydl.zeros(expected_state, dtype=input.dtype)
        if c is None and self.mode == "lstm":
            c = pydl.zeros(expected_state, dtype=input.dtype)
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
    ) -> None:
        super().__init__(_elman_mode(nonlinearity, "RNNCell"), input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(B, D), (B, H) -> (B, H)."""
        return self._step(input, hx, None)[0]


class LSTMCell(RNNCellBase):
    """One step of :class:`LSTM`, with its formulas.

    Args:
        input_size, hidden_size, bias, device, dtype: as in :class:`RNNCell`.

    Shapes:
        input (B, D) or (D), states (h, c) each (B, H) or (H), default zeros -> new (h, c).

    >>> import pydl
    >>> from pydl import nn
    >>> h, c = nn.LSTMCell(10, 20)(pydl.ones((3, 10)))
    >>> h.shape, c.shape
    ((3, 20), (3, 20))
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__("lstm", input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(B, D), ((B, H), (B, H)) -> ((B, H), (B, H))."""
        h, c = (None, None) if hx is None else _pair("LSTMCell", hx)
        return self._step(input, h, c)  # type: ignore[return-value]


class GRUCell(RNNCellBase):
    """One step of :class:`GRU`, with its formulas.

    Args:
        input_size, hidden_size, bias, device, dtype: as in :class:`RNNCell`.

    Shapes:
        input (B, D) or (D), state (B, H) or (H), default zeros -> new state.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.GRUCell(10, 20)(pydl.ones((3, 10))).shape
    (3, 20)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__("gru", input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(B, D), (B, H) -> (B, H)."""
        return self._step(input, hx, None)[0]


def _elman_mode(nonlinearity: str, layer: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"[{layer}] got nonlinearity {nonlinearity!r}, expected 'tanh' or 'relu'")
    return "rnn_" + nonlinearity


def _pair(layer: str, hx: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise TypeError(f"[{layer}] got a state of {type(hx).__name__}, expected the pair (h, c)")
    return hx[0], hx[1]
