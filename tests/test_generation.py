"""Writing of language models: streams side by side, saved states, weights that change, and memory that does not."""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.models.char_lm import CharLM
from pydl.models.generation import TokenStream
from pydl.models.sampling import Sampler

CELLS = ("lstm", "gru", "rnn")
TEXT = "to be, or not to be, that is the question\n"


def made(cell: str = "lstm", **sizes: Any) -> CharLM:
    """A model whose weights are large enough for its logits to differ."""
    pydl.manual_seed(2)
    model = CharLM(TEXT, cell=cell, **{"hidden_size": 20, "num_layers": 2, "embedding_size": 11, **sizes})
    with pydl.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


def streams(model: CharLM, prompts: list[str], seeds: list[int], length: int = 40, **options: Any) -> list[list[int]]:
    ids = [model.vocabulary.encode(prompt) for prompt in prompts]
    steps = list(TokenStream("test", model, ids, length, Sampler(1.2, 9, 0.97), seeds, **options))
    return np.array(steps).T.tolist()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("quantized", [False, True])
def test_each_of_many_streams_has_the_bits_of_one_alone(cell: str, quantized: bool) -> None:
    model = made(cell, hidden_size=67)
    if quantized:
        model = nn.quantize_dynamic(model)
    prompts = ["to", "be, or", "t", "question", "is the", "to", "that", "be", "not", "or"]
    seeds = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    alone = [streams(model, [prompt], [seed])[0] for prompt, seed in zip(prompts, seeds)]
    for count in (2, 4, 5, 9, 10):
        assert streams(model, prompts[:count], seeds[:count]) == alone[:count]
    letters = model.vocabulary.decode(np.array(alone[3]))
    assert letters == model.generate("question", 40, temperature=1.2, top_k=9, top_p=0.97, seed=1)


def test_states_of_many_streams_are_those_of_each_alone() -> None:
    model = made()
    ids = [model.vocabulary.encode(prompt) for prompt in ("to", "be, or", "is", "the", "question")]
    together = TokenStream("test", model, ids, 7, Sampler(), range(5))
    list(together)
    for i, prompt in enumerate(ids):
        alone = TokenStream("test", model, [prompt], 7, Sampler(), [i])
        list(alone)
        for ours, theirs in zip(together.state, alone.state):
            np.testing.assert_array_equal(ours[:, i : i + 1].numpy(), theirs.numpy())
    begun = TokenStream("test", model, [ids[0][:0]] * 5, 9, Sampler(), [7] * 5, state=together.state)
    last = TokenStream("test", model, [ids[0][:0]], 9, Sampler(), [7], state=alone.state)
    assert [row[4] for row in begun] == [row[0] for row in last]


def test_streams_end_by_themselves_and_leave_the_others_alone() -> None:
    model = made()
    prompts, seeds = ["to", "be", "is", "the", "question", "that"], [0, 1, 2, 3, 4, 5]
    whole = streams(model, prompts, seeds, 60)
    stop = model.vocabulary.encode("o")[0]
    ended = streams(model, prompts, seeds, 60, stop=stop)
    steps = [row.index(stop) if stop in row else 60 for row in whole]
    assert len(set(steps)) > 2
    for row, free, end in zip(ended, whole, steps, strict=True):
        assert row[:end] == free[:end]
        assert set(row[end:]) <= {-1}
    assert len(ended[0]) == min(60, max(steps))
    never = [int(stop), 0]
    assert not {*never} & {token for row in streams(model, prompts, seeds, 60, never=never) for token in row}


# Saved and restored


@pytest.mark.parametrize("cell", CELLS)
def test_a_saved_stream_goes_on_with_the_same_bits(cell: str, tmp_path: pathlib.Path) -> None:
    model = made(cell)
    options: dict[str, Any] = {"temperature": 1.3, "top_k": 8, "top_p": 0.9, "seed": 7}
    whole = model.generate("to be", 700, **options)
    for begun in (0, 1, 255, 256, 257, 699, 700):
        stream = model.stream("to be", 700, **options)
        first = "".join(next(stream) for _ in range(begun))
        pydl.save(stream.state_dict(), tmp_path / "state.safetensors")
        second = "".join(stream)  # saving changes nothing
        other = CharLM.from_tensors(model.state_dict(), model.metadata()).stream("question", 3, temperature=0, seed=1)
        other.load_state_dict(pydl.load(tmp_path / "state.safetensors"))
        assert first + second == first + "".join(other) == whole


def test_many_saved_streams_go_on() -> None:
    model = made("gru")
    ids = [model.vocabulary.encode(prompt) for prompt in ("to", "be, or", "is", "the", "question")]
    stop = int(model.vocabulary.encode("q")[0])
    stream = TokenStream("test", model, ids, 300, Sampler(), range(5), stop=stop, never=[0])
    begun = [next(stream) for _ in range(9)]
    state = stream.state_dict()
    rest = list(stream)
    other = TokenStream("test", model, ids[:1], None, Sampler(0.0), [3])
    other.load_state_dict(state)
    assert list(other) == rest
    assert -1 in {token for row in begun + rest for token in row}
    other.load_state_dict(state)
    assert next(other) == rest[0]


