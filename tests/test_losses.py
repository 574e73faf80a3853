"""Cross entropy from logits, in all its forms, against a plain NumPy version, finite differences and PyTorch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import pydl
import special as exact
from oracle import finite_differences
from tolerances import GRAD_ATOL, GRAD_RTOL, TORCH_ATOL, TORCH_RTOL, assert_near, assert_same_bits

SHAPES = [(4, 5), (1, 2), (3, 1), (2, 3, 4), (2, 3, 2, 2), (5,)]


def cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> np.ndarray:
    """x (N, C, d1, ...) or (C,); target class indices or probabilities. PyTorch's definitions, element by element."""
    axis = 1 if x.ndim > 1 else 0
    classes = x.shape[axis]
    log_p = np.moveaxis(exact.log_softmax(x, axis=axis), axis, -1)
    w = np.ones(classes) if weight is None else weight
    if target.dtype.kind == "f":
        t = np.moveaxis(target, axis, -1) * (1 - label_smoothing) + label_smoothing / classes
        loss = -np.sum(w * t * log_p, axis=-1)
        return loss if reduction == "none" else np.sum(loss) if reduction == "sum" else np.sum(loss) / loss.size
    loss = np.zeros(target.shape, x.dtype)
    total = np.longdouble(0)
    for at in np.ndindex(*target.shape):
        y = int(target[at])
        if y == ignore_index:
            continue
        loss[at] = -(1 - label_smoothing) * w[y] * log_p[at][y] - label_smoothing / classes * np.sum(w * log_p[at])
        total += w[y]
    if reduction == "none":
        return loss
    return np.sum(loss) / (total if reduction == "mean" and total != 0 else 1)


