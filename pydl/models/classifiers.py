"""SequenceClassifier, one class for a sequence, and SequenceTagger, one for each of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl import nn
from pydl.data import pad_collate
from pydl.models.cells import class_count, recurrent, recurrent_shapes, whole
from pydl.models.sequence import (
    Array,
    Ragged,
    SequenceInput,
    SequenceModel,
    Vocabulary,
    array_of,
    size_of,
    vocabulary_or_size,
)
from pydl.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor

__all__ = ["SequenceClassifier", "SequenceTagger"]


class _Labeller(SequenceModel):
    """Input -> recurrent layers -> linear layer over the classes."""

    def __init__(
        self,
        inputs: Vocabulary | int,
        classes: int,
        *,
        embedding_size: int | None,
        cell: str,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        classes, inputs = class_count(name, classes), vocabulary_or_size(name, "inputs", inputs)
        hidden_size, num_layers = whole(name, hidden_size=hidden_size, num_layers=num_layers)
        embedding_size = size_of(name, "embedding_size", embedding_size)
        self.classes = classes
        self._arguments = {
            "inputs": inputs, "classes": classes, "embedding_size": embedding_size, "cell": cell,
            "hidden_size": hidden_size, "num_layers": num_layers, "bidirectional": bidirectional, "dropout": dropout,
        }  # fmt: skip
        self.input = SequenceInput(name, inputs, embedding_size, hidden_size)
        self.rnn = recurrent(name, cell, self.input.size, hidden_size, num_layers, dropout, bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size * (2 if bidirectional else 1), classes)

    def _config(self) -> dict[str, Any]:
        return dict(self._arguments)

    @classmethod
    def _shapes(cls, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        hidden, both = config["hidden_size"], config["bidirectional"]
        size, shapes = SequenceInput.shapes(config["inputs"], config["embedding_size"], hidden)
        layers = recurrent_shapes("rnn", config["cell"], size, hidden, config["num_layers"], both)
        return {**shapes, **layers, "output.weight": (config["classes"], hidden * (2 if both else 1))}

    def _check_classes(self, where: str, y: Array, row: int | None = None) -> None:
        wrong = (y < 0) | (y >= self.classes)
        if wrong.any():
            place = int(wrong.argmax())
            at = f"row {place}" if row is None else f"row {row}, step {place}"
            raise ValueError(f"[{where}] y has the class {y[place]} in {at}, expected 0 to {self.classes - 1}")


class SequenceClassifier(_Labeller):
    """One class for a whole sequence (many-to-one): recurrent layers, one vector from their outputs, a linear layer.

    Args:
        inputs: a vocabulary (x are strings or ids), a number of ids together with `embedding_size`, or the size D of
            feature vectors.
        classes: C, at least 2.
        pooling: ``"last"`` (default): the state after the last valid step, of both directions where there are two;
            ``"mean"`` or ``"max"`` of the outputs at all valid steps.
        embedding_size: numbers that stand for an id; default `hidden_size` where there is a vocabulary.
        cell: ``"lstm"`` (default), ``"gru"`` or ``"rnn"``.
        hidden_size, num_layers: H and L; default 128 and 1.
        bidirectional: default False.
        dropout: between layers and before the linear one; default 0.

    ``fit(x, y)`` takes N sequences, strings, (T_i,) ids or (T_i, D) features, and N class numbers.

    Raises:
        ValueError: an unknown cell or pooling, a size that is not positive.

    Example:
        >>> _ = pydl.manual_seed(0)
        >>> x = [np.full((length, 1), sign) for length in (2, 3, 5) for sign in (-1.0, 1.0)] * 4
        >>> y = [0, 1] * 12
        >>> model = SequenceClassifier(1, 2, hidden_size=8)
        >>> _ = model.fit(x, y, batch_size=8, epochs=20, lr=0.03, verbose=0)
        >>> model.predict([np.ones((4, 1)), -np.ones((2, 1))])
        array([1, 0])
    """

    def __init__(
        self,
        inputs: Vocabulary | int,
        classes: int,
        *,
        pooling: str = "last",
        embedding_size: int | None = None,
        cell: str = "lstm",
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            inputs, classes, embedding_size=embedding_size, cell=cell, hidden_size=hidden_size,
            num_layers=num_layers, bidirectional=bidirectional, dropout=dropout,
        )  # fmt: skip
        if pooling not in ("last", "mean", "max"):
            raise ValueError(f"[SequenceClassifier] got pooling {pooling!r}, expected 'last', 'mean' or 'max'")
        self.pooling = pooling

    def _config(self) -> dict[str, Any]:
        return {**self._arguments, "pooling": self.pooling}

    def forward(self, inputs: Tensor, lengths: Any = None) -> Tensor:
        """Padded ids (N, T) or features (N, T, D), and lengths (N,), default all T -> logits (N, C)."""
        outputs, state = self.rnn(self.input(inputs), lengths=lengths)  # (T, N, H), zeros behind the end
        if self.pooling == "last":
            h = state[0] if isinstance(state, tuple) else state
            pooled = pydl.concat([h[-2], h[-1]], axis=1) if self.rnn.bidirectional else h[-1]
        elif self.pooling == "mean":
            total = pydl.swap_axes(outputs, 0, 1).contiguous().sum(axis=1)  # in an order that N does not change
            counts = outputs.shape[0] if lengths is None else _column(lengths, total.dtype)
            pooled = total / counts
        else:
            if lengths is not None:
                steps = pydl.arange(outputs.shape[0]).reshape((-1, 1, 1))
                inside = steps < pydl.asarray(lengths).reshape((1, -1, 1))
                outputs = pydl.where(inside, outputs, -2.0)  # below every output of a cell: they lie in -1..1
            pooled = pydl.max(outputs, axis=0)
        return self.output(self.dropout(pooled))

    def _dataset(self, where: str, x: Any, y: Any) -> Ragged:
        rows = self.input.sequences(where, x)
        labels = class_numbers(where, y, len(rows))
        self._check_classes(where, labels)
        return Ragged((rows, labels.astype(np.int64)), _with_labels)

    def _sums_over_steps(self) -> bool:
        return self.pooling == "mean"

    def predict_probabilities(self, x: Any, batch_size: int = 128) -> npt.NDArray[np.float32]:
        """The probabilities of the classes, (N, C)."""
        rows = self.input.sequences("SequenceClassifier.predict", x)

        def ask(padded: Tensor, lengths: Tensor, _: Array) -> Any:
            return F.softmax(self(padded, lengths), axis=-1).cpu().numpy()

        return np.stack(self._outputs(rows, batch_size, ask))

    def predict(self, x: Any, batch_size: int = 128) -> npt.NDArray[np.int64]:
        """The most probable class of each sequence, (N,)."""
        return self.predict_probabilities(x, batch_size).argmax(axis=1)


class SequenceTagger(_Labeller):
    """One class for each step of a sequence (many-to-many, aligned): recurrent layers and a linear one at every step.

    Args:
        inputs, classes, embedding_size, cell, hidden_size, num_layers, dropout: as in :class:`SequenceClassifier`.
        bidirectional: whether a step's class may depend on what comes behind it; default True.

    ``fit(x, y)`` takes N sequences and N rows of class numbers of the same lengths; -100 leaves a step out.

    Example:
        >>> _ = pydl.manual_seed(0)
        >>> x = [np.random.default_rng(i).integers(0, 2, 3 + i % 5) for i in range(64)]
        >>> y = [row[::-1] for row in x]
        >>> model = SequenceTagger(2, 2, embedding_size=4, hidden_size=16)
        >>> _ = model.fit(x, [np.cumsum(row) % 2 for row in x], batch_size=8, epochs=40, lr=0.02, verbose=0)
        >>> model.predict([[1, 0, 1], [1, 1, 1, 0]])
        [array([1, 1, 0]), array([1, 0, 1, 1])]
    """

    def __init__(
        self,
        inputs: Vocabulary | int,
        classes: int,
        *,
        embedding_size: int | None = None,
        cell: str = "lstm",
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            inputs, classes, embedding_size=embedding_size, cell=cell, hidden_size=hidden_size,
            num_layers=num_layers, bidirectional=bidirectional, dropout=dropout,
        )  # fmt: skip

    def forward(self, inputs: Tensor, lengths: Any = None) -> Tensor:
        """Padded ids (N, T) or features (N, T, D), and lengths (N,), default all T -> logits (N, T, C)."""
        outputs, _ = self.rnn(self.input(inputs), lengths=lengths)
        return pydl.swap_axes(self.output(self.dropout(outputs)), 0, 1)

    def _dataset(self, where: str, x: Any, y: Any) -> Ragged:
        rows = self.input.sequences(where, x)
        if not hasattr(y, "__len__") or len(y) != len(rows):
            got = f"{len(y)} rows" if hasattr(y, "__len__") else f"a {type(y).__name__}"
            raise ValueError(f"[{where}] got {got} as y, expected {len(rows)} rows of class numbers, as many as in x")
        tags = []
        for i, row in enumerate(y):
            tag = array_of(where, f"row {i} of y", row)
            if tag.dtype.kind not in "iu" or tag.shape != (len(rows[i]),):
                raise ValueError(
                    f"[{where}] row {i} of y is {tag.dtype} of shape {tag.shape}, expected a class number for each of"
                    f" the {len(rows[i])} steps"
                )
            tag = tag.astype(np.int64)
            self._check_classes(where, np.where(tag == -100, 0, tag), i)
            tags.append(tag)
        return Ragged((rows, tags), _with_tags)

    def predict_probabilities(self, x: Any, batch_size: int = 128) -> list[npt.NDArray[np.float32]]:
        """The probabilities of the classes at each step, N arrays (T_i, C)."""
        rows = self.input.sequences("SequenceTagger.predict", x)

        def ask(padded: Tensor, lengths: Tensor, places: Array) -> Any:
            probabilities = F.softmax(self(padded, lengths), axis=-1).cpu().numpy()
            return [each[: len(rows[i])] for each, i in zip(probabilities, places)]

        return self._outputs(rows, batch_size, ask)

    def predict(self, x: Any, batch_size: int = 128) -> list[npt.NDArray[np.int64]]:
        """The most probable class of each step, N arrays (T_i,)."""
        return [each.argmax(axis=1) for each in self.predict_probabilities(x, batch_size)]


def class_numbers(where: str, y: Any, count: int) -> Array:
    """What a user gave as class numbers, seen to be so many integers.

    Raises:
        ValueError: they are something else; says how to make numbers of what people have in their place.
    """
    if y is None:
        raise ValueError(f"[{where}] got no y, expected {count} class numbers")
    labels = array_of(where, "y", y)
    if labels.shape == (count,) and labels.dtype.kind in "iu":
        return labels
    way = ""
    if labels.shape == (count,) and labels.dtype.kind in "US":
        way = "; names, y = np.unique(names, return_inverse=True) numbers them"
    elif labels.shape == (count,) and labels.dtype.kind in "bf":
        way = "; if they are whole numbers, y.astype(int)"
    elif labels.ndim == 2 and len(labels) == count:
        way = "; of rows with a 1 for the class, y.argmax(axis=1)"
    raise ValueError(f"[{where}] got y of {labels.dtype} and shape {labels.shape}, expected {count} class numbers{way}")


def _column(lengths: Any, dtype: Any) -> Tensor:
    return pydl.asarray(lengths).astype(dtype).reshape((-1, 1))


def _with_labels(rows: list[Array], labels: list[Any]) -> Any:
    return pad_collate(rows), pydl.asarray(np.array(labels, np.int64))


def _with_tags(rows: list[Array], tags: list[Array]) -> Any:
    return pad_collate(rows), pad_collate(tags, padding_value=-100)[0]
