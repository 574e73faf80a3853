"""The image networks that the cases run: their layers as data, and in plain NumPy, forward and backward.

A network is a list of layers, named by their place as in PyTorch's Sequential. What a layer is called decides how each
side builds it: ("conv", in, out, kernel, stride, padding, bias), ("norm", channels), ("block", in, out, stride) of a
residual network, ("linear", in, out), ("relu",), ("pool",), ("mean",), ("flatten",), ("dropout",).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.networks import Arrays, conv2d, cross_entropy

Layer = tuple[Any, ...]
Backward = Callable[[np.ndarray, Arrays], np.ndarray]  # gradient of the output; adds the parameters', by name


def cnn(widths: tuple[int, ...], size: int, hidden: int) -> list[Layer]:
    """Two times convolution, batch normalization, ReLU and pooling of one channel, then two dense layers."""
    layers: list[Layer] = []
    for before, after in zip((1, *widths[:-1]), widths, strict=True):
        layers += [("conv", before, after, 3, 1, 1, True), ("norm", after), ("relu",), ("pool",)]
    features = widths[-1] * (size >> len(widths)) ** 2
    return [*layers, ("flatten",), ("linear", features, hidden), ("relu",), ("dropout",), ("linear", hidden, 10)]


def resnet(widths: tuple[int, ...]) -> list[Layer]:
    """He et al.'s with two basic blocks a width, for small images."""
    layers: list[Layer] = [("conv", 3, widths[0], 3, 1, 1, False), ("norm", widths[0]), ("relu",)]
    for place, (before, after) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True)):
        layers += [("block", before, after, 2 if place else 1), ("block", after, after, 1)]
    return [*layers, ("mean",), ("flatten",), ("linear", widths[-1], 10)]


def vgg(widths: tuple[int, ...], size: int, hidden: int) -> list[Layer]:
    """Simonyan & Zisserman's; a width of 0 is a pooling."""
    layers: list[Layer] = []
    before = 3
    for width in widths:
        layers += [("conv", before, width, 3, 1, 1, True), ("relu",)] if width else [("pool",)]
        before = width or before
    features = before * (size >> widths.count(0)) ** 2
    dense = (("linear", features, hidden), ("relu",), ("linear", hidden, hidden), ("relu",))
    return [*layers, ("flatten",), *dense, ("linear", hidden, 1000)]


def block_layers(before: int, after: int, stride: int) -> dict[str, Layer]:
    """The layers with parameters of a residual block, by name."""
    layers: dict[str, Layer] = {"c1": ("conv", before, after, 3, stride, 1, False), "b1": ("norm", after)}
    layers |= {"c2": ("conv", after, after, 3, 1, 1, False), "b2": ("norm", after)}
    if stride != 1 or before != after:
        layers |= {"sc.0": ("conv", before, after, 1, stride, 0, False), "sc.1": ("norm", after)}
    return layers


def draw(rng: np.random.Generator, layers: list[Layer]) -> Arrays:
    """The parameters, by name."""
    arrays: Arrays = {}

    def add(name: str, layer: Layer) -> None:
        if layer[0] == "block":
            for part, inner in block_layers(*layer[1:]).items():
                add(f"{name}.{part}", inner)
        elif layer[0] == "norm":
            arrays[f"{name}.weight"] = np.float32(1 + 0.1 * rng.standard_normal(layer[1]))
            arrays[f"{name}.bias"] = np.float32(0.1 * rng.standard_normal(layer[1]))
        elif layer[0] in ("conv", "linear"):
            shape = (layer[2], layer[1], layer[3], layer[3]) if layer[0] == "conv" else (layer[2], layer[1])
            bound = (6 / np.prod(shape[1:])) ** 0.5  # He et al.'s, so that deep networks keep their scale
            arrays[f"{name}.weight"] = rng.uniform(-bound, bound, shape).astype(np.float32)
            if layer[0] == "linear" or layer[6]:
                arrays[f"{name}.bias"] = np.float32(0.1 * rng.standard_normal(layer[2]))

    for place, layer in enumerate(layers):
        add(str(place), layer)
    return arrays


def multiply_adds(layers: list[Layer], size: int) -> list[float]:
    """Of each layer with weights, for one image."""
    counts: list[float] = []

    def conv(layer: Layer, size: int) -> int:
        out = (size + 2 * layer[5] - layer[3]) // layer[4] + 1
        counts.append(float(layer[1] * layer[2] * layer[3] ** 2 * out**2))
        return out

    for layer in layers:
        if layer[0] == "conv":
            size = conv(layer, size)
        elif layer[0] == "block":
            parts = block_layers(*layer[1:])
            if "sc.0" in parts:
                conv(parts["sc.0"], size)
            size = conv(parts["c2"], conv(parts["c1"], size))
        elif layer[0] == "pool":
            size //= 2
        elif layer[0] == "linear":
            counts.append(float(layer[1] * layer[2]))
    return counts


def run(p: Arrays, layers: list[Layer], x: np.ndarray) -> tuple[np.ndarray, Backward]:
    """The network's output, batch normalization in training and without dropout, and its gradient."""
    backwards = []
    for place, layer in enumerate(layers):
        x, backward = _LAYERS[layer[0]](p, str(place), x, layer)
        backwards.append(backward)

    def all_backward(g: np.ndarray, gradients: Arrays) -> np.ndarray:
        for backward in reversed(backwards):
            g = backward(g, gradients)
        return g

    return x, all_backward


