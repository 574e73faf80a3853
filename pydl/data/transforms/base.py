"""Transform: what is done to a batch before the model sees it; Compose, RandomApply and Lambda put transforms together.

Random ones take their numbers from SampleKeys, so a sample meets the same change in any batch, worker or thread count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl.data.keys import SampleKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

__all__ = ["Compose", "Lambda", "RandomApply", "Transform"]


class Transform:
    """Base of all transforms. Subclasses define ``transform(x, keys)`` for NumPy arrays.

    Called with a batch of inputs, a Tensor or an array, it gives back the same kind; the input stays as it is. Without
    keys the random numbers come from pydl's default generator, and differ with every call.

    >>> import numpy as np
    >>> class Negative(Transform):
    ...     def transform(self, x, keys):
    ...         return -x
    >>> Negative()(np.ones((2, 3))).tolist()
    [[-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]]
    """

    def __call__(self, x: Any, keys: SampleKeys | None = None) -> Any:
        """x of shape (N, ...), and the keys of its N samples -> the transformed batch."""
        array = as_array(x, type(self).__name__)
        result = self.transform(array, checked_keys(keys, len(array), type(self).__name__))
        return pydl.asarray(result) if isinstance(x, pydl.Tensor) else result

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        """What a subclass does to the inputs of a batch; it must not write to ``x``."""
        raise NotImplementedError(f"[{type(self).__name__}] has no transform method; define transform(self, x, keys)")

    def apply(self, batch: tuple[Any, ...], keys: SampleKeys | None = None) -> tuple[Any, ...]:
        """A batch (x, y, ...) with its inputs x transformed; loaders call it. Mixup and CutMix change y too."""
        if not isinstance(batch, (tuple, list)) or not batch:
            raise TypeError(f"[{type(self).__name__}.apply] got a {type(batch).__name__}, expected a tuple (x, y, ...)")
        return (self(batch[0], keys), *batch[1:])

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(shown)})"


class Compose(Transform):
    """Transforms one after the other. Two equal ones draw different numbers.

    Args:
        transforms: what is applied, first to last.

    >>> from pydl.data.transforms import RandomFlip, Rescale
    >>> Compose([Rescale(1 / 255), RandomFlip()])
    Compose([Rescale(scale=0.00392156862745098, offset=0.0), RandomFlip(axis='horizontal', p=0.5)])
    """

    def __init__(self, transforms: Iterable[Any]) -> None:
        self.transforms = tuple(transforms)
        for transform in self.transforms:
            check_transform(transform, "Compose")

    def __call__(self, x: Any, keys: SampleKeys | None = None) -> Any:
        keys = checked_keys(keys, _length(x, "Compose"), "Compose")
        for place, transform in enumerate(self.transforms):
            x = transform(x, keys.fold(place))
        return x

    def apply(self, batch: tuple[Any, ...], keys: SampleKeys | None = None) -> tuple[Any, ...]:
        """Each transform's ``apply`` in turn."""
        if not isinstance(batch, (tuple, list)) or not batch:
            raise TypeError(f"[Compose.apply] got a {type(batch).__name__}, expected a tuple (x, y, ...)")
        keys = checked_keys(keys, _length(batch[0], "Compose"), "Compose")
        batch = tuple(batch)
        for place, transform in enumerate(self.transforms):
            batch = transform.apply(batch, keys.fold(place))
        return batch

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


class RandomApply(Transform):
    """A transform for some of the samples; the others stay as they are.

    Args:
        inner: a transform that keeps shape and dtype.
        p: how likely each sample is changed; default 0.5.
    """

    def __init__(self, inner: Transform, p: float = 0.5) -> None:
        check_transform(inner, "RandomApply")
        self.inner, self.p = inner, probability(p, "RandomApply")

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        chosen = keys.uniform("chosen") < self.p
        if not chosen.any():
            return x
        changed = self.inner(x[chosen], keys[chosen].fold("inner"))
        if changed.shape[1:] != x.shape[1:] or changed.dtype != x.dtype:
            raise ValueError(
                f"[RandomApply] {type(self.inner).__name__} made {changed.dtype} of shape {changed.shape[1:]} from"
                f" {x.dtype} of shape {x.shape[1:]}, expected the same; apply it to all samples instead"
            )
        result = x.copy()
        result[chosen] = changed
        return result


