"""Metrics against scikit-learn or closed forms, however the samples are dealt out to batches and parts."""

from __future__ import annotations

import math
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

import pydl
from pydl import metrics as M
from pydl import nn, optim

sk = pytest.importorskip("sklearn.metrics")


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def in_batches(metric: M.Metric, prediction: Any, target: Any, weight: Any = None) -> Any:
    """Uneven batches, an empty one among them, dealt out to two objects that are merged, one by way of its state."""
    other = deepcopy(metric)
    edges = [0, 7, 8, 8, 50, len(target)]
    for i, (start, stop) in enumerate(pairwise(edges)):
        part = slice(start, stop)
        batch = pydl.asarray(prediction[part]), pydl.asarray(target[part])
        (metric if i % 2 else other).update(*batch, None if weight is None else pydl.asarray(weight[part]))
    copy = deepcopy(metric)
    copy.load_state_dict(other.state_dict())
    metric.merge(copy)
    return metric.result()


@pytest.fixture
def scores(rng: Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions that are right more often than not, with ties; targets; weights."""
    target = rng.integers(0, 4, 200)
    prediction = rng.normal(size=(200, 4)).round(1) + np.eye(4)[target]
    return prediction.astype(np.float32), target, rng.random(200) * rng.integers(0, 2, 200)


def test_accuracy_and_top_k(scores: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    prediction, target, weight = scores
    predicted = prediction.argmax(1)
    wanted = sk.accuracy_score(target, predicted)
    assert in_batches(M.Accuracy(), prediction, target) == pytest.approx(wanted, abs=1e-12)
    wanted = sk.accuracy_score(target, predicted, sample_weight=weight)
    assert in_batches(M.Accuracy(), prediction, target, weight) == pytest.approx(wanted, abs=1e-12)
    assert M.accuracy_score(target, predicted, sample_weight=weight) == pytest.approx(wanted, abs=1e-12)
    distinct = prediction + np.arange(4, dtype=np.float32) * 1e-4
    for k in (1, 2, 3):
        wanted = sk.top_k_accuracy_score(target, distinct, k=k, sample_weight=weight)
        assert in_batches(M.TopKAccuracy(k), distinct, target, weight) == pytest.approx(wanted, abs=1e-12)
    assert M.TopKAccuracy(2)(np.zeros((4, 4)), np.arange(4)) == 0.5  # equal scores are no success for everyone


def test_accuracy_of_all_layouts(rng: Generator) -> None:
    target = rng.integers(0, 5, (6, 7))
    logits = rng.normal(size=(6, 7, 5)) + np.eye(5)[target]
    wanted = (logits.argmax(-1) == target).mean()
    assert M.Accuracy()(logits, target) == pytest.approx(wanted)  # (N, T, C)
    assert M.Accuracy()(np.moveaxis(logits, -1, 1), target) == pytest.approx(wanted)  # (N, C, T)
    assert M.Accuracy()(logits[:, :5], target[:, :5], None) != M.Accuracy(axis=-1)(logits[:, :5], target[:, :5])
    assert M.Accuracy(axis=-1)(logits[:, :5], target[:, :5]) == (logits.argmax(-1) == target)[:, :5].mean()
    assert M.Accuracy()(logits[:, 0], np.eye(5)[target[:, 0]]) == (logits.argmax(-1) == target)[:, 0].mean()
    assert M.Accuracy()(logits[:, 0], target[:, :1]) == (logits.argmax(-1) == target)[:, 0].mean()
    soft = 0.8 * np.eye(5)[target[:, 0]] + 0.04
    assert M.Accuracy()(logits[:, 0], soft) == (logits.argmax(-1) == target)[:, 0].mean()
    assert M.Accuracy()(logits.argmax(-1), target) == pytest.approx(wanted)

    mask = np.arange(7) < rng.integers(1, 8, 6)[:, None]
    wanted = (logits.argmax(-1) == target)[mask].mean()
    assert M.Accuracy()(logits, target, mask) == pytest.approx(wanted)
    assert M.Accuracy()(pydl.asarray(logits), pydl.asarray(target), pydl.asarray(mask)) == pytest.approx(wanted)
    ignored = np.where(mask, target, -100)
    assert M.Accuracy()(logits, ignored) == pytest.approx(wanted)
    assert M.TopKAccuracy(1)(logits, ignored) == pytest.approx(wanted)
    with pytest.raises(ValueError, match=r"shape \(6, 7, 5\).*\(5, 7\)"):
        M.Accuracy()(logits, target[:5])


@pytest.mark.parametrize("shape", [(200,), (200, 1)])
def test_one_column_is_read_as_logits_or_probabilities(rng: Generator, shape: tuple[int, ...]) -> None:
    target = rng.integers(0, 2, 200)
    logits = (rng.normal(size=200) + target - 0.5).astype(np.float32)
    probabilities = 1 / (1 + np.exp(-logits))
    wanted = sk.accuracy_score(target, logits > 0)
    for kind in (M.Accuracy, M.BinaryAccuracy):
        assert in_batches(kind(), logits.reshape(shape), target) == pytest.approx(wanted)
        assert in_batches(kind(), probabilities.reshape(shape), target.reshape(shape)) == pytest.approx(wanted)
    small = logits * 1e-3 + 0.5  # all within 0 and 1: said or not said, which is it?
    assert M.Accuracy(from_logits=True)(small, target) == target.mean()
    assert M.Accuracy()(small, target) == pytest.approx(wanted)
    with pytest.raises(ValueError, match="expected probabilities"):
        M.Accuracy(from_logits=False)(logits, target)
    assert M.fit_to_loss(M.Accuracy(), nn.BCEWithLogitsLoss()).from_logits is True  # type: ignore[attr-defined]
    assert M.fit_to_loss(M.Accuracy(from_logits=True), nn.BCELoss()).from_logits is True  # type: ignore[attr-defined]
    for name in ("precision", "recall", "f1"):
        function = getattr(sk, f"{name}_score")
        for prediction in (logits, probabilities):
            assert in_batches(M.get(name), prediction.reshape(shape), target) == pytest.approx(
                function(target, logits > 0)
            )


def test_a_trainer_tells_its_metrics_what_the_loss_takes() -> None:
    x = pydl.asarray([[0.2], [0.4], [0.9]])  # its own prediction: as logits all are 1
    y = pydl.asarray([0.0, 0.0, 1.0])
    for loss, wanted in (("bce", 1.0), ("bce_with_logits", 1 / 3)):
        trainer = pydl.Trainer(nn.Sequential(nn.Identity()), loss, metrics=["accuracy", M.F1Score], optimizer=no_step)
        found = trainer.evaluate(x, y)
        assert found["accuracy"] == pytest.approx(wanted)
        assert found["f1"] == pytest.approx(1.0 if loss == "bce" else 0.5)


def no_step(parameters: Any) -> optim.Optimizer:
    return optim.SGD([pydl.ones((1,), requires_grad=True)], lr=0.0)


def test_binary_accuracy_of_several_labels(rng: Generator) -> None:
    target, logits, weight = rng.integers(0, 2, (60, 3)), rng.normal(size=(60, 3)), rng.random(60)
    right = (logits > 0) == target
    assert in_batches(M.BinaryAccuracy(), logits, target) == pytest.approx(right.mean())
    wanted = np.average(right, weights=np.broadcast_to(weight[:, None], right.shape))
    assert in_batches(M.BinaryAccuracy(), logits, target, weight) == pytest.approx(wanted)


def test_several_labels_are_never_taken_for_classes(rng: Generator) -> None:
    target, logits = rng.integers(0, 2, (60, 3)), rng.normal(size=(60, 3))
    for metric in (M.Accuracy(), M.Precision(), M.ConfusionMatrix()):
        with pytest.raises(ValueError, match=r"do not add up to 1 .* use BinaryAccuracy"):
            metric.update(logits, target)
    flat = target.ravel(), logits.ravel() > 0
    for name in ("accuracy", "precision", "recall", "f1"):
        told = M.fit_to_loss(M.get(name), nn.BCEWithLogitsLoss())
        assert in_batches(told, logits, target) == pytest.approx(getattr(sk, f"{name}_score")(*flat))
    assert M.Accuracy()(np.ones((4, 5, 1)), np.zeros((4, 1), int)) == 1.0  # (N, C, T) with T = 1


@pytest.mark.parametrize("average", ["micro", "macro", "weighted", None])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_precision_recall_f1(name: str, average: str | None, scores: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    prediction, target, weight = scores
    predicted, function = prediction.argmax(1), getattr(sk, f"{name}_score")
    kind = type(M.get(name))
    for w in (None, weight):
        wanted = function(target, predicted, average=average, sample_weight=w, zero_division=0)
        np.testing.assert_allclose(in_batches(kind(average=average), prediction, target, w), wanted, atol=1e-12)
        np.testing.assert_allclose(in_batches(kind(average=average), predicted, target, w), wanted, atol=1e-12)
        small = target.astype(np.int8)
        np.testing.assert_allclose(in_batches(kind(average=average), prediction, small, w), wanted, atol=1e-12)
        ours = getattr(M, f"{name}_score")(target, predicted, average=average, sample_weight=w)
        np.testing.assert_allclose(ours, wanted, atol=1e-12)
    # A class that never comes, and one that is only predicted.
    target, predicted = np.array([0, 2, 2, 0]), np.array([0, 2, 3, 3])
    wanted = function(target, predicted, average=average, zero_division=0, labels=None if average else range(4))
    np.testing.assert_allclose(kind(average=average)(predicted, target), wanted, atol=1e-12)


def test_binary_scores_refuse_more_classes() -> None:
    target, predicted = np.array([0, 1, 2]), np.array([0, 1, 1])
    with pytest.raises(ValueError, match="got 3 classes with average='binary'"):
        M.precision_score(target, predicted)
    assert M.F1Score()(predicted, target) == pytest.approx(sk.f1_score(target, predicted, average="macro"))


def test_confusion_matrix(scores: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    prediction, target, weight = scores
    predicted = prediction.argmax(1)
    for normalize in (None, "true", "pred", "all"):
        wanted = sk.confusion_matrix(target, predicted, normalize=normalize, sample_weight=weight)
        got = in_batches(M.ConfusionMatrix(normalize=normalize), prediction, target, weight)
        np.testing.assert_allclose(got, wanted, atol=1e-12)
        ours = M.confusion_matrix(target, predicted, normalize=normalize)
        np.testing.assert_allclose(ours, sk.confusion_matrix(target, predicted, normalize=normalize))
    metric = M.ConfusionMatrix()
    metric.update(np.array([0, 1]), np.array([1, 1]))
    metric.update(np.array([5]), np.array([0]))  # it grows
    assert metric.result().shape == (6, 6)
    assert metric.result().sum() == 3
    with pytest.raises(ValueError, match="got the class 4, expected one below 4"):
        M.ConfusionMatrix()(prediction, np.full(200, 4))


def test_auc_with_ties(rng: Generator) -> None:
    target, weight = rng.integers(0, 2, 300), rng.random(300)
    score = (rng.normal(size=300) + target).round(1)  # many equal ones
    for w in (None, weight):
        wanted = sk.roc_auc_score(target, score, sample_weight=w)
        assert in_batches(M.AUC(), score, target, w) == pytest.approx(wanted, abs=1e-12)
        assert M.roc_auc_score(target, score, sample_weight=w) == pytest.approx(wanted, abs=1e-12)
    two = np.stack([-score, score], axis=1)
    assert in_batches(M.AUC(), two, target) == pytest.approx(sk.roc_auc_score(target, score), abs=1e-12)
    assert math.isnan(M.AUC()(score, np.ones(300, int)))
    with pytest.raises(ValueError, match="expected 0 to 1"):
        M.AUC()(score, target + 1)


@pytest.mark.parametrize("average", ["macro", "weighted", None])
def test_auc_of_several_classes(average: str | None, scores: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logits, target, _ = scores
    probabilities = softmax(logits.astype(np.float64))
    wanted = sk.roc_auc_score(target, probabilities, average=average, multi_class="ovr")
    np.testing.assert_allclose(in_batches(M.AUC(average=average), probabilities, target), wanted, atol=1e-12)
    np.testing.assert_allclose(in_batches(M.AUC(average=average), logits, target), wanted, atol=1e-12)
    onehot = np.eye(4)[target]
    np.testing.assert_allclose(M.AUC(average=average)(logits, onehot), wanted, atol=1e-12)


def test_auc_keeps_no_more_than_the_different_scores(monkeypatch: pytest.MonkeyPatch, rng: Generator) -> None:
    monkeypatch.setattr("pydl.metrics.auc._COMPACT", 100)
    target, score = rng.integers(0, 2, 5000), rng.integers(0, 50, 5000).astype(float)
    metric = M.AUC()
    for part in range(0, 5000, 64):
        metric.update(score[part : part + 64], target[part : part + 64])
    assert metric.result() == pytest.approx(sk.roc_auc_score(target, score), abs=1e-12)
    assert metric._tables[0].shape == (50, 3)
    reused = np.zeros(64)  # as a loader does with its memory
    fresh = M.AUC()
    for part in range(0, 4992, 64):
        reused[:] = score[part : part + 64]
        fresh.update(reused, target[part : part + 64].astype(np.uint8))
    assert fresh.result() == pytest.approx(sk.roc_auc_score(target[:4992], score[:4992]), abs=1e-12)
    fresh.update(score[4992:], target[4992:], np.ones(8))
    assert fresh.result() == pytest.approx(metric.result(), abs=1e-12)
    with pytest.raises(ValueError, match="got 3 columns, expected 1 as before"):
        fresh.update(np.eye(3), np.arange(3))


@pytest.mark.parametrize("shape", [(200,), (200, 1), (200, 3)])
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mse", "mean_squared_error"),
        ("mae", "mean_absolute_error"),
        ("r2", "r2_score"),
    ],
)
def test_regression(name: str, function: str, shape: tuple[int, ...], rng: Generator) -> None:
    target = rng.normal(1e4, 1.0, shape)
    prediction = target + rng.normal(0, 0.5, shape)
    weight = rng.random(200) * rng.integers(0, 2, 200)
    for w in (None, weight):
        wanted = getattr(sk, function)(target, prediction, sample_weight=w)
        assert in_batches(M.get(name), prediction, target, w) == pytest.approx(wanted, rel=1e-9)
        assert getattr(M, function)(target, prediction, sample_weight=w) == pytest.approx(wanted, rel=1e-9)
        squared = sk.mean_squared_error(target, prediction, sample_weight=w)
        assert in_batches(M.get("rmse"), prediction, target, w) == pytest.approx(math.sqrt(squared), rel=1e-9)
        wanted = sk.root_mean_squared_error(target, prediction, sample_weight=w)
        assert M.root_mean_squared_error(target, prediction, sample_weight=w) == pytest.approx(wanted, rel=1e-9)


def test_r2_at_its_edges() -> None:
    for target, prediction in (([2.0, 2.0], [2.0, 2.0]), ([2.0, 2.0], [1.0, 2.0]), ([1.0, 3.0], [2.0, 2.0])):
        assert M.R2Score()(np.array(prediction), np.array(target)) == sk.r2_score(target, prediction)
    assert math.isnan(M.R2Score()(np.array([1.0]), np.array([1.0])))
    with pytest.raises(ValueError, match=r"shape \(2,\), expected the targets' \(3,\)"):
        M.R2Score()(np.zeros(2), np.zeros(3))


def test_perplexity_and_bits(rng: Generator) -> None:
    logits, target = rng.normal(size=(60, 6, 5)) * 3, rng.integers(0, 5, (60, 6))
    mask = rng.integers(0, 2, (60, 6))
    losses = -np.log(np.take_along_axis(softmax(logits), target[..., None], -1)[..., 0])
    for w, mean in ((None, losses.mean()), (mask, losses[mask > 0].mean())):
        assert in_batches(M.Perplexity(), logits, target, w) == pytest.approx(math.exp(mean), rel=1e-9)
        assert in_batches(M.BitsPerCharacter(), logits, target, w) == pytest.approx(mean / math.log(2), rel=1e-9)
        assert in_batches(M.CrossEntropy(), np.moveaxis(logits, -1, 1), target, w) == pytest.approx(mean, rel=1e-9)
        got = M.CrossEntropy(from_logits=False)(softmax(logits), target, w)
        assert got == pytest.approx(mean, rel=1e-9)
    assert M.CrossEntropy()(logits, np.where(mask, target, -100)) == pytest.approx(losses[mask > 0].mean(), rel=1e-9)
    single = M.CrossEntropy()(logits.astype(np.float32), target)
    assert single == pytest.approx(losses.mean(), rel=1e-6)
    assert M.Perplexity()(np.array([[0.0, 2000.0]]), np.array([0])) == math.inf
    with pytest.raises(ValueError, match="targets from 0 to 5, of 5 classes"):
        M.Perplexity()(np.zeros((2, 5)), np.array([0, 5]))


def test_mean_and_what_is_left_out(rng: Generator) -> None:
    values, weights = rng.normal(size=20), rng.integers(0, 5, 20)
    mean = M.Mean("loss")
    mean.update(values[:7], weights[:7])
    for value, weight in zip(values[7:], weights[7:], strict=True):
        mean.update(float(value), int(weight))
    assert mean.result() == pytest.approx(np.average(values, weights=weights))
    mean.reset()
    assert math.isnan(mean.result())
    mean.update([1.0, math.nan], [1, 0])  # a padded step may be anything
    assert mean.result() == 1.0
    assert M.get("mse")(np.array([1.0, math.nan]), np.array([2.0, 0.0]), np.array([1, 0])) == 1.0
    with pytest.raises(ValueError, match="negative"):
        mean.update([1.0], [-1.0])


def test_functions_and_names() -> None:
    prediction, target = pydl.asarray([1.0, 2.0, 5.0]), pydl.asarray([1.0, 4.0, 5.0])

    def distance(prediction: pydl.Tensor, target: pydl.Tensor) -> pydl.Tensor:
        return abs(prediction - target)

    metric = M.get(distance)
    assert metric.name == "distance"
    metric.update(prediction[:1], target[:1])
    metric.update(prediction[1:], target[1:])
    assert metric.result() == pytest.approx(2 / 3)
    assert metric(prediction, target, np.array([1, 3, 0])) == 1.5
    whole = M.get(lambda p, t: float(abs(p - t).max()))
    whole.update(prediction[:1], target[:1])
    whole.update(prediction[1:], target[1:])
    assert whole.result() == pytest.approx(4 / 3)  # the mean over batches, by their sizes
    with pytest.raises(ValueError, match="cannot be weighted"):
        whole.update(prediction, target, np.ones(3))

    for name in M.named.NAMES:
        assert M.get(name).name == name
        assert M.get(name).state_dict().keys() == M.get(name).state_dict().keys()
    assert M.get(M.AUC).name == "auc"
    with pytest.raises(ValueError, match="got 'accurracy', expected one of accuracy"):
        M.get("accurracy")
    with pytest.raises(TypeError, match="got 3"):
        M.get(3)
    with pytest.raises(TypeError, match="got a Recall to merge"):
        M.Precision().merge(M.Recall())
    with pytest.raises(TypeError, match="number the classes"):
        M.Accuracy()(np.zeros((2, 2)), np.array(["a", "b"]))
    with pytest.raises(ValueError, match="expected those of samples or steps"):
        M.Accuracy()(np.zeros((2, 2)), np.array([0, 1]), np.ones(3))


def test_half_precision_and_bfloat16() -> None:
    logits = pydl.asarray([[2.0, 1.0], [0.0, 3.0]])
    for dtype in (pydl.float16, pydl.bfloat16, pydl.float64):
        assert M.Accuracy()(logits.astype(dtype), pydl.asarray([0, 0])) == 0.5
        assert M.Perplexity()(logits.astype(dtype), pydl.asarray([0, 1])) == pytest.approx(
            math.exp((math.log1p(math.exp(-1)) + math.log1p(math.exp(-3))) / 2), rel=1e-3
        )
