"""Gradients of gradients: create_graph, to the third order, against PyTorch and against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from tolerances import assert_near

# name: (function of a namespace and operands, operands' ranges)
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[tuple[float, float], ...]]] = {
    "exp": (lambda m, x: m.exp(x), ((-1, 1),)),
    "log": (lambda m, x: m.log(x), ((0.5, 3),)),
    "sin": (lambda m, x: m.sin(x), ((-3, 3),)),
    "cos": (lambda m, x: m.cos(x), ((-3, 3),)),
    "tan": (lambda m, x: m.tan(x), ((-1, 1),)),
    "tanh": (lambda m, x: m.tanh(x), ((-2, 2),)),
    "sigmoid": (lambda m, x: m.sigmoid(x), ((-3, 3),)),
    "sqrt": (lambda m, x: m.sqrt(x), ((0.5, 3),)),
    "square": (lambda m, x: m.square(x), ((-3, 3),)),
    "reciprocal": (lambda m, x: 1 / x, ((0.5, 3),)),
    "expm1": (lambda m, x: m.expm1(x), ((-1, 1),)),
    "log1p": (lambda m, x: m.log1p(x), ((-0.5, 3),)),
    "erf": (lambda m, x: m.erf(x), ((-2, 2),)),
    "atan": (lambda m, x: m.atan(x), ((-2, 2),)),
    "sinh": (lambda m, x: m.sinh(x), ((-2, 2),)),
    "silu": (lambda m, x: m.nn.functional.silu(x), ((-3, 3),)),
    "gelu": (lambda m, x: m.nn.functional.gelu(x), ((-3, 3),)),
    "softplus": (lambda m, x: m.nn.functional.softplus(x), ((-3, 3),)),
    "elu": (lambda m, x: m.nn.functional.elu(x), ((-2, -0.1),)),
    "relu times x": (lambda m, x: m.nn.functional.relu(x) * x, ((-3, 3),)),
    "abs cubed": (lambda m, x: m.abs(x) ** 3, ((0.2, 3),)),
    "integer pow": (lambda m, x: x**4, ((-2, 2),)),
    "multiply": (lambda m, x, y: x * y * y, ((-2, 2), (-2, 2))),
    "divide": (lambda m, x, y: x / y, ((-2, 2), (0.5, 2))),
    "subtract": (lambda m, x, y: (x - y) ** 3, ((-2, 2), (-2, 2))),
    "pow": (lambda m, x, y: x**y, ((0.5, 2), (-2, 2))),
    "hypot": (lambda m, x, y: m.hypot(x, y), ((0.5, 2), (0.5, 2))),
    "where": (lambda m, x, y: m.where(x > y, x * x, y * y * x), ((-2, 2), (-2, 2))),
    "maximum": (lambda m, x, y: m.maximum(x * x, y), ((1, 2), (-2, 2))),
    "clip": (lambda m, x: m.clip(x, -1, 1) * x * x, ((-2, 2),)),
    "broadcast": (lambda m, x, y: (x * y.sum()) ** 2 + y, ((-2, 2), (-2, 2))),
    "matmul": (lambda m, x, y: m.matmul(m.matmul(x, y), x), ((-2, 2), (-2, 2))),
    "sum and mean": (lambda m, x: x.sum() * x.mean() * x, ((-2, 2),)),
    "reshape and index": (lambda m, x: x.reshape((9,))[2:8] * x.reshape((9,))[1:7] ** 2, ((-2, 2),)),
    "transpose": (lambda m, x: x.mT * x * x, ((-2, 2),)),
}


def ours_and_theirs(name: str, rng: np.random.Generator) -> tuple[list[Any], list[Any], Callable[..., Any], Any]:
    torch = pytest.importorskip("torch")
    function, ranges = FUNCTIONS[name]
    arrays = [rng.uniform(*bounds, (3, 3)) for bounds in ranges]
    ours = [pydl.asarray(a.copy()).requires_grad_() for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    return ours, theirs, function, torch


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_and_third_order_against_torch(name: str, rng: np.random.Generator) -> None:
    ours, theirs, function, torch = ours_and_theirs(name, rng)
    y, t = function(pydl, *ours), function(torch, *theirs)
    for order in (1, 2, 3):
        upstream = rng.uniform(0.5, 2, tuple(t.shape))
        weighted = (y * pydl.asarray(upstream)).sum()
        wanted = (t * torch.tensor(upstream)).sum()
        keep = order < 3
        got_all = pydl.autograd.grad(weighted, ours, create_graph=keep, allow_unused=True)
        wanted_all = torch.autograd.grad(wanted, theirs, create_graph=keep, allow_unused=True)
        for g, w in zip(got_all, wanted_all, strict=True):
            if w is not None:
                scale = float(w.detach().abs().max())
                assert_near(
                    g.detach().numpy(), w.detach().numpy(), 1e-9, 1e-10 * max(1, scale), f"{name} order {order}"
                )
            elif g is not None:  # a gradient that is zero everywhere may also be absent
                assert not np.any(g.detach().numpy())
        used = [(g, w) for g, w in zip(got_all, wanted_all, strict=True) if w is not None and w.requires_grad]
        if not all(g.requires_grad for g, _ in used):  # a constant, then: no derivative but zero
            further = torch.autograd.grad(sum(w.sum() for _, w in used), theirs, allow_unused=True)
            assert all(w is None or not w.any() for w in further), f"{name}: order {order} was not recorded"
            return
        if not used:
            return
        y = sum(g * (k + 1) for k, (g, _) in enumerate(used))
        t = sum(w * (k + 1) for k, (_, w) in enumerate(used))


def test_fourth_derivative_of_a_polynomial() -> None:
    x = pydl.asarray(np.array([2.0, -3.0])).requires_grad_()
    y = x**5
    for coefficient, power in ((5, 4), (20, 3), (60, 2), (120, 1)):
        (y,) = pydl.autograd.grad(y.sum(), [x], create_graph=True)
        np.testing.assert_allclose(y.detach().numpy(), coefficient * np.array([2.0, -3.0]) ** power, rtol=1e-14)


def test_backward_with_create_graph_fills_differentiable_gradients() -> None:
    x = pydl.asarray(np.array([2.0, 3.0])).requires_grad_()
    (x * x * x).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (second,) = pydl.autograd.grad(x.grad.sum(), [x])
    np.testing.assert_array_equal(second.numpy(), [12, 18])


def test_gradient_penalty_trains_through_a_gradient(rng: np.random.Generator) -> None:
    """d/dw of |d f/d x|^2 for f = tanh(x w): the use that double backward exists for."""
    torch = pytest.importorskip("torch")
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 2))
    results = []
    for module, make in ((pydl, lambda v: pydl.asarray(v.copy())), (torch, torch.tensor)):
        x, w = make(a).requires_grad_(), make(b).requires_grad_()
        y = module.tanh(module.matmul(x, w)).sum()
        (gx,) = module.autograd.grad(y, [x], create_graph=True)
        (gx * gx).sum().backward()
        results.append(w.grad.numpy())
    assert_near(results[0], results[1], 1e-11, 1e-12)


def test_fused_ops_refuse_rather_than_answer_wrongly() -> None:
    """A fused kernel may lack a second derivative; then it says so, and never gives a gradient that is not one."""
    x = pydl.asarray(np.array([[0.3, -1.2, 2.0]])).requires_grad_()
    try:
        y = pydl.nn.functional.cross_entropy(x, pydl.asarray(np.array([1])))
        (g,) = pydl.autograd.grad(y, [x], create_graph=True)
        (h,) = pydl.autograd.grad((g * pydl.asarray(np.array([[1.0, 2.0, 4.0]]))).sum(), [x])
    except (NotImplementedError, ValueError):
        return
    p = np.exp(x.detach().numpy()[0])
    p /= p.sum()
    v = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(h.numpy()[0], p * (v - np.sum(p * v)), rtol=1e-12)
