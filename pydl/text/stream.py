"""ChunkStream: a long text as a row of (batch, chunk) windows for truncated backpropagation through time.

The text is cut into `batch_size` rows of equal length, and all rows are walked along together, `seq_length` characters
at a time. Row b of chunk k goes on where row b of chunk k-1 ended, so a recurrent state can be carried along:

    text  "to be or not to be"     rows  "to be or"     chunks of 4  "to b" | "e or"
                                         " not to "                  " not" | " to "
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Chunk(NamedTuple):
    """One window: the inputs, and the targets, which are the inputs shifted by one."""

    inputs: npt.NDArray[np.int64]  # (B, T)
    targets: npt.NDArray[np.int64]  # (B, T)


class ChunkStream:
    """The windows of one text, in order, with a position that can be saved.

    Iterating goes from the current position to the end of the pass over the text, then sets the position back to 0 and
    counts the pass in `epoch`. An iteration that is broken off goes on at the next chunk; nothing is read ahead.

    Args:
        ids: the encoded text, integers of any dtype, shape (N,).
        batch_size: rows, B.
        seq_length: characters in a chunk, T.
        drop_last: leave out a last chunk shorter than T (training); False keeps it (evaluation).

    Raises:
        ValueError: the text is shorter than one chunk.

    Example:
        >>> stream = ChunkStream(np.arange(10), batch_size=2, seq_length=2)
        >>> [chunk.inputs.tolist() for chunk in stream]
        [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
        >>> stream.epoch, stream.position
        (1, 0)
    """

    def __init__(
        self, ids: npt.NDArray[np.integer], batch_size: int, seq_length: int, *, drop_last: bool = True
    ) -> None:
        ids = np.asarray(ids)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise TypeError(
                f"[ChunkStream] got ids of {ids.dtype} and shape {ids.shape}, expected integers of shape (N,)"
            )
        if batch_size < 1 or seq_length < 1:
            raise ValueError(f"[ChunkStream] got batch_size {batch_size}, seq_length {seq_length}, expected 1 or more")
        row_length = (ids.size - 1) // batch_size  # one character more is the last target
        if row_length < (seq_length if drop_last else 1):
            needed = batch_size * (seq_length if drop_last else 1) + 1
            raise ValueError(
                f"[ChunkStream] got a text of {ids.size} characters, expected at least {needed}: one chunk of"
                f" {batch_size} rows of {seq_length if drop_last else 1} and the last target;"
                " use a longer text, a smaller batch or shorter chunks"
            )
        used = row_length * batch_size
        self.batch_size = batch_size
        self.seq_length = seq_length
        self.epoch = 0
        self.position = 0
        self._inputs = ids[:used].reshape(batch_size, row_length)
        self._targets = ids[1 : used + 1].reshape(batch_size, row_length)
        self._chunks = row_length // seq_length if drop_last else -(-row_length // seq_length)

    def __len__(self) -> int:
        """Chunks in one pass over the text."""
        return self._chunks

    def __getitem__(self, index: int) -> Chunk:
        """Chunk `index` of the pass."""
        if not 0 <= index < self._chunks:
            raise IndexError(f"[ChunkStream] got chunk {index}, expected 0 <= chunk < {self._chunks}")
        window = slice(index * self.seq_length, (index + 1) * self.seq_length)
        return Chunk(self._inputs[:, window].astype(np.int64), self._targets[:, window].astype(np.int64))

    def __next__(self) -> Chunk:
        """The chunk at the position, which moves on by one; after the last comes the first of the next pass."""
        chunk = self[self.position]
        self.position += 1
        if self.position == self._chunks:
            self.position = 0
            self.epoch += 1
        return chunk

    def __iter__(self) -> Iterator[Chunk]:
        epoch = self.epoch
        while self.epoch == epoch:
            yield next(self)

    def state_dict(self) -> dict[str, int]:
        """The position, to be saved."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes to a saved position.

        Raises:
            ValueError: the position lies outside this text.
        """
        epoch, position = int(state["epoch"]), int(state["position"])
        if epoch < 0 or not 0 <= position < self._chunks:
            raise ValueError(
                f"[ChunkStream] got epoch {epoch}, position {position}, expected 0 <= position < {self._chunks};"
                " the state belongs to another text or another size of chunk"
            )
        self.epoch, self.position = epoch, position


def split_tail(
    ids: npt.NDArray[np.integer], fraction: float
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """Splits a text into what is trained on and its last `fraction`, held back for validation. Both are views.

    Raises:
        ValueError: the fraction is not in [0, 1).

    Example:
        >>> [part.tolist() for part in split_tail(np.arange(5), 0.2)]
        [[0, 1, 2, 3], [4]]
    """
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"[split_tail] got the fraction {fraction}, expected 0 <= fraction < 1")
    held_back = int(ids.size * fraction)
    return ids[: ids.size - held_back], ids[ids.size - held_back :]