def loss(p: Arrays, layers: list[Layer], x: np.ndarray, targets: np.ndarray) -> tuple[float, Arrays]:
    """The mean cross-entropy and the gradients of all parameters."""
    logits, backward = run(p, layers, x)
    value, d_logits = cross_entropy(logits, targets)
    gradients: Arrays = {}
    backward(d_logits, gradients)
    return value, gradients


def _conv(p: Arrays, name: str, x: np.ndarray, layer: Layer) -> tuple[np.ndarray, Backward]:
    y, both = conv2d(x, p[f"{name}.weight"], layer[4], layer[5])
    biased = f"{name}.bias" in p

    def backward(g: np.ndarray, gradients: Arrays) -> np.ndarray:
        d_x, gradients[f"{name}.weight"] = both(g)
        if biased:
            gradients[f"{name}.bias"] = g.sum(axis=(0, 2, 3))
        return d_x

    return y + p[f"{name}.bias"][:, None, None] if biased else y, backward


def _norm(p: Arrays, name: str, x: np.ndarray, layer: Layer) -> tuple[np.ndarray, Backward]:
    axes = (0, 2, 3)
    centred = x - x.mean(axis=axes, keepdims=True)
    scale = 1 / np.sqrt(np.mean(centred**2, axis=axes, keepdims=True) + 1e-5)
    normal = centred * scale
    weight = p[f"{name}.weight"][:, None, None]

    def backward(g: np.ndarray, gradients: Arrays) -> np.ndarray:
        gradients[f"{name}.weight"], gradients[f"{name}.bias"] = (g * normal).sum(axis=axes), g.sum(axis=axes)
        g = g * weight
        along = normal * (g * normal).mean(axis=axes, keepdims=True)
        return scale * (g - g.mean(axis=axes, keepdims=True) - along)

    return normal * weight + p[f"{name}.bias"][:, None, None], backward


def _linear(p: Arrays, name: str, x: np.ndarray, layer: Layer) -> tuple[np.ndarray, Backward]:
    weight = p[f"{name}.weight"]

    def backward(g: np.ndarray, gradients: Arrays) -> np.ndarray:
        gradients[f"{name}.weight"], gradients[f"{name}.bias"] = g.T @ x, g.sum(axis=0)
        return g @ weight

    return x @ weight.T + p[f"{name}.bias"], backward


def _relu(p: Arrays, name: str, x: np.ndarray, layer: Layer) -> tuple[np.ndarray, Backward]:
    return np.maximum(x, 0), lambda g, _: g * (x > 0)


def _pool(p: Arrays, name: str, x: np.ndarray, layer: Layer) -> tuple[np.ndarray, Backward]:
    n, c, h, w = x.shape
    windows = x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5)
    windows = windows.reshape(n, c, h // 2, w // 2, 4)
    best = windows.argmax(axis=-1)[..., None]

    def backward(g: np.ndarray, gradients: Arrays) -> np.ndarray:
        d_windows = np.zeros_like(windows)
        np.put_along_axis(d_windows, best, g[..., None], axis=-1)
        d_x = np.zeros_like(x)
        turned = d_windows.reshape(n, c, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5)
        d_x[:, :, : h // 2 * 2, : w // 2 * 2] = turned.reshape(n, c, h // 2 * 2, w // 2 * 2)
        return d_x

    return np.take_along_axis(windows, best, axis=-1)[..., 0], backward


def _mean(p: Arrays, name: str, x: np.ndarray, layer: Layer) -> tuple[np.ndarray, Backward]:
    pixels = x.shape[2] * x.shape[3]
    return x.mean(axis=(2, 3), keepdims=True), lambda g, _: np.broadcast_to(g / pixels, x.shape)


def _flatten(p: Arrays, name: str, x: np.ndarray, layer: Layer) -> tuple[np.ndarray, Backward]:
    return x.reshape(len(x), -1), lambda g, _: g.reshape(x.shape)


def _dropout(p: Arrays, name: str, x: np.ndarray, layer: Layer) -> tuple[np.ndarray, Backward]:
    return x, lambda g, _: g


def _block(p: Arrays, name: str, x: np.ndarray, layer: Layer) -> tuple[np.ndarray, Backward]:
    parts = block_layers(*layer[1:])

    def step(part: str, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        kind = parts[part]
        return _LAYERS[kind[0]](p, f"{name}.{part}", x, kind)

    y, c1 = step("c1", x)
    y, b1 = step("b1", y)
    y, relu = _relu(p, name, y, layer)
    y, c2 = step("c2", y)
    y, b2 = step("b2", y)
    side, over = x, []
    for part in ("sc.0", "sc.1"):
        if part in parts:
            side, part_backward = step(part, side)
            over.append(part_backward)
    y, last = _relu(p, name, y + side, layer)

    def backward(g: np.ndarray, gradients: Arrays) -> np.ndarray:
        d_y = d_side = last(g, gradients)
        for part in (b2, c2, relu, b1, c1):
            d_y = part(d_y, gradients)
        for part in reversed(over):
            d_side = part(d_side, gradients)
        return d_y + d_side

    return y, backward


_LAYERS: dict[str, Callable[[Arrays, str, np.ndarray, Layer], tuple[np.ndarray, Backward]]] = {
    "conv": _conv,
    "norm": _norm,
    "linear": _linear,
    "relu": _relu,
    "pool": _pool,
    "mean": _mean,
    "flatten": _flatten,
    "dropout": _dropout,
    "block": _block,
}
