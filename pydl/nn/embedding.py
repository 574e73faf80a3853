"""Vectors for whole numbers: rows of a trained table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl.nn import functional as F
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["Embedding"]


class Embedding(Module):
    """Row lookup: the same result as one-hot vectors times ``weight``, without the multiplication.

    Args:
        num_embeddings: number of rows, V.
        embedding_dim: size of a row, E.
        padding_idx: a row that starts as zeros and gets no gradient; negative counts from the end; default None.
        max_norm: rows looked up in ``forward`` are first scaled down in place to at most this norm; default None.
        norm_type: which p-norm ``max_norm`` means; default 2.
        scale_grad_by_freq: divide each row's gradient by how often the row occurs in the batch; default False.
        sparse: must be False; gradients here are dense.
        device, dtype: of the table; default CPU and float32.

    Shapes:
        input (...) of integers in [0, V) -> output (..., E); ``weight`` (V, E), which starts as N(0, 1).

    Raises:
        IndexError: a number outside [0, V).
        TypeError: input of floating dtype.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Embedding(65, 16)(pydl.asarray([[1, 2, 4], [4, 3, 64]])).shape
    (2, 3, 16)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if sparse:
            raise ValueError("[Embedding] got sparse=True, expected False: gradients are dense here")
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(f"[Embedding] got padding_idx {padding_idx}, expected one of {num_embeddings} rows")
            padding_idx %= num_embeddings
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        if _weight is None:
            self.weight = new_parameter((num_embeddings, embedding_dim), device, dtype)
            self.reset_parameters()
        elif tuple(_weight.shape) != (num_embeddings, embedding_dim):
            shape = (num_embeddings, embedding_dim)
            raise ValueError(f"[Embedding] got weight of shape {tuple(_weight.shape)}, expected {shape}")
        else:
            self.weight = Parameter(_weight, requires_grad=not _freeze)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """An embedding with a given table (V, E), shared and not copied; by default it is not trained further."""
        if embeddings.ndim != 2:
            raise ValueError(f"[Embedding] got a table of shape {tuple(embeddings.shape)}, expected two axes (V, E)")
        rows, size = embeddings.shape
        return cls(rows, size, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze)

    def reset_parameters(self) -> None:
        """Draw new rows from N(0, 1); the padding row becomes zeros."""
        with pydl.no_grad():
            self.weight.normal_(0.0, 1.0)
            if self.padding_idx is not None:
                self.weight[self.padding_idx] = 0.0

    def forward(self, input: Tensor) -> Tensor:
        """(...) -> (..., E)."""
        if self.max_norm is None and not self.scale_grad_by_freq:
            return F.embedding(input, self.weight, self.padding_idx)
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq:
            text += ", scale_grad_by_freq=True"
        return text
