"""Elman, LSTM and GRU networks step by step in NumPy: the naive side of the recurrent tests. No pydl here.

Weights are PyTorch's: a flat list, per layer and direction w_ih (G*H, D), w_hh (G*H, H), b_ih (G*H), b_hh (G*H),
gates in the order i f g o (LSTM, G=4) and r z n (GRU, G=3). Computes in the dtype of its input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}
MODES = tuple(GATES)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def cell(
    mode: str, x: np.ndarray, h: np.ndarray, c: np.ndarray | None, weights: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """One step: x (B, D), h and c (B, H)."""
    w_ih, w_hh = weights[:2]
    b_ih, b_hh = weights[2:] if len(weights) == 4 else (np.zeros(len(w_ih), x.dtype),) * 2
    from_x = x @ w_ih.T + b_ih
    from_h = h @ w_hh.T + b_hh
    if mode == "rnn_tanh":
        return np.tanh(from_x + from_h), None
    if mode == "rnn_relu":
        return np.maximum(from_x + from_h, 0), None
    if mode == "lstm":
        assert c is not None
        i, f, g, o = np.split(from_x + from_h, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    xr, xz, xn = np.split(from_x, 3, axis=1)
    hr, hz, hn = np.split(from_h, 3, axis=1)
    z = sigmoid(xz + hz)
    n = np.tanh(xn + sigmoid(xr + hr) * hn)
    return (1 - z) * n + z * h, None


def network(
    mode: str,
    x: np.ndarray,
    h0: np.ndarray | None,
    c0: np.ndarray | None,
    weights: Sequence[np.ndarray],
    layers: int = 1,
    bidirectional: bool = False,
    lengths: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """x (T, B, D) to y (T, B, H*directions), h_n and c_n (layers*directions, B, H). Each sequence on its own."""
    steps, batch, _ = x.shape
    directions = 2 if bidirectional else 1
    per = len(weights) // (layers * directions)
    hidden = weights[1].shape[1]
    zeros = np.zeros((layers * directions, batch, hidden), x.dtype)
    h_n = (zeros if h0 is None else h0).copy()
    c_n = (zeros if c0 is None else c0).copy()
    valid = np.full(batch, steps) if lengths is None else lengths
    for layer in range(layers):
        y = np.zeros((steps, batch, hidden * directions), x.dtype)
        for direction in range(directions):
            row = layer * directions + direction
            own = weights[row * per : (row + 1) * per]
            for b in range(batch):
                h, c = h_n[row, b : b + 1], c_n[row, b : b + 1]
                order = range(valid[b]) if direction == 0 else range(valid[b] - 1, -1, -1)
                for t in order:
                    h, c_next = cell(mode, x[t, b : b + 1], h, c, own)
                    c = c if c_next is None else c_next
                    y[t, b, direction * hidden : (direction + 1) * hidden] = h[0]
                h_n[row, b], c_n[row, b] = h[0], c[0]
        x = y
    return x, h_n, c_n if mode == "lstm" else None


def random_weights(
    rng: np.random.Generator, mode: str, inputs: int, hidden: int, layers: int, directions: int, biases: bool
) -> list[np.ndarray]:
    rows = GATES[mode] * hidden
    result = []
    for layer in range(layers):
        for _ in range(directions):
            width = inputs if layer == 0 else hidden * directions
            result += [
                rng.normal(size=(rows, width)) / np.sqrt(width),
                rng.normal(size=(rows, hidden)) / np.sqrt(hidden),
            ]
            if biases:
                result += [rng.normal(size=rows) / 2, rng.normal(size=rows) / 2]
    return result
