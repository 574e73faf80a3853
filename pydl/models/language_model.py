"""LanguageModel: text of words, byte pairs or characters, learned and written by a recurrent network.

How it is trained is told here and in pydl.models.sequence, how it writes in pydl.models.generation. CharLM is the same
network for characters alone, with a command line and runs that go on after a crash.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl.data import DataLoader, pad_collate
from pydl.models.cells import whole
from pydl.models.generation import TextStream, TokenStream, text_behind
from pydl.models.recurrent_lm import RecurrentLM, lm_shapes
from pydl.models.sampling import Sampler
from pydl.models.sequence import Array, Ragged, SequenceModel, SequenceTrainer, Vocabulary, id_sequences
from pydl.text.stream import ChunkStream, split_tail
from pydl.text.tokens import TokenVocabulary
from pydl.text.vocabulary import CharVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydl.models.recurrent_lm import State
    from pydl.train.history import History

__all__ = ["LanguageModel"]

_EVALUATION_ROW = 5_000  # tokens of a long text that are read in one go when it is evaluated, at least


class _LongText:
    """One text as ids, which is walked along in windows."""

    def __init__(self, ids: Array, window: int) -> None:
        self.ids = ids
        self.window = window


class _Windows:
    """The windows of a `ChunkStream` as a dataset."""

    def __init__(self, stream: ChunkStream) -> None:
        self.stream = stream

    def __len__(self) -> int:
        return len(self.stream)

    def __getitem__(self, index: int) -> Any:
        return tuple(self.stream[index])

    def batch(self, indices: Any) -> Any:
        """The one window that was asked for, (B, T)."""
        return tuple(pydl.from_numpy(part) for part in self.stream[int(indices[0])])


class _Trainer(SequenceTrainer):
    """Carries the state through a long text in evaluation as well, from the first batch to the last."""

    _carried: Any = None

    def run_test(self, batches: Iterable[Any], hooks: Mapping[str, Any]) -> dict[str, Any]:
        self._carried = None
        return super().run_test(batches, hooks)

    def predict_step(self, x: Any) -> Any:
        prediction, state = self.model(x, self._carried if self.stateful else None)
        self._carried = state
        return prediction


class LanguageModel(RecurrentLM, SequenceModel):
    """A language model: embedding -> RNN, LSTM or GRU -> linear layer, one logit for each token that may come next.

    It learns one long text, walked along in windows through which the state is carried (truncated backpropagation
    through time), or many short ones, such as sentences, each with a stop token behind it.

    Args:
        vocabulary: of words, byte pairs or characters, see `pydl.text`; or a text to take the characters from.
        cell: ``"lstm"`` (default), ``"gru"`` or ``"rnn"`` (Elman, tanh).
        hidden_size: H, hidden units in each layer; default 128.
        num_layers: L, recurrent layers; default 2.
        embedding_size: E, numbers that stand for a token; default H.
        dropout: the probability that a layer's output is dropped in training; default 0.

    Raises:
        ValueError: an unknown cell, or a size that is not positive.

    Example:
        >>> from pydl.text import WordVocabulary
        >>> _ = pydl.manual_seed(0)
        >>> texts = ["the cat sees a dog.", "a dog sees the cat.", "the dog sees the dog."]
        >>> model = LanguageModel(WordVocabulary.from_texts(texts), hidden_size=16, num_layers=1)
        >>> _ = model.fit(texts, epochs=60, lr=0.03, verbose=0)
        >>> model.generate("the cat", temperature=0)
        ' sees a dog.'
        >>> model.perplexity(texts) < 1.8
        True
    """

    def __init__(
        self,
        vocabulary: Vocabulary | str,
        *,
        cell: str = "lstm",
        hidden_size: int = 128,
        num_layers: int = 2,
        embedding_size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        if isinstance(vocabulary, str):
            vocabulary = CharVocabulary.from_text(vocabulary)
        if not isinstance(vocabulary, Vocabulary):
            raise TypeError(f"[LanguageModel] got a {type(vocabulary).__name__}, expected a vocabulary or a text")
        super().__init__(
            "LanguageModel", len(vocabulary), cell=cell, hidden_size=hidden_size, num_layers=num_layers,
            embedding_size=embedding_size, dropout=dropout,
        )  # fmt: skip
        self.vocabulary = vocabulary

    def _config(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary, "cell": self.cell, "hidden_size": self.hidden_size,
            "num_layers": self.num_layers, "embedding_size": self.embedding_size, "dropout": self.dropout.p,
        }  # fmt: skip

    @classmethod
    def _shapes(cls, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        count, hidden = len(config["vocabulary"]), config["hidden_size"]
        return lm_shapes(count, config["cell"], config["embedding_size"] or hidden, hidden, config["num_layers"])

    def extra_repr(self) -> str:
        return repr(self.vocabulary)

    # ---- training

    def _data(self, where: str, x: Any, window: int) -> Any:
        """One long text, or many short ones, as what `_dataset` takes."""
        if _several(x):
            return x
        if hasattr(x, "__len__") and len(x) == 0:
            raise ValueError(f"[{where}] got no text, expected one of 2 tokens or more, or a list of texts")
        if isinstance(x, str) and isinstance(self.vocabulary, CharVocabulary):
            ids: Array = self.vocabulary.encode(x, self.vocabulary.dtype)
        elif isinstance(x, str):
            ids = self.vocabulary.encode(x, start=True, stop=True)  # type: ignore[call-arg]
        else:
            ids = id_sequences(where, [x], len(self.vocabulary), None)[0]
        if len(ids) < 2:
            raise ValueError(f"[{where}] got a text of {len(ids)} tokens, expected 2 or more")
        return _LongText(ids, window)

    def _dataset(self, where: str, x: Any, y: Any) -> Any:
        if isinstance(x, _LongText):
            return x
        if not isinstance(self.vocabulary, TokenVocabulary):
            raise ValueError(
                f"[{where}] got several texts, but {self.vocabulary!r} has no stop token to end them with; use"
                " WordVocabulary.from_texts(texts, level='character'), or join them to one text"
            )
        texts = id_sequences(where, x, len(self.vocabulary), self.vocabulary)
        start, stop = self.vocabulary.start_id, self.vocabulary.stop_id
        for i, ids in enumerate(texts):
            if ((ids == start) | (ids == stop)).any():
                raise ValueError(f"[{where}] text {i} has a start or stop token, expected none: they are put in here")
        return Ragged(([np.concatenate([[start], ids, [stop]]) for ids in texts],), self._collated)

    @staticmethod
    def _collated(rows: list[Array]) -> Any:
        read, _ = pad_collate([row[:-1] for row in rows])
        told, _ = pad_collate([row[1:] for row in rows], padding_value=-100)
        return read, told

    def _trainer(self, dataset: Any, loss: Any, metrics: Any, **options: Any) -> Any:
        # A window of a long text is a batch, and a short text is one window.
        return _Trainer(self, loss, metrics, tbptt=sys.maxsize, stateful=isinstance(dataset, _LongText), **options)

    def _split(self, dataset: Any, share: float, seed: int) -> tuple[Any, Any]:
        if not isinstance(dataset, _LongText):
            return super()._split(dataset, share, seed)
        kept, held = split_tail(dataset.ids, share)
        if len(held) < 2:
            raise ValueError(
                f"[LanguageModel.fit] got a text of {len(dataset.ids)} tokens, of which validation_split {share} holds"
                f" back {len(held)}, expected 2 or more"
            )
        return _LongText(kept, dataset.window), _LongText(held, dataset.window)

    def _shuffled(self, dataset: Any, batch_size: int, seed: int) -> DataLoader:
        if not isinstance(dataset, _LongText):
            return super()._shuffled(dataset, batch_size, seed)
        return DataLoader(_Windows(ChunkStream(dataset.ids, batch_size, dataset.window)), batch_size=1)

    def _in_order(self, dataset: Any, batch_size: int) -> DataLoader:
        if not isinstance(dataset, _LongText):
            return super()._in_order(dataset, batch_size)
        rows = max(1, min(batch_size, len(dataset.ids) // _EVALUATION_ROW))
        return DataLoader(_Windows(ChunkStream(dataset.ids, rows, dataset.window, drop_last=False)), batch_size=1)

    def fit(
        self, x: Any, y: None = None, batch_size: int = 32, epochs: int = 1, *, seq_length: int = 64, metrics: Any = (),
        **options: Any,
    ) -> History:  # fmt: skip
        """Train with cross-entropy of each next token.

        Args:
            x: one long text, a string or ids (T,); or a list of short texts, strings or ids (T_i,) without start and
                stop tokens.
            y: nothing: the targets are the inputs, one token later.
            batch_size: rows into which a long text is cut to be read side by side, or short texts; default 32.
            epochs: passes; default 1.
            seq_length: tokens that gradients reach back in a long text, so many of each row a step; default 64.
            metrics: as for :class:`pydl.Trainer`, such as ``["accuracy", "perplexity"]``; default none.
            options: of :meth:`SequenceModel.fit`: optimizer, lr, scheduler, callbacks, verbose, validation_data
                (another x), validation_split (of a long text its end), checkpoint, resume, ...

        Raises:
            ValueError: an unknown token, an empty text, one too short for a step, or several texts for a vocabulary
                without a stop token; no step was made.
            TypeError: x is no text and no ids, or there is a y.
        """
        where = "LanguageModel.fit"
        if y is not None:
            raise TypeError(f"[{where}] got y, expected none: the targets are the inputs, one token later")
        (seq_length,) = whole(where, seq_length=seq_length)
        if options.get("validation_data") is not None:
            held = self._data(f"{where}: validation_data", options["validation_data"], seq_length)
            options["validation_data"] = (held, None)
        x = self._data(where, x, seq_length)
        return super().fit(x, None, batch_size, epochs, metrics=metrics, **options)

    def evaluate(self, x: Any, y: None = None, batch_size: int = 128, *, metrics: Any = ()) -> dict[str, float]:
        """The mean loss (nats for each token), its exponential under ``"perplexity"``, and metrics; in evaluation mode.

        A long text is read in up to `batch_size` rows of 5,000 tokens at least, each from a zero state.

        Args:
            x: as for `fit`.
            y: nothing.
            batch_size: default 128.
            metrics: as for `fit`.
        """
        if y is not None:
            raise TypeError(
                "[LanguageModel.evaluate] got y, expected none: the targets are the inputs, one token later"
            )
        found = super().evaluate(self._data("LanguageModel.evaluate", x, 64), None, batch_size, metrics=metrics)
        loss = found["loss"]
        return {"loss": loss, "perplexity": math.exp(loss) if loss < 709 else math.inf, **found}

    def perplexity(self, x: Any, batch_size: int = 128) -> float:
        """Among how many equally likely tokens the model seems to choose; see `evaluate`."""
        return self.evaluate(x, None, batch_size)["perplexity"]

    # ---- writing

    def stream(
        self,
        prompt: str | Sequence[int] | Array = "",
        length: int | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        state: State | None = None,
        stop: bool = True,
    ) -> TextStream:
        """Writes on after a prompt, piece by piece. The same seed gives the same text, on any number of threads.

        Args:
            prompt: text, or ids; it is read, not returned. A start token is read before it where there is no state.
            length: how many tokens; default until the stop token, or endless.
            temperature, top_k, top_p: see `pydl.models.Sampler`.
            seed: of the random numbers.
            state: goes on from here, such as from the `state` of another stream; default zeros.
            stop: whether the stop token ends it, where the vocabulary has one; otherwise it is not drawn.

        Returns:
            An iterator of strings with `state`, `state_dict` and `load_state_dict`.

        Raises:
            ValueError: an unknown token, which is named, or an argument out of range.
        """
        prompts = [self._prompt("LanguageModel.stream", prompt, state)]
        sampler = Sampler(temperature, top_k, top_p)
        ids = self._tokens("LanguageModel.stream", prompts, length, sampler, [seed], state, stop)
        return TextStream(ids, self.vocabulary, prompts[0])

    def generate(
        self,
        prompt: Any = "",
        length: int = 200,
        *,
        n: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        state: State | None = None,
        stop: bool = True,
    ) -> Any:
        """What the model writes after a prompt, in one piece; or many texts at once.

        Args:
            prompt: as for `stream`; or a list of N prompts.
            length: tokens at most; default 200.
            n: how many texts to write after one prompt.
            temperature, top_k, top_p, state, stop: as for `stream`; a state is of one stream, or one for each.
            seed: of the random numbers; text i of several has seed + i, and is the text that it alone would be.

        Returns:
            The text behind the prompt, or a list of them where there are several prompts or `n`.

        Raises:
            ValueError: as for `stream`; `n` below 1.
        """
        where = "LanguageModel.generate"
        (length,) = whole(where, 0, length=length)
        if n is not None:
            (n,) = whole(where, n=n)
        if not hasattr(prompt, "__len__"):
            raise TypeError(
                f"[{where}] got a {type(prompt).__name__} as prompt, expected a text, ids, or a list of them"
            )
        several = (
            not isinstance(prompt, str) and len(prompt) > 0 and (isinstance(prompt[0], str) or np.ndim(prompt[0]) > 0)
        )
        if n is not None and several:
            raise ValueError(f"[{where}] got n {n} and {len(prompt)} prompts, expected one prompt")
        if not hasattr(seed, "__index__"):
            raise ValueError(f"[{where}] got seed {seed!r}, expected an integer")
        prompts = [self._prompt(where, each, state) for each in (prompt if several else [prompt] * (n or 1))]
        seeds = range(seed, seed + len(prompts))
        steps = list(self._tokens(where, prompts, length, Sampler(temperature, top_k, top_p), seeds, state, stop))
        rows = zip(*steps) if steps else [()] * len(prompts)
        texts = [
            text_behind(self.vocabulary, before.tolist(), [token for token in row if token >= 0])
            for before, row in zip(prompts, rows)
        ]
        return texts if several or n is not None else texts[0]

    def _prompt(self, where: str, prompt: Any, state: State | None) -> Array:
        """The ids that are read."""
        tokens = isinstance(self.vocabulary, TokenVocabulary)
        start = np.full(int(tokens and state is None), TokenVocabulary.start_id, np.int64)
        if len(prompt) == 0:
            symbols = getattr(self.vocabulary, "symbols", "")
            first = ("\n" if "\n" in symbols else symbols[:1]) if state is None else ""
            return start if tokens else self.vocabulary.encode(first)
        return np.concatenate([start, id_sequences(where, [prompt], len(self.vocabulary), self.vocabulary)[0]])

    def _tokens(
        self, where: str, prompts: list[Array], length: int | None, sampler: Sampler, seeds: Sequence[int],
        state: State | None, stop: bool,
    ) -> TokenStream:  # fmt: skip
        end: int | None = None
        never: tuple[int, ...] = ()
        if isinstance(self.vocabulary, TokenVocabulary):
            words = self.vocabulary
            end = words.stop_id if stop else None
            never = (words.pad_id, words.start_id) if stop else (words.pad_id, words.start_id, words.stop_id)
        return TokenStream(where, self, prompts, length, sampler, seeds, state=state, stop=end, never=never)


def _several(x: Any) -> bool:
    """Whether it is a list of texts, and not one text or its ids."""
    if isinstance(x, str) or not hasattr(x, "__getitem__") or len(x) == 0:
        return False
    return isinstance(x[0], str) or np.ndim(x[0]) > 0