def random_target(rng: np.random.Generator, shape: tuple[int, ...], kind: str, ignore: int | None = None) -> np.ndarray:
    axis = 1 if len(shape) > 1 else 0
    if kind == "probabilities":
        p = rng.uniform(0.1, 1, shape)
        return p / p.sum(axis, keepdims=True)
    target = rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])
    if ignore is not None and target.ndim:
        target.ravel()[:: max(2, target.size // 2)] = ignore
    return target


def options() -> list[dict[str, Any]]:
    grid = itertools.product(
        ("mean", "sum", "none"), (0.0, 0.2), (False, True), ("indices", "ignored", "probabilities")
    )
    return [dict(zip(("reduction", "label_smoothing", "weighted", "kind"), row, strict=True)) for row in grid]


def arguments(option: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    x = rng.normal(size=shape) * 3
    target = random_target(rng, shape, option["kind"], -100 if option["kind"] == "ignored" else None)
    weight = rng.uniform(0.5, 2, shape[1 if len(shape) > 1 else 0]) if option["weighted"] else None
    return x, target, weight


@pytest.mark.parametrize("option", options(), ids=lambda o: "-".join(map(str, o.values())))
def test_cross_entropy(option: dict[str, Any], rng: np.random.Generator) -> None:
    for shape in SHAPES:
        x, target, weight = arguments(option, shape, rng)
        keywords = {k: option[k] for k in ("reduction", "label_smoothing")}
        logits = pydl.asarray(x.copy()).requires_grad_()
        got = pydl.nn.functional.cross_entropy(
            logits, pydl.asarray(target), weight=None if weight is None else pydl.asarray(weight), **keywords
        )
        wanted = cross_entropy(x.astype(np.longdouble), target, weight, **keywords)
        assert_near(got.detach().numpy(), wanted, 1e-13, 1e-14, f"{shape} {option}")
        upstream = rng.uniform(0.5, 2, got.shape)
        got.backward(pydl.asarray(upstream))
        (gradient,) = finite_differences(
            lambda z, t=target, w=weight, k=keywords: cross_entropy(z, t, w, **k), [x], [True], upstream
        )
        assert gradient is not None
        assert_near(logits.grad.numpy(), gradient, GRAD_RTOL, GRAD_ATOL, f"{shape} {option}")


@pytest.mark.parametrize("option", options(), ids=lambda o: "-".join(map(str, o.values())))
def test_cross_entropy_against_torch(option: dict[str, Any], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    for shape in SHAPES:
        x, target, weight = arguments(option, shape, rng)
        keywords = {k: option[k] for k in ("reduction", "label_smoothing")}
        results = []
        for module, make in ((pydl, pydl.asarray), (torch, torch.tensor)):
            logits = make(x).requires_grad_()
            w = None if weight is None else make(weight)
            loss = module.nn.functional.cross_entropy(logits, make(target), weight=w, **keywords)
            (loss * make(np.arange(1.0, 1 + loss.detach().numpy().size).reshape(tuple(loss.shape)))).sum().backward()
            results.append((loss.detach().numpy(), logits.grad.numpy()))
        if option["kind"] == "ignored" and np.all(target == -100):
            continue  # PyTorch's mean is NaN, ours 0
        for got, wanted in zip(*results, strict=True):
            assert_near(got, wanted, TORCH_RTOL, TORCH_ATOL, f"{shape} {option}")


def test_gradient_for_the_target_probabilities(rng: np.random.Generator) -> None:
    x, p = rng.normal(size=(4, 3)), random_target(rng, (4, 3), "probabilities")
    target = pydl.asarray(p).requires_grad_()
    pydl.nn.functional.cross_entropy(pydl.asarray(x), target).backward()
    np.testing.assert_allclose(target.grad.numpy(), -np.asarray(exact.log_softmax(x), np.float64) / 4, rtol=1e-13)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("ignore", [-100, 2])
def test_all_ignored_is_zero_and_not_nan(reduction: str, smoothing: float, ignore: int) -> None:
    x = pydl.randn(4, 3, generator=pydl.Generator(1)).requires_grad_()
    target = pydl.asarray(np.full(4, ignore))
    loss = pydl.nn.functional.cross_entropy(
        x, target, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing
    )
    np.testing.assert_array_equal(loss.detach().numpy(), np.zeros((4,) if reduction == "none" else ()))
    loss.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros((4, 3)))


def test_empty_batch_is_zero() -> None:
    x = pydl.zeros((0, 3)).requires_grad_()
    loss = pydl.nn.functional.cross_entropy(x, pydl.zeros((0,), dtype=pydl.int64))
    assert loss.item() == 0.0
    loss.backward()
    assert x.grad.shape == (0, 3)


def test_ignored_rows_may_hold_anything(rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 4))
    bad = x.copy()
    bad[1] = np.nan
    target = pydl.asarray(np.array([2, -100, 0]))
    logits = pydl.asarray(bad).requires_grad_()
    loss = pydl.nn.functional.cross_entropy(logits, target)
    wanted = cross_entropy(x[[0, 2]], np.array([2, 0]))
    assert float(loss.detach().numpy()) == pytest.approx(float(wanted), rel=1e-14)
    loss.backward()
    np.testing.assert_array_equal(logits.grad.numpy()[1], np.zeros(4))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_logits_neither_overflow_nor_lose_the_loss(dtype: str) -> None:
    top = float(np.finfo(dtype).max) / 4
    x = np.array([[1e4, -1e4, 0], [0, 1e4, 0], [top, -top, 0], [-1e4, -1e4, -1e4], [88.0, 89, 90]], dtype)
    target = np.array([1, 1, 0, 2, 0])
    logits = pydl.asarray(x).requires_grad_()
    loss = pydl.nn.functional.cross_entropy(logits, pydl.asarray(target), reduction="none")
    wanted = cross_entropy(x.astype(np.longdouble), target, reduction="none")
    np.testing.assert_allclose(loss.detach().numpy(), wanted.astype(np.float64), rtol=4 * np.finfo(dtype).eps)
    loss.sum().backward()
    assert np.all(np.isfinite(logits.grad.numpy()))
    np.testing.assert_allclose(logits.grad.numpy().sum(1), 0, atol=1e-6)


def test_a_confident_right_answer_keeps_its_tiny_loss() -> None:
    """log(1 + e^-30) is 1e-13, and float64 must not round it to 0."""
    x = np.array([[30.0, 0.0]])
    got = float(pydl.nn.functional.cross_entropy(pydl.asarray(x), pydl.asarray(np.array([0]))).numpy())
    assert got == pytest.approx(np.log1p(np.exp(-30.0)), rel=2e-2)


def test_minus_infinity_rules_a_class_out() -> None:
    x = pydl.asarray(np.array([[0.0, -np.inf, 1.0]])).requires_grad_()
    loss = pydl.nn.functional.cross_entropy(x, pydl.asarray(np.array([2])))
    loss.backward()
    p = 1 / (1 + np.exp(-1.0))
    assert float(loss.detach().numpy()) == pytest.approx(-np.log(p), rel=1e-14)
    np.testing.assert_allclose(x.grad.numpy(), [[1 - p, 0, p - 1]], rtol=1e-12)


@pytest.mark.parametrize(("rows", "classes"), [(4097, 65), (31, 10_007), (2500, 1), (1000, 129), (1, 50_001)])
def test_large_batches_in_float32_and_the_same_bits_for_any_thread_count(
    rows: int, classes: int, rng: np.random.Generator, threads: None
) -> None:
    x = (rng.normal(size=(rows, classes)) * 4).astype(np.float32)
    target = rng.integers(0, classes, rows)
    target[::7] = -100 if rows > 1 else target[0]
    log_p = x.astype(np.float64) - np.log(np.sum(np.exp(x.astype(np.float64)), 1, keepdims=True))
    used = target != -100
    wanted = -np.mean(log_p[np.arange(rows)[used], target[used]])
    gradient = np.exp(log_p)
    gradient[np.arange(rows)[used], target[used]] -= 1
    gradient = gradient * used[:, None] / used.sum()
    results = []
    for count in (1, 2, 3, 8):
        pydl.set_num_threads(count)
        logits = pydl.asarray(x.copy()).requires_grad_()
        loss = pydl.nn.functional.cross_entropy(logits, pydl.asarray(target))
        loss.backward()
        results.append((loss.detach().numpy().copy(), logits.grad.numpy().copy()))
    assert float(results[0][0]) == pytest.approx(wanted, rel=2e-6, abs=1e-9)
    np.testing.assert_allclose(results[0][1], gradient, rtol=3e-5, atol=2e-7 / used.sum())
    for loss_bits, gradient_bits in results[1:]:
        assert_same_bits(loss_bits, results[0][0])
        assert_same_bits(gradient_bits, results[0][1])


def test_fused_equals_log_softmax_then_pick(rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 5, 3))
    target = rng.integers(0, 5, (6, 3))
    log_p = pydl.nn.functional.log_softmax(pydl.asarray(x), axis=1)
    picked = pydl.take_along_axis(log_p, pydl.asarray(target[:, None]), axis=1)
    fused = pydl.nn.functional.cross_entropy(pydl.asarray(x), pydl.asarray(target))
    assert float(fused.numpy()) == pytest.approx(-float(pydl.mean(picked).numpy()), rel=1e-14)


def test_logits_in_any_layout(rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 5))
    target = rng.integers(0, 5, 6)
    results = []
    for logits, wanted in (
        (pydl.asarray(x.copy()), target),
        (pydl.permute_dims(pydl.asarray(np.ascontiguousarray(x.T)), (1, 0)), target),
        (pydl.asarray(np.ascontiguousarray(x[::-1]))[::-1], target),
        (pydl.asarray(np.repeat(x, 3, 1))[:, ::3], target),
    ):
        logits.requires_grad_()
        loss = pydl.nn.functional.cross_entropy(logits, pydl.asarray(np.repeat(wanted, 2))[::2])
        loss.backward()
        results.append((float(loss.detach().numpy()), logits.grad.numpy().copy()))
    for value, gradient in results[1:]:
        assert value == pytest.approx(results[0][0], rel=1e-14)
        np.testing.assert_allclose(gradient, results[0][1], rtol=1e-13)


