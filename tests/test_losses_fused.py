"""The fused losses without PyTorch: closed forms, extremes, sizes, layouts, threads; CTC by counting alignments."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import pydl
from op_cases import ODD_SIZES, THREADED_SIZE
from pydl import nn
from pydl.nn import functional as F
from tolerances import assert_near, assert_same_bits


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def huber(d: np.ndarray, delta: float = 1.0) -> np.ndarray:
    return np.where(np.abs(d) < delta, d * d / 2, delta * (np.abs(d) - delta / 2))


LOSSES: dict[str, tuple[Any, Any]] = {  # of x in (-4, 4) and targets in (0, 1)
    "l1_loss": (F.l1_loss, lambda x, t: np.abs(x - t)),
    "mse_loss": (F.mse_loss, lambda x, t: (x - t) ** 2),
    "huber_loss": (F.huber_loss, lambda x, t: huber(x - t)),
    "smooth_l1_loss": (
        lambda x, t, **k: F.smooth_l1_loss(x, t, beta=0.5, **k),
        lambda x, t: huber(x - t, 0.5) / 0.5,
    ),
    "binary_cross_entropy": (
        lambda x, t, **k: F.binary_cross_entropy(x / 10 + 0.5, t, **k),
        lambda x, t: -(t * np.log(x / 10 + 0.5) + (1 - t) * np.log(0.5 - x / 10)),
    ),
    "binary_cross_entropy_with_logits": (
        F.binary_cross_entropy_with_logits,
        lambda x, t: t * softplus(-x) + (1 - t) * softplus(x),
    ),
    "kl_div": (F.kl_div, lambda x, t: t * (np.log(t) - x)),
    "kl_div of logarithms": (
        lambda x, t, **k: F.kl_div(x, t, log_target=True, **k),
        lambda x, t: np.exp(t) * (t - x),
    ),
    "poisson_nll_loss": (F.poisson_nll_loss, lambda x, t: np.exp(x) - t * x),
    "poisson_nll_loss of rates": (
        lambda x, t, **k: F.poisson_nll_loss(x + 5, t, log_input=False, **k),
        lambda x, t: (x + 5) - t * np.log(x + 5 + 1e-8),
    ),
    "soft_margin_loss": (F.soft_margin_loss, lambda x, t: softplus(-t * x)),
}
BY_LOSS = pytest.mark.parametrize("name", LOSSES)


def operands(rng: np.random.Generator, shape: Any, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(-4, 4, shape).astype(dtype), rng.uniform(0.05, 0.95, shape).astype(dtype)


@BY_LOSS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_size_and_reduction(name: str, dtype: str, rng: np.random.Generator) -> None:
    loss, formula = LOSSES[name]
    rtol = 1e-12 if dtype == "float64" else 1e-5
    for size in ODD_SIZES:
        x, t = operands(rng, size, dtype)
        w = rng.uniform(0.5, 2, size)
        wanted = formula(x.astype(np.float64), t.astype(np.float64))
        each = loss(pydl.asarray(x), pydl.asarray(t), reduction="none").numpy()
        assert each.dtype == dtype
        assert_near(each, wanted, rtol, rtol, f"{name} {size}")
        total = loss(pydl.asarray(x), pydl.asarray(t), reduction="sum").item()
        mean = loss(pydl.asarray(x), pydl.asarray(t)).item()
        scale = np.abs(wanted).sum()
        assert abs(total - wanted.sum()) <= rtol * scale
        assert abs(mean - wanted.mean()) <= rtol * scale / size
        if name.startswith("binary"):
            weighted = loss(pydl.asarray(x), pydl.asarray(t), reduction="sum", weight=pydl.asarray(w)).item()
            assert abs(weighted - (w * wanted).sum()) <= 3 * rtol * scale


@BY_LOSS
def test_gradients(name: str, rng: np.random.Generator) -> None:
    loss, _ = LOSSES[name]
    for reduction in ("mean", "sum", "none"):
        x, t = (pydl.asarray(a).requires_grad_() for a in operands(rng, (3, 5)))
        assert pydl.autograd.gradcheck(lambda a, b, r=reduction: loss(a, b, reduction=r), (x, t))


@BY_LOSS
def test_gradients_recorded_are_those_of_the_kernel(name: str, rng: np.random.Generator) -> None:
    """create_graph takes the formulas as ops; both must give the same."""
    loss, _ = LOSSES[name]
    x, t = (pydl.asarray(a).requires_grad_() for a in operands(rng, (4, 7)))
    fused = pydl.autograd.grad(loss(x, t), [x, t])
    composed = pydl.autograd.grad(loss(x, t), [x, t], create_graph=True)
    for a, b in zip(fused, composed, strict=True):
        assert_near(b.detach().numpy(), a.numpy(), 1e-12, 1e-13)
        assert b.requires_grad or name in ("l1_loss", "kl_div")


@BY_LOSS
def test_layouts_and_empty_ones(name: str, rng: np.random.Generator) -> None:
    loss, _ = LOSSES[name]
    x, t = operands(rng, (6, 10))
    wanted = loss(pydl.asarray(x), pydl.asarray(t)).item()
    turned = pydl.asarray(np.ascontiguousarray(x.T)).T.requires_grad_()
    got = loss(turned, pydl.asarray(np.repeat(t, 2, axis=1))[:, ::2])
    assert got.item() == pytest.approx(wanted, rel=1e-13)
    got.backward()
    assert turned.grad.shape == (6, 10)
    nothing = pydl.zeros((0, 3)).requires_grad_()
    total = loss(nothing, pydl.zeros((0, 3)), reduction="sum")
    assert total.item() == 0.0
    total.backward()
    assert nothing.grad.shape == (0, 3)
    assert math.isnan(loss(nothing, pydl.zeros((0, 3))).item())
    assert loss(nothing, pydl.zeros((0, 3)), reduction="none").shape == (0, 3)


@BY_LOSS
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_channels_last_images(name: str, reduction: str, rng: np.random.Generator) -> None:
    """Input, target and upstream in whatever layout: the same losses; the gradient has the input's layout."""
    loss, _ = LOSSES[name]
    x, t = operands(rng, (2, 3, 4, 5))
    upstream = rng.uniform(0.5, 2, (2, 3, 4, 5))

    def last(a: np.ndarray) -> Any:
        return pydl.permute_dims(pydl.asarray(np.ascontiguousarray(a.transpose(0, 2, 3, 1))), (0, 3, 1, 2))

    results = []
    for lay_x, lay_t in itertools.product((pydl.asarray, last), repeat=2):
        a, b = lay_x(x).requires_grad_(), lay_t(t).requires_grad_()
        value = loss(a, b, reduction=reduction)
        value.backward(pydl.asarray(upstream) if reduction == "none" else None)
        results.append([value.detach().numpy(), a.grad.numpy(), b.grad.numpy()])
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert_near(got, wanted, 1e-13, 1e-14)


