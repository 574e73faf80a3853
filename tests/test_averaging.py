"""Averages of weights: PyTorch's numbers, closed forms, buffers, batch-norm refresh, errors."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from pydl.optim import swa_utils
from tolerances import assert_near, assert_same_bits


class Net(nn.Module):
    """Two layers and a buffer that a step changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)
        self.register_buffer("seen", pydl.zeros((2,)))
        self.register_buffer("count", pydl.zeros((), dtype=pydl.int64))

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x).tanh())


def wander(net: Any, rng: np.random.Generator) -> None:
    with pydl.no_grad():
        for p in net.parameters():
            p.copy_(p + pydl.asarray(rng.normal(size=p.shape).astype("float32")))
        net.seen.copy_(net.seen + pydl.asarray(rng.normal(size=2).astype("float32")))
        net.count.copy_(net.count + 3)


AVERAGES: list[tuple[str, dict[str, Any], Any]] = [
    ("plain", {}, lambda path: np.mean(path, axis=0)),
    ("ema", {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.7)}, None),
    ("swa", {"multi_avg_fn": swa_utils.get_swa_multi_avg_fn()}, lambda path: np.mean(path, axis=0)),
    ("ema of one", {"avg_fn": swa_utils.get_ema_avg_fn(0.7)}, None),
    ("swa of one", {"avg_fn": swa_utils.get_swa_avg_fn()}, lambda path: np.mean(path, axis=0)),
]


def ema(path: list[np.ndarray]) -> np.ndarray:
    average = path[0]
    for w in path[1:]:
        average = 0.7 * average + 0.3 * w
    return average


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize(("name", "options", "formula"), AVERAGES, ids=[name for name, _, _ in AVERAGES])
def test_averages(
    name: str, options: dict[str, Any], formula: Any, use_buffers: bool, rng: np.random.Generator
) -> None:
    net = Net()
    averaged = swa_utils.AveragedModel(net, use_buffers=use_buffers, **options)
    path, buffers = [], []
    for step in range(7):
        wander(net, rng)
        averaged.update_parameters(net)
        assert averaged.n_averaged.item() == step + 1
        path.append([p.detach().numpy().astype(np.float64) for p in net.parameters()])
        buffers.append(net.seen.numpy().astype(np.float64))
    formula = formula or ema
    for i, p in enumerate(averaged.module.parameters()):
        assert_near(p.detach().numpy(), formula([weights[i] for weights in path]), 1e-5, 1e-6)
    assert_near(averaged.module.seen.numpy(), formula(buffers) if use_buffers else buffers[-1], 1e-5, 1e-6)
    assert averaged.module.count.item() == (21 if not use_buffers else averaged.module.count.item())
    x = pydl.asarray(rng.normal(size=(5, 3)).astype("float32"))
    np.testing.assert_array_equal(averaged(x).detach().numpy(), averaged.module(x).detach().numpy())
    assert set(averaged.state_dict()) == {"n_averaged", *(f"module.{name}" for name in net.state_dict())}
    fresh = swa_utils.AveragedModel(Net(), use_buffers=use_buffers, **options)
    fresh.load_state_dict({k: v.clone() for k, v in averaged.state_dict().items()})
    wander(net, rng)
    for model in (averaged, fresh):
        model.update_parameters(net)
    for a, b in zip(averaged.parameters(), fresh.parameters(), strict=True):
        assert_same_bits(a.detach().numpy(), b.detach().numpy())


