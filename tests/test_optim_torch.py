"""Every optimizer takes PyTorch's steps, over many settings, and goes on from PyTorch's state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import optim
from tolerances import assert_near, assert_same_bits

torch = pytest.importorskip("torch")

SHAPES = [(5, 7), (), (70,), (0,), (2, 3, 5), (4, 3, 2, 2)]
STEPS = 25

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("SGD", {"lr": 0.05, "momentum": 0.8, "dampening": 0.3, "maximize": True}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1, "amsgrad": True}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.1, "betas": (0.6, 0.8), "eps": 1e-3, "weight_decay": 0.2, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.1, "betas": (0.6, 0.8), "eps": 1e-3, "weight_decay": 0.2, "momentum_decay": 0.1}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.1, "betas": (0.6, 0.8), "eps": 1e-3, "weight_decay": 0.2}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": True, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.2, "initial_accumulator_value": 0.5, "maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.7, "eps": 1e-3, "weight_decay": 0.2, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.2, "momentum": 0.7, "centered": True}),
    ("RMSprop", {"lr": 0.05, "momentum": 0.7, "maximize": True}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9, "centered": True}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (0.01, 0.3), "maximize": True}),
    ("ASGD", {}),
    ("ASGD", {"lr": 0.1, "lambd": 0.01, "alpha": 0.6, "t0": 5, "weight_decay": 0.1, "maximize": True}),
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.3, "beta2_decay": -0.5, "eps": (1e-4, 0.1), "d": 1.5, "weight_decay": 0.1}),
    ("Adafactor", {"lr": 0.3, "maximize": True}),
]  # fmt: skip
IDS = [f"{name}-{options}" for name, options in CASES]


@pytest.fixture(autouse=True)
def scalars_of_float64() -> Iterator[None]:
    """PyTorch keeps NAdam's product and ASGD's rate in the default dtype, pydl as Python's floats."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def shapes_for(name: str) -> list[tuple[int, ...]]:
    return [s for s in SHAPES if s != (0,)] if name == "Adafactor" else SHAPES  # PyTorch's divides by zero there


def gradients(rng: np.random.Generator, steps: int, dtype: str, shapes: Any = SHAPES) -> list[list[np.ndarray]]:
    return [[np.asarray(rng.normal(size=s), dtype) for s in shapes] for _ in range(steps)]


