"""From what a user has, arrays, a dataset, a loader, to checked batches. Whatever is wrong is said before a step is
made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import GeneratorType
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl.train.arguments import real_number, whole_number
from pydl.train.structure import leaves, map_leaves

if TYPE_CHECKING:
    from pydl import Tensor
    from pydl.train.objective import Objective

__all__ = [
    "Repeated",
    "any_ignored",
    "array_dataset",
    "check_labels",
    "first_batches",
    "in_memory",
    "is_array",
    "make_loader",
    "split_indices",
]


def is_array(x: Any) -> bool:
    """Whether x is one array: a tensor, something that NumPy reads, or nested lists of numbers."""
    if isinstance(x, (pydl.Tensor, np.ndarray)) or hasattr(x, "__array__"):
        return True
    return isinstance(x, list) and bool(x) and not any(_is_leaf(part) for part in x)


def _is_leaf(x: Any) -> bool:
    return isinstance(x, (pydl.Tensor, np.ndarray)) or (hasattr(x, "__array__") and not isinstance(x, np.generic))


def _is_arrays(x: Any) -> bool:
    if isinstance(x, dict):
        return bool(x) and all(_is_arrays(part) for part in x.values())
    if isinstance(x, (tuple, list)) and not is_array(x):
        return bool(x) and all(_is_arrays(part) for part in x)
    return is_array(x)


def make_loader(
    name: str,
    x: Any,
    y: Any = None,
    weight: Any = None,
    *,
    batch_size: int = 32,
    shuffle: bool = False,
    seed: int = 0,
    dtype: Any = None,
    classes: bool = False,
    check_finite: bool = True,
    times: int = 1,
) -> Any:
    """A loader of (x, y, weight) batches, whatever x is.

    Args:
        name: the method, for messages.
        x: arrays (one, or a tuple, list or dict of several), a dataset, a loader, or an iterable of batches.
        y, weight: arrays, where x is arrays.
        batch_size, shuffle, seed: of the loader that is made; a given loader keeps its own.
        dtype: that of the model, which floating arrays of other dtypes are converted to.
        classes: whether y is class numbers.
        check_finite: look for NaN and infinities in arrays.
        times: how often all batches are wanted, which an iterator cannot give them twice for.

    Raises:
        ValueError: arrays of different lengths, none, NaN or infinity in them; y beside a dataset.
        TypeError: strings, objects, or something that is none of these.
    """
    from pydl.data import DataLoader

    if isinstance(x, list) and y is None and _is_batches(x):
        if not any(getattr(leaf, "ndim", 1) == 0 for _, leaf in leaves(x[0])):
            return Repeated(x, name)
        return DataLoader(x, batch_size=whole_number(name, "batch_size", batch_size, 1), shuffle=shuffle, seed=seed)
    if _is_arrays(x):
        dataset: Any = array_dataset(name, x, y, weight, dtype=dtype, classes=classes, check_finite=check_finite)
        batch_size = whole_number(name, "batch_size", batch_size, 1)
        return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, seed=seed)
    if isinstance(x, type):
        raise TypeError(f"[{name}] got the class {x.__name__} as x, expected an object: {x.__name__}(...)")
    if not isinstance(x, Iterable) and not hasattr(x, "__getitem__"):
        raise TypeError(
            f"[{name}] got a {type(x).__name__} as x, expected arrays, a pydl.data.Dataset, a DataLoader, or an "
            "iterable of batches (x, y)"
        )
    if isinstance(x, (str, bytes, dict, tuple, list)):
        shown = repr(x) if len(repr(x)) < 60 else f"a {type(x).__name__}"
        raise TypeError(f"[{name}] got {shown} as x, expected arrays of numbers, a dataset, a loader or batches")
    for what, given in (("y", y), ("sample_weight", weight)):
        if given is not None:
            raise ValueError(
                f"[{name}] got {what} beside a {type(x).__name__}, whose batches have their own; "
                f"let it give (x, y) or (x, y, weight)"
            )
    if check_finite and getattr(x, "transform", None) is None and getattr(x, "collate_fn", None) is None:
        _check_in_memory(name, getattr(x, "dataset", x) if isinstance(x, DataLoader) else x)
    if isinstance(x, DataLoader) or (hasattr(x, "state_dict") and hasattr(x, "__iter__")):
        return x
    if hasattr(x, "__len__") and hasattr(x, "__getitem__") and not isinstance(x, (tuple, list)):
        if hasattr(x, "batch_size") and hasattr(x, "__iter__"):  # a loader of another library
            return Repeated(x, name)
        return DataLoader(x, batch_size=whole_number(name, "batch_size", batch_size, 1), shuffle=shuffle, seed=seed)
    return Repeated(x, name, times)


def _is_batches(x: Any) -> bool:
    """Whether it is a list of batches: tuples that have arrays in them."""
    return (
        isinstance(x, list)
        and bool(x)
        and all(isinstance(part, (tuple, list)) and part and not is_array(part) and _is_arrays(part) for part in x)
    )


def array_dataset(
    name: str, x: Any, y: Any, weight: Any, *, dtype: Any, classes: bool, check_finite: bool = True
) -> Any:
    """Arrays as a dataset of checked tensors: floating ones in ``dtype``, class numbers as int64."""
    from pydl.data import ArrayDataset

    if weight is not None and y is None:
        raise ValueError(f"[{name}] got sample_weight without y")
    given = (x,) if y is None else (x, y) if weight is None else (x, y, weight)
    try:
        arrays = ArrayDataset(*given).arrays
    except (ValueError, TypeError) as error:  # in the words of what was called
        what = (
            str(error)
            .replace("[ArrayDataset] weight", f"[{name}] sample_weight")
            .replace("[ArrayDataset]", f"[{name}]")
        )
        raise type(error)(what) from None
    fields = [_converted(part, dtype) for part in arrays]
    if not len(next(leaves(fields[0]))[1]):
        raise ValueError(f"[{name}] x has no rows, expected at least one sample")
    if len(fields) > 1:
        fields[1] = map_leaves(lambda t: _labels(t) if classes else t, fields[1])
    if check_finite:
        for what, field in zip(("x", "y", "sample_weight"), fields):
            for path, leaf in leaves(field, what):
                _check_finite(name, path, leaf)
    for path, leaf in leaves(fields[2], "sample_weight") if len(fields) > 2 else ():
        if leaf.dtype != pydl.bool and bool((leaf < 0).any()):
            place = int(np.argwhere(leaf.cpu().numpy() < 0)[0][0])
            raise ValueError(f"[{name}] {path} is negative in row {place}, expected 0 or more")
        if not bool(leaf.any()):
            raise ValueError(f"[{name}] {path} is 0 everywhere, so no sample would count; expected some above 0")
    return ArrayDataset(*fields)


def _converted(field: Any, dtype: Any) -> Any:
    def convert(t: Tensor) -> Tensor:
        return t.astype(dtype) if dtype is not None and t.dtype.is_floating_point and t.dtype != dtype else t

    return map_leaves(convert, field)


def _labels(t: Tensor) -> Tensor:
    if t.dtype.is_floating_point:
        if t.ndim > 1 and not (t.ndim == 2 and t.shape[1] == 1):
            return t  # probabilities
        whole = t.astype(pydl.int64)
        if not bool((whole.astype(t.dtype) == t).all()):
            return t
        t = whole
    return t if t.dtype == pydl.int64 else t.astype(pydl.int64)


def _check_finite(name: str, what: str, t: Tensor) -> None:
    if not t.dtype.is_floating_point or t.size == 0 or np.isfinite(t.sum().item()):
        return
    values = t.astype(pydl.float32).cpu().numpy() if t.dtype.itemsize < 4 else t.cpu().numpy()
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        place = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"[{name}] {what} has {len(bad)} values that are NaN or infinite, the first, {values[place]}, in row "
            f"{place[0]}" + (f" at {list(place[1:])}" if place[1:] else "") + "; remove or replace them "
            "(numpy.nan_to_num)"
        )


def in_memory(dataset: Any) -> bool:
    """Whether a dataset is arrays, or some rows of arrays, so that all of it can be looked at before the first step."""
    from pydl.data import Subset

    return in_memory(dataset.dataset) if type(dataset) is Subset else hasattr(dataset, "arrays")


def _check_in_memory(name: str, dataset: Any, rows: np.ndarray | None = None) -> None:
    from pydl.data import ArrayDataset, Subset

    if type(dataset) is Subset:
        _check_in_memory(name, dataset.dataset, dataset.indices if rows is None else dataset.indices[rows])
    elif type(dataset) is ArrayDataset:
        for what, field in zip(("x", "y", "sample_weight"), dataset.arrays):
            for path, leaf in leaves(field, what):
                try:
                    _check_finite(name, path, leaf)
                except ValueError:  # perhaps in other rows only
                    _check_finite(name, path, leaf if rows is None else pydl.take(leaf, pydl.asarray(rows), axis=0))


def _targets(dataset: Any) -> Tensor | None:
    """The targets of arrays in memory, or of some rows of them."""
    from pydl.data import Subset

    if type(dataset) is Subset:
        y = _targets(dataset.dataset)
        return None if y is None else pydl.take(y, pydl.asarray(dataset.indices), axis=0)
    arrays: tuple[Any, ...] = getattr(dataset, "arrays", ())
    return arrays[1] if len(arrays) > 1 and isinstance(arrays[1], pydl.Tensor) else None


def check_labels(
    name: str, what: str, dataset: Any, objective: Objective, prediction: Any, weights: Mapping[int, float] | None
) -> None:
    """Raise ValueError where class numbers, of targets or of class weights, or targets of a binary loss, lie outside
    what the model can say.
    """
    from pydl import nn

    y: Any = None if objective.many else _targets(dataset)
    if y is None:
        return
    term = objective.terms[None]
    low: Any
    if objective.is_classification and not y.dtype.is_floating_point and isinstance(prediction, pydl.Tensor):
        last = term.classes_last or (prediction.ndim >= 3 and tuple(prediction.shape[1:-1]) == tuple(y.shape[1:]))
        count = prediction.shape[-1 if last or prediction.ndim < 2 else 1]
        low, high, reason = 0, count - 1, f"the model has {count} outputs"
        if count == 1:
            reason = "the model has 1 output; for two classes of one output use 'bce_with_logits'"
        unknown = [label for label in weights or () if label >= count]
        if unknown:
            raise ValueError(f"[{name}] got class_weight of class {unknown[0]}, expected {low} to {high}: {reason}")
        counted = y != term.ignored
    elif isinstance(term.loss, (nn.BCELoss, nn.BCEWithLogitsLoss)):
        low, high, reason, counted = 0, 1, "the loss is binary cross-entropy", None
    else:
        return
    wrong = (y < low) | (y > high)
    if counted is not None:
        wrong = wrong & counted
    if bool(wrong.any()):
        place = np.argwhere(wrong.cpu().numpy())[0]
        value = y.cpu().numpy()[tuple(place)]
        raise ValueError(
            f"[{name}] {what} has the label {value} in row {int(place[0])}, expected {low} to {high}: {reason}"
        )


def any_ignored(dataset: Any, objective: Objective) -> bool:
    """Whether some targets may be of the class that the loss leaves out."""
    y: Any = None if objective.many else _targets(dataset)
    if y is None:
        return True
    return bool((y == objective.terms[None].ignored).any())


def split_indices(
    name: str, count: int, fraction: float, mode: str | None, y: Any, classes: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for validation, each in ascending order.

    Args:
        name: the method, for messages.
        count: rows.
        fraction: the share held back, in (0, 1).
        mode: ``"random"``, ``"stratified"`` (each class in both parts in its share) or ``"last"``.
        y: the targets, for "stratified" and for the check that each part has every class.
        classes: whether they are class numbers.
        seed: of the draw.

    Raises:
        ValueError: a part would be empty or lack a class; names it.
    """
    if not 0.0 < real_number(name, "validation_split", fraction) < 1.0:
        raise ValueError(f"[{name}] got validation_split={fraction!r}, expected a share above 0 and below 1")
    if mode not in ("random", "stratified", "last"):
        raise ValueError(
            f"[{name}] got validation_split={fraction} with validation_mode={mode!r}, expected 'random', 'stratified' "
            "(each class in its share) or 'last' (Keras's way: the last rows, which suits time series only if sorted)"
        )
    from pydl.data.sampler import permutation

    held = round(count * fraction)
    if not 0 < held < count:
        raise ValueError(
            f"[{name}] validation_split={fraction} of {count} rows leaves {count - held} for training and {held} for "
            "validation, expected some for each"
        )
    labels = y.cpu().numpy() if classes and isinstance(y, pydl.Tensor) and not y.dtype.is_floating_point else None
    if labels is not None:
        labels = labels.reshape(len(labels), -1)[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        labels = labels if labels.ndim == 1 else None
    if mode == "stratified" and labels is None:
        raise ValueError(f"[{name}] validation_mode='stratified' needs class numbers as y; use 'random'")
    if mode == "last":
        chosen = np.arange(count - held, count)
    elif mode == "random":
        chosen = np.sort(permutation(count, seed, 0)[:held])
    else:
        assert labels is not None
        chosen = _stratified(name, labels, fraction, permutation(count, seed, 0))
    kept = np.setdiff1d(np.arange(count), chosen)
    if labels is not None:
        for part, rows, other in (("training", kept, chosen), ("validation", chosen, kept)):
            missing = np.setdiff1d(labels[other], labels[rows])
            if missing.size:
                raise ValueError(
                    f"[{name}] class {missing[0]} is missing from the {part} part ({len(rows)} rows) of the split; "
                    "use validation_mode='stratified', a larger share, or validation_data"
                )
    return kept, chosen


def _stratified(name: str, labels: np.ndarray, fraction: float, order: np.ndarray) -> np.ndarray:
    chosen = []
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        if len(rows) < 2:
            raise ValueError(
                f"[{name}] class {label} has a single row, expected two or more to split; leave it out or add rows"
            )
        chosen.append(rows[: min(len(rows) - 1, max(1, round(len(rows) * fraction)))])
    return np.sort(np.concatenate(chosen))


def first_batches(batches: Any, count: int | None) -> Any:
    """So many of the batches, all for None."""
    return batches if count is None else islice(batches, count)


class Repeated:
    """An iterable of batches with a position: going back to one passes over the batches before it.

    Args:
        batches: the iterable.
        name: the method, for messages.
        times: how often it will be gone through at least, as far as that is known.

    Raises:
        ValueError: it gives its batches once and they are wanted more often.
    """

    def __init__(self, batches: Iterable[Any], name: str = "fit", times: int = 1) -> None:
        self.batches = batches
        self.name = name
        self.epoch = 0
        self._batch = 0
        self._skip = 0
        self._entered = False
        self._ahead: Iterator[Any] | None = None  # begun, with the batch that was looked at put back
        if times > 1 and _is_one_shot(batches):
            raise ValueError(
                f"[{name}] got a {type(batches).__name__}, which gives its batches once, expected them {times} times; "
                "give a list, a loader or an object whose __iter__ starts anew, or say how many steps there are"
            )

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def peek(self) -> Any:
        """The first batch, which comes again when the first epoch begins; None of a loader, which may have workers.

        Raises:
            ValueError: there is none.
        """
        if hasattr(self.batches, "__len__") and not isinstance(self.batches, list):
            if not len(self):
                raise self._nothing(False)
            return None
        begun = iter(self.batches)
        batch = next(begun, None)
        if batch is None:
            raise self._nothing(False)
        self._ahead = _behind(batch, begun)
        return _tensors(batch)

    def __iter__(self) -> Iterator[Any]:
        if self._entered:
            self.epoch, self._batch = self.epoch + 1, 0
        self._entered = True
        return self._run(self.epoch)

    def _run(self, epoch: int) -> Iterator[Any]:
        skip, self._skip = self._skip, 0
        batches, self._ahead = self._ahead or self.batches, None
        count = 0
        for count, batch in enumerate(batches, 1):
            if count <= skip:
                continue
            self._batch = count
            yield _tensors(batch)
        if count == 0:
            raise self._nothing(epoch > 0 and iter(self.batches) is self.batches)
        self.epoch, self._batch, self._entered = epoch + 1, 0, False

    def _nothing(self, used_up: bool) -> ValueError:
        return ValueError(
            f"[{self.name}] the iterable gave no batches"
            + ("; a generator gives them once, give a list, a loader or an object whose __iter__ starts anew"
               if used_up else ", expected at least one (x, y)")
        )  # fmt: skip

    def state_dict(self) -> dict[str, int]:
        """Epoch, and batches of it that were handed out."""
        return {"epoch": self.epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration passes over the batches that were handed out."""
        self.epoch, self._batch, self._entered = int(state["epoch"]), int(state["batch"]), False
        self._skip = self._batch


def _behind(batch: Any, begun: Iterator[Any]) -> Iterator[Any]:
    """The batch and those that follow; nobody calls ``iter(begun)``, which may start anew."""
    yield batch
    while True:
        try:
            batch = next(begun)
        except StopIteration:
            return
        yield batch


def _is_one_shot(batches: Any) -> bool:
    """Whether it is sure that there is nothing left behind the last batch; an object of one's own may start anew."""
    standard = isinstance(batches, GeneratorType) or type(batches).__module__ in ("builtins", "itertools")
    return standard and isinstance(batches, Iterator)


def _tensors(batch: Any) -> Any:
    def convert(leaf: Any) -> Any:
        if isinstance(leaf, pydl.Tensor):
            return leaf
        tensor = pydl.asarray(leaf)
        return tensor.astype(pydl.float32) if tensor.dtype == pydl.float64 else tensor

    return map_leaves(convert, batch)
