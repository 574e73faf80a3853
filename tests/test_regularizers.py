"""Penalties, constraints, proximal steps: closed forms, gradients, known solutions, what is selected, errors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import _C, constraints, nn, optim, regularizers
from pydl.regularizers import L1, L1L2, L2, OrthogonalRegularizer, ProximalL1, penalty, regularize
from tolerances import assert_near, assert_same_bits

SHAPES = [(3, 4), (), (70,), (0,), (2, 3, 5), (1,)]


def model() -> Any:
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_many_tensors_in_one_penalty(dtype: str, rng: np.random.Generator) -> None:
    arrays = [np.asarray(rng.normal(size=s), dtype) for s in SHAPES]
    l1s, l2s = rng.random(len(SHAPES)), rng.random(len(SHAPES))
    l1s[2] = l2s[4] = 0.0
    tensors = [pydl.asarray(a).requires_grad_() for a in arrays]
    total = _C.penalty(tensors, list(l1s), list(l2s))
    wide = [a.astype(np.float64) for a in arrays]
    expected = sum(l1 * np.abs(a).sum() + l2 * (a * a).sum() for a, l1, l2 in zip(wide, l1s, l2s, strict=True))
    rtol = 1e-14 if dtype == "float64" else 1e-7
    assert_near(total.detach().numpy(), expected, rtol, 0)
    (total * -0.7).backward()
    for tensor, a, l1, l2 in zip(tensors, wide, l1s, l2s, strict=True):
        assert_near(tensor.grad.numpy(), -0.7 * (l1 * np.sign(a) + 2 * l2 * a), 4 * rtol, 1e-30)


def test_gradients_by_finite_differences(rng: np.random.Generator) -> None:
    w, v = (pydl.asarray(rng.normal(size=s)).requires_grad_() for s in ((3, 4), (5,)))
    assert pydl.autograd.gradcheck(lambda a, b: _C.penalty([a, b], [0.3, 0.0], [0.2, 0.7]) ** 2, (w, v))
    for regularizer in (L1(0.3), L2(0.2), L1L2(0.1, 0.4, half=True), OrthogonalRegularizer(0.5),
                        OrthogonalRegularizer(0.5, mode="columns")):  # fmt: skip
        assert pydl.autograd.gradcheck(lambda a, r=regularizer: r(a) * 1.3, (w,))


def test_second_derivatives(rng: np.random.Generator) -> None:
    w = pydl.asarray(rng.normal(size=(4,))).requires_grad_()
    (grad,) = pydl.autograd.grad(L1L2(0.3, 0.2)(w), [w], create_graph=True)
    ((grad * grad).sum()).backward()
    a = w.detach().numpy()
    assert_near(w.grad.numpy(), 2 * (0.3 * np.sign(a) + 0.4 * a) * 0.4, 1e-12, 1e-13)


def test_views_halves_and_nonfinite() -> None:
    x = pydl.asarray(np.arange(12.0).reshape(3, 4) - 5)
    assert L1L2(1.0, 1.0)(x.T[1:, ::2]).item() == sum(abs(v) + v * v for v in (-4, -3, -2, 4, 5, 6))
    assert L2(1.0)(pydl.asarray([1.5, -2.0]).astype(pydl.bfloat16)).dtype == pydl.bfloat16
    assert np.isnan(L1(1.0)(pydl.asarray([1.0, float("nan")])).item())
    assert L2(1.0)(pydl.asarray([1.0, float("-inf")])).item() == float("inf")


def test_same_bits_for_any_thread_count(rng: np.random.Generator, threads: None) -> None:
    arrays = [rng.normal(size=s).astype("float32") for s in ((300, 500), (7,), (100, 333))]
    bits = []
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        tensors = [pydl.asarray(a).requires_grad_() for a in arrays]
        total = _C.penalty(tensors, [0.1, 0.2, 0.3], [0.3, 0.0, 0.1])
        total.backward()
        bits.append([total.detach().numpy(), *(t.grad.numpy() for t in tensors)])
    for other in bits[1:]:
        for a, b in zip(bits[0], other, strict=True):
            assert_same_bits(a, b)


def test_orthogonal_is_keras_formula(rng: np.random.Generator) -> None:
    w = rng.normal(size=(5, 3))
    for mode, rows in (("rows", w), ("columns", w.T)):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        gram = np.abs(unit @ unit.T - np.diag(np.diag(unit @ unit.T)))
        n = len(rows)
        expected = 0.3 * 0.5 * gram.sum() / (n * (n - 1) / 2)
        assert_near(OrthogonalRegularizer(0.3, mode)(pydl.asarray(w)).numpy(), expected, 1e-12, 0)
    assert OrthogonalRegularizer()(pydl.ones((1, 3))).item() == 0.0
    kernel = rng.normal(size=(4, 2, 3, 3))
    flat = OrthogonalRegularizer()(pydl.asarray(kernel.reshape(4, -1))).item()
    assert OrthogonalRegularizer()(pydl.asarray(kernel)).item() == flat


def test_what_is_selected(rng: np.random.Generator) -> None:
    net = model()
    w1, b1, w2, b2 = (p.detach().numpy().astype(np.float64) for p in net.parameters())
    regularize(net, "*.weight", L1(0.5))
    regularize(net, "2", bias_regularizer=L2(3.0))
    regularize(net[0], kernel_regularizer=L1L2(0.1, 0.2), bias_regularizer=OurOwn())
    expected = 0.6 * np.abs(w1).sum() + 0.2 * (w1**2).sum() + 0.5 * np.abs(w2).sum() + 3 * (b2**2).sum() + b1.sum()
    assert_near(penalty(net).detach().numpy(), expected, 1e-6, 1e-6)
    assert_near(penalty(net, samples=10).detach().numpy(), expected / 10, 1e-6, 1e-6)
    assert_near(penalty(net[2]).detach().numpy(), 0.5 * np.abs(w2).sum() + 3 * (b2**2).sum(), 1e-6, 1e-6)
    assert penalty(net[1]).item() == 0
    twin = copy.deepcopy(net)
    pydl.nn.init.zeros_(twin[0].weight)
    assert penalty(twin).item() < penalty(net).item()
    assert_near(penalty(net).detach().numpy(), expected, 1e-6, 1e-6)


class OurOwn(regularizers.Regularizer):
    """The sum itself."""

    def __call__(self, x: Any) -> Any:
        return x.sum()


def test_a_shared_tensor_counts_once() -> None:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    regularize(net, "*.weight", L2(1.0))
    assert penalty(net).item() == pytest.approx((net[0].weight.detach().numpy() ** 2).sum(), rel=1e-6)


def test_activations(rng: np.random.Generator) -> None:
    net = regularize(model(), "0", activity_regularizer=L1(0.5))
    regularize(net, activity_regularizer=L2(0.25))
    x = pydl.asarray(rng.normal(size=(6, 4)).astype("float32"))
    assert penalty(net).item() == 0
    y = net(x)
    hidden = net[0](x)  # a call of the layer alone counts too
    expected = (2 * 0.5 * hidden.abs().sum() + 0.25 * (y * y).sum()).item() / 6
    assert penalty(net).item() == pytest.approx(expected, rel=1e-5)
    net(x)
    expected = (0.5 * hidden.abs().sum() + 0.25 * (y * y).sum()).item() / 6
    assert penalty(net).item() == pytest.approx(expected, rel=1e-5)  # the last call's alone
    penalty(net).backward()
    slope = 0.5 * np.sign(hidden.detach().numpy()).sum(axis=0) / 6
    out = y.detach().numpy() * 0.5 / 6 @ net[2].weight.detach().numpy()
    slope = slope + (out * (1 - np.tanh(hidden.detach().numpy()) ** 2)).sum(axis=0)
    assert_near(net[0].bias.grad.numpy(), slope, 1e-4, 1e-5)
    twin = copy.deepcopy(net)
    assert penalty(twin).item() == 0  # the graph stays behind
    net.eval()(x)
    assert penalty(net).item() == 0
    net.train()
    with pydl.no_grad():
        net(x)
    assert penalty(net).item() == 0
    twin(x)
    assert penalty(twin).item() > 0
    recurrent = regularize(nn.LSTM(3, 4), activity_regularizer=L2(1.0))
    h, _ = recurrent(pydl.ones((5, 2, 3)))
    assert penalty(recurrent).item() == pytest.approx((h * h).sum().item() / 5, rel=1e-5)


def descend(net: Any, x: Any, y: Any, optimizer: Any, steps: int, with_penalty: bool) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((net(x)[:, 0] - y) ** 2).mean()
        if with_penalty:
            loss = loss + penalty(net, samples=len(y))
        loss.backward()
        optimizer.step()


def test_l2_is_weight_decay_for_sgd_but_not_for_adam(rng: np.random.Generator) -> None:
    x, y = pydl.asarray(rng.normal(size=(20, 4))), pydl.asarray(rng.normal(size=(20,)))
    start = nn.Linear(4, 1, dtype=pydl.float64)
    weights = {}
    for name, options in (("SGD", {}), ("SGD momentum", {"momentum": 0.9}), ("Adam", {}), ("AdamW", {})):
        for how in ("penalty", "decay"):
            net = copy.deepcopy(start)
            decay = 0.4 if how == "decay" else 0.0
            optimizer = getattr(optim, name.split()[0])(net.parameters(), lr=0.02, weight_decay=decay, **options)
            if how == "penalty":
                regularize(net, "*", L2(0.4 * 20, half=True))  # (λ/2m)‖w‖² with λ = 0.4 m
            descend(net, x, y, optimizer, 12, how == "penalty")
            weights[name, how] = net.weight.detach().numpy()
    for name in ("SGD", "SGD momentum", "Adam"):  # Adam's own option is the penalty's gradient
        assert_near(weights[name, "penalty"], weights[name, "decay"], 1e-12, 1e-13)
    assert np.abs(weights["AdamW", "penalty"] - weights["AdamW", "decay"]).max() > 1e-3
    # Decoupled decay of plain SGD is the same step in closed form: w(1 - lr·λ) - lr·g.
    plain, decoupled = (copy.deepcopy(start) for _ in range(2))
    descend(plain, x, y, optim.SGD(plain.parameters(), 0.02, weight_decay=0.4), 12, False)
    both = optim.SGD(decoupled.parameters(), 0.02, weight_decay=0.4, decoupled_weight_decay=True)
    descend(decoupled, x, y, both, 12, False)
    assert_near(plain.weight.detach().numpy(), decoupled.weight.detach().numpy(), 1e-12, 1e-13)
    for net in (plain, decoupled):
        net.load_state_dict(start.state_dict())
    descend(plain, x, y, optim.SGD(plain.parameters(), 0.02, 0.9, weight_decay=0.4), 12, False)
    both = optim.SGD(decoupled.parameters(), 0.02, 0.9, weight_decay=0.4, decoupled_weight_decay=True)
    descend(decoupled, x, y, both, 12, False)
    assert np.abs(plain.weight.detach().numpy() - decoupled.weight.detach().numpy()).max() > 1e-3


def test_first_steps_with_l2_and_with_decay_in_closed_form(rng: np.random.Generator) -> None:
    w, g, lr, decay = rng.normal(size=5), rng.normal(size=5), 0.1, 0.3
    pulled = g + decay * w
    expected = {
        ("SGD", "penalty"): w - lr * pulled,
        ("SGD", "decay"): w - lr * pulled,
        ("Adam", "penalty"): w - lr * pulled / (np.abs(pulled) + 1e-8),  # the first moments are g and g², corrected
        ("AdamW", "decay"): w * (1 - lr * decay) - lr * g / (np.abs(g) + 1e-8),
    }
    assert np.abs(expected["Adam", "penalty"] - expected["AdamW", "decay"]).max() > 1e-2
    for (name, how), wanted in expected.items():
        param = pydl.asarray(w.copy()).requires_grad_()
        optimizer = getattr(optim, name)([param], lr=lr, weight_decay=decay if how == "decay" else 0.0)
        loss = (param * pydl.asarray(g)).sum()
        (loss + L2(decay, half=True)(param) if how == "penalty" else loss).backward()
        optimizer.step()
        assert_near(param.detach().numpy(), wanted, 1e-13, 1e-14, f"{name} {how}")


def linear_problem(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Any]:
    x = rng.normal(size=(60, 8))
    y = x @ np.array([3.0, -2.0, 0, 0, 1.5, 0, 0, 0]) + 0.7 + 0.1 * rng.normal(size=60)
    return x, y, nn.Linear(8, 1, dtype=pydl.float64)


def test_ridge(rng: np.random.Generator) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y, net = linear_problem(rng)
    ridge = linear_model.Ridge(alpha=30.0).fit(x, y)  # ‖y - Xw - b‖² + alpha‖w‖²
    regularize(net, kernel_regularizer=L2(30.0))
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
    descend(net, pydl.asarray(x), pydl.asarray(y), optimizer, 400, True)
    assert_near(net.weight.detach().numpy()[0], ridge.coef_, 1e-9, 1e-10)
    assert net.bias.item() == pytest.approx(ridge.intercept_, rel=1e-9)


def test_lasso(rng: np.random.Generator) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y, net = linear_problem(rng)
    lasso = linear_model.Lasso(alpha=0.2, tol=1e-12, max_iter=100000).fit(x, y)  # ‖y - Xw - b‖²/2m + alpha|w|
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    proximal = ProximalL1(optimizer, l1=0.4)  # the loss here has no 1/2
    descend(net, pydl.asarray(x), pydl.asarray(y), optimizer, 600, False)
    weight = net.weight.detach().numpy()[0]
    assert_near(weight, lasso.coef_, 1e-8, 1e-9)
    np.testing.assert_array_equal(weight == 0, lasso.coef_ == 0)  # exact zeros, the same ones
    assert (weight == 0).sum() == 5
    proximal.remove()
    descend(net, pydl.asarray(x), pydl.asarray(y), optimizer, 1, False)
    assert (net.weight.detach().numpy() != 0).all()


def test_elastic_net(rng: np.random.Generator) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y, net = linear_problem(rng)
    # ‖y - Xw - b‖²/2m + alpha·ratio·|w| + alpha·(1 - ratio)/2·‖w‖²
    elastic = linear_model.ElasticNet(alpha=0.3, l1_ratio=0.4, tol=1e-12, max_iter=100000).fit(x, y)
    regularize(net, "weight", L2(0.3 * 0.6 * 60))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    ProximalL1(optimizer, l1=2 * 0.3 * 0.4)
    descend(net, pydl.asarray(x), pydl.asarray(y), optimizer, 600, True)
    assert_near(net.weight.detach().numpy()[0], elastic.coef_, 1e-8, 1e-9)


def test_proximal_chooses_its_parameters() -> None:
    w, v, still = (pydl.full((2, 2), 0.5).requires_grad_() for _ in range(3))
    optimizer = optim.SGD([w, v, still], lr=1.0)
    ProximalL1(optimizer, l1=0.25, params=[v, still])
    w.grad, v.grad = pydl.zeros((2, 2)), pydl.zeros((2, 2))
    optimizer.step()
    assert [t.detach().numpy()[0, 0] for t in (w, v, still)] == [0.5, 0.25, 0.5]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_soft_threshold(dtype: str) -> None:
    values = [-2.0, -0.5, -0.0, 0.25, 0.5, 3.0, float("nan"), float("inf"), float("-inf"), 1.0, -1.0]
    tensor = pydl.asarray(values).astype(getattr(pydl, dtype))
    _C.soft_threshold_([tensor], 0.5)
    expected = [-1.5, 0, 0, 0, 0, 2.5, np.nan, np.inf, -np.inf, 0.5, -0.5]
    np.testing.assert_array_equal(tensor.astype(pydl.float64).numpy(), expected)


def test_constraints(rng: np.random.Generator) -> None:
    net = model()
    constraints.constrain(net, "0.weight", constraints.MaxNorm(0.5))
    constraints.constrain(net, "2.weight", constraints.UnitNorm(axis=0))
    constraints.constrain(net, "*.bias", constraints.NonNeg())
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    handle = constraints.after_each_step(optimizer, net)
    for _ in range(3):
        optimizer.zero_grad()
        (net(pydl.asarray(rng.normal(size=(6, 4)).astype("float32"))) ** 2).mean().backward()
        optimizer.step()
        w1, b1, w2, b2 = (p.detach().numpy() for p in net.parameters())
        assert (np.linalg.norm(w1, axis=1) <= 0.5 + 1e-6).all()
        assert_near(np.linalg.norm(w2, axis=0), np.ones(3), 1e-5, 0)
        assert (b1 >= 0).all()
        assert (b2 >= 0).all()
    handle.remove()
    with pydl.no_grad():
        net[0].bias.fill_(-1.0)
    optimizer.step()
    assert (net[0].bias.detach().numpy() < 0).any()
    constraints.apply(copy.deepcopy(net))
    assert (net[0].bias.detach().numpy() < 0).any()


def test_constraint_formulas(rng: np.random.Generator) -> None:
    kernel = rng.normal(size=(4, 2, 3, 3))
    norms = np.sqrt((kernel**2).sum(axis=(1, 2, 3), keepdims=True))
    w = pydl.asarray(kernel)
    assert_near(constraints.UnitNorm()(w).numpy(), kernel / (norms + 1e-7), 1e-12, 0)
    expected = kernel * np.clip(norms, 0, 4.0) / (norms + 1e-7)
    assert_near(constraints.MaxNorm(4.0)(w).numpy(), expected, 1e-12, 0)
    vector = constraints.MaxNorm(1.0)(pydl.asarray([3.0, 4.0])).numpy()
    assert_near(vector, [0.6, 0.8], 1e-6, 0)


WRONG: list[tuple[Any, type[Exception], str]] = [
    (lambda: L1(-1.0), ValueError, r"\[L1\] got l1 = -1.0, expected 0 or more"),
    (lambda: L2(float("nan")), ValueError, r"\[L2\] got l2 = nan, expected 0 or more"),
    (lambda: OrthogonalRegularizer(mode="both"), ValueError, r"got mode='both', expected 'rows' or 'columns'"),
    (lambda: OrthogonalRegularizer()(pydl.ones((3,))), ValueError, r"got shape \(3,\), expected two axes or more"),
    (lambda: regularize(model(), "*.weights", L1()), ValueError, r"no module or parameter is called '\*.weights'"),
    (lambda: regularize(model()), ValueError, r"\[regularize\] got no regularizer"),
    (lambda: regularize(model(), "0", "l2"), TypeError, r"\[regularize\] got a str, expected a Regularizer"),
    (lambda: regularize(nn.ReLU(), kernel_regularizer=L1()), ValueError, r"the module selects nothing"),
    (lambda: penalty(model(), samples=0), ValueError, r"\[penalty\] got samples 0, expected 1 or more"),
    (lambda: _C.penalty([pydl.ones((2,))], [0.1, 0.2], [0.1]), ValueError, r"got 2 l1 and 1 l2 for 1 tensors"),
    (lambda: _C.penalty([pydl.arange(3)], [0.1], [0.1]), TypeError, r"\[penalty\] tensor 0 is int64"),
    (lambda: ProximalL1(optim.SGD(model().parameters()), -0.1), ValueError, r"\[ProximalL1\] got l1 = -0.1"),
    (lambda: constraints.MaxNorm(-1), ValueError, r"\[MaxNorm\] got max_value = -1, expected 0 or more"),
    (lambda: constraints.constrain(model(), "3", constraints.NonNeg()), ValueError, r"\[constrain\] no module or par"),
    (lambda: constraints.constrain(model(), "0", 3), TypeError, r"\[constrain\] got a int, expected a Constraint"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
