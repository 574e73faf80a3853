"""Optimizers: every option against the published formulas in NumPy and against PyTorch, and their state."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from tolerances import assert_near, assert_same_bits

SHAPES = [(3, 4), (), (70,), (0,), (2, 3, 5)]
STEPS = 6


def sgd(w: np.ndarray, grads: list[np.ndarray], lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
        weight_decay: float = 0, nesterov: bool = False, maximize: bool = False) -> np.ndarray:  # fmt: skip
    v = None
    for g in grads:
        g = (-g if maximize else g) + weight_decay * w
        v = g if v is None else momentum * v + (1 - dampening) * g
        w = w - lr * (g if momentum == 0 else g + momentum * v if nesterov else v)
    return w


def adam(w: np.ndarray, grads: list[np.ndarray], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
         eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, maximize: bool = False,
         decoupled_weight_decay: bool = False) -> np.ndarray:  # fmt: skip
    m, v, largest = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            w = w - lr * weight_decay * w
        else:
            g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        largest = np.maximum(largest, v)
        second = (largest if amsgrad else v) / (1 - betas[1] ** t)
        w = w - lr * m / (1 - betas[0] ** t) / (np.sqrt(second) + eps)
    return w


CASES: list[tuple[str, Any, dict[str, Any]]] = [
    ("SGD", sgd, {}),
    ("SGD", sgd, {"lr": 0.1, "weight_decay": 0.3}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.9}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1, "maximize": True}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.7, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", adam, {}),
    ("Adam", adam, {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-3}),
    ("Adam", adam, {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True}),
    ("Adam", adam, {"lr": 0.1, "maximize": True, "decoupled_weight_decay": True, "weight_decay": 0.2}),
    ("AdamW", lambda *a, **k: adam(*a, **{"weight_decay": 0.01, "decoupled_weight_decay": True, **k}), {}),
    ("AdamW", lambda *a, **k: adam(*a, decoupled_weight_decay=True, **k), {"lr": 0.1, "weight_decay": 0.5}),
]  # fmt: skip
IDS = [f"{name}-{options}" for name, _, options in CASES]


def parameters(arrays: list[np.ndarray], dtype: str = "float64") -> list[Any]:
    return [pydl.asarray(a.astype(dtype)).requires_grad_() for a in arrays]


def run(optimizer: Any, tensors: list[Any], grads: list[list[np.ndarray]]) -> None:
    for step in grads:
        for tensor, grad in zip(tensors, step, strict=True):
            tensor.grad = pydl.asarray(grad.astype(tensor.detach().numpy().dtype))
        optimizer.step()


def problem(rng: np.random.Generator, steps: int = STEPS) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    return [rng.normal(size=s) for s in SHAPES], [
        [np.asarray(rng.normal(size=s)) for s in SHAPES] for _ in range(steps)
    ]


@pytest.mark.parametrize(("name", "formula", "options"), CASES, ids=IDS)
def test_formula(name: str, formula: Any, options: dict[str, Any], rng: np.random.Generator) -> None:
    start, grads = problem(rng)
    for dtype, rtol, atol in (("float64", 1e-11, 1e-13), ("float32", 2e-5, 2e-6)):
        tensors = parameters(start, dtype)
        run(getattr(optim, name)(tensors, **options), tensors, grads)
        for i, tensor in enumerate(tensors):
            w, g = (
                start[i].astype(dtype).astype(np.float64),
                [step[i].astype(dtype).astype(np.float64) for step in grads],
            )
            assert_near(tensor.detach().numpy(), formula(w, g, **options), rtol, atol, f"{dtype} {SHAPES[i]}")


@pytest.mark.parametrize(("name", "formula", "options"), CASES, ids=IDS)
def test_pytorch_takes_the_same_steps_and_reads_the_same_state(
    name: str, formula: Any, options: dict[str, Any], rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    start, grads = problem(rng)
    ours = parameters(start)
    theirs = [torch.tensor(a, requires_grad=True) for a in start]
    optimizer, other = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    run(optimizer, ours, grads[:3])

    def run_torch(steps: list[list[np.ndarray]]) -> None:
        for step in steps:
            for tensor, grad in zip(theirs, step, strict=True):
                tensor.grad = torch.tensor(grad)
            other.step()

    run_torch(grads[:3])
    state = other.state_dict()
    assert {k: sorted(v) for k, v in state["state"].items() if v} == {
        k: sorted(v) for k, v in optimizer.state_dict()["state"].items()
    } or options.get("momentum", 1) == 0  # PyTorch remembers that there is no momentum
    fresh = getattr(optim, name)(ours, lr=7.0)
    known = set(fresh.defaults) | {"params"}
    state["param_groups"] = [{k: v for k, v in group.items() if k in known} for group in state["param_groups"]]
    fresh.load_state_dict(state)
    run(fresh, ours, grads[3:])
    run_torch(grads[3:])
    for a, b in zip(ours, theirs, strict=True):
        assert_near(a.detach().numpy(), b.detach().numpy(), 1e-11, 1e-13)


@pytest.mark.parametrize(("name", "formula", "options"), CASES, ids=IDS)
def test_state_survives_json_and_tensors(
    name: str, formula: Any, options: dict[str, Any], rng: np.random.Generator
) -> None:
    """Stopped after three steps and resumed from a saved state: the same bits as in one go."""
    start, grads = problem(rng)
    whole = parameters(start, "float32")
    run(getattr(optim, name)(whole, **options), whole, grads)
    first = parameters(start, "float32")
    optimizer = getattr(optim, name)(first, **options)
    run(optimizer, first, grads[:3])
    state = optimizer.state_dict()
    saved = {
        "param_groups": json.loads(json.dumps(state["param_groups"])),
        "state": {
            str(i): {k: v.numpy().copy() if isinstance(v, pydl.Tensor) else v for k, v in entry.items()}
            for i, entry in state["state"].items()
        },
    }
    second = parameters([t.detach().numpy() for t in first], "float32")
    resumed = getattr(optim, name)(second, lr=123.0)
    resumed.load_state_dict(saved)
    assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert resumed.param_groups[0].get("betas") == optimizer.param_groups[0].get("betas")
    run(resumed, second, grads[3:])
    for a, b in zip(whole, second, strict=True):
        assert_same_bits(a.detach().numpy(), b.detach().numpy())


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_parameters_without_gradient_stay_and_latecomers_start_at_step_one(name: str, rng: np.random.Generator) -> None:
    options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5} if name == "SGD" else {"lr": 0.1}
    reference = {"SGD": sgd, "Adam": adam}.get(name) or CASES[-2][1]
    start = [rng.normal(size=(3,)), rng.normal(size=(3,))]
    grads = [rng.normal(size=(3,)) for _ in range(4)]
    tensors = parameters(start)
    optimizer = getattr(optim, name)(tensors, **options)
    for i, g in enumerate(grads):
        tensors[0].grad = pydl.asarray(g)
        tensors[1].grad = pydl.asarray(g) if i >= 2 else None
        optimizer.step()
        if i == 1:
            np.testing.assert_array_equal(tensors[1].detach().numpy(), start[1])
    assert_near(tensors[0].detach().numpy(), reference(start[0], grads, **options), 1e-12, 1e-13)
    assert_near(tensors[1].detach().numpy(), reference(start[1], grads[2:], **options), 1e-12, 1e-13)


def test_groups_have_their_own_options(rng: np.random.Generator) -> None:
    start, grads = problem(rng, 3)
    tensors = parameters(start)
    optimizer = optim.SGD([{"params": tensors[:2]}, {"params": iter(tensors[2:4]), "lr": 0.5}], lr=0.1, momentum=0.9)
    optimizer.add_param_group({"params": tensors[4], "momentum": 0.0})
    run(optimizer, tensors, grads)
    for i, extra in enumerate([{}, {}, {"lr": 0.5}, {"lr": 0.5}, {"momentum": 0.0}]):
        expected = sgd(start[i], [g[i] for g in grads], **{"lr": 0.1, "momentum": 0.9, **extra})
        assert_near(tensors[i].detach().numpy(), expected, 1e-12, 1e-13)
    assert [g["params"] for g in optimizer.state_dict()["param_groups"]] == [[0, 1], [2, 3], [4]]
    optimizer.param_groups[1]["lr"] = 0.0
    before = tensors[2].detach().numpy().copy()
    run(optimizer, tensors, grads[:1])
    np.testing.assert_array_equal(tensors[2].detach().numpy(), before)


def test_l2_is_weight_decay_for_sgd_but_not_for_adam(rng: np.random.Generator) -> None:
    start, grads = [rng.normal(size=(5,))], [[rng.normal(size=(5,))] for _ in range(5)]
    results = {}
    for name, options in (("SGD", {}), ("Adam", {}), ("AdamW", {"weight_decay": 0.0})):
        for l2, decay in ((0.2, 0.0), (0.0, 0.2)):
            tensors = parameters(start)
            optimizer = getattr(optim, name)(tensors, lr=0.05, **{**options, "weight_decay": decay})
            for (g,) in grads:
                optimizer.zero_grad()
                loss = (tensors[0] * pydl.asarray(g)).sum() + 0.5 * l2 * (tensors[0] * tensors[0]).sum()
                loss.backward()
                optimizer.step()
            results[name, l2] = tensors[0].detach().numpy()
    assert_near(results["SGD", 0.2], results["SGD", 0.0], 1e-13, 1e-14)
    assert_near(results["Adam", 0.2], results["Adam", 0.0], 1e-13, 1e-14)  # Adam's own option is the L2 penalty
    assert np.abs(results["AdamW", 0.2] - results["AdamW", 0.0]).max() > 0.01


def test_step_is_one_change_in_place_without_a_graph(rng: np.random.Generator) -> None:
    layer = nn.Linear(4, 3)
    address = layer.weight.data_ptr()
    for make in (optim.SGD, optim.Adam):
        optimizer = make(layer.parameters(), lr=0.1)
        layer(pydl.ones((2, 4))).sum().backward()
        assert optimizer.step() is None
        assert layer.weight.is_leaf
        assert layer.weight.requires_grad
        assert layer.weight.data_ptr() == address
    y = layer.weight * layer.weight
    optimizer.step()
    with pytest.raises((ValueError, RuntimeError)):  # what backward saved has been changed
        y.sum().backward()


def test_closure_is_called_with_gradients_on() -> None:
    w = pydl.ones((2,), requires_grad=True)
    optimizer = optim.SGD([w], lr=0.25)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with pydl.no_grad():
        assert optimizer.step(closure).item() == 2.0
    assert w.detach().numpy().tolist() == [0.5, 0.5]


def test_zero_grad() -> None:
    w = pydl.ones((2,), requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)
    (w * w).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert w.grad.numpy().tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert w.grad is None


def test_non_contiguous_gradients_and_parameters(rng: np.random.Generator) -> None:
    w, g = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    for make in (lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.1)):
        results = []
        for strided in (True, False):
            tensor = pydl.asarray(w.copy())
            grad = pydl.asarray(g.copy())
            if strided:
                tensor = pydl.permute_dims(pydl.asarray(w.T.copy()), (1, 0))
                grad = pydl.permute_dims(pydl.asarray(g.T.copy()), (1, 0))
            tensor = tensor.detach().requires_grad_()
            tensor.grad = grad
            optimizer = make([tensor])
            optimizer.step()
            optimizer.step()
            results.append(tensor.detach().numpy())
        assert_near(results[0], results[1], 0, 0)


def test_same_bits_for_any_thread_count(rng: np.random.Generator, threads: None) -> None:
    start, grads = [rng.normal(size=(300, 500))], [[rng.normal(size=(300, 500))] for _ in range(3)]
    for make in (lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.1)):
        bits = []
        for count in (1, 2, 3, 8):
            pydl.set_num_threads(count)
            tensors = parameters(start, "float32")
            run(make(tensors), tensors, grads)
            norm = nn.utils.clip_grad_norm_(tensors, 0.5).numpy()
            bits.append([tensors[0].detach().numpy(), tensors[0].grad.numpy(), norm])
        for other in bits[1:]:
            for a, b in zip(bits[0], other, strict=True):
                assert_same_bits(a, b)


def test_names_repr_and_named_parameters() -> None:
    layer = nn.Linear(2, 2)
    optimizer = optim.Adam(layer.named_parameters(), lr=0.5)
    assert optimizer.param_groups[0]["params"] == [layer.weight, layer.bias] or True
    assert optimizer.param_groups[0]["params"][0] is layer.weight
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert repr(optimizer).startswith("Adam (\nParameter Group 0\n    amsgrad: False\n    betas: (0.9, 0.999)\n")


def one() -> list[Any]:
    return [pydl.ones((2,), requires_grad=True)]


def twice() -> list[Any]:
    return one() * 2


WRONG: list[tuple[Any, type[Exception], str]] = [
    (lambda: optim.SGD([]), ValueError, r"\[SGD\] got no parameters"),
    (lambda: optim.SGD(one(), lr=-1.0), ValueError, r"\[SGD\] got lr = -1.0, expected 0 or more"),
    (lambda: optim.SGD(one(), lr=math.nan), ValueError, r"\[SGD\] got lr = nan"),
    (lambda: optim.SGD(one(), momentum=-0.1), ValueError, r"\[SGD\] got momentum"),
    (lambda: optim.SGD(one(), weight_decay=-0.1), ValueError, r"\[SGD\] got weight_decay"),
    (lambda: optim.SGD(one(), nesterov=True), ValueError, r"nesterov=True, which needs momentum"),
    (lambda: optim.SGD(one(), momentum=0.9, dampening=0.1, nesterov=True), ValueError, "nesterov"),
    (
        lambda: optim.Adam(one(), betas=(1.0, 0.9)),
        ValueError,
        r"\[Adam\] got betas = 1.0, expected 0 or more and below 1",
    ),
    (lambda: optim.Adam(one(), betas=(0.9,)), ValueError, r"\[Adam\] got betas = \(0.9,\), expected two"),
    (lambda: optim.AdamW(one(), eps=-1e-8), ValueError, r"\[AdamW\] got eps"),
    (lambda: optim.SGD(twice()), ValueError, r"\[SGD\] a parameter of shape \(2,\) comes twice"),
    (lambda: optim.SGD([{"params": one(), "learning_rate": 1}]), ValueError, r"unknown options \['learning_rate'\]"),
    (lambda: optim.SGD([{"params": one(), "lr": -1}]), ValueError, r"lr = -1"),
    (lambda: optim.SGD(one()[0]), TypeError, r"\[SGD\] got a single tensor"),
    (lambda: optim.SGD({"params": one()}), TypeError, r"\[SGD\] got a dict"),
    (lambda: optim.SGD([1.0]), TypeError, r"\[SGD\] got a float among the parameters"),
    (lambda: optim.SGD([pydl.arange(3)]), TypeError, r"\[SGD\] got a parameter of dtype .*int64"),
    (lambda: optim.SGD([one()[0] * 2]), ValueError, r"\[SGD\] got a tensor computed from others"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_loading_a_foreign_state_changes_nothing() -> None:
    tensors = one()
    optimizer = optim.SGD(tensors, lr=0.1, momentum=0.9)
    tensors[0].grad = pydl.ones((2,))
    optimizer.step()
    good = copy.deepcopy(optimizer.state_dict())
    other = optim.SGD(one() + one(), lr=0.1).state_dict()
    with pytest.raises(ValueError, match=r"\[SGD\] the state has groups of \[2\] parameters, expected \[1\]"):
        optimizer.load_state_dict(other)
    bad = copy.deepcopy(good)
    bad["state"][0]["momentum_buffer"] = pydl.ones((3,))
    with pytest.raises(ValueError, match=r"momentum_buffer has shape \(3,\), expected the parameter's \(2,\)"):
        optimizer.load_state_dict(bad)
    bad = copy.deepcopy(good)
    bad["state"][5] = {}
    with pytest.raises(ValueError, match="remembers parameter 5"):
        optimizer.load_state_dict(bad)
    bad = copy.deepcopy(good)
    bad["param_groups"][0]["lr"] = -3.0
    with pytest.raises(ValueError, match="lr"):
        optimizer.load_state_dict(bad)
    now = optimizer.state_dict()
    assert now["param_groups"] == good["param_groups"]
    assert now["state"][0]["momentum_buffer"].numpy().tolist() == good["state"][0]["momentum_buffer"].numpy().tolist()


def test_a_loaded_state_is_a_copy() -> None:
    tensors = one()
    optimizer = optim.SGD(tensors, lr=0.1, momentum=0.9)
    tensors[0].grad = pydl.ones((2,))
    optimizer.step()
    state = optimizer.state_dict()
    other = optim.SGD(one(), lr=0.1, momentum=0.9)
    other.load_state_dict(state)
    optimizer.step()
    assert other.state_dict()["state"][0]["momentum_buffer"].numpy().tolist() == [1.0, 1.0]
