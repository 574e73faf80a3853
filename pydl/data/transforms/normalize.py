"""Normalize: zero mean and unit variance by the statistics of the training part, which travel with the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import pydl
from pydl import nn
from pydl.data.transforms.base import Transform

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from pydl import Tensor
    from pydl.data.keys import SampleKeys

__all__ = ["Normalize", "Standardize"]

Self = TypeVar("Self", bound="Normalize")
_CHUNK = 1 << 22  # elements that are turned into float64 at a time


class Normalize(nn.Module, Transform):
    """(x - mean) / std, where :meth:`fit` has found mean and std in the training part, and in it alone.

    It is a transform, for a loader, and a layer, commonly a model's first: then its buffers ``mean`` and ``std`` are
    saved with the model, and whoever loads it feeds raw inputs. The std is that of the data (divided by n); a feature
    that never changes is only shifted.

    Args:
        mean, std: known statistics, scalars or one number per channel; default None, to be fitted or loaded.
        axis: the axes that keep statistics of their own: 1 (default) is the channels of (N, C, H, W) and the features
            of (N, F); -1 the features of (N, T, F); (1, 2, 3) every pixel; () one number for all.

    >>> import numpy as np
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]], np.float32)
    >>> normalize = Normalize().fit(x)
    >>> normalize(pydl.asarray(x)).tolist(), normalize.mean.tolist()
    ([[-1.0, -1.0], [1.0, 1.0]], [2.0, 20.0])
    >>> model = nn.Sequential(normalize, nn.Linear(2, 1))
    >>> sorted(model.state_dict())
    ['0.mean', '0.std', '1.bias', '1.weight']
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Any = None, std: Any = None, axis: int | tuple[int, ...] = 1) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ValueError("[Normalize] got one of mean and std, expected both, or none and a call of fit(x)")
        self.axis = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
        self.register_buffer("mean", nn.UninitializedBuffer())
        self.register_buffer("std", nn.UninitializedBuffer())
        if mean is not None:
            self._set(np.asarray(mean, np.float64), np.asarray(std, np.float64))

    @property
    def fitted(self) -> bool:
        """Whether there are statistics."""
        return not nn.is_lazy(self.mean)

    def fit(self: Self, x: Any) -> Self:
        """Find mean and std, exactly and in float64, and return this object.

        Args:
            x: the training inputs: an array or Tensor (N, ...), a Dataset, a DataLoader (whose position stays what it
                is) or any iterable of batches. Of samples and batches that are tuples the first part is taken.

        Raises:
            ValueError: there is nothing in it, it holds NaN or infinity, or the shapes do not fit.
        """
        count, mean, squares = 0, np.zeros(()), np.zeros(())
        for batch in _batches(x):
            kept, n, batch_mean, batch_squares = self._moments(batch)
            if count and batch_mean.shape != mean.shape:
                raise ValueError(f"[Normalize.fit] got batches of {mean.shape} and {kept} features, expected the same")
            # Chan, Golub and LeVeque, "Updating formulae ... for computing sample variances" (1979)
            shift = batch_mean - mean
            count += n
            mean = mean + shift * (n / count)
            squares = squares + batch_squares + shift**2 * (n * (count - n) / count)
        if not count:
            raise ValueError("[Normalize.fit] got no samples, expected the training part")
        std = np.sqrt(squares / count)
        self._set(mean, np.where(std <= 1e-12 * np.abs(mean), 1.0, std))  # constant but for rounding
        return self

    def forward(self, x: Tensor, keys: SampleKeys | None = None) -> Tensor:
        """Any shape that fits -> the same shape, float32 (or float64 for float64). Arrays give arrays."""
        if isinstance(x, np.ndarray):
            return self.forward(pydl.asarray(x)).cpu().numpy()
        mean, std = self._statistics(x)
        return (self._floating(x) - mean) / std

    def inverse(self, z: Any) -> Any:
        """std · z + mean: back to the unit of the data."""
        if isinstance(z, np.ndarray):
            return self.inverse(pydl.asarray(z)).cpu().numpy()
        mean, std = self._statistics(z)
        return self._floating(z) * std + mean

    def apply(self, batch: Any, keys: SampleKeys | None = None) -> Any:
        """A batch with its inputs normalized. With a function in place of the batch, what Module.apply does."""
        return nn.Module.apply(self, batch) if callable(batch) else Transform.apply(self, batch, keys)

    def extra_repr(self) -> str:
        """Axis, and how many statistics there are."""
        return f"axis={self.axis}, " + (f"{self.mean.size} fitted" if self.fitted else "not fitted")

    def _set(self, mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64]) -> None:
        mean, std = np.broadcast_arrays(mean, std)
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ValueError(f"[Normalize] got mean {mean} and std {std}, expected finite numbers and std above 0")
        for name, values in (("mean", mean), ("std", std)):
            buffer = getattr(self, name)
            if nn.is_lazy(buffer):
                buffer.materialize(values.shape)
            self.__dict__[name] = pydl.asarray(np.array(values), dtype=buffer.dtype)

    def _kept(self, ndim: int) -> tuple[int, ...]:
        kept = tuple(sorted({axis + ndim if axis < 0 else axis for axis in self.axis}))
        if any(not 0 <= axis < ndim for axis in kept):
            raise ValueError(
                f"[Normalize] got an input of {ndim} axes, which has no axis {self.axis}; choose another axis"
            )
        if 0 in kept:
            raise ValueError("[Normalize] axis 0 is the samples', whose statistics would not fit others")
        return kept

    def _moments(self, x: npt.NDArray[Any]) -> tuple[tuple[int, ...], int, npt.NDArray[Any], npt.NDArray[Any]]:
        kept = self._kept(x.ndim)
        others = tuple(axis for axis in range(x.ndim) if axis not in kept)
        shape = tuple(x.shape[axis] for axis in kept)
        n = int(np.prod([x.shape[axis] for axis in others]))
        values = x.astype(np.float64)
        with np.errstate(invalid="ignore"):  # it is told below
            mean = values.mean(axis=others)
        if not np.isfinite(mean).all():
            where = ", ".join(map(str, np.argwhere(~np.isfinite(np.atleast_1d(mean)))[:5].tolist()))
            raise ValueError(f"[Normalize.fit] got NaN or infinity in feature {where}; clean the data first")
        values -= np.expand_dims(mean, others)
        return shape, n, mean, np.square(values).sum(axis=others)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self.fitted:
            raise ValueError("[Normalize] has no statistics yet; call fit(x) with the training inputs, or load a state")
        mean, std = self.mean, self.std
        if mean.ndim:
            kept = self._kept(x.ndim)
            wanted = tuple(x.shape[axis] for axis in kept)
            if mean.size > 1 and wanted != tuple(mean.shape):
                raise ValueError(
                    f"[Normalize] got an input of shape {tuple(x.shape)}, whose axes {kept} are {wanted}, expected"
                    f" {tuple(mean.shape)}, as in the data that it was fitted on"
                )
            if mean.size > 1:
                shape = tuple(x.shape[axis] if axis in kept else 1 for axis in range(x.ndim))
                mean, std = mean.reshape(shape), std.reshape(shape)
        if x.dtype == pydl.float64:
            mean, std = mean.astype(pydl.float64), std.astype(pydl.float64)
        return mean, std

    def _floating(self, x: Tensor) -> Tensor:
        return x if x.dtype.is_floating_point else x.astype(self.mean.dtype)


