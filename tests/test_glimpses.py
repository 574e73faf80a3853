"""RecurrentAttention: patches against a loop, REINFORCE against expectations that are enumerated, files, errors."""

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
from pydl.models import RecurrentAttention
from pydl.models.glimpses import Sensor, policy_loss
from pydl.serialization import load_file, load_metadata, save_file


def patch_by_loop(image: np.ndarray, location: np.ndarray, patch: int, factor: int) -> np.ndarray:
    """The definition: means of factor x factor squares around the location, 0 outside."""
    height, width = image.shape
    size = patch * factor
    top = math.floor((location[0] + 1) / 2 * height - size / 2 + 0.5)
    left = math.floor((location[1] + 1) / 2 * width - size / 2 + 0.5)
    found = np.zeros((patch, patch))
    for i, j in itertools.product(range(size), range(size)):
        if 0 <= top + i < height and 0 <= left + j < width:
            found[i // factor, j // factor] += image[top + i, left + j] / factor**2
    return found


@pytest.mark.parametrize("patch", [1, 3, 4, 9])
def test_patches_against_a_loop(rng: np.random.Generator, patch: int) -> None:
    images = rng.random((12, 7, 10)).astype(np.float32)
    locations = rng.uniform(-1, 1, (12, 2)).astype(np.float32)
    locations[:5] = [(-1, -1), (1, 1), (-1, 1), (0, 0), (1, -1)]
    found = Sensor(pydl.asarray(images), patch, 3)(locations).numpy()
    for n, scale in itertools.product(range(12), range(3)):
        expected = patch_by_loop(images[n], locations[n], patch, 2**scale)
        np.testing.assert_allclose(found[n, scale], expected, rtol=1e-5, atol=1e-6)


def test_outside_of_the_image_it_looks_at_the_edge(rng: np.random.Generator) -> None:
    sensor = Sensor(pydl.asarray(rng.random((1, 6, 6)).astype(np.float32)), 4, 2)
    far = sensor(np.array([[-7.0, 1e9]], np.float32)).numpy()
    assert np.array_equal(far, sensor(np.array([[-1.0, 1.0]], np.float32)).numpy())


def test_reinforce_has_the_gradient_of_the_enumerated_expectation(rng: np.random.Generator) -> None:
    # Two steps of three actions; the second step's policy depends on the first action. Nine episodes.
    first = pydl.asarray(rng.normal(size=3), dtype=pydl.float64).requires_grad_()
    second = pydl.asarray(rng.normal(size=(3, 3)), dtype=pydl.float64).requires_grad_()
    rewards = pydl.asarray(rng.normal(size=(3, 3)), dtype=pydl.float64)
    episodes = [(a, b) for a in range(3) for b in range(3)]
    p, q = pydl.softmax(first, axis=0), pydl.softmax(second, axis=1)
    (pydl.expand_dims(p, axis=1) * q * rewards).sum().backward()
    expected = [-first.grad.numpy().copy(), -second.grad.numpy().copy()]
    weights = (pydl.expand_dims(p, axis=1) * q).detach().numpy()
    baseline_of_second = rng.normal(size=3)
    for baselines in (np.zeros(9), np.full(9, 0.7), np.array([baseline_of_second[a] for a, _ in episodes])):
        first.grad = second.grad = None
        for (a, b), baseline in zip(episodes, baselines, strict=True):
            log_p = pydl.log(pydl.softmax(first, axis=0))[a]
            log_q = pydl.log(pydl.softmax(second, axis=1))[a, b]
            together = pydl.stack([log_p, log_q]).reshape((2, 1))
            mine = pydl.asarray([[0.3], [baseline]], dtype=pydl.float64)
            (policy_loss(together, rewards[a, b].reshape((1,)), mine) * weights[a, b]).backward()
        np.testing.assert_allclose(first.grad.numpy(), expected[0], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(second.grad.numpy(), expected[1], rtol=1e-10, atol=1e-12)


def test_policy_loss_is_a_mean_and_sends_no_gradient_elsewhere() -> None:
    logs = pydl.asarray([[1.0, 2.0], [3.0, 4.0]]).requires_grad_()
    rewards, baselines = pydl.asarray([1.0, 0.0]).requires_grad_(), pydl.asarray([[0.5, 0.25], [0.0, 1.0]])
    baselines.requires_grad_()
    loss = policy_loss(logs, rewards, baselines)
    loss.backward()
    assert loss.item() == pytest.approx(-(1.0 * 0.5 + 3.0 * 1.0 - 2.0 * 0.25 - 4.0 * 1.0) / 2)
    assert rewards.grad is None
    assert baselines.grad is None
    np.testing.assert_allclose(logs.grad.numpy(), [[-0.25, 0.125], [-0.5, 0.5]])


def test_the_models_policy_gradient_is_that_of_the_expected_reward() -> None:
    """One location is drawn, so the expected reward is a sum over a fine grid of locations: the normal distribution's
    mass there times whether the class is right. Its derivative by the location layer's bias is taken by differences."""
    pydl.manual_seed(3)
    count, std = 4096, 0.35
    model = RecurrentAttention(4, 4, 2, glimpses=2, patch=2, cell="rnn", hidden_size=8, location_std=std)
    image = np.random.default_rng(0).random((1, 4, 4)).astype(np.float32)
    axis = np.linspace(-2.5, 2.5, 126, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    places = np.stack([np.zeros_like(grid), grid])
    with pydl.no_grad():
        sensor = Sensor(pydl.asarray(np.repeat(image, len(grid), axis=0)), 2, 1)
        patches = pydl.stack([sensor(place) for place in places])
        outputs, _ = model(patches, pydl.asarray(places))
        logits = model.output(outputs[1]).numpy()
        before_tanh = model.location(outputs[0, :1]).numpy()[0] / 4
        lead = logits[:, 0] - logits[:, 1]
        model.output.bias[0].sub_(float(np.median(lead)))  # class 0 for half of the locations
    table = (lead > np.median(lead)).reshape(126, 126)

    def expected_reward(bias: np.ndarray) -> float:
        mass = [np.exp(-0.5 * ((axis - mean) / std) ** 2) for mean in np.tanh(before_tanh + bias / 4)]
        return float(mass[0] @ table @ mass[1] / mass[0].sum() / mass[1].sum())

    slope = np.array([(expected_reward(d) - expected_reward(-d)) / 2e-2 for d in np.eye(2) * 1e-2])
    images, labels = pydl.asarray(np.repeat(image, count, axis=0)), pydl.zeros((count,), dtype=pydl.int64)
    gradients = []
    for _ in range(24):
        model.zero_grad()
        model.losses(images, labels)["policy"].backward()
        gradients.append(-model.location.bias.grad.numpy())
    error = np.std(gradients, axis=0) / np.sqrt(len(gradients))
    assert (np.abs(slope) > 8 * error).any()  # otherwise the test would say nothing
    assert (np.abs(np.mean(gradients, axis=0) - slope) < 4 * error + 0.03 * np.abs(slope).max()).all()


def test_what_it_tells_is_what_it_did(rng: np.random.Generator) -> None:
    model = RecurrentAttention(9, 12, 3, glimpses=4, patch=3, scales=2, hidden_size=10)
    images = rng.integers(0, 256, (5, 1, 9, 12), dtype=np.uint8)
    seen = model.look(images)
    assert seen.probabilities.shape == (5, 3)
    assert seen.centres.shape == (5, 4, 2)
    assert seen.patches.shape == (5, 4, 2, 3, 3)
    assert (seen.centres[:, 0] == [4.5, 6.0]).all()
    assert (seen.centres >= 0).all()
    assert (seen.centres <= [9, 12]).all()
    x = images[:, 0] / 255
    for n, t, scale in itertools.product(range(5), range(4), range(2)):
        expected = patch_by_loop(x[n], seen.centres[n, t] / [9, 12] * 2 - 1, 3, 2**scale)
        np.testing.assert_allclose(seen.patches[n, t, scale], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert np.array_equal(model.predict(x), seen.probabilities.argmax(axis=1))
    np.testing.assert_allclose(model.predict_probabilities(x, batch_size=2), seen.probabilities, rtol=1e-5)
    sent = model.look(images, centres=seen.centres)
    np.testing.assert_allclose(sent.probabilities, seen.probabilities, rtol=1e-5)
    elsewhere = model.look(images, 2, centres=np.full((5, 4, 2), 3.0))
    assert (elsewhere.centres == 3).all()
    np.testing.assert_allclose(elsewhere.patches[3, 2, 0], patch_by_loop(x[3], np.array([-1 / 3, -0.5]), 3, 1), 1e-5)
    labels = rng.integers(0, 3, 5)
    found = model.evaluate(x, labels)
    assert found["loss"] == pytest.approx(-np.log(seen.probabilities[np.arange(5), labels]).mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((seen.probabilities.argmax(axis=1) == labels).mean())


def two_places(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The middle says on which side the class is written: whoever does not look there has to guess."""
    x = np.zeros((count, 15, 15), np.float32)
    side, y = rng.integers(0, 2, count), rng.integers(0, 2, count)
    rows = np.arange(count)
    x[:, 7, 7] = side
    x[rows, 7, np.where(side, 13, 1)] = y
    x[rows, 7, np.where(side, 1, 13)] = rng.integers(0, 2, count)
    return x, y


def test_it_learns_where_to_look() -> None:
    pydl.manual_seed(0)
    x, y = two_places(np.random.default_rng(0), 4000)
    model = RecurrentAttention(15, 15, 2, glimpses=2, patch=5, cell="rnn", hidden_size=32, location_std=0.5)
    model.fit(x, y, 64, 20, lr=0.01, verbose=0)
    held, truth = two_places(np.random.default_rng(1), 400)
    assert model.evaluate(held, truth)["accuracy"] > 0.95
    columns = model.look(held).centres[:, 1, 1]
    assert (columns[held[:, 7, 7] == 1] > 11).all()
    assert (columns[held[:, 7, 7] == 0] < 4).all()


def test_a_policy_of_ones_own_is_followed() -> None:
    class Upwards(RecurrentAttention):
        def aim(self, states: Any) -> Any:
            return pydl.zeros((*states.shape[:-1], 2)) - 0.5

    x, y = two_places(np.random.default_rng(0), 20)
    model = Upwards(15, 15, 2, glimpses=3, patch=5, hidden_size=8)
    before = model.location.weight.detach().numpy().copy()
    model.fit(x, y, 10, 1, verbose=0)
    assert (model.look(x).centres == [[7.5, 7.5], [3.75, 3.75], [3.75, 3.75]]).all()
    assert np.array_equal(model.location.weight.detach().numpy(), before)


def small() -> RecurrentAttention:
    return RecurrentAttention(8, 8, 3, glimpses=3, patch=3, hidden_size=12)


def test_same_seed_same_bits_and_resumes(tmp_path: pathlib.Path, rng: np.random.Generator, threads: None) -> None:
    x, y = rng.random((50, 8, 8)).astype(np.float32), rng.integers(0, 3, 50)

    def train(epochs: int, seed: int = 1, **options: Any) -> Any:
        pydl.manual_seed(seed)
        model = small()
        model.fit(x, y, 16, epochs, verbose=0, **options)
        return model.predict_probabilities(x)

    whole = train(3)
    pydl.set_num_threads(2)
    assert np.array_equal(whole, train(3))
    assert not np.array_equal(whole, train(3, seed=2))
    assert np.array_equal(whole, train(3, validation_data=(x, y)))  # looking at it changes nothing
    train(1, checkpoint=tmp_path / "run")
    assert np.array_equal(whole, train(3, checkpoint=tmp_path / "run", resume="last"))


def test_files_and_copies(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    model, x = small(), rng.random((4, 8, 8))
    expected = model.predict_probabilities(x)
    model.save(tmp_path / "model")
    for other in (
        RecurrentAttention.load(tmp_path / "model"), copy.deepcopy(model), pickle.loads(pickle.dumps(model)),
    ):  # fmt: skip
        assert np.array_equal(other.predict_probabilities(x), expected)
    longer = RecurrentAttention(8, 8, 3, glimpses=5, patch=3, hidden_size=12)
    longer.load_weights(tmp_path / "model")
    assert longer.look(x).centres.shape == (4, 5, 2)
    with pytest.raises(ValueError, match="3 as patch, expected 4"):
        RecurrentAttention(8, 8, 3, patch=4, hidden_size=12).load_weights(tmp_path / "model")
    weights, metadata = load_file(tmp_path / "model"), load_metadata(tmp_path / "model")
    for old, new in (('"hidden_size": 12', '"hidden_size": 4000000000'), ('"patch": 3', '"patch": 30000')):
        assert old in metadata["model"]
        save_file(weights, tmp_path / "lie", {**metadata, "model": metadata["model"].replace(old, new)})
        with pytest.raises(ValueError, match="lie: the file is damaged"):
            RecurrentAttention.load(tmp_path / "lie")


def test_bad_input_is_named() -> None:
    model, x = small(), np.zeros((2, 8, 8), np.float32)
    bad = x.copy()
    bad[1, 2, 3] = np.nan
    for call, message in (
        (lambda: model.fit(x, [0, 3]), "class 3 in row 1, expected 0 to 2"),
        (lambda: model.fit(x, [0]), "expected 2 class numbers"),
        (lambda: model.fit(x, [0.0, 1.0]), "float64"),
        (lambda: model.fit(x[:0], np.zeros(0, int)), "no images"),
        (lambda: model.fit(bad, [0, 1]), r"image 1 has the value nan at \[2, 3\]"),
        (lambda: model.fit(x, [0, 1], batch_size=0), "batch_size 0"),
        (lambda: model.fit(x, [0, 1], validation_data=x), r"validation_data \(x, y\)"),
        (lambda: model.fit(x, [0, 1], validation_data=(x, [0, 1]), validation_split=0.5), "one of them"),
        (lambda: model.predict(x * 0 + 255), "image 0 has the value 255 .*bytes"),
        (lambda: model.predict(x - 1), "value -1"),
        (lambda: model.predict(np.where(x == 0, np.inf, x)), "value inf"),
        (lambda: model.predict(np.zeros((2, 8, 9))), r"\(2, 8, 9\), expected \(N, 8, 8\)"),
        (lambda: model.predict(np.zeros((2, 3, 8, 8))), r"\(2, 3, 8, 8\)"),
        (lambda: model.predict(x[0]), r"\(8, 8\)"),
        (lambda: model.look(x, batch_size=0), "batch_size 0"),
        (lambda: model.look(x, centres=np.zeros((2, 2, 2))), r"\(2, 2, 2\), expected \(2, 3, 2\)"),
        (lambda: RecurrentAttention(8, 8, 1), "classes 1"),
        (lambda: RecurrentAttention(8, 8, 3, glimpses=0), "glimpses 0"),
        (lambda: RecurrentAttention(8, 8, 3, patch=2.5), "patch 2.5"),  # type: ignore[arg-type]
        (lambda: RecurrentAttention(8, 8, 3, patch=17), "patch 17 at 1 scales"),
        (lambda: RecurrentAttention(8, 8, 3, patch=1, scales=64), "patch 1 at 64 scales"),
        (lambda: RecurrentAttention(8, 8, 3, location_std=0.0), "location_std 0.0"),
        (lambda: RecurrentAttention(8, 8, 3, cell="tcn"), "one of lstm, gru, rnn"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for call, message in (
        (lambda: model.fit(x, [0, 1], class_weight={0: 2.0}), "class_weight"),
        (lambda: model.predict([["a"]]), "numbers"),
        (lambda: model.predict([np.zeros((2, 2)), np.zeros((3, 3))]), "different sizes"),
    ):
        with pytest.raises(TypeError, match=message):
            call()
