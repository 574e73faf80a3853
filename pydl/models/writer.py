"""SequenceWriter: what models that write a sequence of tokens share, whatever they read: a recurrent decoder with or
without attention, teacher forcing, and decoding.

How whole sequences are made of the decoder's logits is told in pydl.models.decoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import pydl
from pydl import nn
from pydl.callbacks import Callback
from pydl.data import pad_collate
from pydl.models.cells import recurrent, recurrent_shapes, whole
from pydl.models.decoding import Decoded, Ids, beam_search, decode_rows
from pydl.models.sampling import Sampler
from pydl.models.sequence import Array, Ragged, SequenceModel, id_sequences
from pydl.nn import functional as F
from pydl.text.tokens import TokenVocabulary
from pydl.train.arguments import real_number

if TYPE_CHECKING:
    from pydl import Tensor
    from pydl.train.history import History

__all__ = ["SequenceWriter"]


class Memory(NamedTuple):
    """What attention looks at, for N sources of S steps."""

    values: Tensor  # (N, S, M) the encoder's outputs
    keys: Tensor  # (N, S, H)
    inside: Tensor | None  # (N, 1, S), False behind the end


class DecoderState(NamedTuple):
    h: Tensor  # (L, N, H)
    c: Tensor | None  # of an LSTM
    memory: Memory | None


class Attention(nn.Module):
    """Weights over the encoder's outputs for each query, and the mean of these outputs by them.

    ``"dot"``: q·(W m) / √H, the general form of Luong et al., arXiv:1508.04025, with the scale of Vaswani et al.,
    arXiv:1706.03762. ``"additive"``: v·tanh(W_q q + W m), Bahdanau et al., arXiv:1409.0473.
    """

    def __init__(self, kind: str, query_size: int, memory_size: int) -> None:
        super().__init__()
        self.kind = kind
        self.key = nn.Linear(memory_size, query_size, bias=False)
        if kind == "additive":
            self.query = nn.Linear(query_size, query_size)
            self.score = nn.Linear(query_size, 1, bias=False)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Queries (N, T, H) -> contexts (N, T, M) and weights (N, T, S)."""
        if self.kind == "dot":
            scores = queries @ pydl.swap_axes(memory.keys, 1, 2) * (1.0 / float(queries.shape[-1]) ** 0.5)
        else:
            together = pydl.expand_dims(self.query(queries), axis=2) + pydl.expand_dims(memory.keys, axis=1)
            scores = pydl.squeeze(self.score(pydl.tanh(together)), axis=3)
        if memory.inside is not None:
            scores = pydl.where(memory.inside, scores, float("-inf"))
        weights = F.softmax(scores, axis=-1)
        return weights @ memory.values, weights


