"""Seq2Seq: an encoder and a decoder with weights of their own, with or without attention between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import nn
from pydl.data import pad_collate
from pydl.models.cells import recurrent, recurrent_shapes, whole
from pydl.models.sequence import Array, SequenceInput, Vocabulary, size_of, vocabulary_or_size
from pydl.models.writer import DecoderState, Memory, SequenceWriter
from pydl.text.tokens import TokenVocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor

__all__ = ["Seq2Seq"]


class Seq2Seq(SequenceWriter):
    """From one sequence to another of its own length (many-to-many): encoder, decoder, and attention between them.

    The encoder reads the source; its last state, through a linear layer and tanh where its shape differs, is the
    decoder's first; how the decoder writes is told in :class:`SequenceWriter`. Sutskever et al., arXiv:1409.3215; Cho
    et al., arXiv:1406.1078.

    ``fit(x, y)`` takes N sources, strings, (S_i,) ids or (S_i, D) features, and N targets, strings or (T_i,) ids.

    Args:
        source: a vocabulary (x are strings or ids), a number of ids together with `embedding_size`, or the size D of
            feature vectors.
        target: a vocabulary with start and stop tokens, such as WordVocabulary, or a number of ids V, of which 1 is
            start and 2 is stop.
        attention: ``"dot"``, ``"additive"`` or None (default).
        embedding_size: numbers that stand for an id; default `hidden_size` (for source ids: where there is a
            vocabulary).
        cell: ``"lstm"``, ``"gru"`` (default) or ``"rnn"``.
        hidden_size, num_layers: H and L of both; default 128 and 1.
        bidirectional: whether the encoder reads both ways; default True.
        dropout: between layers and before the linear one; default 0.

    Attributes:
        teacher_forcing: the probability, in training, that the decoder reads the true token and not its own most
            probable one (scheduled sampling, Bengio et al., arXiv:1506.03099); 1 by itself. See `fit`.

    Example:
        >>> _ = pydl.manual_seed(0)
        >>> import numpy as np
        >>> random = np.random.default_rng(0)
        >>> x = [random.integers(3, 6, random.integers(1, 4)) for _ in range(300)]
        >>> model = Seq2Seq(6, 6, attention="dot", embedding_size=8, hidden_size=32)
        >>> _ = model.fit(x, [row[::-1] for row in x], epochs=20, lr=0.02, verbose=0)
        >>> model.predict([[3, 4, 5], [5, 3]])
        [array([5, 4, 3]), array([3, 5])]
    """

    def __init__(
        self,
        source: Vocabulary | int,
        target: TokenVocabulary | int,
        *,
        attention: str | None = None,
        embedding_size: int | None = None,
        cell: str = "gru",
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(target, attention)
        source, target = vocabulary_or_size("Seq2Seq", "source", source), self.target_vocabulary or self.target_size
        hidden_size, num_layers = whole("Seq2Seq", hidden_size=hidden_size, num_layers=num_layers)
        embedding_size = size_of("Seq2Seq", "embedding_size", embedding_size)
        self._arguments = {
            "source": source, "target": target, "attention": attention, "embedding_size": embedding_size, "cell": cell,
            "hidden_size": hidden_size, "num_layers": num_layers, "bidirectional": bidirectional, "dropout": dropout,
        }  # fmt: skip
        memory_size = hidden_size * (2 if bidirectional else 1)
        self.input = SequenceInput("Seq2Seq", source, embedding_size, hidden_size)
        self.encoder = recurrent("Seq2Seq", cell, self.input.size, hidden_size, num_layers, dropout, bidirectional)
        if bidirectional:
            self.bridge_h = nn.Linear(memory_size, hidden_size)
            if cell == "lstm":
                self.bridge_c = nn.Linear(memory_size, hidden_size)
        self._add_decoder(attention, memory_size, embedding_size or hidden_size, cell, hidden_size, num_layers, dropout)

    def _config(self) -> dict[str, Any]:
        return dict(self._arguments)

    @classmethod
    def _shapes(cls, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        hidden, layers = config["hidden_size"], config["num_layers"]
        size, shapes = SequenceInput.shapes(config["source"], config["embedding_size"], hidden)
        encoder = recurrent_shapes("encoder", config["cell"], size, hidden, layers, config["bidirectional"])
        return {**shapes, **encoder, **super()._shapes(config)}

    # ---- the network

    def encode(self, source: Tensor, lengths: Any = None) -> DecoderState:
        """Padded sources (N, S) or (N, S, D), and lengths (N,), default all S -> where the decoder begins."""
        outputs, state = self.encoder(self.input(source), lengths=lengths)
        h, c = state if isinstance(state, tuple) else (state, None)
        if self.encoder.bidirectional:
            h = pydl.tanh(self.bridge_h(_joined(h)))
            c = None if c is None else self.bridge_c(_joined(c))
        if self.attention is None:
            return DecoderState(h, c, None)
        values = pydl.swap_axes(outputs, 0, 1)
        inside = None
        if lengths is not None:
            inside = pydl.arange(values.shape[1]).reshape((1, 1, -1)) < pydl.asarray(lengths).reshape((-1, 1, 1))
        return DecoderState(h, c, Memory(values, self.attention.key(values), inside))

    def forward(self, source: Tensor, lengths: Any, target: Tensor) -> Tensor:
        """The logits of each next target token.

        Args:
            source: padded, (N, S) ids or (N, S, D) features.
            lengths: (N,), or None for all S.
            target: what the decoder reads, (N, T) ids that begin with the start token; in training with
                ``teacher_forcing`` below 1, only with that probability.

        Returns:
            (N, T, V).
        """
        return self._logits(self.encode(source, lengths), target)

    # ---- what SequenceWriter asks for

    def _sources(self, where: str, x: Any) -> list[Array]:
        return self.input.sequences(where, x)

    def _inputs(self, rows: list[Array]) -> tuple[Tensor, ...]:
        padded, lengths = pad_collate(rows)
        return padded, lengths

    def _begin(self, padded: Tensor, lengths: Tensor) -> DecoderState:
        return self.encode(padded, lengths)

    def _sums_over_steps(self) -> bool:
        return self.attention is not None

    def _places(self, row: Array) -> tuple[int, ...]:
        return (len(row),)


def _joined(state: Tensor) -> Tensor:
    """Both directions' states (2L, N, H) -> (L, N, 2H)."""
    layers, count, size = state.shape[0] // 2, state.shape[1], state.shape[2]
    apart = state.reshape((layers, 2, count, size))
    return pydl.concat([apart[:, 0], apart[:, 1]], axis=2)
