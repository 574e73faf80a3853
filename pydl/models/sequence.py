"""SequenceModel: what models of ragged sequences share: checked inputs, padding, bucketing, fit, evaluate, files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl import nn
from pydl.data import BucketByLength, DataLoader, pad_collate
from pydl.models.cells import recurrent as recurrent
from pydl.models.cells import recurrent_shapes as recurrent_shapes
from pydl.models.cells import whole
from pydl.models.saved import SavedModel, Vocabulary
from pydl.train.inputs import split_indices
from pydl.train.objective import Objective
from pydl.train.tracking import MetricSet
from pydl.train.trainer import Trainer

if TYPE_CHECKING:
    from pydl import Tensor
    from pydl.train.history import History

Array = npt.NDArray[Any]

_ROWS = 8  # from here on a row's bits do not depend on how many there are


def padded_length(length: int) -> int:
    """The length that a sequence is padded to, from its own alone: the next multiple of 8, and some 12 % more at most.

    >>> [padded_length(length) for length in (1, 8, 9, 64, 65, 100, 1000)]
    [8, 8, 16, 64, 80, 112, 1024]
    """
    step = max(8, 1 << (length - 1).bit_length() >> 3)
    return -(-length // step) * step


def vocabulary_or_size(name: str, what: str, given: Any) -> Vocabulary | int:
    """A vocabulary as it is, a number as an integer. Raises TypeError for anything else, ValueError below 1."""
    if isinstance(given, Vocabulary):
        return given
    if given is None or isinstance(given, (str, bytes, list, tuple, dict, set, float)):
        raise TypeError(
            f"[{name}] got a {type(given).__name__} as {what}, expected a vocabulary, such as"
            " WordVocabulary.from_texts(texts), or a number"
        )
    return whole(name, **{what: given})[0]


def size_of(name: str, what: str, given: Any) -> int | None:
    """A size that may be left out, see `whole`."""
    return None if given is None else whole(name, **{what: given})[0]


class SequenceInput(nn.Module):
    """Padded ids (N, T), or feature vectors (N, T, D), as what a recurrent layer reads: (T, N, E).

    Args:
        inputs: a vocabulary; how many ids there are, with `embedding_size`; or D, the size of feature vectors, without.
        embedding_size: E, numbers that stand for an id; default for a vocabulary `hidden_size`.
        hidden_size: of the recurrent layer.
    """

    def __init__(self, name: str, inputs: Vocabulary | int, embedding_size: int | None, hidden_size: int) -> None:
        super().__init__()
        self.vocabulary = None if isinstance(inputs, int) else inputs
        count = inputs if isinstance(inputs, int) else len(inputs)
        if self.vocabulary is not None and embedding_size is None:
            embedding_size = hidden_size
        self.count = count
        self.embedding = None if embedding_size is None else nn.Embedding(count, embedding_size)
        self.size = count if embedding_size is None else embedding_size

    @staticmethod
    def shapes(
        inputs: Vocabulary | int, embedding_size: int | None, hidden_size: int
    ) -> tuple[int, dict[str, tuple[int, ...]]]:
        """E, and the shapes of the weights, of an input with these arguments."""
        if isinstance(inputs, int) and embedding_size is None:
            return inputs, {}
        count, size = inputs if isinstance(inputs, int) else len(inputs), embedding_size or hidden_size
        return size, {"input.embedding.weight": (count, size)}

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, T) or (N, T, D) -> (T, N, E)."""
        inputs = pydl.swap_axes(inputs, 0, 1)
        return inputs if self.embedding is None else self.embedding(inputs)

    def sequences(self, where: str, x: Any) -> list[Array]:
        """What a user gave as checked arrays, (T_i,) int64 or (T_i, D) float32.

        Raises:
            TypeError: strings without a vocabulary, or something that is no sequence of numbers.
            ValueError: nothing, an empty sequence, an id outside of the vocabulary, a wrong size, NaN; says where.
        """
        if self.embedding is None:
            return _features(where, x, self.count)
        return id_sequences(where, x, self.count, self.vocabulary)


def array_of(where: str, what: str, given: Any) -> Array:
    """Numbers as an array. Raises ValueError where rows have different lengths."""
    try:
        found: Array = given.detach().cpu().numpy() if isinstance(given, pydl.Tensor) else np.asarray(given)
    except ValueError:
        raise ValueError(f"[{where}] {what} has rows of different lengths, expected one array") from None
    return found


