"""The layers of images.py as modules. `nn` is pydl.nn or torch.nn: one code serves both, as pydl promises."""

from __future__ import annotations

from typing import Any

from bench.images import Layer


def _block(nn: Any, before: int, after: int, stride: int) -> Any:
    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.b1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
            self.c2, self.b2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
            self.sc = nn.Sequential()
            if stride != 1 or before != after:
                self.sc = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

        def forward(self, x: Any) -> Any:
            relu = nn.functional.relu
            return relu(self.b2(self.c2(relu(self.b1(self.c1(x))))) + self.sc(x))

    return Block()


def _module(nn: Any, layer: Layer) -> Any:
    kind, arguments = layer[0], layer[1:]
    if kind == "conv":
        before, after, size, stride, padding, bias = arguments
        return nn.Conv2d(before, after, size, stride, padding, bias=bias)
    if kind == "pool":
        return nn.MaxPool2d(2)
    if kind == "mean":
        return nn.AdaptiveAvgPool2d(1)
    if kind == "dropout":
        return nn.Dropout(0.5)
    if kind == "block":
        return _block(nn, *arguments)
    kinds = {"norm": nn.BatchNorm2d, "relu": nn.ReLU, "flatten": nn.Flatten, "linear": nn.Linear}
    return kinds[kind](*arguments)


def sequential(nn: Any, layers: list[Layer]) -> Any:
    """A Sequential of them."""
    return nn.Sequential(*(_module(nn, layer) for layer in layers))
