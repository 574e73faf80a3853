"""Greedy, beam and sampled writing of all models that write, against loops made from what their docstrings promise.

The loops read everything anew at each step through `forward`, carry no state, and never stop a search early.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import pydl
from pydl.models import Captioner, LanguageModel, Sampler, Seq2Seq, decoding
from pydl.text import WordVocabulary

PAD, START, STOP = 0, 1, 2
SIZE = 7
Logs = Callable[[list[int]], npt.NDArray[np.float64]]  # tokens written so far -> log-probabilities of the next


def log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    found: npt.NDArray[np.float64] = shifted - math.log(np.exp(shifted).sum())
    return found


def sharpened(model: Any, factor: float, stop: float) -> Any:
    """Fresh networks say nearly the same at each step and of each input; with larger weights they do not."""
    with pydl.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor if parameter.ndim > 1 else 0.5)
        model.output.bias[STOP] = stop  # an end now and then
    return model.eval()


def seq2seq(seed: int) -> tuple[Any, list[Any], Callable[[Any], Logs]]:
    pydl.manual_seed(seed)
    cell, attention = ("gru", "lstm", "rnn")[seed % 3], ("additive", None, "dot")[seed % 3]
    model = sharpened(Seq2Seq(5, SIZE, attention=attention, embedding_size=6, cell=cell, hidden_size=9), 4.0, 1.5)
    random = np.random.default_rng(seed)
    x = [random.integers(0, 5, length) for length in random.integers(1, 12, 60)]

    def logs_of(row: Any) -> Logs:
        def logs(tokens: list[int]) -> npt.NDArray[np.float64]:
            read = pydl.asarray(np.array([[START, *tokens]]))
            with pydl.no_grad():
                return log_softmax(model(pydl.asarray(row[None]), None, read).numpy()[0, -1])

        return logs

    return model, x, logs_of


def captioner(seed: int) -> tuple[Any, list[Any], Callable[[Any], Logs]]:
    pydl.manual_seed(seed)
    cell, attention = ("lstm", "gru", "rnn")[seed % 3], ("dot", "additive", None)[seed % 3]
    model = Captioner((1, 6, 8), SIZE, encoder=(3,), attention=attention, cell=cell, hidden_size=9)
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (40, 1, 6, 8), dtype=np.uint8) * random.integers(0, 2, (40, 1, 2, 2)).repeat(
        3, 2
    ).repeat(4, 3)
    with pydl.no_grad():
        model.encode(pydl.asarray(x))  # so that batch normalization has seen images
    sharpened(model, 2.5, 0.3)

    def logs_of(row: Any) -> Logs:
        def logs(tokens: list[int]) -> npt.NDArray[np.float64]:
            read = pydl.asarray(np.array([[START, *tokens]]))
            with pydl.no_grad():
                return log_softmax(model(pydl.asarray(row[None]), read).numpy()[0, -1])

        return logs

    return model, list(x), logs_of


WRITERS = [(seq2seq, 0), (seq2seq, 1), (seq2seq, 2), (captioner, 0), (captioner, 1), (captioner, 2)]


def greedy(logs: Logs, max_length: int) -> tuple[list[int], float]:
    tokens: list[int] = []
    score = 0.0
    while len(tokens) < max_length:
        found = logs(tokens)
        token = int(found.argmax())
        score += found[token]
        if token == STOP:
            break
        tokens.append(token)
    return tokens, score


def beam_search(logs: Logs, beam: int, alpha: float, max_length: int) -> tuple[list[int], float]:
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, max_length + 1):
        longer = [(s + p, tokens, t) for s, tokens in live for t, p in enumerate(logs(tokens))]
        longer.sort(key=lambda each: -each[0])
        penalty = ((5 + length) / 6) ** alpha
        ended += [(score / penalty, tokens) for score, tokens, token in longer[:beam] if token == STOP]
        live = [(score, [*tokens, token]) for score, tokens, token in longer if token != STOP][:beam]
    ended += [(score / ((5 + max_length) / 6) ** alpha, tokens) for score, tokens in live]
    score, tokens = max(ended, key=lambda each: each[0])
    return tokens, score


@pytest.mark.parametrize(("make", "seed"), WRITERS)
def test_greedy(make: Any, seed: int) -> None:
    model, x, logs_of = make(seed)
    said, scores = model.predict(x[:40], max_length=9, return_scores=True)
    different = set()
    for row, tokens, score in zip(x, said, scores, strict=False):
        expected, expected_score = greedy(logs_of(row), 9)
        assert tokens.tolist() == expected
        assert score == pytest.approx(expected_score, abs=1e-4)
        different.add(tuple(expected))
    assert len(different) > 1


@pytest.mark.parametrize(("make", "seed"), WRITERS)
@pytest.mark.parametrize(("beam", "alpha"), [(2, 0.0), (3, 3.0), (SIZE, 1.3)])
def test_beams(make: Any, seed: int, beam: int, alpha: float) -> None:
    model, x, logs_of = make(seed)
    with pydl.no_grad():
        model.output.weight.mul_(0.3)  # many hypotheses are about as good
    x = x[:25]
    said, scores = model.predict(x, beam=beam, length_penalty=alpha, max_length=6, return_scores=True)
    for row, tokens, score in zip(x, said, scores, strict=True):
        expected, expected_score = beam_search(logs_of(row), beam, alpha, 6)
        assert score == pytest.approx(expected_score, abs=1e-4)
        assert tokens.tolist() == expected


@pytest.mark.parametrize(("make", "seed"), WRITERS)
@pytest.mark.parametrize("way", ["greedy", "beam", "sampled"])
def test_ragged_batches_have_the_bits_of_one_by_one(make: Any, seed: int, way: str) -> None:
    model, x, _ = make(seed)
    more: dict[str, Any] = {"max_length": 8, "return_scores": True}
    more |= {"greedy": {}, "beam": {"beam": 3}, "sampled": {"sampler": Sampler(1.3, top_k=5)}}[way]
    if model.attention is not None:
        more["return_attention"] = True
    alone = [model.predict([row], seed=7 + i, **more) for i, row in enumerate(x)]
    for batch_size in (1, 9, 50):
        found = model.predict(x, batch_size, seed=7, **more)
        for i, one in enumerate(alone):
            for mine, its in zip(found, one, strict=True):
                assert np.array_equal(mine[i], its[0]), (i, batch_size)


def frequencies_fit(drawn: list[tuple[int, ...]], p: dict[tuple[int, ...], float]) -> None:
    """Pearson's statistic within 5 deviations of its mean, the rare ones put together."""
    assert sum(p.values()) == pytest.approx(1.0, abs=1e-6)
    assert set(drawn) <= set(p)
    n = len(drawn)
    counts = dict.fromkeys(p, 0)
    for each in drawn:
        counts[each] += 1
    common = [key for key in p if n * p[key] >= 8]
    rest = (sum(c for k, c in counts.items() if k not in common), n * (1 - sum(p[k] for k in common)))
    cells = [(counts[key], n * p[key]) for key in common] + ([rest] if rest[1] >= 8 else [])
    assert len(cells) > 3
    statistic = sum((found - expected) ** 2 / expected for found, expected in cells)
    degrees = len(cells) - 1
    assert statistic < degrees + 5 * math.sqrt(2 * degrees)


