"""Seq2Seq: ragged batches against one by one, states, teacher forcing and decoding against naive loops."""

from __future__ import annotations

import math
import pathlib
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.data import pad_collate
from pydl.models import Sampler, Seq2Seq
from pydl.text import CharVocabulary, WordVocabulary

KINDS = [(cell, attention) for cell in ("lstm", "gru") for attention in (None, "dot", "additive")]
SOURCES = [[3, 4, 5, 6, 3, 4], [5], [6, 6, 3], [4, 3], [3, 5, 4, 6]]
TARGETS = [[3, 4], [5, 5, 3, 4, 5], [4], [3, 3, 3], [5, 4]]


def model_of(cell: str = "gru", attention: str | None = "dot", **options: Any) -> Seq2Seq:
    pydl.manual_seed(5)
    model = Seq2Seq(7, 6, attention=attention, cell=cell, **{"embedding_size": 5, "hidden_size": 8, **options})
    for parameter in model.parameters():
        parameter.detach().mul_(3.0)  # so that what it says depends on what it read
    return model.eval()


def log_p(model: Seq2Seq, source: list[int], target: list[int]) -> np.ndarray:
    """The log-probabilities after the start token and each of `target`, with nothing padded: (T + 1, V)."""
    with pydl.no_grad():
        logits = model(pydl.asarray([source]), None, pydl.asarray([[1, *target]])).numpy()[0].astype(float)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("cell", "attention"), KINDS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_padding_changes_nothing(cell: str, attention: str | None, bidirectional: bool) -> None:
    model = model_of(cell, attention, num_layers=2, bidirectional=bidirectional)
    source, lengths = pad_collate([np.array(s) for s in SOURCES], padding_value=6)
    target, _ = pad_collate([np.array([1, *t]) for t in TARGETS], padding_value=4)
    with pydl.no_grad():
        together = model(source, lengths, target).numpy()
        for i, (s, t) in enumerate(zip(SOURCES, TARGETS, strict=True)):
            alone = model(pydl.asarray([s]), None, pydl.asarray([[1, *t]])).numpy()[0]
            np.testing.assert_allclose(together[i, : len(t) + 1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("cell", "attention"), KINDS)
def test_a_step_at_a_time_is_the_whole_in_one_pass(cell: str, attention: str | None) -> None:
    model = model_of(cell, attention)
    with pydl.no_grad():
        state = model.encode(pydl.asarray([SOURCES[0]]))
        parts = []
        for token in (1, 3, 5, 4):
            logits, state, _ = model.decode(pydl.asarray([[token]]), state)
            parts.append(logits.numpy()[0, 0])
        whole = model(pydl.asarray([SOURCES[0]]), None, pydl.asarray([[1, 3, 5, 4]])).numpy()[0]
    np.testing.assert_allclose(np.stack(parts), whole, rtol=1e-5, atol=1e-5)


def test_without_attention_the_state_is_handed_over() -> None:
    model = model_of("lstm", None, bidirectional=False, num_layers=2)
    source = pydl.asarray([SOURCES[0]])
    with pydl.no_grad():
        _, (h, c) = model.encoder(model.input(source))
        hidden, _ = model.decoder(model.embedding(pydl.asarray([[1], [3]])), (h, c))
        expected = model.output(hidden).numpy()[:, 0]
        found = model(source, None, pydl.asarray([[1, 3]])).numpy()[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_attention_by_hand(kind: str, rng: np.random.Generator) -> None:
    model = model_of("gru", kind)
    state = model.encode(*pad_collate([np.array(SOURCES[0]), np.array(SOURCES[2])]))
    assert state.memory is not None
    assert model.attention is not None
    queries = rng.normal(size=(2, 3, 8)).astype(np.float32)
    with pydl.no_grad():
        contexts, weights = model.attention(pydl.asarray(queries), state.memory)
    w = {name: p.detach().numpy() for name, p in model.attention.named_parameters()}
    values = state.memory.values.detach().numpy()
    for n, length in enumerate((6, 3)):
        for t in range(3):
            keys = values[n, :length] @ w["key.weight"].T
            if kind == "dot":
                scores = keys @ queries[n, t] / math.sqrt(8)
            else:
                scores = np.tanh(w["query.weight"] @ queries[n, t] + w["query.bias"] + keys) @ w["score.weight"][0]
            p = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(weights.numpy()[n, t, :length], p, rtol=1e-4, atol=1e-6)
            assert (weights.numpy()[n, t, length:] == 0).all()
            np.testing.assert_allclose(contexts.numpy()[n, t], p @ values[n, :length], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("cell", "attention"), [("lstm", None), ("gru", "dot"), ("gru", "additive")])
def test_decoding_many_gives_the_bits_of_one_by_one(cell: str, attention: str | None) -> None:
    model = model_of(cell, attention, hidden_size=24)
    random = np.random.default_rng(2)
    sources = [random.integers(3, 7, random.integers(1, 40)).tolist() for _ in range(20)]
    for options in ({}, {"beam": 3}, {"sampler": Sampler(1.5)}):
        together, scores = model.predict(sources, max_length=9, return_scores=True, **options)
        assert len({tuple(tokens) for tokens in together}) > 1
        for i, source in enumerate(sources):
            seed = {"seed": i} if "sampler" in options else {}
            alone, score = model.predict([source], max_length=9, return_scores=True, **options, **seed)
            assert alone[0].tolist() == together[i].tolist()
            assert score[0] == scores[i]
        halves, scores_of_halves = model.predict(sources, 7, max_length=9, return_scores=True, **options)
        assert [t.tolist() for t in halves] == [t.tolist() for t in together]
        assert np.array_equal(scores, scores_of_halves)


@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_attention_over_long_sources_has_the_bits_of_one_by_one(attention: str) -> None:
    model = model_of("rnn", attention, hidden_size=48)
    random = np.random.default_rng(0)
    sources = [random.integers(3, 7, length).tolist() for length in (300, 3, *random.integers(2, 300, 12))]
    for options in ({}, {"beam": 3}):
        asked: dict[str, Any] = {"max_length": 6, "return_scores": True, "return_attention": True, **options}
        for batch_size in (128, 3):
            together, looks, scores = model.predict(sources, batch_size, **asked)
            for i, source in enumerate(sources):
                alone, look, score = model.predict([source], **asked)
                assert alone[0].tolist() == together[i].tolist()
                assert look[0].tobytes() == looks[i].tobytes()
                assert score[0] == scores[i]


@pytest.mark.parametrize("attention", [None, "dot"])
def test_greedy_and_scores_against_a_naive_loop(attention: str | None) -> None:
    model = model_of("gru", attention)
    found, scores = model.predict(SOURCES, max_length=6, return_scores=True)
    for source, tokens, score in zip(SOURCES, found, scores, strict=True):
        expected: list[int] = []
        total = 0.0
        while len(expected) < 6:
            p = log_p(model, source, expected)[-1]
            total += p.max()
            if int(p.argmax()) == 2:
                break
            expected.append(int(p.argmax()))
        assert tokens.tolist() == expected
        assert score == pytest.approx(total, rel=1e-4)


def test_a_full_beam_is_exhaustive_search() -> None:
    model = model_of()
    found, scores = model.predict(SOURCES, beam=6, max_length=2, length_penalty=0.7, return_scores=True)
    for source, tokens, score in zip(SOURCES, found, scores, strict=True):
        p = log_p(model, source, [])[-1]
        candidates = {(): p[2]}
        for first in (0, 1, 3, 4, 5):
            after = log_p(model, source, [first])[-1]
            for second in range(6):
                sequence = (first,) if second == 2 else (first, second)
                candidates[sequence] = (p[first] + after[second]) / (7 / 6) ** 0.7
        best = max(candidates, key=lambda sequence: candidates[sequence])
        assert tuple(tokens) == best
        assert score == pytest.approx(candidates[best], rel=1e-4)


def test_attention_is_returned_for_each_token_and_source_step() -> None:
    model = model_of()
    for beam in (1, 3):
        found, looks = model.predict(SOURCES, beam=beam, max_length=5, return_attention=True)
        for source, tokens, look in zip(SOURCES, found, looks, strict=True):
            assert look.shape == (len(tokens), len(source))
            state = model.encode(pydl.asarray([source]))
            if len(tokens):
                _, _, weights = model.decode(pydl.asarray([[1, *tokens[:-1]]]), state)
                np.testing.assert_allclose(look, weights.detach().numpy()[0], rtol=1e-4, atol=1e-6)
    assert sum(map(len, found)) > 3


def test_loss_and_accuracy_count_targets_and_stops_only() -> None:
    model = model_of()
    found = model.evaluate(SOURCES, TARGETS, batch_size=2)
    losses, right = [], []
    for source, target in zip(SOURCES, TARGETS, strict=True):
        p = log_p(model, source, target)
        losses += [-p[t, token] for t, token in enumerate([*target, 2])]
        right += [p[t].argmax() == token for t, token in enumerate([*target, 2])]
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["accuracy"] == pytest.approx(np.mean(right))


@pytest.mark.parametrize(("cell", "attention"), [("lstm", "dot"), ("gru", None)])
def test_teacher_forcing_reads_what_it_should(cell: str, attention: str | None) -> None:
    model = model_of(cell, attention).train()
    source, target = pydl.asarray([SOURCES[0], SOURCES[0][::-1]]), pydl.asarray([[1, 3, 5, 4, 4], [1, 4, 4, 3, 5]])
    whole = model(source, None, target).detach().numpy()
    model.teacher_forcing = 1.0 - 1e-12  # step by step, and all tokens given
    np.testing.assert_allclose(model(source, None, target).detach().numpy(), whole, rtol=1e-4, atol=1e-5)
    model.teacher_forcing = 0.0
    free = model(source, None, target).detach().numpy()
    own = free.argmax(axis=2)
    read = np.concatenate([[[1], [1]], own[:, :-1]], axis=1)
    model.teacher_forcing = 1.0
    np.testing.assert_allclose(free, model(source, None, pydl.asarray(read)).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert not np.allclose(free, whole)
    model.teacher_forcing = 0.0
    model.eval()
    np.testing.assert_allclose(model(source, None, target).detach().numpy(), whole, rtol=1e-4, atol=1e-5)


def test_gradients_step_by_step_are_those_of_one_pass() -> None:
    model = model_of("lstm", "additive").train()
    source, target = pydl.asarray([SOURCES[0]]), pydl.asarray([[1, 3, 5]])
    gradients = []
    for forcing in (1.0, 1.0 - 1e-12):
        model.teacher_forcing = forcing
        model.zero_grad()
        logits = model(source, None, target).reshape((-1, 6))
        nn.CrossEntropyLoss()(logits, pydl.asarray([3, 5, 2])).backward()
        gradients.append({name: p.grad.numpy().copy() for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], gradient, rtol=1e-3, atol=1e-6, err_msg=name)


def test_it_learns_to_turn_words_round(tmp_path: pathlib.Path) -> None:
    pydl.manual_seed(0)
    random = np.random.default_rng(0)
    x = ["".join(random.choice(list("abc"), random.integers(1, 6))) for _ in range(500)]
    y = [text[::-1] for text in x]
    target = WordVocabulary.from_texts(y, level="character", unknown=False)
    model = Seq2Seq(CharVocabulary("abc"), target, attention="dot", embedding_size=8, hidden_size=32)
    seen: list[float] = []

    def schedule(epoch: int) -> float:
        seen.append(1.0 if epoch < 10 else 0.8)
        return seen[-1]

    model.fit(x, y, 32, 12, lr=0.02, verbose=0, teacher_forcing=schedule)
    assert {1.0, 0.8} == set(seen)
    assert model.teacher_forcing == 1.0
    for beam in (1, 3):
        assert np.mean([a == b for a, b in zip(model.predict(x, beam=beam), y, strict=True)]) > 0.9
    model.save(tmp_path / "model")
    assert Seq2Seq.load(tmp_path / "model").predict(x) == model.predict(x)
    other = WordVocabulary(["c", "b", "a"], level="character", unknown=False)
    if other == target:
        other = WordVocabulary(["a", "b", "c"], level="character", unknown=False)
    stranger = Seq2Seq(CharVocabulary("abc"), other, attention="dot", embedding_size=8, hidden_size=32)
    with pytest.raises(ValueError, match="another vocabulary as target"):
        stranger.load_weights(tmp_path / "model")


def test_bad_input_is_named() -> None:
    model = model_of()
    spelled = Seq2Seq(CharVocabulary("ab"), WordVocabulary(["a"], unknown=False), hidden_size=4)
    for call, message in (
        (lambda: model.predict(SOURCES, beam=7), "beam 7, expected 1 to the vocabulary's size 6"),
        (lambda: model.predict(SOURCES, beam=2, sampler=Sampler()), "one of them"),
        (lambda: model.predict(SOURCES, max_length=0), "max_length 0"),
        (lambda: model.predict([[3], []]), "sequence 1 is empty"),
        (lambda: model.predict([[3], [7]]), "id 7, expected 0 <= id < 7"),
        (lambda: model.fit(SOURCES, TARGETS[:2]), "5 sources and 2 targets"),
        (lambda: model.fit([[3]], [[]]), "target.* sequence 0 is empty"),
        (lambda: model.fit([[3]], [[3, 2]]), "target 0 has a start or stop token"),
        (lambda: model.fit([[3]], [[3]], teacher_forcing=1.5), "teacher_forcing 1.5"),
        (lambda: model.fit([[3]], [[3]], teacher_forcing=lambda epoch: -1.0, verbose=0), "gave -1.0"),
        (lambda: model.fit([[3]], [[3]], teacher_forcing="often"), "teacher_forcing 'often', expected 0 to 1"),
        (lambda: model.fit([[3]], [[3]], teacher_forcing=None), "teacher_forcing None, expected 0 to 1"),
        (lambda: model.fit([[3]], [[3]], teacher_forcing=lambda epoch: "x", verbose=0), "gave 'x'"),
        (lambda: model.predict(SOURCES, sampler=Sampler(), seed=-1), "seed -1, expected an integer, 0 or more"),
        (lambda: model.predict(SOURCES, sampler=Sampler(), seed=1.5), "seed 1.5, expected an integer"),
        (lambda: spelled.predict(["abc"]), "sequence 0: .*'c'"),
        (lambda: spelled.fit(["ab"], ["b"]), "target.* sequence 0: .*'b'"),
        (lambda: spelled.predict(["ab"], return_attention=True), "no attention"),
        (lambda: Seq2Seq(5, 2, embedding_size=3), "3 ids or more"),
        (lambda: Seq2Seq(5, 6, embedding_size=3, attention="cross"), "'dot', 'additive' or None"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="CharVocabulary as target"):
        Seq2Seq(5, CharVocabulary("ab"))  # type: ignore[arg-type]
