"""pydl.models.LanguageModel: what it learns and tells, against loops by hand; how it writes; what it refuses."""

from __future__ import annotations

import itertools
import math
import pathlib
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.callbacks import LambdaCallback
from pydl.models import CharLM, LanguageModel
from pydl.nn import functional as F
from pydl.text import BytePairVocabulary, CharVocabulary, ChunkStream, WordVocabulary

TEXTS = ["the cat sees a dog.", "a dog, the dog, sees it!", "cat", "it is the cat.", "a cat is a cat is a cat."]
LONG = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer " * 6


def words(**options: Any) -> WordVocabulary:
    return WordVocabulary.from_texts(TEXTS, **options)


def model(vocabulary: Any = None, **sizes: Any) -> LanguageModel:
    """Small, with weights large enough for its logits to differ."""
    pydl.manual_seed(3)
    sizes = {"hidden_size": 12, "num_layers": 1, "embedding_size": 7, **sizes}
    made = LanguageModel(words() if vocabulary is None else vocabulary, **sizes)
    with pydl.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3.0)
    return made


def log_p(logits: Any) -> np.ndarray:
    values = logits.detach().numpy().astype(np.float64)
    values -= values.max(axis=-1, keepdims=True)
    return values - np.log(np.exp(values).sum(axis=-1, keepdims=True))


def naive(lm: LanguageModel, ids: np.ndarray) -> list[float]:
    """-log p of each token behind the first, one at a time from a zero state."""
    state, found = None, []
    with pydl.no_grad():
        for now, then in itertools.pairwise(ids):
            logits, state = lm(pydl.asarray([[int(now)]]), state)
            found.append(-float(log_p(logits)[0, 0, int(then)]))
    return found


# Learning


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_short_texts_count_each_token_and_each_stop_once(cell: str) -> None:
    lm = model(cell=cell)
    losses = [naive(lm, lm.vocabulary.encode(text, start=True, stop=True)) for text in TEXTS]
    expected = float(np.mean([loss for row in losses for loss in row]))
    for batch_size in (1, 2, 128):
        found = lm.evaluate(TEXTS, batch_size=batch_size)
        assert found["loss"] == pytest.approx(expected, rel=1e-5)
        assert found["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    ids = [lm.vocabulary.encode(text) for text in TEXTS]
    assert lm.evaluate(ids)["loss"] == lm.evaluate(TEXTS)["loss"]
    assert lm.perplexity(TEXTS[:1]) == pytest.approx(math.exp(np.mean(losses[0])), rel=1e-5)
    assert set(lm.evaluate(TEXTS, metrics=["accuracy"])) == {"loss", "perplexity", "accuracy"}


def test_a_long_text_is_read_with_one_state() -> None:
    lm = model(LONG)
    ids = lm.vocabulary.encode(LONG)
    expected = float(np.mean(naive(lm, ids)))
    assert lm.evaluate(LONG)["loss"] == pytest.approx(expected, rel=1e-5)
    assert lm.evaluate(ids)["loss"] == pytest.approx(expected, rel=1e-5)
    assert model().evaluate(" ".join(TEXTS))["loss"] == pytest.approx(
        np.mean(naive(model(), words().encode(" ".join(TEXTS), start=True, stop=True))), rel=1e-5
    )


def test_training_on_a_long_text_is_truncated_bptt_by_hand() -> None:
    lm, other = model(LONG, dropout=0.0), model(LONG)
    lm.fit(LONG, batch_size=4, epochs=2, seq_length=9, optimizer="sgd", lr=0.5, clip_norm=None, verbose=0)
    optimizer = pydl.optim.SGD(other.parameters(), lr=0.5)
    stream = ChunkStream(other.vocabulary.encode(LONG), 4, 9)
    for _ in range(2):
        state: Any = None
        for inputs, targets in stream:
            loss, state = other.loss(pydl.asarray(inputs), pydl.asarray(targets), state)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            state = tuple(part.detach() for part in state)
    for ours, theirs in zip(lm.parameters(), other.parameters()):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_training_on_short_texts_is_a_step_for_each_batch() -> None:
    lm, other = model(), model()
    lm.fit(TEXTS, batch_size=len(TEXTS), optimizer="sgd", lr=0.5, clip_norm=None, verbose=0)
    rows = [other.vocabulary.encode(text, start=True, stop=True) for text in TEXTS]
    total: Any = 0.0
    for row in rows:
        logits, _ = other(pydl.asarray(row[None, :-1]))
        total = total + F.cross_entropy(logits[0], pydl.asarray(row[1:]), reduction="sum")
    (total * (1.0 / sum(len(row) - 1 for row in rows))).backward()
    for ours, theirs in zip(lm.parameters(), other.parameters()):
        assert theirs.grad is not None
        expected = theirs.detach().numpy() - 0.5 * theirs.grad.numpy()
        np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_validation_is_the_end_of_a_long_text_or_some_of_the_short_ones() -> None:
    lm = model(LONG)
    history = lm.fit(LONG, batch_size=2, epochs=1, seq_length=20, validation_split=0.2, verbose=0)
    tail = LONG[len(LONG) - int(len(LONG) * 0.2) :]
    assert history["val_loss"][0] == pytest.approx(lm.evaluate(tail)["loss"], rel=1e-5)
    lm = model()
    history = lm.fit(TEXTS, validation_data=TEXTS[:2], metrics=["perplexity"], verbose=0)
    assert history["val_loss"][0] == pytest.approx(lm.evaluate(TEXTS[:2])["loss"], rel=1e-5)
    assert history["val_perplexity"][0] == pytest.approx(lm.perplexity(TEXTS[:2]), rel=1e-5)
    assert lm.fit(TEXTS * 3, validation_split=0.4, verbose=0)["val_loss"][0] > 0


def test_it_learns_words_and_characters() -> None:
    text = "the cat sees a dog and a dog hears the cat, " * 40  # no choice hangs on what stands far before
    for vocabulary in (CharVocabulary.from_text(text), WordVocabulary.from_texts([text])):
        pydl.manual_seed(0)
        lm = LanguageModel(vocabulary, hidden_size=32, num_layers=1)
        lm.fit(text, batch_size=4, epochs=25, seq_length=20, lr=0.02, verbose=0)
        assert lm.perplexity(text) < 1.1
        assert lm.generate("the cat sees", 12, temperature=0, stop=False).startswith(" a dog and")


def test_a_stopped_training_goes_on_to_the_same_bytes(tmp_path: pathlib.Path) -> None:
    arguments: dict[str, Any] = {"batch_size": 2, "epochs": 3, "seq_length": 20, "verbose": 0}
    whole = model(LONG)
    whole.fit(LONG, **arguments)
    stopped = model(LONG)

    def stop(batch: int, logs: Any) -> None:
        if batch == 4:
            raise KeyError

    with pytest.raises(KeyError):
        stopped.fit(
            LONG,
            **arguments,
            checkpoint=tmp_path,
            checkpoint_every=3,
            callbacks=[LambdaCallback(on_train_batch_end=stop)],
        )
    resumed = model(LONG)
    resumed.fit(LONG, **arguments, checkpoint=tmp_path, resume="last")
    for ours, theirs in zip(resumed.parameters(), whole.parameters()):
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())


