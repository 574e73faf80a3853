"""Text as windows of characters and what follows each; for stateful training see pydl.text.ChunkStream."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from pydl._interop import to_tensor
from pydl._tensor import Tensor
from pydl.data.dataset import Dataset, check_index
from pydl.text import CharVocabulary, read_texts

__all__ = ["TextDataset"]


class TextDataset(Dataset):
    """Windows of a text: ``(inputs, targets)`` of shape (T,), int64, where the targets are the inputs shifted by one.

    Args:
        text: the text, or its ids, integers of shape (N,).
        seq_length: T, characters in a window. Default 64.
        stride: characters from one window to the next. Default T: windows that do not overlap.
        vocabulary: default: of the characters that the text has. Give the training text's for other texts.

    Raises:
        ValueError: a text shorter than one window and its target, or a character that the vocabulary lacks.
        TypeError: no text and no integers.

    >>> data = TextDataset("hello world", 4)
    >>> [data.vocabulary.decode(part) for part in data[1]]
    ['o wo', ' wor']
    """

    def __init__(
        self,
        text: str | npt.ArrayLike,
        seq_length: int = 64,
        *,
        stride: int | None = None,
        vocabulary: CharVocabulary | None = None,
    ) -> None:
        if isinstance(text, str):
            if vocabulary is None and text:
                vocabulary = CharVocabulary.from_text(text)
            ids: npt.NDArray[Any] = vocabulary.encode(text, vocabulary.dtype) if vocabulary else np.empty(0, np.int64)
        else:
            ids = np.asarray(text)
            if ids.ndim != 1 or ids.dtype.kind not in "iu":
                raise TypeError(
                    f"[TextDataset] got {ids.dtype} of shape {ids.shape}, expected a text or its ids, integers of (N,)"
                )
        stride = seq_length if stride is None else stride
        if seq_length < 1 or stride < 1:
            raise ValueError(f"[TextDataset] got seq_length {seq_length}, stride {stride}, expected 1 or more")
        if len(ids) < seq_length + 1:
            raise ValueError(
                f"[TextDataset] got a text of {len(ids)} characters, expected at least {seq_length + 1}: one window and"
                " its last target; use a longer text or shorter windows"
            )
        self.ids = ids
        self.seq_length = int(seq_length)
        self.stride = int(stride)
        self.vocabulary: Any = vocabulary

    @classmethod
    def from_files(
        cls, paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str], seq_length: int = 64, **options: Any
    ) -> TextDataset:
        """Of text files, or of all text files in folders; see pydl.text.read_texts."""
        several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        return cls(read_texts(several).text, seq_length, **options)

    def __len__(self) -> int:
        return (len(self.ids) - self.seq_length - 1) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        start = check_index("TextDataset", index, len(self)) * self.stride
        window = self.ids[start : start + self.seq_length + 1].astype(np.int64)
        return window[:-1], window[1:]

    def batch(self, indices: Any) -> tuple[Tensor, Tensor]:
        """The windows of these indices, (N, T) each."""
        starts = np.asarray(indices)[:, None] * self.stride
        windows = self.ids[starts + np.arange(self.seq_length + 1)].astype(np.int64)
        return tuple(to_tensor(np.ascontiguousarray(w), None, None) for w in (windows[:, :-1], windows[:, 1:]))  # type: ignore[return-value]
