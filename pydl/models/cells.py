"""Recurrent layers by the names of their cells, and the sizes of models."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from pydl import nn

LAYERS: dict[str, type[nn.LSTM | nn.GRU | nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def whole(name: str, least: int = 1, /, **numbers: Any) -> tuple[int, ...]:
    """Sizes and counts as integers, NumPy's among them; `name` is for the message.

    Raises:
        ValueError: one is no integer, or less than `least`.
    """
    found = []
    for what, number in numbers.items():
        try:
            found.append(least - 1 if isinstance(number, (bool, np.bool_)) else operator.index(number))
        except TypeError:
            found.append(least - 1)
        if found[-1] < least:
            raise ValueError(f"[{name}] got {what} {number!r}, expected an integer, {least} or more")
    return tuple(found)


def class_count(name: str, classes: Any) -> int:
    """A number of classes, 2 or more. Raises ValueError for anything else."""
    (found,) = whole(name, classes=classes)
    if found < 2:
        raise ValueError(f"[{name}] got classes {classes!r}, expected 2 or more")
    return found


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
