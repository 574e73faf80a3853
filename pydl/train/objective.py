"""What is minimized: one loss or several, weighted by sample and class, and how many terms each mean was made of.

A mean over an epoch is the sum of all terms over their number, so batches of different sizes, ignored targets and
masks count for what they are. A loss therefore gives its mean and the number of its terms.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pydl
from pydl import nn
from pydl.train.structure import batch_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor

__all__ = ["ClassWeights", "Objective"]

_NAMES = {
    "cross_entropy": "CrossEntropyLoss",
    "nll": "NLLLoss",
    "mse": "MSELoss",
    "mean_squared_error": "MSELoss",
    "mae": "L1Loss",
    "l1": "L1Loss",
    "mean_absolute_error": "L1Loss",
    "huber": "HuberLoss",
    "smooth_l1": "SmoothL1Loss",
    "bce": "BCELoss",
    "binary_crossentropy": "BCELoss",
    "bce_with_logits": "BCEWithLogitsLoss",
}
_INTEGERS = tuple(getattr(pydl, name) for name in ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32"))


class ClassWeights:
    """Keras's ``class_weight``: class number -> factor of the loss of its samples; classes not named have 1."""

    def __init__(self, weights: Mapping[int, float]) -> None:
        if not hasattr(weights, "items"):
            raise TypeError(f"[Trainer] got class_weight {weights!r}, expected a dict of class numbers and factors")
        for label, factor in weights.items():
            if int(label) != label or label < 0 or not 0 <= float(factor) < float("inf"):
                raise ValueError(
                    f"[Trainer] got class_weight {label!r}: {factor!r}, expected class numbers from 0 and factors >= 0"
                )
        self.weights = {int(label): float(factor) for label, factor in weights.items()}
        self._tables: dict[Any, Tensor] = {}
        self._table = [self.weights.get(label, 1.0) for label in range(max(self.weights, default=0) + 1)]

    def of(self, target: Tensor, dtype: Any) -> Tensor:
        """The factors of targets: class numbers of any shape, or one-hot rows (N, C)."""
        if target.dtype.is_floating_point:
            if target.ndim == 2 and target.shape[1] > 1:
                are_classes = bool(((target.sum(axis=1) - 1.0).abs() < 1e-3).all())  # one-hot, or probabilities
                target = target.argmax(axis=1)
            else:
                whole = target.astype(pydl.int64)
                are_classes = bool((whole.astype(target.dtype) == target).all())
                target = whole.reshape((target.shape[0],))
            if not are_classes:
                raise ValueError("[fit] got class_weight for targets that are no class numbers; use sample_weight")
        top = len(self._table) - 1
        known = (target >= 0) & (target <= top)
        place = dtype, str(target.device)
        table = self._tables.get(place)
        if table is None:
            table = self._tables[place] = pydl.asarray(self._table, dtype=dtype, device=target.device)
        inside = pydl.where(known, target.astype(pydl.int64), 0)
        picked = pydl.take(table, inside.reshape((-1,)), axis=0).reshape(tuple(target.shape))
        return pydl.where(known, picked, 1.0)