def _rows(where: str, x: Any) -> Any:
    if isinstance(x, (str, bytes, dict)) or not (hasattr(x, "__len__") and hasattr(x, "__getitem__")):
        raise TypeError(f"[{where}] got a {type(x).__name__}, expected a list of sequences or an array")
    if len(x) == 0:
        raise ValueError(f"[{where}] got no sequences, expected at least one")
    rows: Any = x.detach().cpu().numpy() if isinstance(x, pydl.Tensor) else x
    return rows


def id_sequences(where: str, x: Any, count: int, vocabulary: Vocabulary | None) -> list[Array]:
    """Strings or sequences of ids as int64 arrays (T_i,), checked; see `SequenceInput.sequences`."""
    found = []
    for i, row in enumerate(_rows(where, x)):
        if isinstance(row, str):
            if vocabulary is None:
                raise TypeError(f"[{where}] sequence {i} is a string, but the model has no vocabulary; give ids")
            try:
                row = vocabulary.encode(row)
            except ValueError as error:
                raise ValueError(f"[{where}] sequence {i}: {error}") from None
        ids = array_of(where, f"sequence {i}", row)
        if ids.size == 0:
            raise ValueError(f"[{where}] sequence {i} is empty, expected one token or more; leave it out")
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise TypeError(f"[{where}] sequence {i} is {ids.dtype} of shape {ids.shape}, expected integers (T,)")
        if int(ids.min()) < 0 or int(ids.max()) >= count:
            outside = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
            raise ValueError(f"[{where}] sequence {i} has the id {outside}, expected 0 <= id < {count}")
        found.append(ids.astype(np.int64))
    return found


def _features(where: str, x: Any, size: int) -> list[Array]:
    found = []
    for i, row in enumerate(_rows(where, x)):
        values = array_of(where, f"sequence {i}", row)
        if values.dtype.kind not in "biuf":
            raise TypeError(f"[{where}] sequence {i} is {values.dtype}, expected numbers of shape (T, {size})")
        if values.ndim != 2 or values.shape[1] != size:
            raise ValueError(f"[{where}] sequence {i} has the shape {values.shape}, expected (T, {size})")
        if len(values) == 0:
            raise ValueError(f"[{where}] sequence {i} is empty, expected one step or more; leave it out")
        with np.errstate(over="ignore"):  # it is told below
            values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"[{where}] sequence {i} has values that are NaN or infinite; remove or replace them")
        found.append(values)
    return found


class Ragged:
    """A dataset of sequences; `collate` makes a batch of the samples of some indices."""

    def __init__(self, columns: tuple[Any, ...], collate: Callable[..., Any]) -> None:
        self.columns = columns
        self.collate = collate
        self.lengths = np.array([len(row) for row in columns[0]], np.int64)

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, index: int) -> Any:
        return tuple(column[index] for column in self.columns)

    def batch(self, indices: npt.NDArray[np.int64]) -> Any:
        """The padded batch."""
        return self.collate(*([column[i] for i in indices] for column in self.columns))

    def subset(self, indices: npt.NDArray[np.int64]) -> Ragged:
        """A dataset of some of the samples."""
        return Ragged(tuple([column[i] for i in indices] for column in self.columns), self.collate)


class SequenceTrainer(Trainer):
    """A trainer whose logits are (N, T, C), or (N, C), also where T = C; targets of -100 count for nothing."""

    def __init__(self, model: nn.Module, loss: Any, metrics: Any, **options: Any) -> None:
        super().__init__(model, loss, **options)
        self.objective = Objective(loss, classes_last=True)
        self.metrics = MetricSet(metrics, self.objective)


