"""Normalization by the training part, transforms of sequences, and the docstrings of all transforms."""

from __future__ import annotations

import copy
import doctest
import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.data import ArrayDataset, DataLoader
from pydl.data.keys import SampleKeys
from pydl.data.transforms import (
    Compose,
    Mixup,
    Normalize,
    RandomAffine,
    RandomNoise,
    RandomSequenceCrop,
    Rescale,
    TokenDropout,
)

MODULES = ("keys", *(f"transforms.{n}" for n in ("base", "geometry", "values", "mixing", "sequences", "normalize")))


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"pydl.data.{name}"), extraglobs={"pydl": pydl})
    assert failed == 0
    assert tried


@pytest.mark.parametrize(
    ("shape", "axis", "others"),
    [
        ((50, 3, 5, 4), 1, (0, 2, 3)),
        ((50, 7), 1, 0),
        ((50, 6, 3), -1, (0, 1)),
        ((50, 2, 3, 4), (1, 2, 3), 0),
        ((50, 2, 3), (), None),
    ],
)
def test_normalize_by_numpy(shape: tuple[int, ...], axis: Any, others: Any, rng: np.random.Generator) -> None:
    x = rng.normal(100, 3, shape) * rng.uniform(0.1, 10, shape[1:])
    mean, std = x.mean(axis=others, keepdims=True), x.std(axis=others, keepdims=True)
    for dtype, tolerance in (("float64", 1e-5), ("float32", 2e-5)):
        given = x.astype(dtype)
        normalize = Normalize(axis=axis).fit(given)
        y = normalize(pydl.asarray(given))
        assert y.dtype == getattr(pydl, dtype)
        np.testing.assert_allclose(y.numpy(), (x - mean) / std, atol=tolerance * np.abs(mean / std).max())
        assert np.array_equal(normalize(given), y.numpy())
        np.testing.assert_allclose(normalize.inverse(y).numpy(), x, rtol=1e-5)
        np.testing.assert_allclose(normalize.inverse(normalize(given)), x, rtol=1e-5)
        assert normalize.mean.shape == tuple(n for n in mean.shape if n > 1)


def test_fit_on_arrays_tensors_datasets_and_batches_is_the_same(rng: np.random.Generator) -> None:
    x = (rng.normal(size=(2600, 2, 3, 3)) * 20 + 1000).astype(np.float32)

    class Samples:
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, i: int) -> tuple[Any, ...]:
            return x[i], i

    class Batched(Samples):
        def batch(self, indices: np.ndarray) -> tuple[Any, ...]:
            return x[indices], indices

    uneven = [(pydl.asarray(x[a:b]), None) for a, b in ((0, 1), (1, 500), (500, 2600))]
    for given in (x, pydl.asarray(x), Samples(), Batched(), uneven, (x[:7], x[7:])[:0] or iter([x[:7], x[7:]])):
        normalize = Normalize().fit(given)
        np.testing.assert_allclose(normalize.mean.numpy(), x.mean(axis=(0, 2, 3), dtype=np.float64), rtol=1e-6)
        np.testing.assert_allclose(normalize.std.numpy(), x.std(axis=(0, 2, 3), dtype=np.float64), rtol=1e-6)