def chances(logs: Logs, length: int, allowed: Callable[[npt.NDArray[np.float64]], Any]) -> dict[tuple[int, ...], float]:
    """The probability of everything that may be drawn, tokens before the stop token, `length` at most."""
    found: dict[tuple[int, ...], float] = {}
    open_: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    while open_:
        tokens, p = open_.pop()
        if len(tokens) == length:
            found[tokens] = found.get(tokens, 0.0) + p
            continue
        for token, q in enumerate(allowed(logs(list(tokens)))):
            if q > 0 and token == STOP:
                found[tokens] = found.get(tokens, 0.0) + p * q
            elif q > 0:
                open_.append(((*tokens, token), p * q))
    return found


def tempered(logs: npt.NDArray[np.float64], temperature: float, top_k: int, never: tuple[int, ...] = ()) -> Any:
    p = np.exp(logs / temperature)
    p[list(never)] = 0.0
    p[np.argsort(-p, kind="stable")[top_k:]] = 0.0
    return p / p.sum()


@pytest.mark.parametrize(("make", "seed"), [(seq2seq, 0), (captioner, 1)])
def test_draws_have_the_probabilities_of_the_model(make: Any, seed: int) -> None:
    model, x, logs_of = make(seed)
    drawn = model.predict([x[0]] * 3000, sampler=Sampler(2.0, top_k=4), max_length=3, batch_size=500)
    p = chances(logs_of(x[0]), 3, lambda logs: tempered(logs, 2.0, 4))
    frequencies_fit([tuple(each.tolist()) for each in drawn], p)


def language_model(seed: int) -> tuple[Any, Callable[[str], Logs]]:
    pydl.manual_seed(seed)
    words = WordVocabulary(["a", "b", "c"])
    model = LanguageModel(words, cell=("lstm", "gru", "rnn")[seed], hidden_size=8, num_layers=1 + seed % 2)
    sharpened(model, 3.0, 0.3)

    def logs_of(prompt: str) -> Logs:
        before = words.encode(prompt, start=True)

        def logs(tokens: list[int]) -> npt.NDArray[np.float64]:
            with pydl.no_grad():
                logits, _ = model(pydl.asarray(np.concatenate([before, np.array(tokens, np.int64)])[None]))
            return log_softmax(logits.numpy()[0, -1])

        return logs

    return model, logs_of


