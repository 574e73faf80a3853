"""Losses against closed forms in NumPy, against PyTorch where it is, and their gradients by gradcheck."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.nn import functional as F
from tolerances import TORCH_ATOL, TORCH_RTOL, assert_near


def double(array: Any) -> Any:
    return pydl.asarray(np.asarray(array, np.float64))


def reduced(loss: np.ndarray, reduction: str) -> np.ndarray:
    return loss if reduction == "none" else getattr(loss, reduction)()


def log_softmax(x: np.ndarray, axis: int = 1) -> np.ndarray:
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
MARGIN = 0.2  # distance kept from the places where a loss has a corner


def pair(rng: np.random.Generator, corner: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays whose differences stay away from 0 and from +-corner."""
    y = rng.normal(size=(4, 5))
    step = rng.uniform(MARGIN, 3, size=(4, 5)) * rng.choice([-1, 1], size=(4, 5))
    near = np.abs(np.abs(step) - corner) < MARGIN
    return y + np.where(near, step * 1.5 + np.sign(step) * MARGIN, step), y


POINTWISE: list[tuple[nn.Module, Any, float]] = [
    (nn.MSELoss, lambda x, y: (x - y) ** 2, 0),
    (nn.L1Loss, lambda x, y: np.abs(x - y), 0),
    (nn.SmoothL1Loss, lambda x, y: np.where(np.abs(x - y) < 1, (x - y) ** 2 / 2, np.abs(x - y) - 0.5), 1),
    (
        lambda **k: nn.SmoothL1Loss(beta=0.5, **k),
        lambda x, y: np.where(np.abs(x - y) < 0.5, (x - y) ** 2, np.abs(x - y) - 0.25),
        0.5,
    ),
    (lambda **k: nn.SmoothL1Loss(beta=0.0, **k), lambda x, y: np.abs(x - y), 0),
    (
        lambda **k: nn.HuberLoss(delta=2.0, **k),
        lambda x, y: np.where(np.abs(x - y) < 2, (x - y) ** 2 / 2, 2 * np.abs(x - y) - 2),
        2,
    ),
    (nn.BCEWithLogitsLoss, lambda x, y: np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x))), 0),
]  # type: ignore[list-item]


@REDUCTIONS
@pytest.mark.parametrize(("make", "formula", "corner"), POINTWISE)
def test_pointwise_losses(make: Any, formula: Any, corner: float, reduction: str, rng: np.random.Generator) -> None:
    x, y = pair(rng, corner)
    loss = make(reduction=reduction)
    assert_near(loss(double(x), double(y)).numpy(), reduced(formula(x, y), reduction), 1e-13, 1e-14)
    assert pydl.autograd.gradcheck(loss, (double(x).requires_grad_(), double(y).requires_grad_()))


@pytest.mark.parametrize("name", ["L1Loss", "SmoothL1Loss", "HuberLoss", "BCEWithLogitsLoss", "BCELoss", "MSELoss"])
def test_pointwise_losses_refuse_other_shapes(name: str) -> None:
    with pytest.raises(ValueError, match=r"\[\w+\] got .*\(3, 1\).*\(3,\)|\[\w+\] .*\(3, 1\).*\(3\)"):
        getattr(nn, name)()(pydl.ones((3, 1)), pydl.ones((3,)))


def test_binary_cross_entropies(rng: np.random.Generator) -> None:
    x, y, w, p = rng.normal(size=(4, 3)) * 3, rng.uniform(size=(4, 3)), rng.uniform(size=(4, 3)), rng.uniform(0.5, 3, 3)
    sigma = 1 / (1 + np.exp(-x))
    expected = -w * (p * y * np.log(sigma) + (1 - y) * np.log1p(-sigma))
    got = nn.BCEWithLogitsLoss(double(w), pos_weight=double(p), reduction="none")(double(x), double(y))
    assert_near(got.numpy(), expected, 1e-12, 1e-13)
    got = nn.BCELoss(double(w), reduction="none")(double(sigma), double(y))
    assert_near(got.numpy(), -w * (y * np.log(sigma) + (1 - y) * np.log1p(-sigma)), 1e-12, 1e-13)
    extreme = nn.BCEWithLogitsLoss(reduction="none")(pydl.asarray([1e4, -1e4]), pydl.asarray([0.0, 1.0]))
    assert extreme.numpy().tolist() == [1e4, 1e4]
    ends = nn.BCELoss(reduction="none")(pydl.asarray([0.0, 1.0, 0.0]), pydl.asarray([1.0, 0.0, 0.0]))
    assert ends.numpy().tolist() == [100.0, 100.0, 0.0]


@REDUCTIONS
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("ignore", [-100, 2])
def test_class_losses(reduction: str, weighted: bool, ignore: int, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(9, 4)), rng.integers(0, 4, size=9)
    weight = rng.uniform(0.5, 2, 4) if weighted else np.ones(4)
    log_p = log_softmax(x)
    counted = y != ignore
    share = weight[y] * counted
    loss = -log_p[np.arange(9), y] * share
    expected = loss.sum() / share.sum() if reduction == "mean" else reduced(loss, reduction)
    options: Any = {"weight": double(weight) if weighted else None, "ignore_index": ignore, "reduction": reduction}
    target = pydl.asarray(y)
    assert_near(nn.CrossEntropyLoss(**options)(double(x), target).numpy(), expected, 1e-12, 1e-13)
    assert_near(nn.NLLLoss(**options)(double(log_p), target).numpy(), expected, 1e-12, 1e-13)
    for loss_of in (nn.CrossEntropyLoss(**options), nn.NLLLoss(**options)):
        assert pydl.autograd.gradcheck(lambda t, f=loss_of: f(t, target), (double(x).requires_grad_(),))