def test_fit_on_a_loader_leaves_its_position() -> None:
    x = np.arange(60, dtype=np.float32).reshape(20, 3)
    loader = DataLoader(ArrayDataset(x, np.arange(20)), 8, shuffle=True, seed=3)
    fresh = DataLoader(ArrayDataset(x, np.arange(20)), 8, shuffle=True, seed=3)
    np.testing.assert_allclose(Normalize().fit(loader).mean.numpy(), x.mean(axis=0))
    np.testing.assert_allclose(Normalize().fit(ArrayDataset(x, np.arange(20))).std.numpy(), x.std(axis=0), rtol=1e-6)
    assert [y.tolist() for _, y in loader] == [y.tolist() for _, y in fresh]


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_and_threads_change_nothing(workers: int, threads: None, rng: np.random.Generator) -> None:
    x, y = rng.integers(0, 256, (50, 1, 9, 9)).astype(np.uint8), rng.integers(0, 3, 50)
    chain = Compose([RandomAffine(20, 0.1, 0.2, 5), Rescale(), RandomNoise(0.1), Normalize(0.5, 0.2), Mixup(1.0, 3)])

    def epochs(workers: int) -> list[np.ndarray]:
        loader = DataLoader(ArrayDataset(x, y), 16, shuffle=True, transform=chain, num_workers=workers, seed=4)
        return [part.numpy() for _ in range(2) for batch in loader for part in batch]

    pydl.set_num_threads(2)
    expected = epochs(0)
    pydl.set_num_threads(1)
    for a, b in zip(epochs(workers), expected, strict=True):
        assert np.array_equal(a, b)


def test_mixup_trains() -> None:
    pydl.manual_seed(0)
    y = np.arange(120) % 3
    x = np.eye(3, dtype=np.float32)[y] + 0.1
    loader = DataLoader(ArrayDataset(x, y), 20, shuffle=True, transform=Mixup(0.4, num_classes=3))
    trainer = pydl.Trainer(nn.Linear(3, 3), "cross_entropy", "adam", ["accuracy"], lr=0.05)
    trainer.fit(loader, epochs=15, verbose=0)
    assert trainer.evaluate(x, y)["accuracy"] == 1.0


def test_bytes_constants_and_large_offsets(rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, (40, 1, 4, 4)).astype(np.uint8)
    y = Normalize().fit(x)(pydl.asarray(x))
    assert y.dtype == pydl.float32
    np.testing.assert_allclose(y.numpy(), (x - x.mean()) / x.std(), atol=1e-5)
    flat = np.stack([np.full(30, 0.1, np.float32), np.arange(30, dtype=np.float32)], axis=1)
    z = Normalize().fit(flat)(flat)
    assert np.abs(z[:, 0]).max() < 1e-6  # a constant feature is shifted, not divided by nothing
    far = 1e6 + rng.normal(size=(10000, 1))
    np.testing.assert_allclose(Normalize().fit(far).std.numpy(), far.std(), rtol=1e-6)