def step_both(ours: list[Any], theirs: list[Any], optimizers: tuple[Any, Any], grads: list[list[np.ndarray]]) -> None:
    for step in grads:
        for a, b, grad in zip(ours, theirs, step, strict=True):
            a.grad, b.grad = pydl.asarray(grad), torch.tensor(grad)
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_same_steps_and_states(name: str, options: dict[str, Any], dtype: str, rng: np.random.Generator) -> None:
    rtol, atol = (1e-10, 1e-11) if dtype == "float64" else (1e-4, 2e-5)
    shapes = shapes_for(name)
    start = [np.asarray(rng.normal(size=s), dtype) for s in shapes]
    ours = [pydl.asarray(a.copy()).requires_grad_() for a in start]
    theirs = [torch.tensor(a, requires_grad=True) for a in start]
    optimizers = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    grads = gradients(rng, STEPS, dtype, shapes)
    step_both(ours, theirs, optimizers, grads[:10])
    for a, b, shape in zip(ours, theirs, shapes, strict=True):
        assert_near(a.detach().numpy(), b.detach().numpy(), rtol, atol, f"{shape}")
    state, other = (o.state_dict() for o in optimizers)
    assert set(state["state"]) == set(other["state"])
    for i, entry in other["state"].items():
        assert set(state["state"][i]) == set(entry)
        for what, value in entry.items():
            mine = state["state"][i][what]
            mine = mine.numpy() if isinstance(mine, pydl.Tensor) else np.asarray(mine)
            assert_near(mine, value.numpy(), 10 * rtol, 10 * atol, f"{what} of {shapes[i]}")
    resumed = getattr(optim, name)(ours, lr=7.0)
    resumed.load_state_dict(other)
    assert resumed.param_groups[0]["lr"] == optimizers[0].param_groups[0]["lr"]
    step_both(ours, theirs, (resumed, optimizers[1]), grads[10:])
    for a, b, shape in zip(ours, theirs, shapes, strict=True):
        assert_near(a.detach().numpy(), b.detach().numpy(), 3 * rtol, 3 * atol, f"resumed, {shape}")


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_resumed_from_its_own_state_gives_the_same_bits(
    name: str, options: dict[str, Any], rng: np.random.Generator
) -> None:
    start = [np.asarray(rng.normal(size=s), "float32") for s in SHAPES]
    grads = gradients(rng, 8, "float32")

    def run(optimizer: Any, tensors: list[Any], steps: list[list[np.ndarray]]) -> None:
        for step in steps:
            for tensor, grad in zip(tensors, step, strict=True):
                tensor.grad = pydl.asarray(grad)
            optimizer.step()

    whole = [pydl.asarray(a.copy()).requires_grad_() for a in start]
    run(getattr(optim, name)(whole, **options), whole, grads)
    first = [pydl.asarray(a.copy()).requires_grad_() for a in start]
    optimizer = getattr(optim, name)(first, **options)
    run(optimizer, first, grads[:3])
    second = [pydl.asarray(t.detach().numpy().copy()).requires_grad_() for t in first]
    resumed = getattr(optim, name)(second, lr=123.0)
    resumed.load_state_dict(optimizer.state_dict())
    run(optimizer, first, grads[3:6])  # what was loaded is a copy
    run(resumed, second, grads[3:])
    for a, b in zip(whole, second, strict=True):
        assert_same_bits(a.detach().numpy(), b.detach().numpy())


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_default_options_are_pytorchs(name: str) -> None:
    ours = getattr(optim, name)([pydl.ones((2,), requires_grad=True)]).defaults
    theirs = getattr(torch.optim, name)([torch.ones(2, requires_grad=True)]).defaults
    known = {k: v for k, v in theirs.items() if k not in ("foreach", "fused", "capturable", "differentiable")}
    assert {k: ours[k] for k in known if k in ours} == known
    for flag in ("foreach", "capturable", "fused"):
        if flag in theirs:
            getattr(optim, name)([pydl.ones((2,), requires_grad=True)], **{flag: True})
    if "differentiable" in theirs:
        with pytest.raises(ValueError, match=rf"\[{name}\] got differentiable=True, which is not supported"):
            getattr(optim, name)([pydl.ones((2,), requires_grad=True)], differentiable=True)