@REDUCTIONS
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_cross_entropy_with_smoothing_probabilities_and_more_axes(
    reduction: str, smoothing: float, rng: np.random.Generator
) -> None:
    x, y = rng.normal(size=(3, 5, 2, 4)), rng.integers(0, 5, size=(3, 2, 4))
    one_hot = np.moveaxis(np.eye(5)[y], -1, 1)
    target = one_hot * (1 - smoothing) + smoothing / 5
    loss = -(target * log_softmax(x)).sum(1)
    expected = reduced(loss, reduction)
    made = nn.CrossEntropyLoss(reduction=reduction, label_smoothing=smoothing)
    assert_near(made(double(x), pydl.asarray(y)).numpy(), expected, 1e-12, 1e-13)
    expected = loss.sum() / 24 if reduction == "mean" else expected
    assert_near(made(double(x), double(one_hot)).numpy(), expected, 1e-12, 1e-13)
    assert_near(made(double(x[0, :, 0, 0]), pydl.asarray(y[0, 0, 0])).numpy(), loss[0, 0, 0], 1e-12, 1e-13)


def test_initial_loss_of_an_undecided_model_is_log_of_the_classes() -> None:
    assert nn.CrossEntropyLoss()(pydl.zeros((8, 10)), pydl.zeros((8,), dtype=pydl.int64)).item() == pytest.approx(
        np.log(10)
    )


def test_class_losses_refuse_bad_targets() -> None:
    for loss in (nn.CrossEntropyLoss(), nn.NLLLoss()):
        with pytest.raises(IndexError, match=r"\["):
            loss(pydl.zeros((2, 3)), pydl.asarray([0, 3]))
        with pytest.raises(IndexError, match=r"\["):
            loss(pydl.zeros((2, 3)), pydl.asarray([0, -1]))
        with pytest.raises(ValueError, match=r"\["):
            loss(pydl.zeros((2, 3)), pydl.asarray([0, 1, 2]))
    with pytest.raises(ValueError, match=r"\[MSELoss\] got reduction 'avg'"):
        nn.MSELoss(reduction="avg")
    with pytest.raises(ValueError, match="reduction"):
        F.l1_loss(pydl.ones((1,)), pydl.ones((1,)), reduction="avg")


@pytest.mark.parametrize("log_target", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "batchmean"])
def test_kl_divergence(reduction: str, log_target: bool, rng: np.random.Generator) -> None:
    x, y = log_softmax(rng.normal(size=(3, 4))), np.exp(log_softmax(rng.normal(size=(3, 4))))
    terms = y * (np.log(y) - x)
    expected = terms.sum() / 3 if reduction == "batchmean" else reduced(terms, reduction)
    loss = nn.KLDivLoss(reduction=reduction, log_target=log_target)
    assert_near(loss(double(x), double(np.log(y) if log_target else y)).numpy(), expected, 1e-12, 1e-14)
    zero = nn.KLDivLoss(reduction="sum")(double([-1.0, -2.0]), double([0.0, 1.0]))
    assert zero.item() == 2.0


def test_cosine_similarity_and_normalize(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    assert_near(F.cosine_similarity(double(a), double(b)).numpy(), (a * b).sum(1) / lengths, 1e-13, 0)
    assert_near(F.normalize(double(a), p=3.0, axis=0).numpy(), a / np.linalg.norm(a, 3, axis=0), 1e-12, 0)
    assert F.normalize(pydl.zeros((2, 3))).numpy().tolist() == np.zeros((2, 3)).tolist()


@REDUCTIONS
def test_losses_are_pytorchs(reduction: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x, y = rng.normal(size=(6, 4)) * 2, rng.uniform(size=(6, 4))
    classes = rng.integers(0, 4, 6)
    weight = rng.uniform(0.5, 2, 4)
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("MSELoss", y, {}),
        ("L1Loss", y, {}),
        ("SmoothL1Loss", y, {"beta": 0.7}),
        ("HuberLoss", y, {"delta": 0.7}),
        ("BCEWithLogitsLoss", y, {"pos_weight": weight}),
        ("KLDivLoss", y, {}),
        ("CrossEntropyLoss", classes, {"weight": weight, "label_smoothing": 0.2, "ignore_index": 1}),
        ("CrossEntropyLoss", y, {"weight": weight, "label_smoothing": 0.2}),
        ("NLLLoss", classes, {"weight": weight, "ignore_index": 1}),
    ]
    for name, target, options in cases:
        if name == "KLDivLoss" and reduction == "mean":
            continue  # PyTorch warns of it
        made = []
        for library, convert in ((nn, pydl.asarray), (torch.nn, torch.from_numpy)):
            given = {k: convert(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
            a = convert(x.copy()).requires_grad_()
            loss = getattr(library, name)(reduction=reduction, **given)(a, convert(target))
            (
                loss * convert(np.linspace(1.0, 2.0, max(1, loss.detach().numpy().size)).reshape(loss.shape))
            ).sum().backward()
            made += [loss.detach().numpy(), a.grad.numpy()]
        assert_near(made[0], made[2], TORCH_RTOL, TORCH_ATOL, name)
        assert_near(made[1], made[3], TORCH_RTOL, TORCH_ATOL, name)
