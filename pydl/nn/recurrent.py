"""Recurrent layers over whole sequences: RNN, LSTM, GRU. Their single steps are in recurrent_cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.nn import init as initializers
from pydl.nn.functional._recurrent import recurrent_layer
from pydl.nn.linear import new_parameter, uniform_in_fan
from pydl.nn.module import Module, Parameter
from pydl.nn.utils.rnn import PackedSequence, pad_packed_sequence, repacked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydl import Tensor

__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}


class RNNBase(Module):
    """What the recurrent layers share: parameters, checks and one call of the fused kernel for the whole sequence.

    Parameters of layer k, with ``_reverse`` appended for the second direction: ``weight_ih_lk`` (G·H, D_k),
    ``weight_hh_lk`` (G·H, P), ``bias_ih_lk`` and ``bias_hh_lk`` (G·H), for G gates, and ``weight_hr_lk`` (P, H) of an
    LSTM with projections. P is ``proj_size`` or else H, D_0 is D, and D_k is P times the number of directions.

    Beyond PyTorch's arguments every layer takes, by name:

        recurrent_dropout: probability of dropping a unit of h where it enters the recurrent product, while training;
            one mask a sequence. Gal and Ghahramani, arXiv:1512.05287; Semeniuta et al., arXiv:1603.05118. Default 0.
        variational: ``dropout`` draws one mask a sequence instead of one a step, and drops the first layer's input too.
            Gal and Ghahramani. Default False.
        layer_norm: normalize W_ih x and W_hh h over their units before they are added, with gains ``norm_ih_lk`` and
            ``norm_hh_lk`` (G·H), and c on its way out of an LSTM's cell, with gain and bias in the rows of
            ``norm_c_lk`` (2, H). Ba et al., arXiv:1607.06450. Default False.
        learn_initial_state: where no state is given it is ``initial_h`` (and ``initial_c``), parameters of one row for
            each layer and direction that start as zeros. Default False.
        init: ``"torch"`` (default): all uniform in ±1/√H. ``"keras"``: input weights Glorot uniform, recurrent ones
            orthogonal, biases 0 and an LSTM's forget bias 1 (Jozefowicz et al., 2015).

    Layers with projections, normalization or a mask a sequence run step by step, several times slower.
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
        *,
        recurrent_dropout: float = 0.0,
        variational: bool = False,
        layer_norm: bool = False,
        learn_initial_state: bool = False,
        init: str = "torch",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_sizes(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_flags(name, bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        for what, p in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if isinstance(p, bool) or not 0 <= p <= 1:
                raise ValueError(f"[{name}] got {what} {p!r}, expected a probability from 0 to 1")
        if proj_size and mode != "lstm":
            raise ValueError(f"[{name}] got proj_size {proj_size}, expected 0: only LSTM has projections")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"[{name}] got proj_size {proj_size}, expected 0 to {hidden_size - 1}, below hidden_size")
        if init not in ("torch", "keras"):
            raise ValueError(f"[{name}] got init {init!r}, expected 'torch' or 'keras'")
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.recurrent_dropout = float(recurrent_dropout)
        self.variational = variational
        self.layer_norm = layer_norm
        self.learn_initial_state = learn_initial_state
        self.init = init
        self._weight_names: list[str] = []  # in the order in which the kernel wants them
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                for kind, shape in self._shapes(layer).items():
                    self._weight_names.append(kind + suffix)
                    self.register_parameter(self._weight_names[-1], new_parameter(shape, device, dtype))
        if learn_initial_state:
            grid = num_layers * self._directions
            self.initial_h = new_parameter((grid, self._state_size), device, dtype)
            if mode == "lstm":
                self.initial_c = new_parameter((grid, hidden_size), device, dtype)
        self.reset_parameters()

    _composed = False  # whether layers are made of ops even where the kernel could

    @property
    def _dtype(self) -> Any:
        return self.__dict__["weight_ih_l0"].dtype

    @staticmethod
    def _name(kind: str, suffix: str) -> str:
        return kind + suffix

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _state_size(self) -> int:
        return self.proj_size or self.hidden_size

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        return (f"_l{layer}", f"_l{layer}_reverse")[: self._directions]

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The parameters of one layer and direction, in PyTorch's order; ours follow."""
        rows, state = GATES[self.mode] * self.hidden_size, self._state_size
        columns = self.input_size if layer == 0 else state * self._directions
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, columns), "weight_hh": (rows, state)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        if self.layer_norm:
            shapes |= {"norm_ih": (rows,), "norm_hh": (rows,)}
            if self.mode == "lstm":
                shapes["norm_c"] = (2, self.hidden_size)
        return shapes

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        start(self, self.init, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Does nothing: the kernels pack the weights themselves."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters, one list for each layer and direction."""
        step = len(self._shapes(0))
        flat = [getattr(self, name) for name in self._weight_names]
        return [flat[i : i + step] for i in range(0, len(flat), step)]

    def _run(
        self, input: Tensor, h0: Tensor | None, c0: Tensor | None, lengths: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if isinstance(input, PackedSequence):
            return self._run_packed(input, h0, c0, lengths)
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
        if self.learn_initial_state and h0 is None:
            h0, c0 = self._first_state(input)
        masks = self.training and (self.recurrent_dropout > 0 or (self.variational and self.dropout > 0))
        if masks or self.proj_size or self.layer_norm or self._composed:
            return self._shaped(self._step_by_step(input, h0, c0, lengths), batched)
        weights = [getattr(self, name) for name in self._weight_names]  # not __dict__: a weight may be computed
        if input.dtype != weights[0].dtype:
            raise other_dtype(type(self).__name__, input, weights[0])
        done = _C.recurrent(
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
        return done if batched else self._shaped(done, batched)

    def _run_packed(
        self, packed: PackedSequence, h0: Tensor | None, c0: Tensor | None, lengths: Any
    ) -> tuple[Any, Tensor, Tensor | None]:
        if lengths is not None:
            raise ValueError(f"[{type(self).__name__}] got lengths beside a packed input, which has its own")
        padded, lengths = pad_packed_sequence(packed, batch_first=self.batch_first)
        y, h, c = self._run(padded, h0, c0, lengths)
        return repacked(packed, pydl.swap_axes(y, 0, 1) if self.batch_first else y), h, c

    def _shaped(
        self, done: tuple[Tensor, Tensor, Tensor | None], batched: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if batched:
            return done
        y, h, c = done
        y = pydl.squeeze(y, axis=0 if self.batch_first else 1)
        return y, pydl.squeeze(h, axis=1), None if c is None else pydl.squeeze(c, axis=1)

    def _first_state(self, input: Tensor) -> tuple[Tensor, Tensor | None]:
        batch = input.shape[0 if self.batch_first else 1]

        def spread(rows: Tensor) -> Tensor:
            return pydl.broadcast_to(pydl.expand_dims(rows, axis=1), (rows.shape[0], batch, rows.shape[1]))

        return spread(self.initial_h), spread(self.initial_c) if self.mode == "lstm" else None

    def _step_by_step(
        self, x: Tensor, h0: Tensor | None, c0: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The layers made of ops, with what the kernel does not have."""
        if self.batch_first:
            x = pydl.swap_axes(x, 0, 1)
        dtype = self._dtype
        if x.dtype != dtype:
            raise TypeError(f"[{type(self).__name__}] got input of {x.dtype}, expected {dtype}")
        if lengths is not None and lengths.size and not 0 <= lengths.min().item() <= lengths.max().item() <= x.shape[0]:
            raise ValueError(f"[{type(self).__name__}] got lengths {lengths.tolist()}, expected 0 to {x.shape[0]}")
        batch, h_last, c_last = x.shape[1], [], []
        kinds = tuple(self._shapes(0))
        for layer in range(self.num_layers):
            if self.training and self.dropout > 0:
                if self.variational:
                    x = x * self._mask((batch, x.shape[2]), self.dropout, x)
                elif layer > 0:
                    x = _C.dropout(x, self.dropout)
            ends = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                place = layer * self._directions + direction
                h = pydl.zeros((batch, self._state_size), dtype=x.dtype, device=x.device) if h0 is None else h0[place]
                c = None
                if self.mode == "lstm":
                    c = (
                        pydl.zeros((batch, self.hidden_size), dtype=x.dtype, device=x.device)
                        if c0 is None
                        else c0[place]
                    )
                weights = {kind: getattr(self, self._name(kind, suffix)) for kind in kinds}
                mask = None
                if self.training and self.recurrent_dropout > 0:
                    mask = self._mask((batch, self._state_size), self.recurrent_dropout, x)
                y, h, c = recurrent_layer(
                    self.mode, x, h, c, weights, reverse=direction == 1, lengths=lengths, mask=mask
                )
                ends.append(y)
                h_last.append(h)
                c_last.append(c)
            x = ends[0] if len(ends) == 1 else pydl.concat(ends, axis=2)
        y = pydl.swap_axes(x, 0, 1) if self.batch_first else x
        return y, pydl.stack(h_last), pydl.stack(c_last) if self.mode == "lstm" else None  # type: ignore[arg-type]

    def _mask(self, shape: tuple[int, ...], p: float, like: Tensor) -> Tensor:
        return _C.dropout(pydl.ones(shape, dtype=like.dtype, device=like.device), p)

    def _refuse_input(self, shape: tuple[int, ...]) -> None:
        order = "(B, T, D)" if self.batch_first else "(T, B, D)"
        raise ValueError(
            f"[{type(self).__name__}] got input of shape {tuple(shape)}, expected {order} or (T, D) "
            f"with D = input_size = {self.input_size}"
        )

    def _check_state(self, state: Any, what: str, shape: tuple[int, ...], batched: bool) -> Tensor:
        layers = self.num_layers * self._directions
        batch = (shape[0 if self.batch_first else 1],) if batched else ()
        size = self._state_size if what == "h_0" else self.hidden_size
        expected = (layers, *batch, size)
        if not isinstance(state, pydl.Tensor):
            hint = "; LSTM takes the pair (h_0, c_0)" if self.mode == "lstm" else ""
            raise TypeError(f"[{type(self).__name__}] {what} is a {type(state).__name__}, expected a Tensor{hint}")
        if tuple(state.shape) != expected:
            raise ValueError(
                f"[{type(self).__name__}] got {what} of shape {tuple(state.shape)}, expected {expected}: "
                f"(layers x directions{', B' if batched else ''}, {'proj_size' if size != self.hidden_size else 'H'})"
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
        if self.proj_size:
            text += f", proj_size={self.proj_size}"
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
        for name, default in _EXTRAS.items():
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


_EXTRAS = {
    "recurrent_dropout": 0.0,
    "variational": False,
    "layer_norm": False,
    "learn_initial_state": False,
    "init": "torch",
}


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
        extras: recurrent_dropout, variational, layer_norm, learn_initial_state and init, as in :class:`RNNBase`.

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
        **extras: Any,
    ) -> None:
        mode, layers = elman_mode(nonlinearity, "RNN"), (num_layers, bias, batch_first, dropout, bidirectional)
        super().__init__(mode, input_size, hidden_size, *layers, device=device, dtype=dtype, **extras)
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
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype, extras: as
            in :class:`RNN`.
        proj_size: P, the size of h after a projection W_hr h'; default 0, none. Sak et al., arXiv:1402.1128.

    Shapes:
        as in :class:`RNN`; the state is the pair (h, c), both (L, B, H), or with projections h (L, B, P) and
        outputs (T, B, P·directions). ``lengths`` as there.

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
        **extras: Any,
    ) -> None:
        layers = (num_layers, bias, batch_first, dropout, bidirectional, proj_size)
        super().__init__("lstm", input_size, hidden_size, *layers, device=device, dtype=dtype, **extras)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None, *, lengths: Any = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Sequences and first states (h_0, c_0) -> outputs at every step, and last states (h_n, c_n)."""
        h0 = c0 = None
        if hx is not None:
            h0, c0 = state_pair("LSTM", hx)
        y, h, c = self._run(input, h0, c0, lengths)
        return y, (h, c)  # type: ignore[return-value]


class GRU(RNNBase):
    """Gated recurrent unit, with gates r, z, n in this order in the weights:

        r = σ(W_ir x + b_ir + W_hr h + b_hr)        z = σ(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r·(W_hn h + b_hn))
        h' = (1 - z)·n + z·h

    Cho et al., arXiv:1406.1078 (2014), with the reset gate behind the matrix product as in cuDNN.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype, extras: as
            in :class:`RNN`.

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
        **extras: Any,
    ) -> None:
        layers = (num_layers, bias, batch_first, dropout, bidirectional)
        super().__init__("gru", input_size, hidden_size, *layers, device=device, dtype=dtype, **extras)

    def forward(self, input: Tensor, hx: Tensor | None = None, *, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Sequences and first states -> outputs of the last layer at every step, and last states of all layers."""
        y, h, _ = self._run(input, hx, None, lengths)
        return y, h


def elman_mode(nonlinearity: str, layer: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"[{layer}] got nonlinearity {nonlinearity!r}, expected 'tanh' or 'relu'")
    return "rnn_" + nonlinearity


def state_pair(layer: str, hx: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise TypeError(f"[{layer}] got a state of {type(hx).__name__}, expected the pair (h, c)")
    return hx[0], hx[1]


def check_sizes(layer: str, **sizes: Any) -> None:
    """TypeError or ValueError for a size that is no positive whole number."""
    for what, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"[{layer}] got {what} {size!r}, expected a whole number")
        if size < 1:
            raise ValueError(f"[{layer}] got {what} {size}, expected 1 or more")


def other_dtype(layer: str, input: Tensor, weight: Tensor) -> TypeError:
    """The error for an input whose dtype is not the weights'."""
    got = f"got input of {input.dtype} with weights of {weight.dtype}, expected the same"
    return TypeError(f"[{layer}] {got}; convert the input: x.astype(pydl.{weight.dtype.name})")


def check_flags(layer: str, **flags: Any) -> None:
    """TypeError for a switch that is neither True nor False, such as a size in its place."""
    for what, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"[{layer}] got {what} {flag!r}, expected True or False")


def start(layer: Module, style: str, hidden_size: int) -> None:
    """Draw the starting values of a recurrent layer or cell."""
    uniform_in_fan(hidden_size, *_kinds(layer, "weight", "bias"))
    for gain in _kinds(layer, "norm"):
        initializers.ones_(gain)
        if gain.ndim == 2:
            initializers.zeros_(gain[1])
    for state in _kinds(layer, "initial"):
        initializers.zeros_(state)
    if style == "torch":
        return
    for weight in _kinds(layer, "weight_ih", "weight_hr"):
        initializers.xavier_uniform_(weight)
    for weight in _kinds(layer, "weight_hh"):
        initializers.orthogonal_(weight)
    for bias in _kinds(layer, "bias"):
        initializers.zeros_(bias)
    if layer.mode == "lstm":  # type: ignore[attr-defined]
        for bias in _kinds(layer, "bias_ih"):
            initializers.ones_(bias.detach()[hidden_size : 2 * hidden_size])


def _kinds(layer: Module, *kinds: str) -> Iterator[Parameter]:
    return (p for name, p in layer.named_parameters(recurse=False) if name.startswith(kinds))
