"""CharLM: a character-level language model, an embedding, a recurrent network and a linear layer over the vocabulary.

It learns and writes text; how it is trained is told in pydl.train.char_lm.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydl import nn
from pydl.models.cells import whole
from pydl.models.generation import TextStream, TokenStream
from pydl.models.recurrent_lm import RecurrentLM, lm_shapes
from pydl.models.sampling import Sampler
from pydl.models.saved import check_shapes
from pydl.serialization import load_file, load_metadata, save_file
from pydl.text.vocabulary import CharVocabulary

if TYPE_CHECKING:
    from pydl import Tensor
    from pydl.models.recurrent_lm import State

FORMAT = "pydl.char_lm.1"
TRAINING_PREFIX = "training."  # names of a checkpoint's tensors that do not belong to the model

_CONFIG = {"vocabulary", "cell", "hidden_size", "num_layers", "embedding_size", "dropout"}


class CharLM(RecurrentLM):
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
        if isinstance(vocabulary, str):
            vocabulary = CharVocabulary.from_text(vocabulary)
        if not isinstance(vocabulary, CharVocabulary):
            raise TypeError(f"[CharLM] got a {type(vocabulary).__name__}, expected a CharVocabulary or a text")
        super().__init__(
            "CharLM", len(vocabulary), cell=cell, hidden_size=hidden_size, num_layers=num_layers,
            embedding_size=embedding_size, dropout=dropout,
        )  # fmt: skip
        self.vocabulary = vocabulary

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
        return "".join(self.stream(start, *whole("CharLM.generate", 0, length=length), **options))

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
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
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
    found = sum(name.startswith("rnn.weight_hh_l") and not name.endswith("_scale") for name in weights)
    if layers != found:
        raise ValueError(f"num_layers is {layers!r}, but there are weights of {found}")
    check_shapes(weights, lm_shapes(len(vocabulary), config["cell"], embedded, hidden, found))
    return {"vocabulary": vocabulary, **config}


class Generation(TextStream):
    """The text a model writes, character by character; made by `CharLM.stream`.

    Attributes:
        state: where the network stands after all characters returned so far have been read, to go on from.

    A character is read by the network when the next one is asked for, or `state`: the last one may cost nothing.
    `state_dict` has the random numbers, the options and what is left of `length` as well: what another stream goes on
    from with the same characters, after `load_state_dict`.

    Example:
        >>> model = CharLM("hello", hidden_size=8)
        >>> stream = model.stream("h", 10, seed=3)
        >>> begun = "".join(next(stream) for _ in range(4))
        >>> saved = stream.state_dict()  # for pydl.save
        >>> other = model.stream()
        >>> other.load_state_dict(saved)
        >>> begun + "".join(other) == model.generate("h", 10, seed=3)
        True
    """

    def __init__(
        self, model: CharLM, start: str, length: int | None, sampler: Sampler, seed: int, state: State | None
    ) -> None:
        self._symbols = model.vocabulary.symbols
        if not start and state is None:
            start = "\n" if "\n" in self._symbols else self._symbols[0]
        prompt = model.vocabulary.encode(start)
        ids = TokenStream("CharLM.stream", model, [prompt], length, sampler, [seed], state=state)
        super().__init__(ids, model.vocabulary, prompt)

    def __next__(self) -> str:
        return self._symbols[next(self._ids)[0]]
