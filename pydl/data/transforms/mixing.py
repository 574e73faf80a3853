"""Mixup and CutMix: two samples become one, and so do their labels, which turn into probabilities.

The partner of a sample is another one of its batch, picked by the keys of the batch alone. So these two, unlike all
other transforms, make of a sample something that depends on the batch it is in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl.data.transforms.base import Transform, as_array, check_images, check_values, checked_keys, probability

if TYPE_CHECKING:
    import numpy.typing as npt

    from pydl.data.keys import SampleKeys

__all__ = ["CutMix", "Mixup"]


class _Mixing(Transform):
    """Pairs of samples; subclasses mix the inputs and say how much of its own each sample keeps."""

    def __init__(self, alpha: float, num_classes: int | None, p: float) -> None:
        name = type(self).__name__
        if not alpha > 0:
            raise ValueError(f"[{name}] got alpha {alpha!r}, expected a positive number")
        if num_classes is not None and num_classes < 2:
            raise ValueError(f"[{name}] got num_classes {num_classes!r}, expected 2 or more, or None")
        self.alpha, self.num_classes, self.p = float(alpha), num_classes, probability(p, name)

    def __call__(self, x: Any, keys: SampleKeys | None = None) -> Any:
        raise TypeError(f"[{type(self).__name__}] mixes labels too; use apply((x, y), keys), as a DataLoader does")

    def apply(self, batch: tuple[Any, ...], keys: SampleKeys | None = None) -> tuple[Any, ...]:
        """(x, y, ...) -> the same with x and y mixed; y becomes float32 of shape (N, classes), or stays floating."""
        name = type(self).__name__
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise TypeError(f"[{name}.apply] expected a batch (x, y, ...), got {len(batch)} part of it; labels mix too")
        x, y = as_array(batch[0], name), self._targets(as_array(batch[1], name))
        check_values(x, name)
        keys = checked_keys(keys, len(x), name)
        if len(y) != len(x):
            raise ValueError(f"[{name}] got {len(x)} inputs and {len(y)} targets, expected as many")
        partner = _partners(keys)
        weight = keys.beta("weight", self.alpha, self.alpha)
        weight[keys.uniform("chosen") >= self.p] = 1.0
        mixed, weight = self._mix(x, partner, weight, keys)
        y_mixed = _blend(y, y[partner], weight)
        parts = []
        for part, given in ((mixed, batch[0]), (y_mixed, batch[1])):
            parts.append(pydl.asarray(part) if isinstance(given, pydl.Tensor) else part)
        return (*parts, *batch[2:])

    def _mix(
        self, x: npt.NDArray[Any], partner: npt.NDArray[np.intp], weight: npt.NDArray[np.float64], keys: SampleKeys
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        raise NotImplementedError

    def _targets(self, y: npt.NDArray[Any]) -> npt.NDArray[Any]:
        name = type(self).__name__
        if y.dtype.kind == "f":
            return y
        if y.dtype.kind not in "iu" or y.ndim != 1:
            raise TypeError(
                f"[{name}] got targets of {y.dtype} and shape {y.shape}, expected class indices (N,) or floating values"
            )
        if self.num_classes is None:
            raise ValueError(f"[{name}] got class indices, which need num_classes: {name}(..., num_classes=10)")
        if y.size and (y.min() < 0 or y.max() >= self.num_classes):
            raise ValueError(f"[{name}] got labels from {y.min()} to {y.max()}, expected 0 to {self.num_classes - 1}")
        return np.eye(self.num_classes, dtype=np.float32)[y]


class Mixup(_Mixing):
    """x ← λ x + (1 - λ) x', y ← λ y + (1 - λ) y' with λ ~ Beta(α, α): Zhang et al., arXiv:1710.09412.

    λ is drawn for each sample and replaced by max(λ, 1 - λ), so that a sample stays more itself than its partner.
    x is (N, ...), of bytes or floating; y holds class indices (N,), probabilities (N, classes) or numbers.

    Args:
        alpha: α; default 0.2. The larger, the more is mixed.
        num_classes: needed when y holds class indices.
        p: how likely a sample is mixed; default 1.

    >>> import numpy as np
    >>> x, y = Mixup(num_classes=3).apply((np.ones((4, 2)), np.array([0, 1, 2, 0])))
    >>> y.shape, y.sum(axis=1).round(4).tolist()
    ((4, 3), [1.0, 1.0, 1.0, 1.0])
    """

    def __init__(self, alpha: float = 0.2, num_classes: int | None = None, p: float = 1.0) -> None:
        super().__init__(alpha, num_classes, p)

    def _mix(
        self, x: npt.NDArray[Any], partner: npt.NDArray[np.intp], weight: npt.NDArray[np.float64], keys: SampleKeys
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        weight = np.maximum(weight, 1 - weight)
        mixed = _blend(x if x.dtype.kind == "f" else x.astype(np.float32), x[partner], weight)
        return (np.rint(mixed).astype(x.dtype) if x.dtype == np.uint8 else mixed), weight


class CutMix(_Mixing):
    """A rectangle of the image is replaced by its partner's, and the labels mix by area: Yun et al., arXiv:1905.04899.

    The rectangle's share of the area is 1 - λ with λ ~ Beta(α, α), drawn for each image. What hangs over the border is
    cut off; the labels mix by what is left.

    Args:
        alpha: α; default 1, every share equally likely.
        num_classes: needed when y holds class indices.
        p: how likely an image is mixed; default 1.
    """

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None, p: float = 1.0) -> None:
        super().__init__(alpha, num_classes, p)

    def _mix(
        self, x: npt.NDArray[Any], partner: npt.NDArray[np.intp], weight: npt.NDArray[np.float64], keys: SampleKeys
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        check_images(x, "CutMix")
        height, width = x.shape[2:]
        side = np.sqrt(1 - weight)
        inside = []
        for extent, name in ((height, "y"), (width, "x")):
            half = np.rint(side * extent) / 2
            middle = np.floor(keys.uniform(name) * extent) + 0.5
            places = np.arange(extent) + 0.5
            inside.append(np.abs(places - middle[:, None]) <= half[:, None] - 1e-9)
        taken = inside[0][:, :, None] & inside[1][:, None, :]  # (N, H, W)
        return np.where(taken[:, None], x[partner], x), 1 - taken.mean(axis=(1, 2))


def _partners(keys: SampleKeys) -> npt.NDArray[np.intp]:
    """A ring through the batch in random order: nobody is its own partner but in a batch of one."""
    order = np.argsort(keys.bits("order"), kind="stable")
    partner = np.empty(len(keys), np.intp)
    partner[order] = np.roll(order, 1)
    return partner


def _blend(a: npt.NDArray[Any], b: npt.NDArray[Any], weight: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    w = weight.astype(a.dtype).reshape((-1,) + (1,) * (a.ndim - 1))
    return w * a + (1 - w) * b
