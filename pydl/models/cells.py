"""Recurrent layers by the names of their cells."""

from __future__ import annotations

from pydl import nn

LAYERS: dict[str, type[nn.LSTM | nn.GRU | nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def recurrent(
    name: str, cell: str, input_size: int, hidden_size: int, num_layers: int, dropout: float, bidirectional: bool
) -> nn.LSTM | nn.GRU | nn.RNN:
    """A recurrent layer, time-major, by the name of its cell; `name` is for the message.

    Raises:
        ValueError: no such cell.
    """
    if cell not in LAYERS:
        raise ValueError(f"[{name}] got cell {cell!r}, expected one of {', '.join(LAYERS)}")
    between = dropout if num_layers > 1 else 0.0
    return LAYERS[cell](input_size, hidden_size, num_layers, dropout=between, bidirectional=bidirectional)


def recurrent_shapes(
    prefix: str, cell: str, input_size: int, hidden_size: int, num_layers: int, bidirectional: bool = False
) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the weights that `recurrent` makes, biases left out.

    Raises:
        ValueError: no such cell.
    """
    if cell not in LAYERS:
        raise ValueError(f"cell is {cell!r}, expected one of {', '.join(LAYERS)}")
    rows, ways = GATES[cell] * hidden_size, ("", "_reverse") if bidirectional else ("",)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(num_layers):
        for way in ways:
            shapes[f"{prefix}.weight_ih_l{layer}{way}"] = (rows, hidden_size * len(ways) if layer else input_size)
            shapes[f"{prefix}.weight_hh_l{layer}{way}"] = (rows, hidden_size)
    return shapes
