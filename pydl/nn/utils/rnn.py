"""PyTorch's packed sequences. pydl's own recurrent layers take padded batches with ``lengths=``, which is simpler.

A packed batch holds the steps of all sequences in order of time: first all first steps, longest sequence first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import pydl
from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class _Packed(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any = None
    unsorted_indices: Any = None


class PackedSequence(_Packed):
    """What :func:`pack_padded_sequence` makes and recurrent layers take and return.

    Fields: ``data`` (steps of all sequences, ...), ``batch_sizes`` (T) how many sequences are that long,
    ``sorted_indices`` and ``unsorted_indices`` (B) the order by length and back, or None where it was that order.
    """

    __slots__ = ()

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """With its data converted as by ``Tensor.to``."""
        return self._replace(data=self.data.to(*args, **kwargs))

    def cpu(self) -> PackedSequence:
        """Itself."""
        return self


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences (T_i, ...) of several lengths -> (T, B, ...), or (B, T, ...), filled up with a value.

    >>> import pydl
    >>> pad_sequence([pydl.asarray([1, 2]), pydl.asarray([3])], batch_first=True).tolist()
    [[1, 2], [3, 0]]
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"[pad_sequence] got padding_side {padding_side!r}, expected 'left' or 'right'")
    sequences = list(sequences)
    if not sequences:
        raise ValueError("[pad_sequence] got no sequences, expected one at least")
    longest = max(s.shape[0] for s in sequences)
    rows = []
    for s in sequences:
        missing = (0, longest - s.shape[0]) if padding_side == "right" else (longest - s.shape[0], 0)
        rows.append(pydl.pad(s, [missing] + [(0, 0)] * (s.ndim - 1), padding_value))
    return pydl.stack(rows, axis=0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """Undoes :func:`pad_sequence`."""
    rows = padded_sequences if batch_first else pydl.swap_axes(padded_sequences, 0, 1)
    return [_C.slice(row, 0, 0, int(n)) for row, n in zip(rows, _whole(lengths), strict=True)]


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """A padded batch (T, B, ...), or (B, T, ...), and its lengths -> a packed one.

    Args:
        input: the padded batch.
        lengths: each sequence's number of steps, 1 or more.
        batch_first: whether the batch is the first axis; default False.
        enforce_sorted: refuse lengths that are not in falling order; default True.

    >>> import pydl
    >>> packed = pack_padded_sequence(pydl.asarray([[1, 2], [3, 0]]), [2, 1], batch_first=True)
    >>> packed.data.tolist(), packed.batch_sizes.tolist()
    ([1, 3, 2], [2, 1])
    """
    sizes = _whole(lengths)
    if batch_first:
        input = pydl.swap_axes(input, 0, 1)
    steps, batch = input.shape[:2]
    if sizes.shape != (batch,) or (batch and (sizes.min() < 1 or sizes.max() > steps)):
        raise ValueError(
            f"[pack_padded_sequence] got lengths {sizes.tolist()} for {batch} sequences of {steps} steps, "
            f"expected {batch} numbers from 1 to {steps}"
        )
    order: Any = None
    if enforce_sorted:
        if np.any(sizes[1:] > sizes[:-1]):
            raise ValueError(
                f"[pack_padded_sequence] got lengths {sizes.tolist()}, expected falling ones; "
                "sort the batch by length or give enforce_sorted=False"
            )
        columns = np.arange(batch)
    else:
        columns = np.argsort(-sizes, kind="stable")
        order = pydl.asarray(columns.copy()), pydl.asarray(np.argsort(columns, kind="stable"))
    longest = int(sizes.max()) if batch else 0
    batch_sizes = (sizes[None, :] > np.arange(longest)[:, None]).sum(1)
    places = np.concatenate([t * batch + columns[:n] for t, n in enumerate(batch_sizes)] or [np.zeros(0, np.int64)])
    flat = input.reshape((steps * batch, *input.shape[2:]))
    data = pydl.take(flat, pydl.asarray(places.astype(np.int64)), axis=0)
    return PackedSequence(data, pydl.asarray(batch_sizes.astype(np.int64)), *(order or ()))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """A packed batch -> the padded one, in the order of before packing, and its lengths.

    Args:
        sequence: the packed batch.
        batch_first: (B, T, ...) in place of (T, B, ...); default False.
        padding_value: what stands behind a sequence's end; default 0.
        total_length: T, where it is to be more than the longest length.
    """
    counts = _whole(sequence.batch_sizes)
    longest, batch = len(counts), int(counts[0]) if len(counts) else 0
    steps = longest if total_length is None else total_length
    if steps < longest:
        raise ValueError(f"[pad_packed_sequence] got total_length {steps}, expected {longest} or more")
    lengths = (counts[None, :] > np.arange(batch)[:, None]).sum(1)
    starts = np.concatenate([[0], np.cumsum(counts)])
    rows = np.full((steps, batch), int(starts[-1]))  # one past the data: the padding
    for t, n in enumerate(counts):
        rows[t, :n] = starts[t] + np.arange(n)
    if sequence.unsorted_indices is not None:
        back = _whole(sequence.unsorted_indices)
        rows, lengths = rows[:, back], lengths[back]
    data = sequence.data
    padding = pydl.full((1, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    order = rows.T if batch_first else rows
    flat = pydl.take(pydl.concat([data, padding], axis=0), pydl.asarray(order.reshape(-1).astype(np.int64)), axis=0)
    return flat.reshape((*order.shape, *data.shape[1:])), pydl.asarray(lengths.astype(np.int64))


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (T_i, ...) -> a packed batch."""
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Undoes :func:`pack_sequence`."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences, batch_first=True), batch_first=True)


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes one."""
    return None if permutation is None else pydl.argsort(permutation)


def repacked(sequence: PackedSequence, padded: Tensor) -> PackedSequence:
    """A padded batch (T, B, ...) packed in the order and with the lengths of another packed one."""
    _, lengths = pad_packed_sequence(
        sequence._replace(data=sequence.data[:, :0] if sequence.data.ndim > 1 else sequence.data)
    )
    packed = pack_padded_sequence(padded, lengths, enforce_sorted=sequence.unsorted_indices is None)
    return sequence._replace(data=packed.data)


def _whole(lengths: Any) -> np.ndarray:
    values = lengths.detach().cpu().numpy() if isinstance(lengths, pydl.Tensor) else np.asarray(lengths)
    if values.dtype.kind not in "iu":
        raise TypeError(f"[lengths] got {values.dtype}, expected whole numbers")
    return values.astype(np.int64)