PROMPTS = ["", "a", "b a", "c c b a", "a b c a b c a b", "b b", "c a"]


@pytest.mark.parametrize("seed", range(3))
def test_a_language_model_writes_the_most_probable_token(seed: int) -> None:
    model, logs_of = language_model(seed)
    written = model.generate(PROMPTS, 7, temperature=0)
    expected = []
    for prompt in PROMPTS:
        tokens: list[int] = []
        while len(tokens) < 7:
            logs = logs_of(prompt)(tokens)
            logs[[PAD, START]] = -np.inf  # they stand for nothing that could be written
            token = int(logs.argmax())
            if token == STOP:
                break
            tokens.append(token)
        expected.append(model.vocabulary.decode(tokens))
    assert [text.strip() for text in written] == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("seed", range(3))
def test_many_texts_have_the_bits_of_one_by_one(seed: int) -> None:
    model, _ = language_model(seed)
    prompts = PROMPTS * 3
    together = model.generate(prompts, 12, temperature=1.5, seed=3)
    assert together == [model.generate(prompt, 12, temperature=1.5, seed=3 + i) for i, prompt in enumerate(prompts)]
    assert len(set(together)) > 8


def test_texts_have_the_probabilities_of_the_model() -> None:
    model, logs_of = language_model(1)
    texts = model.generate("c a", 3, n=3000, temperature=1.7, top_k=3)
    p = chances(logs_of("c a"), 3, lambda logs: tempered(logs, 1.7, 3, (PAD, START)))
    names = {tokens: model.vocabulary.decode(list(tokens)) for tokens in p}
    by_text: dict[tuple[int, ...], float] = {}
    numbers = {text: (i,) for i, text in enumerate(sorted(set(names.values())))}
    for tokens, q in p.items():
        key = numbers[names[tokens]]
        by_text[key] = by_text.get(key, 0.0) + q
    frequencies_fit([numbers[text.strip()] for text in texts], by_text)


def test_ties_go_to_what_comes_first() -> None:
    """Logits of few whole numbers: many hypotheses are exactly as good, of one length and of several, and more of them
    than a beam keeps. The loop sorts all of them, by score and then by hypothesis and token."""
    ties = 0
    for seed in range(600):
        random = np.random.default_rng(seed)
        size = int(random.integers(3, 12))
        table = random.integers(0, random.choice([1, 2, 3]), (size, size)).astype(float)
        beam, longest = int(random.integers(2, size + 1)), int(random.integers(1, 7))
        alpha = float(random.choice([0.0, 0.6, 1.0, 3.0]))

        def logs(tokens: list[int], table: Any = table) -> npt.NDArray[np.float64]:
            return decoding.log_softmax(table[[[START, *tokens][-1]]])[0]

        def step(tokens: Any, state: Any, table: Any = table) -> Any:
            return table[tokens], state, None

        options: Any = {"beam": beam, "alpha": alpha, "start": START, "stop": STOP, "max_length": longest}
        found = decoding.beam_search(step, lambda state, rows: None, None, 1, **options)
        expected, score = beam_search(logs, beam, alpha, longest)
        assert found.tokens[0].tolist() == expected, seed
        assert found.scores[0] == pytest.approx(score)
        ties += len(set(np.sort(table[START])[-beam:])) < beam
    assert ties > 300


@pytest.mark.parametrize("seed", range(3))
def test_a_loaded_model_writes_many_texts_of_unequal_length(seed: int, tmp_path: Path) -> None:
    """37 streams at once, whose prompts and ends differ: each as the model before writes it alone, token by token
    through `forward`; and a model that takes the weights over."""
    model, logs_of = language_model(seed)
    model.save(tmp_path / "model")
    loaded = LanguageModel.load(tmp_path / "model")
    other = language_model((seed + 3) % 3)[0]
    other.load_weights(tmp_path / "model")
    prompts = [" ".join(np.random.default_rng(i).choice(list("abc"), i % 9)) for i in range(37)]
    alone = [model.generate(prompt, 15, temperature=1.3, seed=5 + i) for i, prompt in enumerate(prompts)]
    assert len({len(text.split()) for text in alone}) > 4
    for each in (model, loaded, other):
        for _ in range(2):
            assert each.generate(prompts, 15, temperature=1.3, seed=5) == alone
    greedy_texts = loaded.generate(prompts, 6, temperature=0)
    for prompt, text in zip(prompts, greedy_texts, strict=True):
        tokens: list[int] = []
        for _ in range(6):
            logs = logs_of(prompt)(tokens)
            logs[[PAD, START]] = -np.inf
            if int(logs.argmax()) == STOP:
                break
            tokens.append(int(logs.argmax()))
        assert text.strip() == model.vocabulary.decode(tokens)
