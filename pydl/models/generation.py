"""TokenStream: what a recurrent language model writes, token by token, in one stream or in many at once.

The weights are read where they are at every step, so nothing can be out of date, and a step copies none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl import _C
from pydl.models.cells import LAYERS, whole
from pydl.models.sampling import Sampler

if TYPE_CHECKING:
    from pydl import Tensor
    from pydl.models.recurrent_lm import RecurrentLM, State

__all__ = ["TextStream", "TokenStream", "text_behind"]

_UNIFORM_BLOCK = 256  # random numbers drawn at a time
_BEFORE = 8  # tokens that decide how the next one is written, at most
_TOGETHER = 4  # up to here a row's bits do not depend on how many rows there are


class _Rows:
    """Where up to four streams stand in the network; the calls are made without gradients."""

    def __init__(self, model: RecurrentLM, h: Any, c: Any, y: Any) -> None:
        rnn: Any = model.rnn
        output: Any = model.output
        self._rnn, self._output = rnn, output
        self._plain = type(rnn) is LAYERS[model.cell]  # or quantized
        # The parameters themselves, looked up once: what is assigned to their data is seen, too.
        self._table = model.embedding.weight
        self._elsewhere = self._table.device.type != "cpu"
        if self._plain:
            self._weights = [weight for group in rnn.all_weights for weight in group]
            self._options = (model.num_layers, False, False, 0.0, False, None, None)
            self._mode, self._linear = rnn.mode, (output.weight, output.bias)
        self.h, self.c, self.y = h, c, y

    def read(self, ids: Tensor) -> None:
        """Ids (T, R) -> the state behind them."""
        embedded = _C.embedding(ids.to(self._table.device) if self._elsewhere else ids, self._table)
        if self._plain:
            y, self.h, self.c = _C.recurrent(self._mode, embedded, self.h, self.c, self._weights, *self._options)
        else:
            y, state = self._rnn(embedded, self.h if self.c is None else (self.h, self.c))
            self.h, self.c = state if isinstance(state, tuple) else (state, None)
        self.y = y if ids.shape[0] == 1 else y[-1:]

    def logits(self) -> npt.NDArray[np.floating]:
        """(R, V)."""
        y = _C.linear(self.y, *self._linear) if self._plain else self._output(self.y)
        logits: Any = np.from_dlpack(y.cpu() if self._elsewhere else y)
        return logits[0]


def _check_state(model: RecurrentLM, h: Tensor, c: Tensor | None, counts: Sequence[int]) -> None:
    """Raise ValueError where a state has other sizes than the model's, for one of these numbers of streams."""
    shapes = [(model.num_layers, count, model.hidden_size) for count in dict.fromkeys(counts)]
    for name, part in (("h", h), ("c", c)):
        if part is not None and tuple(part.shape) not in shapes:
            raise ValueError(f"{name} has the shape {tuple(part.shape)}, expected {' or '.join(map(str, shapes))}")
    if (c is None) == (model.cell == "lstm"):
        raise ValueError(f"it is {'with' if c is not None else 'without'} cell states, and the cell {model.cell}")


