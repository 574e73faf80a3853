"""What predictions and targets mean by their shapes: classes, scores, steps, masks."""

from __future__ import annotations

from typing import Any

import numpy as np

import pydl

_Tensor, _bfloat16 = pydl.Tensor, pydl.bfloat16

__all__ = ["Labels", "class_axis", "labels", "logits_last", "same_shape", "to_array", "weights_for"]


def to_array(value: Any) -> np.ndarray:
    """An array that shares the tensor's memory where that can be; bfloat16 becomes float32."""
    if not isinstance(value, _Tensor):
        return np.asarray(value)
    if value.requires_grad:
        value = value.detach()
    if value.dtype is _bfloat16 or value.dtype == _bfloat16:
        value = value.astype(pydl.float32)
    return value.cpu().numpy()


def weights_for(name: str, weight: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Weights as float64 that broadcast against the shape: of samples (N,), of steps (N, T), or of all elements."""
    weights: Any = np.asarray(to_array(weight), np.float64)
    if weights.ndim == len(shape) + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    weights = weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim))
    if weights.ndim > len(shape) or any(w not in (1, n) for w, n in zip(weights.shape, shape)):
        raise ValueError(
            f"[{name}] got weights of shape {np.shape(weight)}, expected those of samples or steps of {shape}"
        )
    if weights.size and not (weights.min() >= 0 and weights.max() < np.inf):
        raise ValueError(f"[{name}] got weights that are negative or not finite, expected 0 and more")
    return weights


def same_shape(name: str, prediction: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of one shape, where (N, 1) and (N,) are taken for the same."""
    predicted, wanted = to_array(prediction), to_array(target)
    if predicted.shape != wanted.shape:
        if predicted.ndim == wanted.ndim + 1 and predicted.shape[-1] == 1:
            predicted = predicted[..., 0]
        elif wanted.ndim == predicted.ndim + 1 and wanted.shape[-1] == 1:
            wanted = wanted[..., 0]
    if predicted.shape != wanted.shape:
        raise ValueError(f"[{name}] got predictions of shape {predicted.shape}, expected the targets' {wanted.shape}")
    return predicted, wanted


def class_axis(name: str, prediction: np.ndarray, target: np.ndarray, axis: int | None) -> int:
    """The axis of the classes: the one that the targets lack, or the given one where the targets have it too.

    Both (N, C, T), as the losses take it, and (N, T, C) are known. Where T equals C both fit: it is the losses'.
    """
    if axis is not None:
        if not -prediction.ndim <= axis < prediction.ndim:
            raise ValueError(f"[{name}] got axis {axis} for predictions of shape {prediction.shape}")
        return axis % prediction.ndim
    if prediction.ndim == 1:
        return 0
    if prediction.shape == target.shape:
        return 1
    for place in (1, prediction.ndim - 1):
        if prediction.shape[:place] + prediction.shape[place + 1 :] == target.shape:
            return place
    raise ValueError(
        f"[{name}] got predictions of shape {prediction.shape} and targets of shape {target.shape}, expected classes "
        "(N, C) with (N,), (N, C, ...) or (N, ..., C) with (N, ...), or two equal shapes"
    )


def logits_last(name: str, prediction: Any, target: Any, axis: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores (..., C), the targets as they are, and the axis where the classes were."""
    scores, wanted = to_array(prediction), to_array(target)
    if wanted.ndim == scores.ndim and wanted.shape != scores.shape and wanted.shape[-1] == 1:
        wanted = wanted[..., 0]  # class indices in a column, as Keras has them
    place = class_axis(name, scores, wanted, axis)
    return np.moveaxis(scores, place, -1), wanted, place


class Labels:
    """Predicted and wanted classes of a batch, without what is ignored.

    Attributes:
        predicted: class indices, one array for each reading of the predictions: two where a single column may be
            logits or probabilities.
        wanted: class indices.
        weight: float64 of the same shape, or None.
        count: how many classes the predictions have room for, or 0 where they do not say.
        outside: whether a single column had numbers outside of [0, 1], so that it cannot be probabilities.
    """

    __slots__ = ("count", "outside", "predicted", "wanted", "weight")

    def __init__(
        self, predicted: list[np.ndarray], wanted: np.ndarray, weight: np.ndarray | None, count: int, outside: bool
    ) -> None:
        self.predicted, self.wanted, self.weight = predicted, wanted, weight
        self.count, self.outside = count, outside


def labels(
    name: str,
    prediction: Any,
    target: Any,
    weight: Any = None,
    *,
    axis: int | None = None,
    from_logits: bool | None = None,
    threshold: float | None = None,
    ignore_index: int | None = -100,
    elementwise: bool = False,
) -> Labels:
    """Read a batch as classes; the rules are in the docstring of :class:`pydl.metrics.Accuracy`."""
    scores, wanted = to_array(prediction), to_array(target)
    binary = wanted.shape in (scores.shape, (*scores.shape, 1)) or scores.shape == (*wanted.shape, 1)
    if binary and not elementwise and scores.ndim > 1 and scores.shape[-1] > 1 and scores.dtype.kind == "f":
        _check_distributions(name, wanted, axis)
        binary = False
    outside, count = False, 0
    if binary:
        scores, wanted = same_shape(name, scores, wanted)
        if scores.dtype.kind == "f":
            predicted, outside = _cut(name, scores, from_logits, threshold)
            count = 2
        else:
            predicted = [scores.astype(np.int64)]
    else:
        scores, wanted, place = logits_last(name, scores, wanted, axis)
        count = scores.shape[-1]
        predicted = [scores.argmax(axis=-1)]
        if wanted.ndim == scores.ndim:
            wanted = np.moveaxis(wanted, place, -1).argmax(axis=-1)
    wanted = _class_indices(name, wanted)
    weights = None if weight is None else np.broadcast_to(weights_for(name, weight, wanted.shape), wanted.shape)
    if ignore_index is not None and wanted.dtype.kind == "i" and wanted.size and wanted.min() < 0:
        kept = wanted != ignore_index
        predicted, wanted = [p[kept] for p in predicted], wanted[kept]
        weights = None if weights is None else weights[kept]
    return Labels(predicted, wanted, weights, count, outside)


def _check_distributions(name: str, wanted: np.ndarray, axis: int | None) -> None:
    """Raise unless targets of the scores' shape are distributions over the classes."""
    sums = wanted.sum(axis=1 if axis is None else axis, dtype=np.float64)
    if not (np.allclose(sums, 1.0, atol=1e-3) and (wanted >= 0).all()):
        raise ValueError(
            f"[{name}] got targets of the predictions' shape {wanted.shape} that do not add up to 1 over the classes, "
            "expected one-hot rows or probabilities; for several labels use BinaryAccuracy, or elementwise=True"
        )


def _cut(name: str, scores: np.ndarray, from_logits: bool | None, threshold: float | None) -> tuple[list[Any], bool]:
    inside = not scores.size or (scores.min() >= 0 and scores.max() <= 1)
    if from_logits is False and not inside and not np.isnan(scores).any():
        raise ValueError(
            f"[{name}] got predictions outside of 0 to 1 with from_logits=False, expected probabilities; "
            "give from_logits=True, or apply a sigmoid"
        )
    if threshold is not None:
        return [(scores > threshold).astype(np.int64)], not inside
    if from_logits is None:
        return [(scores > 0.5).astype(np.int64), (scores > 0).astype(np.int64)], not inside
    return [(scores > (0.0 if from_logits else 0.5)).astype(np.int64)], not inside


def _class_indices(name: str, wanted: np.ndarray) -> np.ndarray:
    if wanted.dtype.kind == "f":
        indices = wanted.astype(np.int64)
        if not np.array_equal(indices, wanted):
            raise ValueError(f"[{name}] got targets that are no whole numbers, expected class indices or one-hot rows")
        return indices
    if wanted.dtype.kind not in "iub":
        raise TypeError(f"[{name}] got targets of type {wanted.dtype}, expected class indices; number the classes")
    return wanted.astype(np.int64, copy=False) if wanted.dtype.kind != "i" else wanted