def test_states_that_do_not_fit_are_refused_and_change_nothing() -> None:
    model = made()
    stream = model.stream("to", 20, seed=1)
    state = model.stream("to", 20, seed=1).state_dict()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({**state, "h": state["h"][:1]}, r"h has the shape \(1, 1, 20\), expected \(2, 1, 20\)"),
        (made("gru").stream("to").state_dict(), "without cell states"),
        (made(hidden_size=8).stream("to").state_dict(), "expected"),
        ({key: value for key, value in state.items() if key != "generators"}, "generators"),
        ({**state, "counts": pydl.asarray([5])}, "random numbers"),
        ({**state, "never": pydl.asarray([99])}, "none of the model's"),
        ({**state, "temperature": -1.0}, "temperature"),
        ({**state, "h": pydl.zeros((2, 3, 20)), "c": pydl.zeros((2, 3, 20))}, "of 3 streams, expected one"),
        ({}, "'tail'"),
    ]
    for each, message in wrong:
        with pytest.raises(ValueError, match=rf"CharLM.stream\] the state is damaged.*{message}"):
            stream.load_state_dict(each)
    assert "".join(stream) == model.generate("to", 20, seed=1)


# Weights that change


def _step(model: CharLM) -> None:
    optimizer = pydl.optim.SGD(model.parameters(), lr=30.0)
    ids = pydl.asarray(model.vocabulary.encode(TEXT)[None])
    model.loss(ids[:, :-1], ids[:, 1:])[0].backward()
    optimizer.step()


def _load(model: CharLM) -> None:
    model.load_state_dict({name: tensor * -1.5 for name, tensor in made().state_dict().items()})


def _edit(model: CharLM) -> None:
    with pydl.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-0.7)


def _numpy(model: CharLM) -> None:
    for parameter in model.parameters():
        values = parameter.detach().numpy()
        values[...] = -values[::-1]


def _data(model: CharLM) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.detach() * -0.6


def _data_of_the_table(model: CharLM) -> None:
    model.embedding.weight.data = pydl.flip(model.embedding.weight.detach(), axis=0)


def _initialized(model: CharLM) -> None:
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.0, 1.0)


CHANGES = (_step, _load, _edit, _numpy, _data, _data_of_the_table, _initialized)


def _replaced_parameter(model: CharLM) -> None:
    model.output.weight = nn.Parameter(pydl.flip(model.output.weight.detach(), axis=0))


def _replaced_layer(model: CharLM) -> None:
    model.rnn = made("lstm", hidden_size=20).rnn
    _edit(model)


@pytest.mark.parametrize("change", [*CHANGES, _replaced_parameter, _replaced_layer])
def test_changed_weights_are_noticed_between_two_texts(change: Callable[[CharLM], None]) -> None:
    model = made()
    before = model.generate("to be", 200, seed=4)
    change(model)
    after = model.generate("to be", 200, seed=4)
    fresh = CharLM.from_tensors({name: t.clone() for name, t in model.state_dict().items()}, model.metadata())
    assert before != after == fresh.generate("to be", 200, seed=4)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("prompts", [["to be"], ["to be", "or not", "to be", "that", "is"]])
def test_changed_weights_are_noticed_while_it_writes(change: Callable[[CharLM], None], prompts: list[str]) -> None:
    model = made()
    ids = [model.vocabulary.encode(prompt) for prompt in prompts]
    stream = TokenStream("test", model, ids, 300, Sampler(), range(len(ids)))
    for _ in range(100):  # long enough to have written each character
        next(stream)
    state = stream.state_dict()
    unchanged = TokenStream("test", copy.deepcopy(model), ids, 0, Sampler(), range(len(ids)))
    unchanged.load_state_dict(state)
    change(model)
    fresh = TokenStream("test", copy.deepcopy(model), ids, 0, Sampler(), range(len(ids)))
    fresh.load_state_dict(state)
    assert list(unchanged) != list(fresh) == list(stream)


# Memory


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def _growth(characters: int) -> int:
    """Bytes by which the process grows while so many characters are written, after a tenth as many."""
    stream = CharLM("the quick brown fox", hidden_size=8, num_layers=1).stream("the", seed=1)
    for _ in range(characters // 10):
        next(stream)
    before = _resident()
    for _ in range(characters):
        next(stream)
    return _resident() - before


needs_proc = pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="tells memory by /proc")


@needs_proc
def test_memory_stays_over_fifty_thousand_characters() -> None:
    assert _growth(50_000) < 1 << 20  # 20 bytes a character would be a megabyte


@needs_proc
@pytest.mark.slow
def test_memory_stays_over_a_million_characters() -> None:
    assert _growth(1_000_000) < 1 << 20
