"""SequenceClassifier and SequenceTagger: ragged batches against one by one, masks, learning, files, errors."""

from __future__ import annotations

import copy
import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.data import pad_collate
from pydl.models import SequenceClassifier, SequenceTagger
from pydl.serialization import load_file, load_metadata, save_file
from pydl.text import CharVocabulary, WordVocabulary

LENGTHS = (5, 1, 3, 8, 3, 2)


def features(rng: np.random.Generator, size: int = 4) -> list[np.ndarray]:
    return [rng.normal(size=(length, size)).astype(np.float32) for length in LENGTHS]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_classifier_pools_valid_steps_only(
    rng: np.random.Generator, pooling: str, bidirectional: bool, cell: str
) -> None:
    x = features(rng)
    model = SequenceClassifier(
        4, 3, pooling=pooling, cell=cell, hidden_size=6, num_layers=2, bidirectional=bidirectional
    ).eval()
    padded, lengths = pad_collate(x, padding_value=1e6)
    with pydl.no_grad():
        together = model(padded, lengths).numpy()
        for row, logits in zip(x, together, strict=True):
            outputs, _ = model.rnn(pydl.asarray(row[:, None]))
            steps = outputs.numpy()[:, 0]
            backwards = steps[0, 6:] if bidirectional else steps[0, :0]
            pooled = {
                "last": np.concatenate([steps[-1, :6], backwards]),
                "mean": steps.mean(axis=0),
                "max": steps.max(axis=0),
            }[pooling]
            by_hand = pooled @ model.output.weight.detach().numpy().T + model.output.bias.detach().numpy()
            np.testing.assert_allclose(logits, by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [SequenceClassifier, SequenceTagger])
def test_predictions_of_ragged_batches_are_those_of_one_by_one(rng: np.random.Generator, make: Any) -> None:
    x = features(rng)
    model = make(4, 3, hidden_size=16, bidirectional=True)
    together = model.predict_probabilities(x)
    halves = model.predict_probabilities(x, batch_size=2)
    for i, row in enumerate(x):
        alone = model.predict_probabilities([row])[0]
        assert np.array_equal(alone, together[i])
        assert np.array_equal(alone, halves[i])
        assert np.array_equal(alone.argmax(axis=-1), model.predict(x)[i])
        assert alone.shape == ((3,) if make is SequenceClassifier else (len(row), 3))


@pytest.mark.parametrize(("hidden", "longest"), [(1, 30), (3, 400), (40, 400)])
def test_the_mean_of_long_sequences_has_the_bits_of_one_by_one(
    rng: np.random.Generator, hidden: int, longest: int
) -> None:
    pydl.manual_seed(2)
    model = SequenceClassifier(3, 4, pooling="mean", cell="rnn", hidden_size=hidden)
    x = [rng.normal(size=(length, 3)).astype(np.float32) for length in (longest, 1, *rng.integers(2, longest, 28))]
    alone = np.concatenate([model.predict_probabilities([row]) for row in x])
    for batch_size in (128, 11):
        assert model.predict_probabilities(x, batch_size).tobytes() == alone.tobytes()


def test_loss_and_accuracy_count_valid_steps_only(rng: np.random.Generator) -> None:
    x = features(rng)
    y = [rng.integers(0, 3, length) for length in LENGTHS]
    y[3][2] = -100
    model = SequenceTagger(4, 3, hidden_size=5)
    found = model.evaluate(x, y, batch_size=4)
    losses, right = [], []
    for row, tags, p in zip(x, y, model.predict_probabilities(x), strict=True):
        assert len(row) == len(p)
        losses += [-np.log(p[t, tag]) for t, tag in enumerate(tags) if tag != -100]
        right += [p[t].argmax() == tag for t, tag in enumerate(tags) if tag != -100]
    assert len(losses) == sum(LENGTHS) - 1
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["accuracy"] == pytest.approx(np.mean(right), rel=1e-12)