def test_it_is_saved_with_the_model_and_differentiable(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.normal(5, 2, (40, 3)).astype(np.float32)
    model = nn.Sequential(Normalize().fit(x), nn.Linear(3, 2))
    assert [name for name, _ in model.named_parameters()] == ["1.weight", "1.bias"]
    pydl.save(model.state_dict(), tmp_path / "m.safetensors")
    fresh = nn.Sequential(Normalize(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"call fit\(x\)"):
        fresh(pydl.asarray(x))
    fresh.load_state_dict(pydl.load(tmp_path / "m.safetensors"))
    assert np.array_equal(fresh(pydl.asarray(x)).detach().numpy(), model(pydl.asarray(x)).detach().numpy())
    clone = copy.deepcopy(fresh)
    assert np.array_equal(clone[0].std.numpy(), model[0].std.numpy())
    refitted = fresh[0].fit(x * 2)
    np.testing.assert_allclose(refitted.std.numpy(), 2 * model[0].std.numpy(), rtol=1e-6)
    given = pydl.asarray(x, requires_grad=True)
    model[0](given).sum().backward()
    np.testing.assert_allclose(given.grad.numpy(), np.broadcast_to(1 / x.std(axis=0), x.shape), rtol=1e-5)
    seen: list[Any] = []
    model.apply(seen.append)  # Module's apply, of every layer
    assert len(seen) == 3


def test_normalize_in_a_chain(rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, (20, 1, 4, 4)).astype(np.uint8)
    scaled = Rescale()(x)
    chain = Compose([Rescale(), RandomNoise(0.0), Normalize().fit(scaled)])
    y, labels = chain.apply((pydl.asarray(x), np.arange(20)), SampleKeys(0, 0, np.arange(20)))
    assert isinstance(y, pydl.Tensor)
    assert np.array_equal(labels, np.arange(20))
    assert abs(y.numpy().mean()) < 1e-6
    known = Normalize(mean=0.5, std=[0.25])
    np.testing.assert_allclose(known(scaled), (scaled - 0.5) / 0.25, atol=1e-6)
    per_channel = Normalize([0, 1], [1, 2])
    assert per_channel(np.ones((1, 2, 1, 1), np.float32)).ravel().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normalize(mean=1.0), "one of mean and std"),
        (lambda: Normalize(0.0, 0.0), "std above 0"),
        (lambda: Normalize().fit(np.zeros((0, 3))), "no samples"),
        (lambda: Normalize().fit([]), "no samples"),
        (lambda: Normalize().fit(np.array([[1.0, np.nan]])), r"infinity in feature \[1\]"),
        (lambda: Normalize().fit(np.array([[np.inf, 1.0]])), r"infinity in feature \[0\]"),
        (lambda: Normalize(axis=0).fit(np.ones((3, 2))), "axis 0 is the samples'"),
        (lambda: Normalize(axis=2).fit(np.ones((3, 2))), "no axis"),
        (lambda: Normalize().fit([np.ones((3, 2)), np.ones((3, 4))]), "expected the same"),
        (lambda: Normalize().fit(np.eye(3))(np.ones((2, 4))), r"expected \(3,\)"),
        (lambda: RandomSequenceCrop(0), "length 0"),
        (lambda: RandomSequenceCrop(5)(np.ones((2, 4))), "at least 5 steps"),
        (lambda: RandomSequenceCrop(2, targets=True).apply((np.ones((2, 4)), np.ones(2))), r"\[4, 0\] steps"),
        (lambda: TokenDropout(1.5), "p 1.5"),
    ],
)
def test_bad_values(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_types() -> None:
    with pytest.raises(TypeError, match="got a int"):
        Normalize().fit(3)
    with pytest.raises(TypeError, match="expected token ids"):
        TokenDropout()(np.ones((2, 3)))


def test_sequence_crop(rng: np.random.Generator) -> None:
    x = np.arange(2000 * 10).reshape(2000, 10)
    keys = SampleKeys(0, 0, np.arange(2000))
    y = RandomSequenceCrop(4)(x, keys)
    assert (np.diff(y, axis=1) == 1).all()
    starts = y[:, 0] - x[:, 0]
    counts = np.bincount(starts, minlength=7)
    assert counts.size == 7
    assert np.abs(counts - 2000 / 7).max() < 5 * math.sqrt(2000 / 7)
    z, target, same = RandomSequenceCrop(4, targets=True).apply((np.stack([x, x], axis=2), pydl.asarray(x), x), keys)
    assert np.array_equal(z[:, :, 1], same)
    assert np.array_equal(target.numpy(), y)
    assert np.array_equal(RandomSequenceCrop(10)(x, keys), x)


def test_token_dropout() -> None:
    x = np.tile(np.array([[1, 2, 3, 0]], np.int32), (3000, 1))
    keys = SampleKeys(0, 0, np.arange(3000))
    y = TokenDropout(0.3, token=9, keep=[0, 1])(x, keys)
    assert y.dtype == np.int32
    assert np.array_equal(y[:, [0, 3]], x[:, [0, 3]])
    dropped = y == 9
    assert np.array_equal(y[~dropped], x[~dropped])
    np.testing.assert_allclose(dropped[:, 1:3].mean(axis=0), 0.3, atol=5 * 0.46 / math.sqrt(3000))
    assert abs(np.corrcoef(dropped[:, 1], dropped[:, 2])[0, 1]) < 0.1
    assert np.array_equal(TokenDropout(0.3, token=9, keep=[0, 1])(x[7:9], keys[7:9]), y[7:9])