BAD = {
    "class too large": ((3, 4), [0, 4, 1], {}, IndexError, r"\[cross_entropy\].*4"),
    "negative class": ((3, 4), [0, -1, 1], {}, IndexError, r"\[cross_entropy\].*-1"),
    "too few targets": ((3, 4), [0, 1], {}, ValueError, r"\[cross_entropy\]"),
    "target of floats by shape": ((3, 4), [0.0, 1.0, 2.0], {}, (ValueError, TypeError), r"\[cross_entropy\]"),
    "unknown reduction": ((3, 4), [0, 1, 2], {"reduction": "max"}, ValueError, r"\[cross_entropy\].*reduction"),
    "smoothing above one": ((3, 4), [0, 1, 2], {"label_smoothing": 1.5}, ValueError, r"\[cross_entropy\].*smoothing"),
    "weight of another length": ((3, 4), [0, 1, 2], {"weight": [1.0, 2.0]}, ValueError, r"\[cross_entropy\].*weight"),
    "no axes": ((), 0, {}, ValueError, r"\[cross_entropy\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arguments_raise(case: str) -> None:
    shape, target, keywords, error, pattern = BAD[case]
    keywords = {k: pydl.asarray(np.array(v)) if isinstance(v, list) else v for k, v in keywords.items()}
    with pytest.raises(error, match=pattern):
        pydl.nn.functional.cross_entropy(
            pydl.zeros(shape, dtype=pydl.float64), pydl.asarray(np.array(target)), **keywords
        )


def test_integer_logits_raise() -> None:
    with pytest.raises(TypeError, match=r"\[cross_entropy\]"):
        pydl.nn.functional.cross_entropy(pydl.zeros((2, 3), dtype=pydl.int64), pydl.zeros((2,), dtype=pydl.int64))