# Writing


def test_greedy_writing_against_the_whole_read_again() -> None:
    lm = model()
    ids = lm.vocabulary.encode("the cat", start=True).tolist()
    for _ in range(12):
        logits, _ = lm(pydl.asarray([ids]))
        odds = logits.detach().numpy()[0, -1].copy()
        odds[[0, 1]] = -np.inf  # padding and start are never written
        ids.append(int(odds.argmax()))
        if ids[-1] == lm.vocabulary.stop_id:
            break
    expected = lm.vocabulary.decode(ids)
    assert "the cat" + lm.generate("the cat", 12, temperature=0) == expected


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_many_texts_are_those_of_one_by_one(cell: str, threads: None) -> None:
    lm = model(cell=cell, hidden_size=40)
    options: dict[str, Any] = {"length": 30, "temperature": 1.2, "top_k": 9, "top_p": 0.97}
    alone = [lm.generate("the", seed=5 + i, **options) for i in range(7)]
    assert len(set(alone)) > 3
    for count in (1, 2, 7):
        pydl.set_num_threads(count)
        assert lm.generate("the", n=7, seed=5, **options) == alone
    prompts: list[Any] = ["a dog", "", "the cat is", lm.vocabulary.encode("it"), "dog"]
    singly = [lm.generate(prompt, seed=i, **options) for i, prompt in enumerate(prompts)]
    assert lm.generate(prompts, seed=0, **options) == singly
    assert lm.generate("the", 0, n=2) == ["", ""]