class Standardize(Normalize):
    """Another name of :class:`Normalize`."""


def _batches(x: Any) -> Iterator[npt.NDArray[Any]]:
    """The inputs in pieces that fit in memory as float64."""
    if isinstance(x, pydl.Tensor):
        x = x.detach().cpu().numpy()
    if isinstance(x, np.ndarray):
        rows = max(1, _CHUNK // max(1, x[:1].size))
        for first in range(0, len(x), rows):
            yield x[first : first + rows]
        return
    if hasattr(x, "batch") and hasattr(x, "__len__"):  # a Dataset that gathers many samples at once
        step = 1024
        parts = (x.batch(np.arange(first, min(first + step, len(x)))) for first in range(0, len(x), step))
    elif hasattr(x, "__getitem__") and hasattr(x, "__len__") and not isinstance(x, (list, tuple)):
        parts = ((np.asarray(_first(x[i]))[None],) for i in range(len(x)))
    elif hasattr(x, "load_state_dict"):  # a DataLoader
        state = x.state_dict()
        for part in x:
            yield np.asarray(_first(part))
        x.load_state_dict(state)
        return
    elif hasattr(x, "__iter__"):
        parts = iter(x)
    else:
        raise TypeError(f"[Normalize.fit] got a {type(x).__name__}, expected an array, a Dataset or batches")
    for part in parts:
        yield np.asarray(_first(part))


def _first(part: Any) -> Any:
    part = part[0] if isinstance(part, (tuple, list)) else part
    return part.detach().cpu().numpy() if isinstance(part, pydl.Tensor) else part