def test_class_weights_are_those_of_the_trainer(rng: np.random.Generator) -> None:
    x = features(rng)
    y = [rng.integers(0, 3, length) for length in LENGTHS]
    y[0][1] = -100
    model = SequenceTagger(4, 3, hidden_size=5)
    losses = []
    for row, tags, p in zip(x, y, model.predict_probabilities(x), strict=True):
        assert len(row) == len(tags)
        losses += [-np.log(p[t, tag]) * (3.0 if tag == 1 else 1.0) for t, tag in enumerate(tags) if tag != -100]
    history = model.fit(x, y, 6, optimizer="sgd", lr=0.0, class_weight={1: 3.0}, verbose=0)
    assert history["loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_files_that_lie_are_refused_before_anything_large_is_made(tmp_path: pathlib.Path) -> None:
    model = SequenceTagger(CharVocabulary("ab"), 2, hidden_size=4)
    model.save(tmp_path / "model")
    weights, metadata = load_file(tmp_path / "model"), load_metadata(tmp_path / "model")
    for old, new, message in (
        ('"hidden_size": 4', '"hidden_size": 4000000000', "the size of no weight"),
        ('"num_layers": 1', '"num_layers": 1000000', "weights of 1"),
        ('"symbols": "ab"', '"symbols": "abc"', "inputs is 3"),
        ('"cell": "lstm"', '"cell": "gru"', "damaged"),
        ('"cell": "lstm"', '"cells": "lstm"', "damaged"),
        ('"cell": "lstm"', '"cell" "lstm"', "damaged"),
        ('"kind": "characters"', '"kind": "pickles"', "pickles"),
    ):
        assert old in metadata["model"]
        save_file(weights, tmp_path / "lie", {**metadata, "model": metadata["model"].replace(old, new)})
        with pytest.raises(ValueError, match=f"lie: the file is .*{message}"):
            SequenceTagger.load(tmp_path / "lie")


def test_as_many_steps_as_classes_are_no_riddle(rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 3, 4)).astype(np.float32)
    y = rng.integers(0, 3, (6, 3))
    model = SequenceTagger(4, 3, hidden_size=5)
    p = np.stack(model.predict_probabilities(x))
    expected = -np.log(np.take_along_axis(p, y[..., None], axis=2)).mean()
    found = model.evaluate(x, y)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["accuracy"] == pytest.approx((p.argmax(axis=2) == y).mean())


def test_gradients_do_not_come_from_padding(rng: np.random.Generator) -> None:
    x, y = features(rng), [rng.integers(0, 3, length) for length in LENGTHS]
    model = SequenceTagger(4, 3, hidden_size=5)
    padded, lengths = pad_collate(x, padding_value=7.0)
    targets, _ = pad_collate(y, padding_value=-100)
    loss = nn.CrossEntropyLoss()
    loss(model(padded, lengths).reshape((-1, 3)), targets.reshape((-1,))).backward()
    together = {name: parameter.grad.numpy().copy() for name, parameter in model.named_parameters()}
    model.zero_grad()
    for row, tags in zip(x, y, strict=True):
        logits = model(pydl.asarray(row[None]))
        (loss(logits.reshape((-1, 3)), pydl.asarray(tags)) * (len(tags) / sum(LENGTHS))).backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(together[name], parameter.grad.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_classifier_learns_from_strings_and_goes_through_a_file(tmp_path: pathlib.Path) -> None:
    pydl.manual_seed(0)
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("ab"), random.integers(2, 9))) for _ in range(200)]
    y = [int(text[0] == "a") for text in texts]  # the first letter has to be remembered
    model = SequenceClassifier(CharVocabulary("ab"), 2, hidden_size=16)
    history = model.fit(texts, y, 16, 12, lr=0.02, validation_split=0.2, verbose=0)
    assert history["val_accuracy"][-1] > 0.95
    model.save(tmp_path / "model")
    again = SequenceClassifier.load(tmp_path / "model")
    assert np.array_equal(again.predict_probabilities(texts), model.predict_probabilities(texts))
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(copied.predict(texts), model.predict(texts))
    other = SequenceClassifier(CharVocabulary("ba"), 2, hidden_size=16)
    before = other.predict_probabilities(["ab"])
    with pytest.raises(ValueError, match="another vocabulary"):
        other.load_weights(tmp_path / "model")
    assert np.array_equal(other.predict_probabilities(["ab"]), before)
    with pytest.raises(ValueError, match="expected 9"):
        SequenceClassifier(CharVocabulary("ab"), 2, hidden_size=9).load_weights(tmp_path / "model")
    with pytest.raises(ValueError, match=r"pydl\.SequenceTagger\.1"):
        SequenceTagger.load(tmp_path / "model")
    same = SequenceClassifier(CharVocabulary("ab"), 2, hidden_size=16)
    same.load_weights(tmp_path / "model")
    assert np.array_equal(same.predict(texts), model.predict(texts))


