"""The networks that the cases train, forward and backward in plain NumPy: the reference, in the dtype of its arguments.

Parameters go by PyTorch's names and layouts, gates in its order: i f g o (LSTM), r z n (GRU). Sequences are (T, B, D).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Optimizer = Callable[[Arrays, Arrays], Arrays]  # parameters and gradients to new parameters

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of (N, C) logits against (N) classes, and its gradient."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    rows = np.arange(len(targets))
    d_logits = np.exp(log_p)
    d_logits[rows, targets] -= 1
    return float(-log_p[rows, targets].mean()), d_logits / len(targets)


def mlp(p: Arrays, x: np.ndarray, targets: np.ndarray) -> tuple[float, Arrays]:
    """Linear layers "0", "2", ... with ReLU between them, under a cross-entropy."""
    layers = [name[: -len(".weight")] for name in p if name.endswith(".weight")]
    activations = [x]
    for layer in layers:
        x = x @ p[f"{layer}.weight"].T + p[f"{layer}.bias"]
        if layer != layers[-1]:
            x = np.maximum(x, 0)
        activations.append(x)
    loss, d_x = cross_entropy(activations.pop(), targets)
    gradients: Arrays = {}
    for layer in reversed(layers):
        x = activations.pop()
        gradients |= {f"{layer}.weight": d_x.T @ x, f"{layer}.bias": d_x.sum(axis=0)}
        d_x = (d_x @ p[f"{layer}.weight"]) * (x > 0)
    return loss, gradients


def conv2d(
    x: np.ndarray, w: np.ndarray, stride: int, padding: int
) -> tuple[np.ndarray, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """(N, C, H, W) and (O, C, K, K) to (N, O, H', W'), and what makes the gradients of both of its gradient."""
    n, c, height, width = x.shape
    o, _, k, _ = w.shape
    padded = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)]).transpose(0, 2, 3, 1)
    rows, columns = (padded.shape[1] - k) // stride + 1, (padded.shape[2] - k) // stride + 1

    def tap(i: int, j: int) -> tuple[slice, ...]:
        down = slice(i, i + (rows - 1) * stride + 1, stride)
        return (slice(None), down, slice(j, j + (columns - 1) * stride + 1, stride))

    y = np.zeros((n, rows, columns, o), x.dtype)
    for i, j in np.ndindex(k, k):
        y += padded[tap(i, j)] @ w[:, :, i, j].T

    def gradients(d_y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        up = d_y.transpose(0, 2, 3, 1)
        d_padded, d_w = np.zeros_like(padded), np.empty_like(w)
        for i, j in np.ndindex(k, k):
            d_padded[tap(i, j)] += up @ w[:, :, i, j]
            d_w[:, :, i, j] = up.reshape(-1, o).T @ padded[tap(i, j)].reshape(-1, c)
        d_x = d_padded[:, padding : padding + height, padding : padding + width]
        return d_x.transpose(0, 3, 1, 2), d_w

    return y.transpose(0, 3, 1, 2), gradients


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _cell(cell: str, from_x: np.ndarray, from_h: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[Any, ...]:
    """One step after its matrix products: h', c', and what its gradient needs."""
    if cell == "rnn":
        new = np.tanh(from_x + from_h)
        return new, c, new
    if cell == "lstm":
        i, f, g, o = np.split(from_x + from_h, 4, axis=1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        new_c = f * c + i * g
        tanh_c = np.tanh(new_c)
        return o * tanh_c, new_c, (i, f, g, o, c, tanh_c)
    (xr, xz, xn), (hr, hz, hn) = np.split(from_x, 3, axis=1), np.split(from_h, 3, axis=1)
    r, z = _sigmoid(xr + hr), _sigmoid(xz + hz)
    n = np.tanh(xn + r * hn)
    return (1 - z) * n + z * h, c, (r, z, n, hn, h)


def _d_cell(cell: str, saved: Any, d_h: np.ndarray, d_c: np.ndarray) -> tuple[np.ndarray, ...]:
    """The gradients of from_x, from_h, of h beside its matrix product, and of c."""
    if cell == "rnn":
        d = d_h * (1 - saved**2)
        return d, d, np.zeros_like(d_h), d_c
    if cell == "lstm":
        i, f, g, o, c, tanh_c = saved
        d_c = d_c + d_h * o * (1 - tanh_c**2)
        gates = d_c * g * i * (1 - i), d_c * c * f * (1 - f), d_c * i * (1 - g**2), d_h * tanh_c * o * (1 - o)
        d = np.concatenate(gates, axis=1)
        return d, d, np.zeros_like(d_h), d_c * f
    r, z, n, hn, h = saved
    d_n = d_h * (1 - z) * (1 - n**2)
    d_r, d_z = d_n * hn * r * (1 - r), d_h * (h - n) * z * (1 - z)
    return np.concatenate((d_r, d_z, d_n), axis=1), np.concatenate((d_r, d_z, d_n * r), axis=1), d_h * z, d_c


def _layer_parameters(p: Arrays, layer: int) -> list[np.ndarray]:
    return [p[f"rnn.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def _layer(p: Arrays, layer: int, x: np.ndarray, cell: str) -> tuple[np.ndarray, list[Any]]:
    """(T, B, D) -> (T, B, H), from a state of zeros."""
    w_ih, w_hh, b_ih, b_hh = _layer_parameters(p, layer)
    h = c = np.zeros((x.shape[1], w_hh.shape[1]), x.dtype)
    y, saved = [], []
    for from_x in x @ w_ih.T + b_ih:
        h, c, keep = _cell(cell, from_x, h @ w_hh.T + b_hh, h, c)
        y.append(h)
        saved.append(keep)
    return np.stack(y), saved


def _d_layer(
    p: Arrays, layer: int, x: np.ndarray, y: np.ndarray, saved: list[Any], d_y: np.ndarray, cell: str
) -> tuple[np.ndarray, Arrays]:
    """The gradients of the layer's input and of its parameters."""
    w_ih, w_hh, _, _ = _layer_parameters(p, layer)
    before = np.concatenate((np.zeros_like(y[:1]), y[:-1]))
    d_h = d_c = np.zeros_like(y[0])
    d_x, d_w_ih, d_w_hh = np.empty_like(x), np.zeros_like(w_ih), np.zeros_like(w_hh)
    d_b_ih, d_b_hh = np.zeros(len(w_ih), x.dtype), np.zeros(len(w_ih), x.dtype)
    for t in reversed(range(len(x))):
        d_from_x, d_from_h, d_h, d_c = _d_cell(cell, saved[t], d_y[t] + d_h, d_c)
        d_h = d_h + d_from_h @ w_hh
        d_x[t] = d_from_x @ w_ih
        d_w_ih += d_from_x.T @ x[t]
        d_w_hh += d_from_h.T @ before[t]
        d_b_ih += d_from_x.sum(axis=0)
        d_b_hh += d_from_h.sum(axis=0)
    gradients = {"weight_ih": d_w_ih, "weight_hh": d_w_hh, "bias_ih": d_b_ih, "bias_hh": d_b_hh}
    return d_x, {f"rnn.{name}_l{layer}": value for name, value in gradients.items()}