@BY_LOSS
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_same_bits_for_any_number_of_threads(
    name: str, reduction: str, rng: np.random.Generator, threads: None
) -> None:
    loss, _ = LOSSES[name]
    x, t = operands(rng, THREADED_SIZE, "float32")
    results = []
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        a, b = pydl.asarray(x).requires_grad_(), pydl.asarray(t).requires_grad_()
        value = loss(a, b, reduction=reduction)
        value.sum().backward()
        results.append([value.detach().numpy().copy(), a.grad.numpy().copy(), b.grad.numpy().copy()])
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert_same_bits(got, wanted, name)


@BY_LOSS
def test_nan_goes_through(name: str) -> None:
    loss, _ = LOSSES[name]
    x, t = pydl.asarray([1.0, float("nan"), 2.0]), pydl.asarray([0.5, 0.5, 0.5])
    assert np.isnan(loss(x, t, reduction="none").numpy()).tolist() == [False, True, False]
    assert math.isnan(loss(x, t).item())


def test_logits_far_out_keep_their_tiny_losses_and_gradients() -> None:
    x = pydl.asarray([40.0, -40.0, 1e4, -1e4, 1e4, 80.0]).requires_grad_()
    t = pydl.asarray([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    loss = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    assert_near(loss.detach().numpy(), np.array([math.exp(-40.0)] * 2 + [0, 0, 1e4, math.exp(-80.0)]), 1e-5, 0)
    loss.sum().backward()
    tiny = math.exp(-40.0)
    assert_near(x.grad.numpy()[:5], np.array([0.0 * tiny, tiny, 0.0, 0.0, 1.0]), 1e-5, 2e-17)


def test_divergence_of_a_certain_target_is_finite() -> None:
    x = pydl.log(pydl.asarray([[0.25, 0.75], [1.0, 0.0]]))
    y = pydl.asarray([[0.0, 1.0], [1.0, 0.0]])
    assert_near(F.kl_div(x, y, reduction="sum").numpy(), np.array(-math.log(0.75)), 1e-6, 0)


def test_integer_and_boolean_targets_are_numbers() -> None:
    x = pydl.asarray([0.3, -1.0])
    for t in (pydl.asarray([1, 0]), pydl.asarray([True, False])):
        got = F.binary_cross_entropy_with_logits(x, t)
        assert got.dtype == pydl.float32
        assert got.item() == F.binary_cross_entropy_with_logits(x, pydl.asarray([1.0, 0.0])).item()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    kind = getattr(pydl, dtype)
    x, t = pydl.asarray([0.5, -2.0]).astype(kind), pydl.asarray([1.0, 0.0]).astype(kind)
    assert F.mse_loss(x, t).dtype == kind
    assert F.mse_loss(x, t).item() == pytest.approx(2.125, rel=1e-2)
    assert F.nll_loss(pydl.asarray([[-1.0, -2.0]]).astype(kind), pydl.asarray([1])).item() == 2.0


# ---- negative log-likelihood


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nll_picks_weighs_and_ignores(reduction: str, rng: np.random.Generator) -> None:
    x, y, w = rng.normal(size=(5, 3, 4)), rng.integers(0, 3, (5, 4)), rng.uniform(0.5, 2, 3)
    y[1, 2] = y[4, 0] = 9
    logs = pydl.asarray(x).requires_grad_()
    got = F.nll_loss(logs, pydl.asarray(y), pydl.asarray(w), ignore_index=9, reduction=reduction)
    share = np.where(y == 9, 0, w[y % 3])
    each = -np.take_along_axis(x, (y % 3)[:, None], 1)[:, 0] * share
    wanted = each.sum() / share.sum() if reduction == "mean" else each.sum() if reduction == "sum" else each
    assert_near(got.detach().numpy(), wanted, 1e-13, 1e-14)
    assert pydl.autograd.gradcheck(
        lambda z: F.nll_loss(z, pydl.asarray(y), pydl.asarray(w), ignore_index=9, reduction=reduction), (logs,)
    )


def test_nll_of_ignored_targets_is_zero_and_not_nan() -> None:
    x = pydl.zeros((2, 3)).requires_grad_()
    loss = F.nll_loss(x, pydl.asarray([-100, -100]))
    loss.backward()
    assert loss.item() == 0.0
    assert not x.grad.numpy().any()


def test_nll_same_bits_for_any_number_of_threads(rng: np.random.Generator, threads: None) -> None:
    x, y = rng.normal(size=(3001, 101)).astype(np.float32), rng.integers(0, 101, 3001)
    gradients = []
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        logs = pydl.asarray(x).requires_grad_()
        F.nll_loss(logs, pydl.asarray(y)).backward()
        gradients.append(logs.grad.numpy().copy())
    for other in gradients[1:]:
        assert_same_bits(other, gradients[0])


# ---- connectionist temporal classification


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def by_counting(log_probs: np.ndarray, target: list[int], blank: int = 0) -> float:
    """(T, C): -log of the sum over all C^T alignments that collapse to the target."""
    steps, classes = log_probs.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=steps):
        collapsed = [c for c, _ in itertools.groupby(path) if c != blank]
        if collapsed == target:
            total += math.exp(sum(log_probs[t, c] for t, c in enumerate(path)))
    return -math.log(total) if total else math.inf


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ctc_counts_all_alignments(blank: int, dtype: str, rng: np.random.Generator) -> None:
    log_probs = log_softmax(rng.normal(size=(6, 5, 3)))
    labels = [c for c in range(3) if c != blank]
    targets = [[labels[0]], [labels[0], labels[0], labels[1]], [], [labels[1], labels[0]], [labels[0]] * 4]
    lengths = [6, 6, 4, 5, 6]
    padded = np.full((5, 4), labels[0])
    for row, target in zip(padded, targets, strict=True):
        row[: len(target)] = target
    got = F.ctc_loss(
        pydl.asarray(log_probs.astype(dtype)), pydl.asarray(padded), lengths, [len(t) for t in targets], blank, "none"
    )
    wanted = [by_counting(log_probs[:n, i], t, blank) for i, (n, t) in enumerate(zip(lengths, targets, strict=True))]
    assert wanted[4] == math.inf  # four equal labels need three blanks between them
    assert_near(got.numpy(), np.array(wanted), 1e-12 if dtype == "float64" else 1e-6, 0)


def test_ctc_gradient_of_logits(rng: np.random.Generator) -> None:
    logits = pydl.asarray(rng.normal(size=(9, 3, 4))).requires_grad_()
    targets = pydl.asarray([1, 2, 2, 3, 1, 1])

    def loss(x: Any) -> Any:
        return F.ctc_loss(F.log_softmax(x, 2), targets, [9, 7, 8], [3, 2, 1], reduction="none")

    assert pydl.autograd.gradcheck(loss, (logits,))


def test_ctc_zero_infinity_and_long_sequences(rng: np.random.Generator) -> None:
    x = pydl.asarray(log_softmax(rng.normal(size=(3, 2, 4)))).requires_grad_()
    loss = F.ctc_loss(x, pydl.asarray([[1, 1], [1, 2]]), [2, 3], [2, 2], reduction="sum", zero_infinity=True)
    loss.backward()
    assert math.isfinite(loss.item())
    assert not x.grad.numpy()[:, 0].any()
    steps = 2000  # probabilities of e⁻³⁰⁰⁰: only logarithms get through
    x = pydl.asarray(log_softmax(rng.normal(size=(steps, 1, 5))).astype(np.float32)).requires_grad_()
    target = pydl.asarray(rng.integers(1, 5, (1, 400)))
    loss = F.ctc_loss(x, target, [steps], [400], reduction="sum")
    loss.backward()
    assert 1500 < loss.item() < 4000
    assert_near(x.grad.numpy().sum(2), np.zeros((steps, 1)), 0, 1e-5)


def test_ctc_same_bits_for_any_number_of_threads(rng: np.random.Generator, threads: None) -> None:
    log_probs = log_softmax(rng.normal(size=(50, 7, 20))).astype(np.float32)
    targets = pydl.asarray(rng.integers(1, 20, (7, 15)))
    results = []
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        x = pydl.asarray(log_probs).requires_grad_()
        loss = F.ctc_loss(x, targets, [50] * 7, [15] * 7)
        loss.backward()
        results.append((loss.detach().numpy().copy(), x.grad.numpy().copy()))
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert_same_bits(got, wanted)


# ---- mistakes


def zeros(*shape: int, dtype: Any = None) -> Any:
    return pydl.zeros(shape, dtype=dtype)


LENGTHS = {"input_lengths": [4, 4], "target_lengths": [2, 2]}
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda: nn.MSELoss()(zeros(3, 1), zeros(3)), ValueError, r"\[mse_loss\] got input of shape \(3, 1\).*\(3,\)"),
    (lambda: nn.MSELoss()(zeros(3, dtype=pydl.int64), zeros(3, dtype=pydl.int64)), TypeError, r"\[mse_loss\]"),
    (lambda: nn.BCELoss()(pydl.asarray([2.0]), zeros(1)), ValueError, r"\[binary_cross_entropy\] .*with_logits"),
    (lambda: nn.BCELoss()(pydl.asarray([-0.5]), zeros(1)), ValueError, r"\[binary_cross_entropy\] got input from -0.5"),
    (lambda: nn.BCEWithLogitsLoss()(zeros(3, 1), zeros(3)), ValueError, r"\[binary_cross_entropy_with_logits\]"),
    (lambda: F.binary_cross_entropy(zeros(2), zeros(2), weight=zeros(3)), ValueError, r"\[binary_cross_entropy\]"),
    (lambda: nn.NLLLoss()(zeros(2, 3), zeros(2)), TypeError, r"\[nll_loss\] got a float32 target.*astype"),
    (lambda: nn.NLLLoss()(zeros(2, 3), zeros(3, dtype=pydl.int64)), ValueError, r"\[nll_loss\].*expected \(2,\)"),
    (lambda: nn.NLLLoss()(zeros(2, 3), pydl.asarray([0, 3])), IndexError, r"\[nll_loss\] target 3 at position 1"),
    (lambda: nn.NLLLoss(zeros(4))(zeros(2, 3), pydl.asarray([0, 1])), ValueError, r"\[nll_loss\] got a weight"),
    (lambda: nn.CrossEntropyLoss()(zeros(2, 3), zeros(2)), ValueError, r"\[cross_entropy\].*astype\(int64\)"),
    (lambda: nn.CrossEntropyLoss("mean"), TypeError, "weight"),
    (lambda: nn.MSELoss("sum"), TypeError, r"\[MSELoss\] got 'sum' for size_average.*reduction='sum'"),
    (lambda: nn.L1Loss(reduction="avg"), ValueError, r"\[L1Loss\] got reduction 'avg'"),
    (lambda: F.ctc_loss(zeros(4, 2, 3), zeros(2, 2, dtype=pydl.int64) + 7, **LENGTHS), IndexError, r"target 7"),
    (lambda: F.ctc_loss(zeros(4, 2, 3), zeros(2, 2), **LENGTHS), TypeError, r"\[ctc_loss\] got targets of float32"),
    (lambda: F.ctc_loss(zeros(3, 2, 3), zeros(2, 2, dtype=pydl.int64), **LENGTHS), ValueError, r"lengths\[0\] = 4"),
    (lambda: F.ctc_loss(zeros(4, 2, 3), zeros(3, dtype=pydl.int64), **LENGTHS), ValueError, r"add up to 4.* 3 targets"),
    (lambda: F.ctc_loss(zeros(4, 2, 3), zeros(2, 2, dtype=pydl.int64), [4], [2, 2]), ValueError, r"expected \(2,\)"),
    (lambda: nn.CTCLoss(blank=5)(zeros(4, 2, 3), zeros(2, 2, dtype=pydl.int64), [4, 4], [2, 2]), ValueError, "blank"),
    (lambda: nn.MultiMarginLoss()(zeros(2, 3), pydl.asarray([0, 3])), IndexError, r"\[multi_margin_loss\]"),
    (lambda: nn.MultiMarginLoss()(zeros(2, 3), zeros(2)), TypeError, r"\[multi_margin_loss\].*astype"),
    (lambda: nn.MultiMarginLoss(p=3), ValueError, r"\[MultiMarginLoss\] got p = 3"),
    (lambda: nn.MultiLabelMarginLoss()(zeros(2, 3), zeros(2, dtype=pydl.int64)), ValueError, r"\[multilabel_margin"),
    (lambda: nn.CosineEmbeddingLoss()(zeros(2, 3), zeros(2, 3), zeros(2, 1)), ValueError, r"\[cosine_embedding_loss\]"),
    (lambda: nn.MarginRankingLoss()(zeros(2), zeros(2), zeros(2, 1)), ValueError, r"\[margin_ranking_loss\]"),
    (lambda: nn.TripletMarginLoss(margin=0), ValueError, r"\[TripletMarginLoss\] got margin = 0"),
    (lambda: nn.GaussianNLLLoss()(zeros(2, 3), zeros(2, 3), zeros(3)), ValueError, r"\[gaussian_nll_loss\] got var"),
    (lambda: nn.GaussianNLLLoss()(zeros(2), zeros(2), zeros(2) - 1), ValueError, r"got a variance of -1"),
    (lambda: nn.HuberLoss(delta=0), ValueError, r"\[HuberLoss\] got delta"),
    (lambda: nn.SmoothL1Loss(beta=-1), ValueError, r"\[SmoothL1Loss\] got beta"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 9, [5, 3]), ValueError, r"\[AdaptiveLogSoftmaxWithLoss\] got cutoffs"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES, ids=[m[2] for m in MISTAKES])