class TokenStream(Iterator[list[int]]):
    """The ids that a model writes behind some prompts: lists with one for each stream, -1 where that has ended.

    Each stream's ids are those that it would have alone: they depend on the weights, its prompt, its seed and the
    sampler. Iteration ends when all streams have, by the stop token or by length.

    Args:
        where: names the caller in messages.
        model: what writes.
        prompts: ids (T_i,) for each stream, which are read and not returned; may be empty where there is a state.
        length: how many ids of each; default endless.
        sampler: draws them.
        seeds: of each stream's random numbers.
        state: goes on from here, (L, N, H), for "lstm" a pair; default zeros.
        stop: the id that ends a stream, and is not returned; default none.
        never: ids that are not drawn.

    Raises:
        ValueError: a negative length, or a seed outside of 0 to 2**64 - 1.
    """

    def __init__(
        self,
        where: str,
        model: RecurrentLM,
        prompts: Sequence[npt.NDArray[np.integer]],
        length: int | None,
        sampler: Sampler,
        seeds: Sequence[int],
        *,
        state: State | None = None,
        stop: int | None = None,
        never: Sequence[int] = (),
    ) -> None:
        if length is not None:
            (length,) = whole(where, 0, length=length)
        for seed in seeds:
            if not hasattr(seed, "__index__") or not 0 <= seed < 2**64:
                raise ValueError(f"[{where}] got seed {seed}, expected an integer, 0 <= seed < 2**64")
        if state is not None:
            try:
                first, second = state if isinstance(state, tuple) else (state, None)
                _check_state(model, first, second, (1, len(seeds)))
            except (AttributeError, TypeError, ValueError) as error:
                raise ValueError(f"[{where}] got a state that is not of this model: {error}") from None
        self.where, self._model = where, model
        self._left = -1 if length is None else length
        self._sampler = sampler
        self._stop = stop
        self._never = list(never)
        self._generators = [pydl.Generator(seed) for seed in seeds]
        self._uniforms: list[list[float]] = [[] for _ in seeds]
        self._ended = [False] * len(seeds)
        self._pending = False  # ids were drawn that are not read yet
        self._ids = np.zeros((1, len(seeds)), np.int64)
        with pydl.no_grad():
            each = [self._begin(prompt, i, state) for i, prompt in enumerate(prompts)]
            groups = [each[i : i + _TOGETHER] for i in range(0, len(each), _TOGETHER)]
            self._groups = [_joined(model, group) for group in groups]
        self._share_ids()

    def _begin(self, prompt: npt.NDArray[np.integer], i: int, state: State | None) -> _Rows:
        h, c = state if isinstance(state, tuple) else (state, None)
        if h is not None and h.shape[1] > 1:
            h, c = h[:, i : i + 1], None if c is None else c[:, i : i + 1]
        rows = _Rows(self._model, h, c, None if h is None else h[-1:])  # the last layer's output is its state
        if len(prompt):
            rows.read(pydl.asarray(prompt.reshape(-1, 1)))
        return rows

    def _share_ids(self) -> None:
        """One tensor for each group that shows what is pending, made once."""
        parts = [self._ids[:, i : i + _TOGETHER] for i in range(0, self._ids.shape[1], _TOGETHER)]
        self._inputs = [pydl.from_numpy(part) for part in parts]

    def _read_pending(self) -> None:
        for rows, ids in zip(self._groups, self._inputs):
            rows.read(ids)
        self._pending = False

    def __iter__(self) -> TokenStream:
        return self

    def __next__(self) -> list[int]:
        if self._left == 0:
            raise StopIteration
        enabled = _C.is_grad_enabled()
        _C.set_grad_enabled(False)
        try:
            if self._pending:
                self._read_pending()
            logits = [rows.logits() for rows in self._groups]
        finally:
            _C.set_grad_enabled(enabled)
        drawn = [
            -1 if ended else self._draw(i, logits[i // _TOGETHER][i % _TOGETHER]) for i, ended in enumerate(self._ended)
        ]
        self._left -= 1
        if self._stop in drawn:
            for i, token in enumerate(drawn):
                if token == self._stop:
                    self._ended[i], drawn[i] = True, -1
            if all(self._ended):
                self._left = 0
                raise StopIteration
        for i, token in enumerate(drawn):
            if token >= 0:  # what ended stays where it is: its row is calculated and not looked at
                self._ids[0, i] = token
        self._pending = True
        return drawn

    def _draw(self, i: int, logits: npt.NDArray[np.floating]) -> int:
        if self._never:
            logits = logits.copy()
            logits[self._never] = -np.inf
        uniforms = self._uniforms[i]
        if not uniforms:
            drawn = pydl.rand(_UNIFORM_BLOCK, generator=self._generators[i], dtype=pydl.float64)
            uniforms = self._uniforms[i] = drawn.cpu().numpy().tolist()
        return self._sampler(logits, uniforms.pop())

    # ---- where it stands

    @property
    def state(self) -> State:
        """Where the network stands after all ids returned so far have been read: (L, N, H), for "lstm" a pair.

        The part of a stream that has ended by its stop token means nothing.
        """
        if self._pending:
            with pydl.no_grad():
                self._read_pending()
        h = _concatenated([rows.h for rows in self._groups])
        return h if self._groups[0].c is None else (h, _concatenated([rows.c for rows in self._groups]))

    def state_dict(self) -> dict[str, Any]:
        """All that it needs to go on with the same bits: numbers and tensors, for `pydl.save`."""
        state = self.state
        h, c = state if isinstance(state, tuple) else (state, None)
        found: dict[str, Any] = {
            "h": h.clone(),
            "uniforms": pydl.asarray(np.array([row for each in self._uniforms for row in each])),
            "counts": pydl.asarray(np.array([len(each) for each in self._uniforms])),
            "generators": pydl.stack([generator.get_state() for generator in self._generators]),
            "ended": pydl.asarray(np.array(self._ended)),
            "left": self._left,
            "temperature": self._sampler.temperature,
            "top_k": self._sampler.top_k or 0,
            "top_p": self._sampler.top_p or 0.0,
            "stop": -1 if self._stop is None else self._stop,
            "never": pydl.asarray(np.array(self._never, np.int64)),
        }
        return found if c is None else {**found, "c": c.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another stream of this model stood: its ids, its random numbers, its sampler, its end.

        Raises:
            ValueError: the state is damaged, or of a model with other sizes; nothing was changed.
        """
        model = self._model
        try:
            h, c = state["h"], state.get("c")
            count = h.shape[1]
            _check_state(model, h, c, (count,))
            lengths = state["counts"].cpu().numpy().tolist()
            flat = state["uniforms"].cpu().numpy().tolist()
            ended = [bool(each) for each in state["ended"].cpu().numpy()]
            states = [state["generators"][i] for i in range(count)]
            never = state["never"].cpu().numpy().tolist()
            if not len(lengths) == len(ended) == count or sum(lengths) != len(flat):
                raise ValueError(f"it is of {count} streams, with the random numbers of {len(lengths)}")
            if any(not 0 <= i < len(model.embedding.weight) for i in never):
                raise ValueError("it has ids that are none of the model's")
            generators = [pydl.Generator(0) for _ in states]
            for generator, each in zip(generators, states):
                generator.set_state(each)
            sampler = Sampler(float(state["temperature"]), state["top_k"] or None, state["top_p"] or None)
            left, stop = int(state["left"]), int(state["stop"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"[{self.where}] the state is damaged, or of another model: {error!s}") from None
        ends = np.cumsum(lengths)
        self._uniforms = [flat[end - n : end] for end, n in zip(ends, lengths)]
        self._generators, self._sampler, self._never = generators, sampler, never
        self._left, self._stop, self._ended = left, None if stop < 0 else stop, ended
        self._ids, self._pending = np.zeros((1, count), np.int64), False
        with pydl.no_grad():
            self._groups = []
            for i in range(0, count, _TOGETHER):
                part = h[:, i : i + _TOGETHER].clone()
                cells = None if c is None else c[:, i : i + _TOGETHER].clone()
                self._groups.append(_Rows(model, part, cells, part[-1:]))
        self._share_ids()


class TextStream(Iterator[str]):
    """The text of one `TokenStream`, piece by piece: in one piece, they are the text that follows the prompt.

    A piece is a character, or what a token adds: a word comes with the space before it; bytes that are not a character
    yet wait for the next ones.

    Args:
        ids: of one stream.
        vocabulary: what they stand for.
        before: the last ids of the prompt, on which depends whether the first word has a space before it.

    Attributes:
        state: where the network stands after all that was drawn so far has been read, to go on from.
    """

    def __init__(self, ids: TokenStream, vocabulary: Any, before: npt.NDArray[np.integer]) -> None:
        self._ids = ids
        self._vocabulary = vocabulary
        self._shown = [int(token) for token in before[-_BEFORE:]]
        self._waiting: list[int] = []

    @property
    def state(self) -> State:
        return self._ids.state

    def state_dict(self) -> dict[str, Any]:
        """All that it needs to go on with the same text: numbers and tensors, for `pydl.save`."""
        tail = pydl.asarray(np.array([len(self._shown), *self._shown, *self._waiting], np.int64))
        return {**self._ids.state_dict(), "tail": tail}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another stream of this model stood.

        Raises:
            ValueError: the state is damaged, or of a model with other sizes; nothing was changed.
        """
        try:
            count, *tail = (int(each) for each in state["tail"].cpu().numpy())
            self._vocabulary.decode(tail)  # raises where an id is none of the vocabulary's
            if state["h"].shape[1] != 1:
                raise ValueError(f"it is of {state['h'].shape[1]} streams, expected one")
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"[{self._ids.where}] the state is damaged, or of another model: {error!s}") from None
        self._ids.load_state_dict(state)
        self._shown, self._waiting = tail[:count], tail[count:]

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> str:
        while True:
            token = next(self._ids, None)
            if token is not None and token[0] >= 0:
                self._waiting.append(token[0])
            elif not self._waiting:
                raise StopIteration
            text = text_behind(self._vocabulary, self._shown, self._waiting)
            if token is None or not text.endswith("\ufffd") or len(self._waiting) >= _BEFORE:
                self._shown, self._waiting = (self._shown + self._waiting)[-_BEFORE:], []
                return text


def text_behind(vocabulary: Any, before: Sequence[int], ids: Sequence[int]) -> str:
    """What ids add to the text of those before them."""
    start = vocabulary.decode(list(before))
    whole: str = vocabulary.decode([*before, *ids])
    return whole[len(start) :]


def _joined(model: RecurrentLM, each: list[_Rows]) -> _Rows:
    if len(each) == 1:
        return each[0]
    h, c, y = (
        None if getattr(each[0], name) is None else pydl.concat([getattr(rows, name) for rows in each], axis=1)
        for name in ("h", "c", "y")
    )
    return _Rows(model, h, c, y)


def _concatenated(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else pydl.concat(parts, axis=1)