# PyTorch's fused plain average refuses integer buffers.
@pytest.mark.parametrize(
    ("kind", "use_buffers"), [("plain", False), ("plain", True), ("ema", False), ("ema", True), ("swa", False)]
)
def test_pytorchs_averages(kind: str, use_buffers: bool, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    theirs.register_buffer("count", torch.tensor(5))
    ours = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    ours.register_buffer("count", pydl.asarray(5))

    def make(module: Any, model: Any) -> Any:
        function = {"ema": module.get_ema_multi_avg_fn, "swa": module.get_swa_multi_avg_fn}.get(kind)
        return module.AveragedModel(model, multi_avg_fn=function and function(), use_buffers=use_buffers)

    averaged, other = make(swa_utils, ours), make(torch.optim.swa_utils, theirs)
    for _ in range(10):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            value = rng.normal(size=tuple(p.shape)).astype("float32")
            p.data, q.data = pydl.asarray(value), torch.tensor(value)
        ours.count, theirs.count = ours.count + 7, theirs.count + 7
        averaged.update_parameters(ours)
        other.update_parameters(theirs)
    state, expected = averaged.state_dict(), other.state_dict()
    assert set(state) == set(expected)
    for name, value in expected.items():
        if name == "module.count" and kind == "plain" and use_buffers:
            continue  # PyTorch divides integers in another order there
        assert_near(state[name].numpy(), value.numpy(), 1e-5, 1e-6, name)


def test_swapped_into_a_model_and_back(rng: np.random.Generator) -> None:
    net = Net()
    averaged = swa_utils.AveragedModel(net)
    for _ in range(3):
        averaged.update_parameters(net)
        wander(net, rng)
    before = copy.deepcopy(net.state_dict())

    def look() -> None:
        with averaged.swapped_into(net) as model:
            assert model is net
            for p, q in zip(net.parameters(), averaged.module.parameters(), strict=True):
                assert_same_bits(p.detach().numpy(), q.detach().numpy())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        look()
    for name, value in net.state_dict().items():
        assert_same_bits(value.numpy(), before[name].numpy())


def test_batch_norm_refresh(rng: np.random.Generator) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    batches = [rng.normal(size=(8, 3)).astype("float32") * 3 + 1 for _ in range(5)]
    for x in batches:
        net(pydl.asarray(x) * 5)
    net.eval()
    net[1].momentum = 0.3
    weight, bias = (p.detach().numpy() for p in net[0].parameters())
    hidden = [x @ weight.T + bias for x in batches]
    for loader in ([pydl.asarray(x) for x in batches], [(pydl.asarray(x), None) for x in batches]):
        swa_utils.update_bn(loader, net)
        assert_near(net[1].running_mean.numpy(), np.mean([h.mean(axis=0) for h in hidden], axis=0), 1e-5, 1e-5)
        assert_near(net[1].running_var.numpy(), np.mean([h.var(axis=0, ddof=1) for h in hidden], axis=0), 1e-4, 1e-5)
        assert net[1].num_batches_tracked.item() == 5
    assert net[1].momentum == 0.3
    assert not any(module.training for module in net.modules())
    with pytest.raises(ValueError):
        swa_utils.update_bn([pydl.ones((8, 9))], net)
    assert net[1].momentum == 0.3
    assert not net.training
    plain = nn.Linear(3, 2)
    swa_utils.update_bn([None], plain)  # nothing to do, nothing is run


@pytest.mark.parametrize("options", [{"swa_lr": 0.05}, {"swa_lr": [0.05, 0.9], "anneal_epochs": 7,
                                     "anneal_strategy": "linear"}, {"swa_lr": 0.2, "anneal_epochs": 0}])  # fmt: skip
def test_swalr(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    groups = [{"lr": 0.5}, {"lr": 0.01}]
    ours = optim.SGD([{"params": [pydl.ones((1,), requires_grad=True)], **g} for g in groups], lr=0.1)
    theirs = torch.optim.SGD([{"params": [torch.ones(1, requires_grad=True)], **g} for g in groups], lr=0.1)
    mine, yours = swa_utils.SWALR(ours, **options), torch.optim.swa_utils.SWALR(theirs, **options)
    for step in range(60):
        assert mine.get_last_lr() == pytest.approx(yours.get_last_lr(), rel=1e-12)
        ours.step()
        theirs.step()
        mine.step()
        yours.step()
        if step == 4:
            state = json.loads(json.dumps(mine.state_dict()))
            rates = [g["lr"] for g in ours.param_groups]
            mine = swa_utils.SWALR(ours, 0.3)
            for group, rate, target in zip(ours.param_groups, rates, theirs.param_groups, strict=True):
                group["lr"], group["swa_lr"] = rate, target["swa_lr"]
            mine.load_state_dict(state)


def test_errors() -> None:
    net = Net()
    with pytest.raises(ValueError, match=r"\[AveragedModel\] got avg_fn and multi_avg_fn, expected one of them"):
        swa_utils.AveragedModel(net, avg_fn=max, multi_avg_fn=max)
    with pytest.raises(ValueError, match=r"got a model with parameters of shapes \[\(2, 3\), \(2,\)\], expected"):
        swa_utils.AveragedModel(net).update_parameters(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"got decay 1.5, expected 0 to 1"):
        swa_utils.get_ema_multi_avg_fn(1.5)
    optimizer = optim.SGD(net.parameters())
    with pytest.raises(ValueError, match=r"\[SWALR\] got anneal_strategy='up', expected 'cos' or 'linear'"):
        swa_utils.SWALR(optimizer, 0.1, anneal_strategy="up")
    with pytest.raises(ValueError, match=r"\[SWALR\] got anneal_epochs -1"):
        swa_utils.SWALR(optimizer, 0.1, anneal_epochs=-1)