def test_mistakes_say_what_to_do(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 10, 31, 32, 33])
def test_short_rows_have_the_bits_of_one_by_one(classes: int, dtype: str) -> None:
    rng = np.random.default_rng(classes)
    x = (rng.standard_normal((37, classes)) * 5).astype(dtype)
    x[3], x[4, 0], x[5, -1], x[6, 0] = -np.inf, np.inf, -np.inf, np.nan
    y = rng.integers(0, classes, 37)
    y[9] = -100
    wide = x.astype(np.float64)
    with np.errstate(invalid="ignore"):
        shifted = wide - wide.max(1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(1, keepdims=True))
        log_p = shifted - log_sum
        largest = wide.max(1)
        lse = np.where(np.isinf(largest), largest, largest + log_sum[:, 0])
    eps = {"float32": 3e-7, "float64": 5e-16}[dtype] * 8
    t, target = pydl.asarray(x), pydl.asarray(y)
    functions = {
        "log_softmax": lambda t, y: F.log_softmax(t, -1),
        "softmax": lambda t, y: F.softmax(t, -1),
        "logsumexp": lambda t, y: pydl.logsumexp(t, 1),
        "cross_entropy": lambda t, y: F.cross_entropy(t, y, reduction="none"),
    }
    wanted = {"log_softmax": log_p, "softmax": np.exp(log_p), "logsumexp": lse}
    for name, f in functions.items():
        whole = f(t, target).numpy()
        if name in wanted:
            np.testing.assert_allclose(whole, wanted[name], rtol=eps, atol=eps * 4, err_msg=name)
        for i in range(37):
            alone = f(t[i : i + 1], target[i : i + 1]).numpy()
            assert alone.tobytes() == whole[i : i + 1].tobytes(), (name, i)
    finite = t[7:].clone().requires_grad_()
    F.cross_entropy(finite, target[7:], reduction="sum").backward()
    hot = np.zeros((30, classes))
    hot[np.arange(30), np.maximum(y[7:], 0)] = 1
    wanted_grad = np.where((y[7:] >= 0)[:, None], np.exp(log_p[7:]) - hot, 0.0)
    np.testing.assert_allclose(finite.grad.numpy(), wanted_grad, rtol=0, atol=eps * 4)