def test_the_same_seed_gives_the_same_weights_and_resumes(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    x, y = features(rng) * 4, [0, 1, 2, 0, 1, 2] * 4

    def train(epochs: int, **options: Any) -> Any:
        pydl.manual_seed(1)
        model = SequenceClassifier(4, 3, hidden_size=8)
        model.fit(x, y, 4, epochs, verbose=0, **options)
        return model.predict_probabilities(x)

    whole = train(3)
    assert np.array_equal(whole, train(3))
    train(1, checkpoint=tmp_path / "run")
    assert np.array_equal(whole, train(3, checkpoint=tmp_path / "run", resume="last"))


def test_bad_input_is_named() -> None:
    words = SequenceClassifier(WordVocabulary(["a"], unknown=False), 2, hidden_size=4)
    vectors = SequenceClassifier(3, 2, hidden_size=4)
    ids = SequenceTagger(5, 2, embedding_size=3, hidden_size=4)
    for call, message in (
        (lambda: words.fit(["a", "b"], [0, 1]), "sequence 1: .*'b'"),
        (lambda: words.fit(["a", ""], [0, 1]), "sequence 1 is empty"),
        (lambda: words.fit(["a", "a"], [0, 2]), "class 2 in row 1, expected 0 to 1"),
        (lambda: words.fit(["a", "a"], [0]), "expected 2 class numbers$"),
        (lambda: words.fit(["a", "a"], None), "got no y"),
        (lambda: words.fit(["a", "a"], ["x", "y"]), r"np\.unique\(names, return_inverse=True\)"),
        (lambda: words.fit(["a", "a"], [0.0, 1.0]), r"y\.astype\(int\)"),
        (lambda: words.fit(["a", "a"], np.eye(2)), r"y\.argmax\(axis=1\)"),
        (lambda: words.fit(["a"], [0], batch_size=0), r"\[SequenceClassifier.fit\] got batch_size 0"),
        (lambda: vectors.predict([[[1.0, 2.0], [3.0]]]), "sequence 0 has rows of different lengths"),
        (lambda: SequenceClassifier(3, 2, hidden_size=4.0), "hidden_size 4.0, expected an integer"),  # type: ignore[arg-type]
        (lambda: SequenceClassifier(3, 2, embedding_size=0), r"\[SequenceClassifier\] got embedding_size 0"),
        (lambda: words.fit([], []), "no sequences"),
        (lambda: words.predict(["a"], batch_size=0), "batch_size 0"),
        (lambda: vectors.predict([np.zeros((2, 4))]), r"\(2, 4\), expected \(T, 3\)"),
        (lambda: vectors.predict([np.zeros((0, 3))]), "sequence 0 is empty"),
        (lambda: vectors.predict([np.full((2, 3), np.nan)]), "NaN"),
        (lambda: vectors.predict([np.full((2, 3), 1e300)]), "infinite"),
        (lambda: ids.predict([[0, 5]]), "id 5, expected 0 <= id < 5"),
        (lambda: ids.predict([[0, -1]]), "id -1"),
        (lambda: ids.fit([[1, 2]], [[0]]), "row 0 of y"),
        (lambda: ids.fit([[1, 2]], [[0, 3]]), "class 3 in row 0, step 1"),
        (lambda: ids.fit([[1, 2]], [[0, 1], [0, 1]]), "2 rows as y"),
        (lambda: ids.fit([[1, 2]], [[0, 1]], validation_data=5), "validation_data"),
        (lambda: SequenceClassifier(3, 1), "classes 1"),
        (lambda: SequenceClassifier(0, 2), "inputs 0"),
        (lambda: SequenceClassifier(3, 2, pooling="sum"), "'last', 'mean' or 'max'"),
        (lambda: SequenceClassifier(3, 2, cell="tcn"), "one of lstm, gru, rnn"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for call, message in (
        (lambda: ids.predict(["abc"]), "no vocabulary"),
        (lambda: SequenceClassifier("abc", 2), "got a str as inputs, expected a vocabulary"),  # type: ignore[arg-type]
        (lambda: SequenceTagger(None, 2), "got a NoneType as inputs"),  # type: ignore[arg-type]
        (lambda: words.predict("abc"), "got a str"),
        (lambda: ids.predict([[0.5]]), "float64"),
        (lambda: ids.predict(3), "got a int"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_sizes_may_be_numpys_integers(tmp_path: pathlib.Path) -> None:
    """Such as ``y.max() + 1``, which people write for the number of classes."""
    y = np.array([0, 1, 2])
    model: Any = SequenceClassifier(np.int64(4), y.max() + 1, hidden_size=np.int32(5))
    assert (model.classes, type(model.classes)) == (3, int)
    model.save(tmp_path / "model")
    assert SequenceClassifier.load(tmp_path / "model").output.weight.shape == (3, 5)
    for wrong in (True, np.bool_(True), 2.0, "2", None, np.array([2, 3])):
        with pytest.raises(ValueError, match="got classes"):
            SequenceClassifier(4, wrong)


def test_a_file_of_another_kind_says_whose_it_is(tmp_path: pathlib.Path) -> None:
    SequenceClassifier(4, 2, hidden_size=3).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"'pydl.SequenceClassifier.1'.*it is read by SequenceClassifier.load"):
        SequenceTagger.load(tmp_path / "model")
