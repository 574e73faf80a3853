"""Captioner: states and decoding against naive loops, batches against one by one, learning, files, errors."""

from __future__ import annotations

import copy
import itertools
import math
import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.models import Captioner, Sampler
from pydl.models.decoding import length_penalty
from pydl.serialization import load_file, load_metadata, save_file
from pydl.text import WordVocabulary

STOP, SIZE = 2, 6
CAPTIONS = [[3, 4], [5, 5, 3, 4, 5], [4], [3, 3, 3], [5, 4], [4]]
KINDS = [("lstm", None), ("gru", "dot"), ("gru", "additive"), ("rnn", None)]


class Pool(nn.Module):
    """A user's encoder, (N, 2, H, W) -> (N, 6), with a layer that training and evaluation run differently."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: pydl.Tensor) -> pydl.Tensor:
        return self.layers(images)


def images_of(count: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 2, 9, 8)).astype(np.float32)


def model_of(cell: str = "lstm", attention: str | None = None, **options: Any) -> Captioner:
    pydl.manual_seed(5)
    options = {"encoder": (3, 4), "embedding_size": 5, "hidden_size": 8, **options}
    model = Captioner((2, 9, 8), SIZE, attention=attention, cell=cell, **options)
    for name, parameter in model.named_parameters():
        if not name.startswith("encoder"):
            parameter.detach().mul_(10.0 if "bridge" in name else 3.0)  # so that what it says depends on what it saw
    return model.eval()


def log_p(model: Captioner, image: np.ndarray, caption: list[int]) -> np.ndarray:
    """The log-probabilities after the start token and each of `caption`, of one image alone: (T + 1, V)."""
    with pydl.no_grad():
        logits = model(pydl.asarray(image[None]), pydl.asarray([[1, *caption]])).numpy()[0].astype(float)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_features_are_the_decoders_first_state(cell: str) -> None:
    model, x = model_of(cell, num_layers=2), pydl.asarray(images_of())
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    with pydl.no_grad():
        flat = model.encoder(x).numpy().reshape(6, -1)
        assert flat.shape == (6, 4 * 2 * 2)

        def bridge(name: str) -> np.ndarray:
            z = flat @ weights[f"{name}.0.weight"].T
            z = (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)
            return z * weights[f"{name}.1.weight"] + weights[f"{name}.1.bias"]

        h = np.tanh(bridge("bridge_h"))
        h = np.stack([h[:, :8], h[:, 8:]])
        state: Any = pydl.asarray(h)
        if cell == "lstm":
            c = bridge("bridge_c")
            state = (state, pydl.asarray(np.stack([c[:, :8], c[:, 8:]])))
        tokens = pydl.asarray(np.array([[1] * 6, [3] * 6]))
        hidden, _ = model.decoder(model.embedding(tokens), state)
        expected = model.output(hidden).numpy().swapaxes(0, 1)
        found = model(x, pydl.asarray([[1, 3]] * 6)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_cnn_by_hand(rng: np.random.Generator) -> None:
    """3 x 3 convolution, normalization by the running moments, ReLU, the largest of 2 x 2; edges left over are cut."""
    model = Captioner((1, 5, 4), SIZE, encoder=(2,), hidden_size=4).eval()
    x = rng.normal(size=(1, 1, 5, 4)).astype(np.float32)
    kernel = model.encoder[1].weight.detach().numpy()
    padded = np.pad(x[0, 0] / math.sqrt(1 + 1e-5), 1)
    out = np.zeros((2, 5, 4))
    for f, i, j in itertools.product(range(2), range(5), range(4)):
        out[f, i, j] = (padded[i : i + 3, j : j + 3] * kernel[f, 0]).sum() / math.sqrt(1 + 1e-5)
    expected = np.maximum(out, 0)[:, :4].reshape(2, 2, 2, 2, 2).max(axis=(2, 4))
    np.testing.assert_allclose(model.encoder(pydl.asarray(x)).detach().numpy()[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.int64, bool])
def test_images_of_other_types_are_those_numbers(dtype: Any) -> None:
    model, x = model_of(), (images_of() * 40).clip(0, 255).astype(dtype)
    expected = model.predict(x.astype(np.float32), return_scores=True)
    for given in (x, pydl.asarray(x), list(x)):
        tokens, scores = model.predict(given, return_scores=True)
        assert [t.tolist() for t in tokens] == [t.tolist() for t in expected[0]]
        assert np.array_equal(scores, expected[1])


@pytest.mark.parametrize(("cell", "attention"), KINDS)
@pytest.mark.parametrize("encoder", ["cnn", "module"])
def test_many_give_the_bits_of_one_by_one(cell: str, attention: str | None, encoder: str) -> None:
    options: dict[str, Any] = {"encoder": (8, 16)} if encoder == "cnn" else {"encoder": Pool().eval()}
    model, x = model_of(cell, attention, hidden_size=24, **options), images_of(20)
    for options in ({}, {"beam": 3}, {"sampler": Sampler(1.5)}):
        together, scores = model.predict(x, max_length=9, return_scores=True, **options)
        assert len(set(scores)) == 20  # every image counts
        for i in range(20):
            seed = {"seed": i} if "sampler" in options else {}
            alone, score = model.predict(x[i : i + 1], max_length=9, return_scores=True, **options, **seed)
            assert alone[0].tolist() == together[i].tolist()
            assert score[0] == scores[i]
        halves, scores_of_halves = model.predict(x, 7, max_length=9, return_scores=True, **options)
        assert [t.tolist() for t in halves] == [t.tolist() for t in together]
        assert np.array_equal(scores, scores_of_halves)


@pytest.mark.parametrize(("cell", "attention"), KINDS)
def test_greedy_and_sampled_against_naive_loops(cell: str, attention: str | None) -> None:
    model, x = model_of(cell, attention), images_of()
    for sampler in (None, Sampler(0.9, top_k=4)):
        found, scores = model.predict(x, max_length=6, return_scores=True, sampler=sampler, seed=4)
        for i, (tokens, score) in enumerate(zip(found, scores, strict=True)):
            uniforms = pydl.rand(6, generator=pydl.Generator(4 + i), dtype=pydl.float64).tolist()
            expected: list[int] = []
            total = 0.0
            while len(expected) < 6:
                p = log_p(model, x[i], expected)[-1]
                token = int(p.argmax()) if sampler is None else sampler(p, uniforms[len(expected)])
                total += p[token]
                if token == STOP:
                    break
                expected.append(token)
            assert tokens.tolist() == expected
            assert score == pytest.approx(total, rel=1e-3, abs=1e-4)
    assert len({tuple(tokens) for tokens in found}) > 1


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_a_full_beam_is_exhaustive_search(alpha: float) -> None:
    model, x = model_of("gru", "dot"), images_of()
    found, scores = model.predict(x, beam=SIZE, max_length=2, length_penalty=alpha, return_scores=True)
    others = [token for token in range(SIZE) if token != STOP]
    for image, tokens, score in zip(x, found, scores, strict=True):
        first = log_p(model, image, [])[-1]
        candidates = {(): first[STOP]}
        for a in others:
            second = log_p(model, image, [a])[-1]
            candidates[(a,)] = (first[a] + second[STOP]) / length_penalty(2, alpha)
            for b in others:
                candidates[a, b] = (first[a] + second[b]) / length_penalty(2, alpha)
        best = max(candidates, key=lambda caption: candidates[caption])
        assert tuple(tokens) == best
        assert score == pytest.approx(candidates[best], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_attention_is_over_the_map(kind: str) -> None:
    model, x = model_of("gru", kind), images_of()
    tokens, looks = model.predict(x, max_length=5, return_attention=True)
    for caption, look in zip(tokens, looks, strict=True):
        assert look.shape == (len(caption), 2, 2)
        np.testing.assert_allclose(look.sum(axis=(1, 2)), 1.0, rtol=1e-5)
    pooled = model_of("gru", kind, encoder=Pool().eval())
    tokens_pooled, (look, *_) = pooled.predict(x, max_length=5, return_attention=True)
    assert look.tolist() == [1.0] * len(tokens_pooled[0])  # one place
    with pydl.no_grad():
        state = model.encode(pydl.asarray(x))
        features = model.encoder(pydl.asarray(x)).numpy()
        assert state.memory is not None
        for place in range(4):
            assert np.array_equal(state.memory.values.numpy()[:, place], features[:, :, place // 2, place % 2])
        logits, _, weights = model.decode(pydl.asarray([[1]] * 6), state)
    for i in range(6):
        if len(tokens[i]):
            assert int(logits.numpy()[i, 0].argmax()) == tokens[i][0]
            np.testing.assert_allclose(weights.numpy()[i, 0].reshape(2, 2), looks[i][0], rtol=1e-5)


def test_loss_and_accuracy_count_valid_steps_only() -> None:
    model, x = model_of("lstm"), images_of()
    found = model.evaluate(x, CAPTIONS, batch_size=4)
    losses, right = [], []
    for image, caption in zip(x, CAPTIONS, strict=True):
        for p, token in zip(log_p(model, image, caption), [*caption, STOP], strict=True):
            losses.append(-p[token])
            right.append(p.argmax() == token)
    assert len(losses) == sum(map(len, CAPTIONS)) + 6
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert found["accuracy"] == pytest.approx(np.mean(right), rel=1e-12)


def scenes(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """A bright bar at the left, right, top or bottom, thin or thick."""
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 60, (count, 1, 8, 8), np.uint8), []
    for image in x:
        side, thick = int(random.integers(4)), int(random.integers(2))
        bar = slice(0, 1 + thick) if side % 2 == 0 else slice(7 - thick, 8)
        image[0][(slice(None), bar) if side < 2 else (bar, slice(None))] = 220
        y.append(("a thick" if thick else "one") + " bar at the " + ("left", "right", "top", "bottom")[side])
    return x, y


@pytest.mark.parametrize(("attention", "epochs", "least"), [(None, 24, 0.85), ("dot", 8, 0.98), ("additive", 12, 0.98)])
def test_it_learns_and_goes_through_a_file(
    attention: str | None, epochs: int, least: float, tmp_path: pathlib.Path
) -> None:
    pydl.manual_seed(0)
    (x, y), (test_x, test_y) = scenes(400, 0), scenes(100, 1)
    vocabulary = WordVocabulary.from_texts(y, unknown=False)
    options: dict[str, Any] = {"encoder": (8, 16), "attention": attention, "hidden_size": 32}
    model = Captioner((1, 8, 8), vocabulary, **options)
    forcing = 1.0 if attention is None else lambda epoch: 1.0 - 0.02 * epoch
    history = model.fit(x, y, 32, epochs, lr=0.01, validation_split=0.1, verbose=0, teacher_forcing=forcing)
    assert history["val_accuracy"][-1] > least
    for beam in (1, 3):
        assert np.mean([a == b for a, b in zip(model.predict(test_x, beam=beam), test_y, strict=True)]) > least
    expected = model.predict(test_x, return_scores=True)
    model.save(tmp_path / "model")
    again = Captioner((1, 8, 8), vocabulary, **options)
    again.load_weights(tmp_path / "model")
    for other in (Captioner.load(tmp_path / "model"), again, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        said, scores = other.predict(test_x, return_scores=True)
        assert said == expected[0]
        assert np.array_equal(scores, expected[1])
    with pytest.raises(ValueError, match="another vocabulary as target"):
        Captioner((1, 8, 8), WordVocabulary(["bar"]), **options).load_weights(tmp_path / "model")
    with pytest.raises(ValueError, match=r"\[8, 16\] as encoder, expected \[8, 8\]"):
        Captioner((1, 8, 8), vocabulary, **{**options, "encoder": (8, 8)}).load_weights(tmp_path / "model")
    with pytest.raises(ValueError, match=r"the CNN with the channels \[8, 16\]; leave out encoder"):
        Captioner.load(tmp_path / "model", encoder=Pool())


def test_an_encoder_of_the_users_own(tmp_path: pathlib.Path) -> None:
    encoder = Pool()
    encoder.layers[1].eval()  # a user's choice, to be kept
    model = Captioner((2, 9, 8), SIZE, encoder=encoder, hidden_size=8)
    assert encoder.training
    assert encoder.layers[0].training
    assert not encoder.layers[1].training
    assert model.feature_shape == (6,)
    for parameter in encoder.parameters():
        parameter.requires_grad = False
    frozen = {name: value.numpy().copy() for name, value in encoder.named_parameters()}
    before = model.bridge_h[0].weight.detach().numpy().copy()
    model.fit(images_of(), CAPTIONS, 3, 2, verbose=0)
    assert all(np.array_equal(value.detach().numpy(), frozen[name]) for name, value in encoder.named_parameters())
    assert not np.array_equal(model.bridge_h[0].weight.detach().numpy(), before)
    model.save(tmp_path / "model")
    again = Captioner.load(tmp_path / "model", encoder=Pool())
    assert again.predict(images_of(), return_scores=True)[1].tolist() == (
        model.predict(images_of(), return_scores=True)[1].tolist()
    )
    with pytest.raises(ValueError, match=r"the module Pool, .*load\(path, encoder=...\)"):
        Captioner.load(tmp_path / "model")


def test_files_that_lie_are_refused_before_anything_large_is_made(tmp_path: pathlib.Path) -> None:
    Captioner((2, 9, 8), SIZE, encoder=(3, 4), hidden_size=8).save(tmp_path / "model")
    weights, metadata = load_file(tmp_path / "model"), load_metadata(tmp_path / "model")
    for old, new, message in (
        ("[2, 9, 8]", "[2, 9000000, 8]", "not the sizes of its weights"),
        ("[2, 9, 8]", "[2000000, 9, 8]", "not the sizes of its weights"),
        ("[2, 9, 8]", '[2, "9", 8]', ""),
        ("[2, 9, 8]", "[2, 9]", ""),
        ('"encoder": [3, 4]', '"encoder": [300000000, 4]', "not the sizes of its weights"),
        ('"encoder": [3, 4]', '"encoder": []', "numbers of channels"),
        ('"encoder": [3, 4]', '"encoder": 7', "encoder is 7"),
        ('"hidden_size": 8', '"hidden_size": 4000000000', "the size of no weight"),
        ('"encoder"', '"decoder"', ""),
    ):
        assert old in metadata["model"]
        save_file(weights, tmp_path / "lie", {**metadata, "model": metadata["model"].replace(old, new)})
        with pytest.raises(ValueError, match=f"lie: the file is damaged.*{message}"):
            Captioner.load(tmp_path / "lie")


def test_bad_input_is_named() -> None:
    model, x = model_of(), images_of()
    words = Captioner((2, 9, 8), WordVocabulary(["a"], unknown=False), encoder=(3,), hidden_size=4)
    holed = x.copy()
    holed[3, 0, 0, 0] = np.nan
    for call, message in (
        (lambda: words.fit(x[:1], [""]), "Captioner.fit: target.* sequence 0 is empty"),
        (lambda: model.fit(x[:2], [[3], []]), "sequence 1 is empty"),
        (lambda: words.fit(x[:1], ["a dog"]), "target.* sequence 0: .*'dog'"),
        (lambda: model.fit(x[:1], [[6]]), "id 6, expected 0 <= id < 6"),
        (lambda: model.fit(x[:1], [[3, STOP]]), "target 0 has a start or stop token"),
        (lambda: model.fit(x, [[3]]), "6 sources and 1 targets"),
        (lambda: model.fit(x[:1], [[3]], teacher_forcing=2.0), r"\[Captioner.fit\] got teacher_forcing 2.0"),
        (lambda: model.predict(x, beam=7), r"\[Captioner.predict\] got beam 7, expected 1 to the vocabulary's size 6"),
        (lambda: model.predict(x, beam=2, sampler=Sampler()), "one of them"),
        (lambda: model.predict(x, max_length=0), "max_length 0"),
        (lambda: model.predict(x, batch_size=0), "batch_size 0"),
        (lambda: model.predict(x, return_attention=True), "no attention"),
        (lambda: model.predict(x[:, :1]), r"images of shape \(6, 1, 9, 8\), expected \(N, 2, 9, 8\)"),
        (lambda: model.predict(x[0]), r"one image is images\[None\]"),
        (lambda: Captioner((1, 9, 8), SIZE, encoder=(3,)).predict(x[:, 0]), r"images\[:, None\]"),
        (lambda: model.predict(x[:0]), "no images"),
        (lambda: model.predict(holed), "image 3 has values that are NaN"),
        (lambda: model.predict(np.full(holed.shape, 1e300)), "image 0 has values that are NaN or infinite"),
        (lambda: Captioner((2, 7, 8), SIZE), "7 x 8, too small to be halved 3 times"),
        (lambda: Captioner((7, 8), SIZE), r"image_shape \(7, 8\), expected \(C, H, W\)"),
        (lambda: Captioner((1, 2**20, 2**20), SIZE), "image_shape"),
        (lambda: Captioner((2, 9, 8), SIZE, encoder=()), "numbers of channels, or a module"),
        (lambda: Captioner((2, 9, 8), SIZE, encoder="vgg"), "numbers of channels, or a module"),
        (lambda: Captioner((2, 9, 8), SIZE, encoder=nn.Flatten(0)), r"gives \(144,\) for an image \(1, 2, 9, 8\)"),
        (lambda: Captioner((2, 9, 8), SIZE, cell="tcn"), "one of lstm, gru, rnn"),
        (lambda: Captioner((2, 9, 8), SIZE, attention="cross"), "'dot', 'additive' or None"),
        (lambda: Captioner((2, 9, 8), 2), "3 ids or more"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="images of <U3"):
        model.predict(["abc"])


def test_the_same_bits_on_any_threads_and_after_a_resume(tmp_path: pathlib.Path, threads: None) -> None:
    x, y = np.concatenate([images_of(seed=seed) for seed in range(4)]), CAPTIONS * 4

    def train(epochs: int, count: int = 1, **options: Any) -> list[np.ndarray]:
        pydl.set_num_threads(count)
        model = model_of(dropout=0.2)
        model.fit(x, y, 5, epochs, verbose=0, teacher_forcing=0.9, **options)
        return [value.numpy().copy() for value in model.state_dict().values()]

    whole = train(3)
    assert all(np.array_equal(a, b) for a, b in zip(whole, train(3, count=2), strict=True))
    train(1, checkpoint=tmp_path / "run")
    resumed = train(3, checkpoint=tmp_path / "run", resume="last")
    assert all(np.array_equal(a, b) for a, b in zip(whole, resumed, strict=True))
