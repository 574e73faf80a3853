"""CharLM: a character-level language model, an embedding, a recurrent network and a linear layer over the vocabulary.

It learns and writes text; how it is trained is told in pydl.train.char_lm.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl import _C, nn
from pydl.models.sampling import Sampler
from pydl.nn import functional as F
from pydl.serialization import load_file, load_metadata, save_file
from pydl.text.vocabulary import CharVocabulary

if TYPE_CHECKING:
    from pydl import Tensor

    State = Tensor | tuple[Tensor, Tensor]

FORMAT = "pydl.char_lm.1"
TRAINING_PREFIX = "training."  # names of a checkpoint's tensors that do not belong to the model

_LAYERS: dict[str, type[nn.LSTM | nn.GRU | nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_CONFIG = {"vocabulary", "cell", "hidden_size", "num_layers", "embedding_size", "dropout"}
_UNIFORM_BLOCK = 256  # random numbers drawn at a time


class CharLM(nn.Module):
    """A character-level language model: embedding -> RNN, LSTM or GRU -> linear layer, one logit for each character.

    Dropout, where asked for, lies on the output of every recurrent layer, as in Zaremba et al., arXiv:1409.2329 (2014).

    Args:
        vocabulary: the characters known, or a text to take them from.
        cell: "lstm" (default), "gru" or "rnn" (Elman, tanh).
        hidden_size: H, hidden units in each layer.
        num_layers: L, recurrent layers.
        embedding_size: E, numbers that stand for a character; default H.
        dropout: the probability that an output is dropped in training.

    Raises:
        ValueError: an unknown cell, or a size that is not positive.

    Example:
        >>> model = CharLM("hello", cell="gru", hidden_size=16, num_layers=1)
        >>> ids = pydl.asarray(model.vocabulary.encode("hell")[None])
        >>> logits, state = model(ids)
        >>> logits.shape, state.shape
        ((1, 4, 4), (1, 1, 16))
        >>> len(model.generate("he", length=10, seed=1))
        10
    """

    def __init__(
        self,
        vocabulary: CharVocabulary | str,
        *,
        cell: str = "lstm",
        hidden_size: int = 128,
        num_layers: int = 2,
        embedding_size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if cell not in _LAYERS:
            raise ValueError(f"[CharLM] got cell {cell!r}, expected one of {', '.join(_LAYERS)}")
        if isinstance(vocabulary, str):
            vocabulary = CharVocabulary.from_text(vocabulary)
        self.vocabulary = vocabulary
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.embedding_size = embedding_size or hidden_size
        self.embedding = nn.Embedding(len(vocabulary), self.embedding_size)
        self.rnn = _LAYERS[cell](self.embedding_size, hidden_size, num_layers, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, len(vocabulary))

    def _hidden(self, inputs: Tensor, state: State | None, lengths: Any) -> tuple[Tensor, State]:
        """The last layer's outputs, time-major: (B, T) -> (T, B, H). The kernels like time-major best."""
        embedded = self.embedding(pydl.permute_dims(inputs, (1, 0)))
        hidden, state = self.rnn(embedded, state, lengths=lengths)
        return self.dropout(hidden), state

    def forward(self, inputs: Tensor, state: State | None = None, lengths: Any = None) -> tuple[Tensor, State]:
        """The logits of each next character.

        Args:
            inputs: ids, integers of shape (B, T).
            state: where the network stands, as the last call returned it: (L, B, H), for "lstm" a pair; default zeros.
            lengths: (B,), how many characters of each row count; default all T.

        Returns:
            The logits (B, T, V) and the state after the last character.
        """
        hidden, state = self._hidden(inputs, state, lengths)
        return pydl.permute_dims(self.output(hidden), (1, 0, 2)), state

    def loss(self, inputs: Tensor, targets: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The mean cross-entropy of the targets in nats, and the state after the last character.

        Args:
            inputs: ids, integers of shape (B, T).
            targets: the ids that come next, shape (B, T).
            state: as in `forward`.
        """
        hidden, state = self._hidden(inputs, state, None)
        logits = self.output(hidden)
        flat = logits.reshape((-1, logits.shape[-1]))
        return F.cross_entropy(flat, pydl.permute_dims(targets, (1, 0)).reshape((-1,))), state

    def stream(
        self,
        start: str = "",
        length: int | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        state: State | None = None,
    ) -> Generation:
        """Writes on after `start`, a character at a time. The same seed gives the same text, on any number of threads.

        Args:
            start: what the text begins with; it is read, not returned. Empty: nothing where a state is given, otherwise
                a line break or, where the vocabulary has none, its first character.
            length: how many characters; default endless.
            temperature: 1 is what the model has learned, less is bolder, more is wilder, 0 is greedy.
            top_k: draw from the k most probable characters only.
            top_p: draw from the fewest characters that have this probability together.
            seed: of the random numbers.
            state: goes on from here, such as from the `state` of another `Generation`; default zeros.

        Raises:
            ValueError: `start` has a character that is not in the vocabulary, which is named; an argument out of range.

        Example:
            >>> model = CharLM("hello", hidden_size=8)
            >>> whole = model.generate("h", 6, temperature=0)
            >>> first = model.stream("h", 4, temperature=0)
            >>> "".join(first) + model.generate(length=2, temperature=0, state=first.state) == whole
            True
        """
        return Generation(self, start, length, Sampler(temperature, top_k, top_p), seed, state)

    def generate(self, start: str = "", length: int = 500, **options: Any) -> str:
        """The next `length` characters after `start` in one piece; the options are those of `stream`."""
        return "".join(self.stream(start, length, **options))

    def _config(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary.symbols,
            "cell": self.cell,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "embedding_size": self.embedding_size,
            "dropout": self.dropout.p,
        }

    def metadata(self) -> dict[str, str]:
        """What a file needs beside the weights to make this model again; see `load`."""
        return {"format": FORMAT, "model": json.dumps(self._config())}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes weights, sizes and vocabulary as one safetensors file, atomically."""
        save_file(self.state_dict(), path, self.metadata())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CharLM:
        """The model in a file: one written by `save`, or a checkpoint of the training.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is damaged, or no file of a CharLM.
        """
        metadata = load_metadata(path)
        return cls.from_tensors(load_file(path), metadata, path)

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: str | os.PathLike[str] = "the file"
    ) -> CharLM:
        """The model in the tensors and metadata of a file; `path` is for the messages. Raises ValueError as `load`."""
        if metadata.get("format") != FORMAT:
            found = f"the format {metadata['format']!r}" if "format" in metadata else "a file of another kind"
            raise ValueError(f"[CharLM.load] {os.fspath(path)}: got {found}, expected a character model ({FORMAT})")
        weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(TRAINING_PREFIX)}
        try:
            config = json.loads(metadata["model"])
            model = cls(**_checked(config, weights))
            if "output.weight_scale" in weights:
                model = nn.quantize_dynamic(model)
            model.load_state_dict(weights)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"[CharLM.load] {os.fspath(path)}: the file is damaged: {error!s}") from None
        return model

    def extra_repr(self) -> str:
        return repr(self.vocabulary)