class LossTerm:
    """One output's loss.

    Args:
        loss: a name, a loss module of ``pydl.nn`` or a function of (prediction, target).
        where: how errors call it.
        classes_last: sequences of logits are (N, T, C) without looking.
    """

    def __init__(self, loss: Any, where: str = "loss", classes_last: bool = False) -> None:
        self.where = where
        self.classes_last = classes_last
        self.named = isinstance(loss, str)
        if isinstance(loss, str):
            if loss not in _NAMES:
                hint = "; the name for logits is 'cross_entropy'" if "categorical" in loss else ""
                raise ValueError(f"[Trainer] got {where}={loss!r}, expected one of {', '.join(_NAMES)}{hint}")
            loss = getattr(nn, _NAMES[loss])()
        if isinstance(loss, type) and issubclass(loss, nn.Module):
            loss = loss()
        if not callable(loss):
            raise TypeError(
                f"[Trainer] got a {type(loss).__name__} as {where}, expected a loss module, a function of "
                "(prediction, target), or a name"
            )
        self.loss = loss
        self.of_tensors = type(loss).__module__.startswith("pydl.")  # (prediction, target); others may do as they like
        self.elements: Any = None  # the same loss without its mean
        reduction = getattr(loss, "reduction", None)
        if reduction == "mean":
            self.elements = copy.copy(loss)
            self.elements.reduction = "none"
        elif reduction == "none":
            self.elements = loss
        elif reduction is not None:
            raise ValueError(
                f"[Trainer] got a {type(loss).__name__} with reduction={reduction!r}, which grows with the batch; "
                "use 'mean', or 'none' and let the trainer take the mean"
            )
        self.ignored = getattr(loss, "ignore_index", None)
        self.none_ignored = False  # known of the targets that come, so that nobody has to count
        self.is_classification = isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss))

    def fit_shapes(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Both in the shapes that the loss takes: (N, T, C) logits become rows, targets (N,) stand beside (N, 1)."""
        shape, wanted = tuple(prediction.shape), tuple(target.shape)
        if self.is_classification:
            if len(shape) == 2 and wanted == (shape[0], 1) and not target.dtype.is_floating_point:
                return prediction, target.reshape((shape[0],))
            if len(shape) >= 3 and len(wanted) == len(shape) - 1 and shape[:-1] == wanted:
                classes_second = shape[2:] == wanted[1:]
                if classes_second and self.named and not self.classes_last:
                    raise ValueError(
                        f"[Trainer] {self.where}: logits {shape} with targets {wanted} may be (N, T, C) or (N, C, T); "
                        "give nn.CrossEntropyLoss() for (N, C, T), or a function for (N, T, C)"
                    )
                if self.classes_last or not classes_second:
                    return prediction.reshape((-1, shape[-1])), target.reshape((-1,))
        elif shape != wanted and self.elements is not None and (shape == (*wanted, 1) or wanted == (*shape, 1)):
            return prediction, target.reshape(shape)
        return prediction, target

    def __call__(self, prediction: Tensor, target: Any, weight: Tensor | None) -> tuple[Tensor, float]:
        """The mean as a 0-d tensor, and the number of terms in it."""
        if self.of_tensors and not isinstance(prediction, pydl.Tensor):
            raise _no_tensor(prediction, self.where)
        if not isinstance(target, pydl.Tensor) or self.elements is None:
            return self._by_function(prediction, target, weight)
        given_shape = tuple(target.shape)
        prediction, target = self.fit_shapes(prediction, target)
        if not self.is_classification and not target.dtype.is_floating_point:
            target = target.astype(prediction.dtype)
        if weight is None and self.elements is not self.loss:
            terms = self._terms(prediction, target)
            if isinstance(terms, pydl.Tensor) or terms:
                return self.loss(prediction, target), terms
            return prediction.sum() * 0.0, terms
        elements = self.elements(prediction, target)
        if weight is None:
            return elements.mean(), float(elements.size)
        counted = self._counted(target, elements)
        if elements.size == _size(given_shape) and tuple(elements.shape) != given_shape:
            elements = elements.reshape(given_shape)
            counted = None if counted is None else counted.reshape(given_shape)
        return _weighted_mean(elements, weight, counted, self.where)

    def _terms(self, prediction: Tensor, target: Tensor) -> float:
        if not self.is_classification:
            return float(target.size)
        if target.dtype.is_floating_point:
            return float(prediction.size // prediction.shape[1 if prediction.ndim > 1 else 0])
        if self.loss.weight is None:
            if self.none_ignored or self.ignored is None:
                return float(target.size)
            return as_count((target != self.ignored).sum())
        counted = self._counted(target, None)
        return float(target.size) if counted is None else as_count(counted.sum())

    def _counted(self, target: Tensor, elements: Tensor | None) -> Tensor | None:
        """How much each term counts in the mean's denominator; None for 1 each."""
        if not self.is_classification or target.dtype.is_floating_point:
            return None
        counted = (target != self.ignored).astype(pydl.float32)
        if self.loss.weight is not None:
            inside = pydl.where(target != self.ignored, target, 0).astype(pydl.int64)
            factors = pydl.take(self.loss.weight, inside.reshape((-1,)), axis=0).reshape(tuple(target.shape))
            counted = counted * factors
        return counted

    def _by_function(self, prediction: Any, target: Any, weight: Tensor | None) -> tuple[Tensor, float]:
        if target is None and self.of_tensors:
            raise ValueError(
                f"[Trainer] {self.where}, {type(self.loss).__name__}, needs targets, and the batch has none; expected "
                "(x, y)"
            )
        value = self.loss(prediction) if target is None else self.loss(prediction, target)
        if not isinstance(value, pydl.Tensor):
            raise TypeError(f"[Trainer] {self.where} gave a {type(value).__name__}, expected a Tensor")
        if value.ndim == 0:
            if weight is not None:
                raise ValueError(
                    f"[Trainer] {self.where} gives one number for the whole batch, so samples cannot be weighted; "
                    "return the losses of the samples, (N,), or use a loss module"
                )
            return value, float(batch_size(prediction))
        if weight is None:
            return value.mean(), float(value.size)
        return _weighted_mean(value, weight, None, self.where)


def _no_tensor(prediction: Any, where: str) -> TypeError:
    if prediction is None:
        return TypeError("[Trainer] the model returned None, expected a tensor; does its forward lack a return?")
    many = "; give loss as a list or dict in the outputs' structure, or let the model return the one that counts"
    return TypeError(
        f"[Trainer] the model returned a {type(prediction).__name__}, expected a tensor for {where}"
        + (many if isinstance(prediction, (tuple, list, dict)) else "")
    )


class Objective:
    """The loss of all outputs.

    Args:
        loss: one loss for each output in the outputs' structure (a list, a dict), or one for all.
        loss_weights: factors in the same structure; default 1.
        classes_last: see :class:`LossTerm`.
    """

    def __init__(self, loss: Any, loss_weights: Any = None, classes_last: bool = False) -> None:
        self.many = isinstance(loss, (list, tuple, dict))
        if self.many:
            items = loss.items() if isinstance(loss, dict) else enumerate(loss)
            self.terms = {key: LossTerm(each, f"loss[{key!r}]", classes_last) for key, each in items}
        else:
            self.terms = {None: LossTerm(loss, "loss", classes_last)}
        if loss_weights is None:
            self.factors = dict.fromkeys(self.terms, 1.0)
        else:
            found = dict(loss_weights.items() if isinstance(loss_weights, dict) else enumerate(loss_weights))
            if not self.many or set(found) != set(self.terms):
                raise ValueError(
                    f"[Trainer] got loss_weights for {list(found)}, expected one for each of {list(self.terms)}"
                )
            self.factors = {key: float(value) for key, value in found.items()}

    @property
    def needs_targets(self) -> bool:
        """Whether a loss cannot do without targets."""
        return any(term.of_tensors for term in self.terms.values())

    @property
    def is_classification(self) -> bool:
        """Whether there is one loss, and its targets are class numbers."""
        return not self.many and self.terms[None].is_classification

    def name_of(self, key: Any) -> str:
        """How an output is called in logs."""
        return key if isinstance(key, str) else f"output_{key}"

    def __call__(self, prediction: Any, target: Any, weight: Any) -> tuple[Tensor, float, dict[str, tuple[Any, float]]]:
        """The total, the number of its terms, and for several outputs each one's (loss, terms) by name."""
        if not self.many:
            value, count = self.terms[None](prediction, target, weight)
            return value, count, {}
        parts: dict[str, tuple[Any, float]] = {}
        total = None
        for key, term in self.terms.items():
            value, count = term(pick(prediction, key, "the model's output"), pick(target, key, "y"), _part(weight, key))
            factor = self.factors[key]
            scaled = value if factor == 1.0 else value * factor
            total = scaled if total is None else total + scaled
            parts[f"{self.name_of(key)}_loss"] = (value, count)
        assert total is not None
        return total, float(batch_size(prediction)), parts


def as_count(terms: Tensor) -> Any:
    """The number as a Python float; where a step is captured it stays where it is, to be read later."""
    return terms if terms.is_cuda and pydl.cuda.is_current_stream_capturing() else float(terms.item())


def pick(structure: Any, key: Any, what: str) -> Any:
    """The part of a tuple, list or dict that belongs to a loss; ValueError where there is none."""
    try:
        return structure[key]
    except (KeyError, IndexError, TypeError):
        got = list(structure) if isinstance(structure, dict) else f"a {type(structure).__name__}"
        raise ValueError(f"[Trainer] {what} has no part {key!r}, which a loss is for: got {got}") from None


def _part(weight: Any, key: Any) -> Any:
    return weight[key] if isinstance(weight, (tuple, list, dict)) else weight


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _weighted_mean(elements: Tensor, weight: Tensor, counted: Tensor | None, where: str) -> tuple[Tensor, Any]:
    """Σ w·l / n as in Keras; a mask (bool) leaves terms out of n too."""
    rank = weight.ndim
    while rank > 1 and weight.shape[rank - 1] == 1:
        rank -= 1
    if tuple(elements.shape[:rank]) != tuple(weight.shape[:rank]):
        raise ValueError(
            f"[Trainer] got weights of shape {tuple(weight.shape)} for {where}'s terms {tuple(elements.shape)}; "
            "expected one for each sample, (N,), or each step, (N, T)"
        )
    weight = weight.reshape(tuple(weight.shape[:rank]))
    if elements.ndim > rank:
        axes = tuple(range(rank, elements.ndim))
        elements = elements.mean(axis=axes)
        counted = None if counted is None else counted.mean(axis=axes)
    is_mask = weight.dtype == pydl.bool
    factors = weight.astype(elements.dtype)
    if is_mask:
        counted = factors if counted is None else counted * factors
        elements = pydl.where(weight, elements, 0.0)  # not a product: what is masked may be NaN
        total = elements.sum()
    else:
        total = (elements * factors).sum()
    count = float(elements.size) if counted is None else as_count(counted.sum())
    if isinstance(count, pydl.Tensor):  # 0 where there are no terms
        return total / count.astype(total.dtype).clip(1e-12), count
    return total / max(count, 1e-12) if count else total * 0.0, count