def test_it_stops_at_the_stop_token_or_never() -> None:
    lm = model()
    texts = lm.generate("", 50, n=20)
    lengths = [len(lm.vocabulary.encode(text)) for text in texts]
    assert min(lengths) < 50
    endless = lm.generate("", 50, n=20, stop=False)
    assert all(len(lm.vocabulary.encode(text)) >= 50 for text in endless if "<unknown>" not in text)
    stream = lm.stream("", seed=0)
    assert "".join(stream) == lm.generate("", 10_000, seed=0)


def test_a_text_comes_in_pieces_that_make_it_whole(tmp_path: pathlib.Path) -> None:
    lm = model()
    whole = lm.generate("the cat", 40, seed=2, stop=False)
    pieces = list(lm.stream("the cat", 40, seed=2, stop=False))
    assert len(pieces) == 40
    assert "".join(pieces) == whole
    stream = lm.stream("the cat", 40, seed=2, stop=False)
    begun = "".join(next(stream) for _ in range(7))
    pydl.save(stream.state_dict(), tmp_path / "state.safetensors")
    other = lm.stream()
    other.load_state_dict(pydl.load(tmp_path / "state.safetensors"))
    assert begun + "".join(other) == whole
    with pytest.raises(ValueError, match="the state is damaged"):
        other.load_state_dict({**stream.state_dict(), "tail": pydl.asarray([0, 99])})


def test_it_goes_on_from_a_state() -> None:
    lm = model()
    greedy: dict[str, Any] = {"temperature": 0, "stop": False}
    whole = lm.generate("the", 20, **greedy)
    first = lm.stream("the", 8, **greedy)
    begun = list(first)
    ids = lm.vocabulary.encode("".join(begun))
    follows = lm.generate(length=12, state=first.state, **greedy)
    assert lm.vocabulary.decode([*ids, *lm.vocabulary.encode(follows)]) == whole.strip()


class Bytes(WordVocabulary):
    """A stand-in whose tokens are bytes: a character may take several."""

    def __init__(self) -> None:
        super().__init__([f"{i:02x}" for i in range(256)])

    def _text(self, ids: list[int]) -> str:
        return bytes(i - 4 for i in ids if i >= 4).decode("utf-8", "replace")

    def _ids(self, text: str) -> list[int]:
        return [byte + 4 for byte in text.encode()]


def test_bytes_that_make_a_character_wait_for_each_other() -> None:
    text = "où ça? né à l'été… 日本"
    lm = model(Bytes(), hidden_size=32)
    lm.fit([text], epochs=150, lr=0.02, verbose=0)
    pieces = list(lm.stream("", 60, temperature=0))
    assert "".join(pieces) == text == lm.generate("", 60, temperature=0)
    assert pieces == list(text)
    assert "\ufffd" in lm.generate("", 60, seed=1, temperature=50.0)  # what is no text is shown as such, and ends


def test_byte_pairs() -> None:
    pytest.importorskip("tokenizers")
    vocabulary = BytePairVocabulary.from_texts(TEXTS * 3, size=300)
    lm = model(vocabulary, hidden_size=32)
    lm.fit(TEXTS[:2], epochs=120, lr=0.02, verbose=0)
    assert lm.perplexity(TEXTS[:2]) < 1.3
    assert lm.generate("the cat", temperature=0) == " sees a dog."
    assert "".join(lm.stream("the cat", temperature=0)) == " sees a dog."


def test_characters_write_as_charlm_does() -> None:
    pydl.manual_seed(4)
    lm = LanguageModel(LONG, hidden_size=24)
    pydl.manual_seed(4)
    chars = CharLM(LONG, hidden_size=24)
    for options in ({}, {"temperature": 0}, {"top_k": 4, "seed": 3}):
        assert lm.generate("to be", 60, **options) == chars.generate("to be", 60, **options)
    assert lm.generate("", 9) == chars.generate("", 9)


# Files and mistakes


def test_saved_and_loaded(tmp_path: pathlib.Path) -> None:
    for vocabulary in (words(), CharVocabulary.from_text(LONG)):
        lm = model(vocabulary, cell="gru", num_layers=2, dropout=0.2)
        lm.save(tmp_path / "lm.safetensors")
        loaded = LanguageModel.load(tmp_path / "lm.safetensors")
        assert loaded.vocabulary == vocabulary
        assert loaded.dropout.p == 0.2
        assert loaded.generate("is", 20, seed=3) == lm.generate("is", 20, seed=3)
    quantized = nn.quantize_dynamic(lm)
    assert quantized.generate("is", 20, n=3)[1] == quantized.generate("is", 20, seed=1)


