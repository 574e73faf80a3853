"""scikit-learn's small data sets as arrays that a model takes: float32 inputs, int64 classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["breast_cancer", "diabetes", "digits", "iris", "wine"]

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]


def _load(name: str) -> Any:
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError(
            f"[{name}] the data set comes with scikit-learn, which is not installed; pip install 'pydl[sklearn]'"
        ) from None
    return getattr(datasets, f"load_{name}")()


def _classes(name: str) -> tuple[Floats, Classes]:
    bunch = _load(name)
    return bunch.data.astype(np.float32), bunch.target.astype(np.int64)


def digits() -> tuple[Floats, Classes]:
    """1,797 handwritten digits: x (1797, 8, 8) float32 in [0, 1], y (1797,) int64 in 0 ... 9.

    >>> x, y = digits()
    >>> x.shape, float(x.max()), y[:4].tolist()
    ((1797, 8, 8), 1.0, [0, 1, 2, 3])
    """
    bunch = _load("digits")
    return (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)


def iris() -> tuple[Floats, Classes]:
    """150 flowers: x (150, 4) float32, lengths in cm; y (150,) int64, three kinds of 50."""
    return _classes("iris")


def wine() -> tuple[Floats, Classes]:
    """178 wines: x (178, 13) float32, from chemical analysis; y (178,) int64, three growers."""
    return _classes("wine")


def breast_cancer() -> tuple[Floats, Classes]:
    """569 tumours: x (569, 30) float32, measured on cell nuclei; y (569,) int64, 0 malignant, 1 benign."""
    return _classes("breast_cancer")


def diabetes() -> tuple[Floats, Floats]:
    """442 patients: x (442, 10) float32, standardized; y (442,) float32, the disease's progress after a year."""
    bunch = _load("diabetes")
    return bunch.data.astype(np.float32), bunch.target.astype(np.float32)