def test_sparse_adam(rng: np.random.Generator) -> None:
    start = rng.normal(size=(9, 3))
    ours = pydl.asarray(start.copy()).requires_grad_()
    theirs = torch.nn.Embedding(9, 3, sparse=True)
    theirs.weight.data = torch.tensor(start)
    optimizers = optim.SparseAdam([ours], lr=0.1), torch.optim.SparseAdam(theirs.parameters(), lr=0.1)
    for _ in range(20):
        rows, upstream = rng.integers(0, 9, size=4), rng.normal(size=(4, 3))
        grad = np.zeros_like(start)
        np.add.at(grad, rows, upstream)
        ours.grad = pydl.asarray(grad)
        optimizers[1].zero_grad()
        (theirs(torch.tensor(rows)) * torch.tensor(upstream)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    assert_near(ours.detach().numpy(), theirs.weight.detach().numpy(), 1e-11, 1e-12)


def rosenbrock(x: Any) -> Any:
    return ((1 - x[:-1]) ** 2).sum() + 100 * ((x[1:] - x[:-1] ** 2) ** 2).sum()


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.01, "max_iter": 7},
        {"lr": 0.002, "history_size": 3},
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "max_iter": 5, "max_eval": 9, "history_size": 2},
        {"line_search_fn": "strong_wolfe", "lr": 0.1, "tolerance_change": 1e-3, "tolerance_grad": 1e-2},
    ],
    ids=str,
)
def test_lbfgs(options: dict[str, Any]) -> None:
    start = np.array([-1.5, 2.0, 0.3, -0.4])
    ours = [pydl.asarray(start[:2].copy()).requires_grad_(), pydl.asarray(start[2:].copy()).requires_grad_()]
    theirs = [torch.tensor(start[:2], requires_grad=True), torch.tensor(start[2:], requires_grad=True)]
    optimizers = optim.LBFGS(ours, **options), torch.optim.LBFGS(theirs, **options)
    calls = [0, 0]

    def closure() -> Any:
        optimizers[0].zero_grad()
        loss = rosenbrock(pydl.concat(ours))
        loss.backward()
        calls[0] += 1
        return loss

    def other() -> Any:
        optimizers[1].zero_grad()
        loss = rosenbrock(torch.cat(theirs))
        loss.backward()
        calls[1] += 1
        return loss

    for step in range(6):
        a, b = optimizers[0].step(closure), optimizers[1].step(other)
        assert calls[0] == calls[1]
        assert a.item() == pytest.approx(b.item(), rel=1e-5, abs=1e-12)
        for mine, yours in zip(ours, theirs, strict=True):
            assert_near(mine.detach().numpy(), yours.detach().numpy(), 1e-5, 1e-8, f"step {step}")
        if step == 2:  # goes on from PyTorch's state
            fresh = optim.LBFGS(ours, **options)
            fresh.load_state_dict(optimizers[1].state_dict())
            optimizers = fresh, optimizers[1]
    entry = optimizers[0].state[ours[0]]
    assert entry["n_iter"] == optimizers[1].state[theirs[0]]["n_iter"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.01, "weight_decay": 0.3, "momentum": 0.7, "nesterov": False},
        {"lr": 0.01, "ns_steps": 3, "ns_coefficients": (3.4, -4.7, 2.0), "adjust_lr_fn": "match_rms_adamw"},
    ],
    ids=str,
)
def test_muon_is_pytorchs_up_to_the_rounding_of_bfloat16(
    options: dict[str, Any], dtype: str, rng: np.random.Generator
) -> None:
    shapes = [(5, 7), (9, 4), (6, 6), (1, 3)]
    values = [np.asarray(rng.normal(size=s), dtype) for s in shapes]
    ours, theirs = [pydl.asarray(v.copy()) for v in values], [torch.tensor(v) for v in values]
    optimizers = optim.Muon(ours, **options), torch.optim.Muon(theirs, **options)
    step_both(ours, theirs, optimizers, gradients(rng, 4, dtype, shapes))
    optimizers[0].load_state_dict(
        {
            "state": {i: {k: v.numpy() for k, v in s.items()} for i, s in optimizers[1].state_dict()["state"].items()},
            "param_groups": optimizers[1].state_dict()["param_groups"],
        }
    )
    step_both(ours, theirs, optimizers, gradients(rng, 4, dtype, shapes))
    rate = options.get("lr", 1e-3)
    for value, a, b in zip(values, ours, theirs, strict=True):
        assert np.abs(a.numpy() - value).max() > 0.3 * rate  # it has moved
        assert_near(a.numpy(), b.numpy(), 1e-6, 0.01 * rate)
    for a, b in zip(ours, theirs, strict=True):
        moment, wanted = (o.state[p]["momentum_buffer"].numpy() for o, p in zip(optimizers, (a, b), strict=True))
        assert_near(moment, wanted, 1e-5, 1e-6)


def test_muon_moves_along_the_nearest_orthogonal_matrix(rng: np.random.Generator) -> None:
    grad = rng.normal(size=(6, 9))
    weight = pydl.zeros((6, 9), dtype=pydl.float64)
    weight.grad = pydl.asarray(grad)
    optim.Muon([weight], lr=1.0, weight_decay=0.0, momentum=0.0).step()
    u, _, vh = np.linalg.svd(grad, full_matrices=False)
    along = np.diag(u.T @ -weight.numpy() @ vh.T)
    assert along.min() > 0.5  # the coefficients trade exactness for speed
    assert along.max() < 1.3


def test_muon_wants_matrices() -> None:
    with pytest.raises(ValueError, match=r"^\[Muon\] got a parameter of shape \(3,\), expected matrices.*AdamW"):
        optim.Muon([pydl.zeros(3)])