def test_weights_of_another_vocabulary_are_refused(tmp_path: pathlib.Path) -> None:
    model(WordVocabulary.from_texts(["a b c"])).save(tmp_path / "other.safetensors")
    lm = model()
    before = lm.generate("the", 20, seed=1)
    with pytest.raises(ValueError, match=r"its model has another vocabulary as vocabulary, .*LanguageModel\.load"):
        lm.load_weights(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="shape"):
        lm.load_state_dict(pydl.load(tmp_path / "other.safetensors"))
    assert lm.generate("the", 20, seed=1) == before
    CharLM("abc", hidden_size=4).save(tmp_path / "char.safetensors")
    with pytest.raises(ValueError, match=r"pydl\.char_lm\.1"):
        LanguageModel.load(tmp_path / "char.safetensors")


def test_bad_input_is_named() -> None:
    lm, chars = model(words(unknown=False)), model(LONG)
    cases: list[tuple[Any, str, type[Exception]]] = [
        (lambda: lm.fit("the bird"), "got the token 'bird'", ValueError),
        (lambda: lm.fit(["the cat", "the bird"]), r"LanguageModel\.fit\] sequence 1.*'bird'", ValueError),
        (lambda: lm.fit(["the cat", ""]), "sequence 1 is empty", ValueError),
        (lambda: lm.fit([]), "no text", ValueError),
        (lambda: lm.fit("the cat"), "expected at least", ValueError),
        (lambda: lm.fit(TEXTS, TEXTS), "got y", TypeError),
        (lambda: lm.fit(TEXTS, seq_length=0), "seq_length 0", ValueError),
        (lambda: lm.fit([[5, 99]]), "the id 99", ValueError),
        (lambda: lm.fit([[5, 2]]), "text 0 has a start or stop token", ValueError),
        (lambda: lm.fit(7), "int", TypeError),
        (lambda: chars.fit(["to be", "or not"]), "no stop token", ValueError),
        (lambda: chars.fit("to be #"), r"'#' \(U\+0023\)", ValueError),
        (lambda: chars.fit("t"), "1 tokens, expected 2", ValueError),
        (lambda: chars.fit(LONG, validation_split=0.001), "expected 2 or more", ValueError),
        (lambda: chars.fit(LONG, validation_data=""), "validation_data", ValueError),
        (lambda: chars.evaluate(LONG, LONG), "got y", TypeError),
        (lambda: lm.generate("the bird"), "'bird'", ValueError),
        (lambda: lm.generate(["the", "bird"]), "'bird'", ValueError),
        (lambda: lm.generate([99]), "the id 99", ValueError),
        (lambda: lm.generate("the", -1), "length -1", ValueError),
        (lambda: lm.generate("the", 2.5), "length 2.5, expected an integer", ValueError),  # type: ignore[arg-type]
        (lambda: lm.generate("the", None), "length None", ValueError),  # type: ignore[arg-type]
        (lambda: lm.stream("the", 2.5), "length 2.5, expected an integer", ValueError),  # type: ignore[arg-type]
        (lambda: lm.generate("the", n=0), "n 0", ValueError),
        (lambda: lm.generate("the", n=2.5), "n 2.5", ValueError),  # type: ignore[arg-type]
        (lambda: lm.generate("the", seed="a"), "seed 'a'", ValueError),  # type: ignore[arg-type]
        (lambda: lm.generate("the", temperature="hot"), "temperature='hot'", TypeError),  # type: ignore[arg-type]
        (lambda: lm.generate("the", top_k=1.5), "top_k 1.5", ValueError),  # type: ignore[arg-type]
        (
            lambda: lm.generate("the", state=pydl.zeros((lm.num_layers, 1, lm.hidden_size))),
            "without cell st",
            ValueError,
        ),
        (lambda: lm.generate("the", state=(pydl.zeros((9, 1, 4)),) * 2), r"h has the shape \(9, 1, 4\)", ValueError),
        (lambda: lm.fit("the cat", seq_length=2.5), "seq_length 2.5", ValueError),  # type: ignore[arg-type]
        (lambda: lm.generate(["the", "a"], n=2), "one prompt", ValueError),
        (lambda: lm.generate("the", seed=-1), "seed -1", ValueError),
        (lambda: lm.generate("the", top_p=2.0), "top_p 2.0", ValueError),
        (lambda: LanguageModel(50), "got a int", TypeError),  # type: ignore[arg-type]
        (lambda: LanguageModel(LONG, cell="transformer"), r"\[LanguageModel\] got cell", ValueError),
    ]
    for call, message, kind in cases:
        with pytest.raises(kind, match=message):
            call()
    assert "<unknown>" in words().decode(words().encode("the bird"))