@pytest.mark.parametrize("inner", [1, 2, 7, 8, 9, 16, 17, 33, 49])
@pytest.mark.parametrize("classes", [1, 2, 3, 20, 32, 33])
def test_classes_along_a_middle_axis_are_those_along_the_last(classes: int, inner: int) -> None:
    rng = np.random.default_rng(classes * inner)
    x = (rng.standard_normal((3, classes, inner)) * 5).astype(np.float32)
    x[1, classes // 2, inner // 2] = np.inf  # stays within its row
    y = rng.integers(0, classes, (3, inner))
    y[0, 0] = -100
    for function in (pydl.softmax, F.log_softmax, pydl.logsumexp):
        results = []
        for a, axis in ((x, 1), (x.transpose(0, 2, 1), -1)):
            xs = pydl.asarray(np.ascontiguousarray(a)).requires_grad_()
            out = function(xs, axis)
            (d_x,) = pydl.autograd.grad((out * out).sum(), [xs])
            results.append((out.detach().numpy(), d_x.numpy()))
        (out, d_x), (wanted, wanted_d_x) = results
        np.testing.assert_allclose(
            out, np.moveaxis(wanted, -1, 1) if wanted.ndim == 3 else wanted, rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(d_x, np.moveaxis(wanted_d_x, -1, 1), rtol=1e-4, atol=1e-4)
    x[1, classes // 2, inner // 2] = 3
    for options in ({}, {"reduction": "none"}, {"label_smoothing": 0.1}, {"weight": pydl.ones((classes,)) * 2}):
        losses = []
        for a, axes in ((x, (0, 1, 2)), (x.transpose(0, 2, 1).reshape(-1, classes), None)):
            xs = pydl.asarray(np.ascontiguousarray(a)).requires_grad_()
            loss = F.cross_entropy(xs, pydl.asarray(y if axes else y.ravel()), **options)
            (d_x,) = pydl.autograd.grad(loss.sum(), [xs])
            losses.append((loss.detach().numpy().ravel(), d_x.numpy() if axes else d_x.numpy().reshape(3, inner, -1)))
        np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(losses[0][1], losses[1][1].transpose(0, 2, 1), rtol=1e-4, atol=1e-6)