class Lambda(Transform):
    """A function of the inputs as a transform.

    Args:
        function: f(x) of an array of the whole batch; with ``keyed`` f(x, keys).
        keyed: whether the function takes the keys too; default False.

    >>> import numpy as np
    >>> Lambda(np.log1p)(np.zeros((2, 1))).tolist()
    [[0.0], [0.0]]
    """

    def __init__(self, function: Callable[..., Any], *, keyed: bool = False) -> None:
        if not callable(function):
            raise TypeError(f"[Lambda] got a {type(function).__name__}, expected a function of the inputs")
        self.function, self.keyed = function, keyed

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        return np.asarray(self.function(x, keys) if self.keyed else self.function(x))


def as_array(x: Any, who: str) -> npt.NDArray[Any]:
    """The values of a Tensor or an array, without a copy."""
    if isinstance(x, pydl.Tensor):
        x = x.detach().cpu().numpy()
    if not isinstance(x, np.ndarray):
        raise TypeError(
            f"[{who}] got a {type(x).__name__}, expected a Tensor or an array of shape (N, ...); of several inputs"
            " transform the one that is meant, in a class with apply(batch, keys)"
        )
    if x.ndim == 0:
        raise ValueError(f"[{who}] got a single number, expected a batch of shape (N, ...)")
    return x


def checked_keys(keys: SampleKeys | None, count: int, who: str) -> SampleKeys:
    """The given keys if they fit the batch; without any, new ones from the default generator."""
    if keys is None:
        seed = int(pydl.randint(0, 2**62, (1,), dtype=pydl.int64).item())
        return SampleKeys(seed, 0, np.arange(count))
    if not isinstance(keys, SampleKeys):
        raise TypeError(f"[{who}] got keys of type {type(keys).__name__}, expected SampleKeys(seed, epoch, indices)")
    if len(keys) != count:
        raise ValueError(f"[{who}] got {count} samples and the keys of {len(keys)}; give one key per sample")
    return keys


def check_transform(transform: Any, who: str) -> None:
    if not (callable(transform) and callable(getattr(transform, "apply", None))):
        raise TypeError(f"[{who}] got {transform!r}, expected a Transform; Lambda(function) makes one of a function")


def check_images(x: npt.NDArray[Any], who: str) -> None:
    """Whether x is a batch of images, (N, C, H, W), of bytes or floating numbers."""
    check_layout(x, who)
    check_values(x, who)


def check_layout(x: npt.NDArray[Any], who: str) -> None:
    """Whether x is a batch of images, (N, C, H, W)."""
    if x.ndim != 4:
        hint = "; add the channel with x[:, None]" if x.ndim == 3 else ""
        raise ValueError(f"[{who}] got an input of shape {x.shape}, expected images (N, C, H, W){hint}")
    if x.shape[1] > 4 and x.shape[1] == x.shape[2] and x.shape[3] in (1, 3):
        raise ValueError(
            f"[{who}] got an input of shape {x.shape}, which looks like (N, H, W, C), expected (N, C, H, W); "
            "use x.transpose(0, 3, 1, 2)"
        )


def check_values(x: npt.NDArray[Any], who: str) -> None:
    if x.dtype not in (np.uint8, np.float32, np.float64):
        raise TypeError(f"[{who}] got {x.dtype}, expected uint8, float32 or float64; convert with x.astype(float32)")


def probability(p: float, who: str) -> float:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"[{who}] got p {p!r}, expected a probability from 0 to 1")
    return float(p)


def value_range(value: float | tuple[float, float], centre: float, who: str, what: str) -> tuple[float, float]:
    """(low, high) of a number r, which means centre - r to centre + r, or of a pair."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2 or not value[0] <= value[1]:
            raise ValueError(f"[{who}] got {what} {value!r}, expected (low, high)")
        low, high = float(value[0]), float(value[1])
    else:
        if not value >= 0:
            raise ValueError(f"[{who}] got {what} {value!r}, expected a number of 0 or more, or (low, high)")
        low, high = centre - float(value), centre + float(value)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"[{who}] got {what} {value!r}, expected finite numbers")
    return low, high


def _length(x: Any, who: str) -> int:
    return len(as_array(x, who))
