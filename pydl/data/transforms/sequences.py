"""Augmentation of sequences (N, T, ...): windows and dropped tokens. Noise is RandomNoise, for any shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pydl.data.transforms.base import Transform, as_array, checked_keys, probability

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pydl.data.keys import SampleKeys

__all__ = ["RandomSequenceCrop", "TokenDropout"]


class RandomSequenceCrop(Transform):
    """A random window of ``length`` steps of each sequence.

    Args:
        length: steps of the window.
        targets: whether y and what follows in the batch hold one value a step, (N, T, ...), and are cropped with x;
            default False.

    >>> import numpy as np
    >>> crop = RandomSequenceCrop(3, targets=True)
    >>> x, y = crop.apply((np.arange(10)[None], np.arange(10)[None] + 1))
    >>> x.shape, (y - x).tolist()
    ((1, 3), [[1, 1, 1]])
    """

    def __init__(self, length: int, *, targets: bool = False) -> None:
        if length < 1:
            raise ValueError(f"[RandomSequenceCrop] got length {length!r}, expected 1 or more")
        self.length, self.targets = length, targets

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        if x.ndim < 2 or x.shape[1] < self.length:
            raise ValueError(
                f"[RandomSequenceCrop] got an input of shape {x.shape}, expected (N, T, ...) with at least"
                f" {self.length} steps"
            )
        start = np.floor(keys.uniform("start") * (x.shape[1] - self.length + 1)).astype(np.intp)
        return x[np.arange(len(x))[:, None], start[:, None] + np.arange(self.length)]

    def apply(self, batch: tuple[Any, ...], keys: SampleKeys | None = None) -> tuple[Any, ...]:
        """The inputs cropped, and with ``targets`` all parts of the batch alike."""
        if not self.targets:
            return super().apply(batch, keys)
        arrays = [as_array(part, "RandomSequenceCrop") for part in batch]
        keys = checked_keys(keys, len(arrays[0]), "RandomSequenceCrop")
        steps = [array.shape[1] if array.ndim > 1 else 0 for array in arrays]
        if len(set(steps)) > 1:
            raise ValueError(f"[RandomSequenceCrop] got parts of {steps} steps, expected as many in x as in the others")
        return tuple(self(part, keys) for part in batch)


class TokenDropout(Transform):
    """Each token is replaced with probability p: what was left out has to be told from the rest.

    Args:
        p: how likely; default 0.1.
        token: what stands in its place, such as the id of "unknown"; default 0.
        keep: ids that are never replaced, such as those of padding or of the start; default none.

    >>> import numpy as np
    >>> TokenDropout(1.0, token=9, keep=[0])(np.array([[5, 6, 0]])).tolist()
    [[9, 9, 0]]
    """

    def __init__(self, p: float = 0.1, token: int = 0, keep: Sequence[int] = ()) -> None:
        self.p, self.token, self.keep = probability(p, "TokenDropout"), int(token), tuple(int(i) for i in keep)

    def transform(self, x: npt.NDArray[Any], keys: SampleKeys) -> npt.NDArray[Any]:
        if x.dtype.kind not in "iu":
            raise TypeError(f"[TokenDropout] got {x.dtype}, expected token ids, integers of shape (N, T)")
        dropped = keys.uniform("dropped", *x.shape[1:]) < self.p
        if self.keep:
            dropped &= ~np.isin(x, self.keep)
        return np.where(dropped, x.dtype.type(self.token), x)