def char_lm(p: Arrays, ids: np.ndarray, targets: np.ndarray, cell: str, layers: int) -> tuple[float, Arrays]:
    """Ids and targets (T, B) to the mean cross-entropy and the gradients of all parameters."""
    inputs, saved = [p["embedding.weight"][ids]], []
    for layer in range(layers):
        y, keep = _layer(p, layer, inputs[-1], cell)
        inputs.append(y)
        saved.append(keep)
    y = inputs[-1].reshape(ids.size, -1)
    loss, d_logits = cross_entropy(y @ p["output.weight"].T + p["output.bias"], targets.reshape(-1))
    gradients = {"output.weight": d_logits.T @ y, "output.bias": d_logits.sum(axis=0)}
    d_y = (d_logits @ p["output.weight"]).reshape(inputs[-1].shape)
    for layer in reversed(range(layers)):
        d_y, own = _d_layer(p, layer, inputs[layer], inputs[layer + 1], saved[layer], d_y, cell)
        gradients |= own
    gradients["embedding.weight"] = np.zeros_like(p["embedding.weight"])
    np.add.at(gradients["embedding.weight"], ids, d_y)
    return loss, gradients


def greedy(p: Arrays, length: int, cell: str, layers: int) -> np.ndarray:
    """The most probable ids, each fed back, that follow id 0."""
    state = np.zeros((2, layers, 1, p["output.weight"].shape[1]))
    drawn, ids = 0, []
    for _ in range(length):
        x = p["embedding.weight"][drawn][None]
        for layer in range(layers):
            w_ih, w_hh, b_ih, b_hh = _layer_parameters(p, layer)
            h, c = state[:, layer]
            x, c, _ = _cell(cell, x @ w_ih.T + b_ih, h @ w_hh.T + b_hh, h, c)
            state[:, layer] = x, c
        drawn = int(np.argmax(x @ p["output.weight"].T + p["output.bias"]))
        ids.append(drawn)
    return np.array(ids)


def clipped(gradients: Arrays, most: float) -> Arrays:
    """All scaled alike, so that their norm is at most this."""
    norm = np.sqrt(sum(float(np.sum(g**2)) for g in gradients.values()))
    return {name: g * min(1.0, most / (norm + 1e-6)) for name, g in gradients.items()}


class Adam:
    """Kingma and Ba, arXiv:1412.6980."""

    def __init__(self, lr: float) -> None:
        self.lr, self.step = lr, 0
        self.m: Arrays = {}
        self.v: Arrays = {}

    def __call__(self, parameters: Arrays, gradients: Arrays) -> Arrays:
        self.step += 1
        new = {}
        for name, p in parameters.items():
            g = gradients[name]
            m = self.m[name] = 0.9 * self.m.get(name, 0.0) + 0.1 * g
            v = self.v[name] = 0.999 * self.v.get(name, 0.0) + 0.001 * g**2
            m_hat, v_hat = m / (1 - 0.9**self.step), v / (1 - 0.999**self.step)
            new[name] = p - self.lr * m_hat / (np.sqrt(v_hat) + 1e-8)
        return new


class SGD:
    """Gradient descent with momentum: the velocity is the sum of the gradients, each step decayed."""

    def __init__(self, lr: float, momentum: float, weight_decay: float = 0.0) -> None:
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.velocity: Arrays = {}

    def __call__(self, parameters: Arrays, gradients: Arrays) -> Arrays:
        for name, g in gradients.items():
            g = g + self.weight_decay * parameters[name]
            self.velocity[name] = self.momentum * self.velocity.get(name, 0.0) + g
        return {name: p - self.lr * self.velocity[name] for name, p in parameters.items()}