def _checked(config: Any, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments, seen to fit the weights before anything large is made for a file that lies."""
    if set(config) != _CONFIG:
        raise ValueError(f"it describes the model by {sorted(config)}, expected {sorted(_CONFIG)}")
    vocabulary = CharVocabulary(config.pop("vocabulary"))
    layers, hidden, embedded = (config[name] for name in ("num_layers", "hidden_size", "embedding_size"))
    expected = {
        "embedding.weight": (len(vocabulary), embedded),
        "output.weight": (len(vocabulary), hidden),
    }
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"{name} has the shape {tuple(weights[name].shape)}, expected {shape}")
    found = sum(name.startswith("rnn.weight_hh_l") and not name.endswith("_scale") for name in weights)
    if layers != found:
        raise ValueError(f"num_layers is {layers!r}, but there are weights of {found}")
    return {"vocabulary": vocabulary, **config}


class Generation(Iterator[str]):
    """The text a model writes, character by character; made by `CharLM.stream`.

    Attributes:
        state: where the network stands after all characters returned so far have been read, to go on from.

    A character is read by the network when the next one is asked for, or `state`: the last one may cost nothing.
    """

    def __init__(
        self, model: CharLM, start: str, length: int | None, sampler: Sampler, seed: int, state: State | None
    ) -> None:
        if length is not None and length < 0:
            raise ValueError(f"[CharLM.stream] got length {length}, expected 0 or more")
        if not 0 <= seed < 2**64:
            raise ValueError(f"[CharLM.stream] got seed {seed}, expected 0 <= seed < 2**64")
        self._symbols = model.vocabulary.symbols
        self._left = -1 if length is None else length
        self._sampler = sampler
        self._generator = pydl.Generator(seed)
        self._uniforms: list[float] = []
        # Detached once: so no step is recorded, and nothing is looked up or made again for each character.
        rnn = model.rnn
        self._mode, self._layers = rnn.mode, rnn.num_layers
        self._table = model.embedding.weight.detach()
        self._rows: dict[int, Tensor] = {}
        if type(rnn) is not _LAYERS[model.cell]:
            self._quantized: tuple[Any, Any] | None = rnn, model.output
        else:
            self._quantized = None
            self._weights = [weight.detach() for group in rnn.all_weights for weight in group]
            self._output = [parameter.detach() for parameter in model.output.parameters()]  # weight, bias
        self._h: Any
        self._c: Any
        self._h, self._c = state if isinstance(state, tuple) else (state, None)
        self._pending = -1  # drawn, not yet read
        if not start and state is None:
            start = "\n" if "\n" in self._symbols else self._symbols[0]
        if start:
            ids = pydl.asarray(model.vocabulary.encode(start).reshape(-1, 1))
            self._y = self._advance(F.embedding(ids, self._table))[-1:]
        else:
            self._y = self._h[-1:]  # the last layer's output is its state

    def _advance(self, embedded: Tensor) -> Tensor:
        """(T, 1, E) -> (T, 1, H)."""
        if self._quantized is not None:
            state = self._h if self._c is None else (self._h, self._c)
            y, state = self._quantized[0](embedded, state)
            self._h, self._c = state if isinstance(state, tuple) else (state, None)
            return y
        y, self._h, self._c = _C.recurrent(
            self._mode, embedded, self._h, self._c, self._weights, self._layers, False, False, 0.0, False, None, None
        )
        return y

    def _read_pending(self) -> None:
        if self._pending >= 0:
            row = self._rows.get(self._pending)
            if row is None:
                row = self._rows[self._pending] = self._table[self._pending].reshape((1, 1, -1))
            self._y = self._advance(row)
            self._pending = -1

    @property
    def state(self) -> State:
        self._read_pending()
        return self._h if self._c is None else (self._h, self._c)

    def __iter__(self) -> Generation:
        return self

    def __next__(self) -> str:
        if self._left == 0:
            raise StopIteration
        self._read_pending()
        y = F.linear(self._y, *self._output) if self._quantized is None else self._quantized[1](self._y)
        logits: Any = np.from_dlpack(y).reshape(-1)
        if not self._uniforms:
            self._uniforms = pydl.rand(_UNIFORM_BLOCK, generator=self._generator, dtype=pydl.float64).numpy().tolist()
        drawn = self._sampler(logits, self._uniforms.pop())
        self._pending = drawn
        self._left -= 1
        return self._symbols[drawn]