class SequenceModel(SavedModel):
    """A module with fit, evaluate, predict, save and load for lists of sequences of different lengths.

    Padding, sorting into batches of about the same length, and masking are done here; losses and metrics count valid
    steps only. A subclass has ``_dataset(where, x, y)`` and ``_config()``, its constructor's arguments.
    """

    def _dataset(self, where: str, x: Any, y: Any) -> Ragged:
        raise NotImplementedError

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        epochs: int = 1,
        *,
        optimizer: Any = "adam",
        lr: float | None = None,
        metrics: Any = ("accuracy",),
        scheduler: Any = None,
        regularizers: Any = None,
        clip_norm: float | None = 1.0,
        ema: float | None = None,
        label_smoothing: float = 0.0,
        validation_data: tuple[Any, Any] | None = None,
        validation_split: float = 0.0,
        seed: int = 0,
        **options: Any,
    ) -> History:
        """Train with cross-entropy, in batches of sequences of about the same length.

        Args:
            x, y: inputs and targets; see the class.
            batch_size, epochs: default 32 and 1.
            optimizer, lr, scheduler, regularizers, ema: as for :class:`pydl.Trainer`. Each call begins with a new
                optimizer.
            metrics: as there; default the accuracy, of steps where there is a target for each.
            clip_norm: bound of the gradients' norm; default 1.
            label_smoothing: of the targets' probability, spread over all classes; default 0.
            validation_data: (x, y) as above.
            validation_split: the share of the sequences that is held back, at random; default 0.
            seed: of the order. Weights and dropout draw from ``pydl.default_generator()``.
            options: of :meth:`pydl.Trainer.fit`: callbacks, verbose, class_weight, checkpoint, resume, ...

        Raises:
            ValueError, TypeError: something is wrong with the data or the arguments; no step was made.
        """
        where = f"{type(self).__name__}.fit"
        (batch_size,) = whole(where, batch_size=batch_size)
        dataset = self._dataset(where, x, y)
        held: Ragged | None = None
        if validation_data is not None:
            if validation_split or not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
                raise ValueError(f"[{where}] expected validation_data (x, y), or validation_split in its place")
            held = self._dataset(f"{where}: validation_data", *validation_data)
        elif validation_split:
            dataset, held = self._split(dataset, validation_split, seed)
        trainer = self._trainer(
            dataset, nn.CrossEntropyLoss(label_smoothing=label_smoothing), metrics, optimizer=optimizer, lr=lr,
            scheduler=scheduler, regularizers=regularizers, clip_norm=clip_norm, ema=ema, seed=seed,
        )  # fmt: skip
        loader = self._shuffled(dataset, batch_size, seed)
        if held is not None:
            options["validation_data"] = self._in_order(held, batch_size)
        return trainer.fit(loader, epochs=epochs, **options)

    def _trainer(self, dataset: Any, loss: Any, metrics: Any, **options: Any) -> Trainer:
        return SequenceTrainer(self, loss, metrics, **options)

    def _split(self, dataset: Any, share: float, seed: int) -> tuple[Any, Any]:
        """What is trained on, and what is held back."""
        kept, chosen = split_indices("fit", len(dataset), share, "random", None, False, seed)
        return dataset.subset(kept), dataset.subset(chosen)

    def _shuffled(self, dataset: Any, batch_size: int, seed: int) -> DataLoader:
        sampler = BucketByLength(dataset.lengths, batch_size, shuffle=True)
        return DataLoader(dataset, batch_sampler=sampler, seed=seed)

    def _in_order(self, dataset: Any, batch_size: int) -> DataLoader:
        return DataLoader(dataset, batch_sampler=BucketByLength(dataset.lengths, batch_size, shuffle=False))

    def evaluate(self, x: Any, y: Any, batch_size: int = 128, *, metrics: Any = ("accuracy",)) -> dict[str, float]:
        """The mean loss (cross-entropy in nats) and metrics, over all valid steps, in evaluation mode."""
        where = f"{type(self).__name__}.evaluate"
        (batch_size,) = whole(where, batch_size=batch_size)
        dataset = self._dataset(where, x, y)
        trainer = self._trainer(dataset, nn.CrossEntropyLoss(), metrics, optimizer="sgd", lr=0.0)
        found: dict[str, float] = trainer.evaluate(self._in_order(dataset, batch_size))
        return found

    def _sums_over_steps(self) -> bool:
        """Whether it adds up over all steps, padding too: zeros, but how many decides how the sum is rounded."""
        return False

    def _outputs(
        self, x: list[Array], batch_size: int, ask: Callable[[Tensor, Tensor, Array], Sequence[Any]]
    ) -> list[Any]:
        """``ask(padded, lengths, places)`` of all batches, in the order of x; in evaluation mode, without gradients."""
        (batch_size,) = whole(f"{type(self).__name__}.predict", batch_size=batch_size)
        self.eval()
        sizes = np.array([len(row) for row in x])
        if apart := self._sums_over_steps():
            sizes = np.array([padded_length(size) for size in sizes.tolist()])
        order = np.argsort(sizes, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(sizes[order])) + 1) if apart else [order]
        results: list[Any] = [None] * len(x)
        with pydl.no_grad():
            for places in (group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)):
                # Products of few rows take another way with other rounding: a few sequences get copies as company.
                rows = np.resize(places, max(len(places), _ROWS))
                padded, lengths = pad_collate([x[i] for i in rows], multiple_of=int(sizes[places[-1]]))
                for i, result in zip(places, ask(padded, lengths, rows)):
                    results[i] = result
        return results