class SequenceWriter(SequenceModel):
    """A model whose targets are sequences of tokens: something is read, and a recurrent decoder writes.

    The decoder reads the start token and then the target, each token one step late, and tells the next token's logits;
    with attention from tanh(W [h; context]) in place of h (Luong et al., arXiv:1508.04025, without input feeding), so
    a whole target is one pass.

    A subclass calls ``_add_decoder`` in its constructor, and has ``forward`` and

    * ``_sources(where, x)``: what a user gave as checked arrays, one for each target;
    * ``_inputs(rows)``: a batch of these arrays as the tensors that `forward` reads;
    * ``_begin(padded, lengths)``: where the decoder begins, for arrays that were padded along their first axis;
    * ``_places(row)``: the shape of what attention looks at in this row; their product is S.

    Attributes:
        teacher_forcing: the probability, in training, that the decoder reads the true token and not its own most
            probable one (scheduled sampling, Bengio et al., arXiv:1506.03099); 1 by itself. See `fit`.
    """

    def __init__(self, target: TokenVocabulary | int, attention: str | None) -> None:
        super().__init__()
        name = type(self).__name__
        if attention not in (None, "dot", "additive"):
            raise ValueError(f"[{name}] got attention {attention!r}, expected 'dot', 'additive' or None")
        if isinstance(target, (bool, str)) or not (isinstance(target, TokenVocabulary) or hasattr(target, "__index__")):
            raise TypeError(
                f"[{name}] got a {type(target).__name__} as target, expected a vocabulary with start and stop tokens"
                " (WordVocabulary, at the level 'character' for characters; BytePairVocabulary) or a number of ids"
            )
        self.target_vocabulary = target if isinstance(target, TokenVocabulary) else None
        self.target_size = len(target) if isinstance(target, TokenVocabulary) else whole(name, target=target)[0]
        self.start_id, self.stop_id = TokenVocabulary.start_id, TokenVocabulary.stop_id
        if self.target_size <= self.stop_id:
            raise ValueError(f"[{name}] got target {target!r}, expected 3 ids or more: 1 is start, 2 is stop")
        self.teacher_forcing = 1.0

    def _add_decoder(
        self, attention: str | None, memory_size: int, embedding_size: int, cell: str, hidden_size: int,
        num_layers: int, dropout: float,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        self.embedding = nn.Embedding(self.target_size, embedding_size)
        self.decoder = recurrent(name, cell, embedding_size, hidden_size, num_layers, dropout, bidirectional=False)
        self.attention = None if attention is None else Attention(attention, hidden_size, memory_size)
        if attention is not None:
            self.combine = nn.Linear(hidden_size + memory_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, self.target_size)

    @classmethod
    def _shapes(cls, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        target, hidden = config["target"], config["hidden_size"]
        count, size = target if isinstance(target, int) else len(target), config["embedding_size"] or hidden
        layers = recurrent_shapes("decoder", config["cell"], size, hidden, config["num_layers"])
        return {"embedding.weight": (count, size), **layers, "output.weight": (count, hidden)}

    def _sources(self, where: str, x: Any) -> Any:
        raise NotImplementedError

    def _inputs(self, rows: list[Array]) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _begin(self, padded: Tensor, lengths: Tensor) -> DecoderState:
        raise NotImplementedError

    def _places(self, row: Array) -> tuple[int, ...]:
        raise NotImplementedError

    # ---- the network

    def decode(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Target tokens (N, T) -> logits of those that come next (N, T, V), state, attention weights (N, T, S)."""
        embedded = self.embedding(pydl.swap_axes(tokens, 0, 1))
        hidden, after = self.decoder(embedded, state.h if state.c is None else (state.h, state.c))
        h, c = after if isinstance(after, tuple) else (after, None)
        features, weights = pydl.swap_axes(hidden, 0, 1), None
        if self.attention is not None:
            assert state.memory is not None
            context, weights = self.attention(features, state.memory)
            features = pydl.tanh(self.combine(pydl.concat([features, context], axis=2)))
        return self.output(self.dropout(features)), DecoderState(h, c, state.memory), weights

    def _logits(self, state: DecoderState, target: Tensor) -> Tensor:
        """Of each next token, (N, T, V), for targets (N, T) that begin with the start token."""
        if not self.training or self.teacher_forcing >= 1.0:
            return self.decode(target, state)[0]
        count, steps = target.shape
        given = pydl.rand(steps, count) < self.teacher_forcing
        token, parts = target[:, 0], []
        for t in range(steps):
            logits, state, _ = self.decode(token.reshape((count, 1)), state)
            parts.append(logits)
            if t + 1 < steps:
                own = logits.detach().reshape((count, -1)).argmax(axis=1).astype(target.dtype)
                token = pydl.where(given[t + 1], target[:, t + 1], own)
        return pydl.concat(parts, axis=1)

    # ---- training

    def _dataset(self, where: str, x: Any, y: Any) -> Ragged:
        rows = self._sources(where, x)
        targets = id_sequences(f"{where}: target", y, self.target_size, self.target_vocabulary)
        if len(targets) != len(rows):
            raise ValueError(f"[{where}] got {len(rows)} sources and {len(targets)} targets, expected as many")
        for i, target in enumerate(targets):
            if ((target == self.start_id) | (target == self.stop_id)).any():
                raise ValueError(f"[{where}] target {i} has a start or stop token, expected none: they are put in here")
        return Ragged((rows, targets), self._collated)

    def _collated(self, rows: list[Array], targets: list[Array]) -> Any:
        read, _ = pad_collate([np.concatenate([[self.start_id], target]) for target in targets])
        told, _ = pad_collate([np.concatenate([target, [self.stop_id]]) for target in targets], padding_value=-100)
        return (*self._inputs(rows), read), told

    def fit(
        self, x: Any, y: Any, *arguments: Any, teacher_forcing: float | Callable[[int], float] = 1.0, **options: Any
    ) -> History:
        """Train with cross-entropy of each target token and the stop token.

        Args:
            x: N sources; see the class.
            y: N targets: strings or (T_i,) ids, without start and stop tokens; empty ones are an error.
            arguments, options: as in :meth:`SequenceModel.fit`.
            teacher_forcing: how often the decoder reads the true token and not its own, or a function of the epoch
                (from 0) that tells it, such as ``lambda epoch: max(0.5, 1 - 0.05 * epoch)``. Below 1 the decoder goes
                step by step, several times slower. Default 1.

        Raises:
            ValueError, TypeError: something is wrong with the data or the arguments; no step was made.
        """
        forcing = _TeacherForcing(teacher_forcing if callable(teacher_forcing) else lambda _: teacher_forcing)
        if not callable(teacher_forcing) and not _is_probability(teacher_forcing):
            raise ValueError(
                f"[{type(self).__name__}.fit] got teacher_forcing {teacher_forcing!r}, expected 0 to 1, or a function"
            )
        before = self.teacher_forcing
        options["callbacks"] = [forcing, *(options.get("callbacks") or ())]
        try:
            return super().fit(x, y, *arguments, **options)
        finally:
            self.teacher_forcing = before

    # ---- decoding

    def _step(self, tokens: Ids, state: DecoderState) -> tuple[Any, DecoderState, Any]:
        logits, state, weights = self.decode(pydl.asarray(tokens.reshape(-1, 1)), state)
        return logits.cpu().numpy()[:, 0], state, None if weights is None else weights.cpu().numpy()[:, 0]

    @staticmethod
    def _select(state: DecoderState, rows: Ids) -> DecoderState:
        if np.array_equal(rows, np.arange(state.h.shape[1])):
            return state
        places = pydl.asarray(rows)
        memory = state.memory
        if memory is not None:
            parts = (None if part is None else pydl.take(part, places, axis=0) for part in memory)
            memory = Memory(*parts)  # type: ignore[arg-type]
        c = None if state.c is None else pydl.take(state.c, places, axis=1)
        return DecoderState(pydl.take(state.h, places, axis=1), c, memory)

    def predict(
        self,
        x: Any,
        batch_size: int = 128,
        *,
        beam: int = 1,
        length_penalty: float = 0.6,
        sampler: Sampler | None = None,
        seed: int = 0,
        max_length: int = 100,
        return_attention: bool = False,
        return_scores: bool = False,
    ) -> Any:
        """What is written for each source, until the stop token. A row's result does not depend on the others.

        Args:
            x: N sources, as for `fit`.
            batch_size: sources at a time; default 128.
            beam: 1 (default) takes the most probable token at each step; more is a beam search, see
                :func:`pydl.models.decoding.beam_search`.
            length_penalty: of beams, the exponent α of Wu et al.; default 0.6.
            sampler: draws tokens instead, such as ``Sampler(temperature=0.8)``.
            seed: of drawing; row i has seed + i.
            max_length: tokens at most; default 100.
            return_attention: also N arrays, how much each token looked at each place of its source: (T_i, S_i), of
                images (T_i, h, w).
            return_scores: also (N,) log-probabilities, those of beams divided by their length penalty.

        Returns:
            N strings where the target has a vocabulary, otherwise N arrays (T_i,) of ids; in a tuple with what else
            was asked for.

        Raises:
            ValueError: a beam wider than the vocabulary or together with a sampler, attention of a model that has
                none; a source that is empty or of another shape.
        """
        where = f"{type(self).__name__}.predict"
        if not (sampler is None or callable(sampler)):
            raise TypeError(f"[{where}] got a {type(sampler).__name__} as sampler, expected one such as Sampler(0.8)")
        if sampler is not None and beam != 1:
            raise ValueError(f"[{where}] got beam {beam} and a sampler, expected one of them")
        length_penalty = real_number(where, "length_penalty", length_penalty)
        (beam, max_length), size = whole(where, beam=beam, max_length=max_length), self.target_size
        (seed,) = whole(where, 0, seed=seed)
        if beam > size:
            raise ValueError(f"[{where}] got beam {beam}, expected 1 to the vocabulary's size {size}")
        if return_attention and self.attention is None:
            raise ValueError(f"[{where}] the model has no attention to return; make it with attention='dot'")
        rows = self._sources(where, x)
        limits = {"start": self.start_id, "stop": self.stop_id, "max_length": max_length}

        def ask(padded: Tensor, lengths: Tensor, places: Array) -> Any:
            state, count = self._begin(padded, lengths), len(places)
            found: Decoded
            if beam > 1:
                found = beam_search(self._step, self._select, state, count, beam=beam, alpha=length_penalty, **limits)
            else:
                seeds = [seed + int(i) for i in places]
                found = decode_rows(self._step, state, count, sampler=sampler, seeds=seeds, **limits)
            looks: list[Any] = found.attention or [None] * count
            return list(zip(found.tokens, found.scores, looks))

        results = self._outputs(rows, batch_size, ask)
        vocabulary = self.target_vocabulary
        said = [ids if vocabulary is None else vocabulary.decode(ids) for ids, _, _ in results]
        more: list[Any] = []
        if return_attention:
            shapes = map(self._places, rows)
            more.append([look[:, : math.prod(s)].reshape((-1, *s)) if len(look) else np.zeros((0, *s), np.float32)
                         for (_, _, look), s in zip(results, shapes)])  # fmt: skip
        if return_scores:
            more.append(np.array([score for _, score, _ in results]))
        return (said, *more) if more else said


class _TeacherForcing(Callback):
    """Sets the model's `teacher_forcing` to what a schedule says for the epoch."""

    def __init__(self, schedule: Callable[[int], float]) -> None:
        super().__init__()
        self.schedule = schedule

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        value = self.schedule(self.trainer.epoch)
        if not _is_probability(value):
            raise ValueError(f"[{type(self.model).__name__}.fit] teacher_forcing gave {value!r}, expected 0 to 1")
        self.model.teacher_forcing = float(value)


def _is_probability(value: Any) -> bool:
    return hasattr(value, "__float__") and 0.0 <= float(value) <= 1.0
