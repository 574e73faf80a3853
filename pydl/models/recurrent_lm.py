"""RecurrentLM: what language models share, whatever their tokens are: the network, its logits and its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import nn
from pydl.models.cells import recurrent, recurrent_shapes, whole
from pydl.nn import functional as F

if TYPE_CHECKING:
    from pydl import Tensor

    State = Tensor | tuple[Tensor, Tensor]

__all__ = ["RecurrentLM", "lm_shapes"]


class RecurrentLM(nn.Module):
    """Embedding -> RNN, LSTM or GRU -> linear layer: one logit for each token that may come next.

    Dropout, where asked for, lies on the output of every recurrent layer, as in Zaremba et al., arXiv:1409.2329 (2014).

    Args:
        name: of the model, for messages.
        size: V, different tokens.
        cell, hidden_size, num_layers, embedding_size, dropout: as in `CharLM`.
    """

    def __init__(
        self,
        name: str,
        size: int,
        *,
        cell: str,
        hidden_size: int,
        num_layers: int,
        embedding_size: int | None,
        dropout: float,
    ) -> None:
        super().__init__()
        embedding_size = hidden_size if embedding_size is None else embedding_size
        hidden_size, num_layers, embedding_size = whole(
            name, hidden_size=hidden_size, num_layers=num_layers, embedding_size=embedding_size
        )
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.embedding_size = embedding_size
        self.embedding = nn.Embedding(size, self.embedding_size)
        self.rnn = recurrent(name, cell, self.embedding_size, hidden_size, num_layers, dropout, bidirectional=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, size)

    def _hidden(self, inputs: Tensor, state: State | None, lengths: Any) -> tuple[Tensor, State]:
        """The last layer's outputs, time-major: (B, T) -> (T, B, H). The kernels like time-major best."""
        embedded = self.embedding(pydl.permute_dims(inputs, (1, 0)))
        hidden, state = self.rnn(embedded, state, lengths=lengths)
        return self.dropout(hidden), state

    def forward(self, inputs: Tensor, state: State | None = None, lengths: Any = None) -> tuple[Tensor, State]:
        """The logits of each next token.

        Args:
            inputs: ids, integers of shape (B, T).
            state: where the network stands, as the last call returned it: (L, B, H), for "lstm" a pair; default zeros.
            lengths: (B,), how many tokens of each row count; default all T.

        Returns:
            The logits (B, T, V) and the state after the last token.
        """
        hidden, state = self._hidden(inputs, state, lengths)
        return pydl.permute_dims(self.output(hidden), (1, 0, 2)), state

    def loss(self, inputs: Tensor, targets: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The mean cross-entropy of the targets in nats, and the state after the last token.

        Args:
            inputs: ids, integers of shape (B, T).
            targets: the ids that come next, shape (B, T); -100 counts for nothing.
            state: as in `forward`.
        """
        hidden, state = self._hidden(inputs, state, None)
        logits = self.output(hidden)
        flat = logits.reshape((-1, logits.shape[-1]))
        return F.cross_entropy(flat, pydl.permute_dims(targets, (1, 0)).reshape((-1,))), state


def lm_shapes(size: int, cell: str, embedding_size: int, hidden_size: int, num_layers: int) -> dict[str, Any]:
    """Name -> shape of the weights of a RecurrentLM, biases left out. Raises ValueError for an unknown cell."""
    layers = recurrent_shapes("rnn", cell, embedding_size, hidden_size, num_layers)
    return {"embedding.weight": (size, embedding_size), **layers, "output.weight": (size, hidden_size)}
