"""Vectors for whole numbers: rows of a trained table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl.nn import functional as F
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pydl import Tensor
    from pydl.nn.arguments import AttachedToRows

__all__ = ["Embedding", "EmbeddingBag"]


class Embedding(Module):
    """Row lookup: the same result as one-hot vectors times ``weight``, without the multiplication.

    Args:
        num_embeddings: number of rows, V.
        embedding_dim: size of a row, E.
        padding_idx: a row that starts as zeros and gets no gradient; negative counts from the end; default None.
        max_norm: rows looked up in ``forward`` are first scaled down in place to at most this norm, in evaluation too;
            default None.
        norm_type: which p-norm ``max_norm`` means; default 2.
        scale_grad_by_freq: divide each row's gradient by how often the row occurs in the batch; default False.
        sparse: the gradient of ``weight`` costs what the rows looked up cost, not what the table costs; default False.
            Its shape and values stay the same, but it knows which rows it touches. What makes use of that: adding
            gradients up, ``SGD`` without momentum and decay, and every optimizer with ``lazy_rows=True``, as
            ``SparseAdam`` has. Anything else sees plain zeros in the other rows.
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

    weight: Parameter

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
        **attached: Unpack[AttachedToRows],
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = _row(self, padding_idx)
        self.max_norm = _positive(self, max_norm)
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        _make_table(self, _weight, _freeze, device, dtype)

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
        rows, size = _table_shape(cls, embeddings)
        return cls(rows, size, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze)

    def reset_parameters(self) -> None:
        """Draw new rows from N(0, 1); the padding row becomes zeros."""
        _draw_table(self)

    def forward(self, input: Tensor) -> Tensor:
        """(...) -> (..., E)."""
        if self.max_norm is None and not self.scale_grad_by_freq:
            return F.embedding(input, self.weight, self.padding_idx, sparse=self.sparse)
        limits = self.max_norm, self.norm_type, self.scale_grad_by_freq
        return F.embedding(input, self.weight, self.padding_idx, *limits, self.sparse)

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
        if self.sparse:
            text += ", sparse=True"
        return text


class EmbeddingBag(Module):
    """Sums, means or maxima of the rows of a bag of numbers, such as the words of a text whatever their order.

    Args:
        num_embeddings, embedding_dim, max_norm, norm_type, scale_grad_by_freq, sparse: as in :class:`Embedding`.
        mode: ``"mean"`` (default), ``"sum"`` or ``"max"``; an empty bag gives zeros.
        include_last_offset: the last offset is the end of the last bag and begins none; default False.
        padding_idx: a row that counts for nothing and gets no gradient; default None.
        device, dtype: of the table; default CPU and float32.

    Shapes:
        input (B, N), each row a bag, or (N) with ``offsets`` (B), the place where each bag begins -> (B, E).
        ``per_sample_weights``, shaped as the input, multiply the rows; only with ``mode="sum"``.

    Raises:
        ValueError: offsets that do not ascend from 0; arguments that do not go together.
        IndexError: a number outside [0, V).

    >>> import pydl
    >>> from pydl import nn
    >>> bag = nn.EmbeddingBag.from_pretrained(pydl.asarray([[1.0], [10.0], [100.0]]), mode="sum")
    >>> bag(pydl.asarray([0, 1, 2]), pydl.asarray([0, 2])).numpy().tolist()
    [[11.0], [100.0]]
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
        _freeze: bool = False,
        **attached: Unpack[AttachedToRows],
    ) -> None:
        super().__init__()
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f"[EmbeddingBag] got mode {mode!r}, expected 'sum', 'mean' or 'max'")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.max_norm = _positive(self, max_norm)
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.mode = mode
        self.sparse = sparse
        self.include_last_offset = include_last_offset
        self.padding_idx = _row(self, padding_idx)
        _make_table(self, _weight, _freeze, device, dtype)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """Bags of a given table (V, E), shared and not copied; by default it is not trained further."""
        rows, size = _table_shape(cls, embeddings)
        return cls(
            rows,
            size,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            embeddings,
            include_last_offset,
            padding_idx,
            _freeze=freeze,
        )

    def reset_parameters(self) -> None:
        """Draw new rows from N(0, 1); the padding row becomes zeros."""
        _draw_table(self)

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """(B, N), or (N) with offsets (B) -> (B, E)."""
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq:
            text += f", scale_grad_by_freq={self.scale_grad_by_freq}"
        if self.sparse:
            text += ", sparse=True"
        text += f", mode={self.mode!r}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        return text


def _positive(table: Embedding | EmbeddingBag, max_norm: float | None) -> float | None:
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"[{type(table).__name__}] got max_norm {max_norm}, expected more than 0, or None")
    return max_norm


def _row(table: Embedding | EmbeddingBag, padding_idx: int | None) -> int | None:
    if padding_idx is None:
        return None
    rows = table.num_embeddings
    if not -rows <= padding_idx < rows:
        raise ValueError(f"[{type(table).__name__}] got padding_idx {padding_idx}, expected one of {rows} rows")
    return padding_idx % rows


def _table_shape(cls: type[Module], embeddings: Tensor) -> tuple[int, int]:
    if embeddings.ndim != 2:
        raise ValueError(f"[{cls.__name__}] got a table of shape {tuple(embeddings.shape)}, expected two axes (V, E)")
    rows, size = embeddings.shape
    return rows, size


def _make_table(table: Embedding | EmbeddingBag, weight: Tensor | None, freeze: bool, device: Any, dtype: Any) -> None:
    shape = (table.num_embeddings, table.embedding_dim)
    if weight is None:
        table.weight = new_parameter(shape, device, dtype)
        table.reset_parameters()
    elif tuple(weight.shape) != shape:
        raise ValueError(f"[{type(table).__name__}] got weight of shape {tuple(weight.shape)}, expected {shape}")
    else:
        table.weight = Parameter(weight, requires_grad=not freeze)


def _draw_table(table: Embedding | EmbeddingBag) -> None:
    with pydl.no_grad():
        table.weight.normal_(0.0, 1.0)
        if table.padding_idx is not None:
            table.weight[table.padding_idx] = 0.0
