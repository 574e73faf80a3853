"""Learning-rate schedules: PyTorch's values step by step, their closed forms, their state, their errors."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import optim
from pydl.optim import lr_scheduler as schedules

STEPS = 60

# name, arguments: `make(module, optimizer)` builds it from pydl's or PyTorch's lr_scheduler.
SINGLE: list[tuple[str, dict[str, Any]]] = [
    ("LambdaLR", {"lr_lambda": lambda t: 0.95**t}),
    ("LambdaLR", {"lr_lambda": [lambda t: 1 / (t + 1), lambda t: t % 7]}),
    ("MultiplicativeLR", {"lr_lambda": lambda t: 0.9 + 0.01 * (t % 5)}),
    ("StepLR", {"step_size": 7}),
    ("StepLR", {"step_size": 1, "gamma": 0.9}),
    ("MultiStepLR", {"milestones": [30, 5, 5, 12], "gamma": 0.5}),
    ("MultiStepLR", {"milestones": []}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 11}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 20}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.0, "total_iters": 13}),
    ("ExponentialLR", {"gamma": 0.93}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 40, "power": 2.5}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 100, "eta_min": 1e-3}),
    ("CosineAnnealingWarmRestarts", {"T_0": 6}),
    ("CosineAnnealingWarmRestarts", {"T_0": 4, "T_mult": 2, "eta_min": 0.02}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 6}),
    ("CyclicLR", {"base_lr": [0.01, 0.02], "max_lr": 0.3, "step_size_up": 3, "step_size_down": 8,
                  "mode": "triangular2", "base_momentum": 0.7, "max_momentum": 0.99}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": [0.3, 1.0], "step_size_up": 5, "mode": "exp_range", "gamma": 0.97}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 5, "scale_fn": lambda x: 1 / x,
                  "cycle_momentum": False}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 5, "scale_fn": lambda x: 0.99**x,
                  "scale_mode": "iterations"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 61}),
    ("OneCycleLR", {"max_lr": [0.5, 0.1], "epochs": 7, "steps_per_epoch": 9, "pct_start": 0.45,
                    "anneal_strategy": "linear", "div_factor": 10, "final_div_factor": 50}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 70, "three_phase": True, "base_momentum": [0.7, 0.8]}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 70, "three_phase": True, "cycle_momentum": False}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 64, "pct_start": 0.0}),
]  # fmt: skip


def single(name: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    return lambda module, optimizer: getattr(module, name)(optimizer, **options)


COMBINED: list[tuple[str, Callable[[Any, Any], Any]]] = [
    (
        "linear then cosine",
        lambda m, o: m.SequentialLR(o, [m.LinearLR(o, 0.1, 1.0, 8), m.CosineAnnealingLR(o, 40, 1e-3)], [8]),
    ),
    (
        "constant, exponential, restarts",
        lambda m, o: m.SequentialLR(
            o,
            [m.ConstantLR(o, 0.1, 50), m.ExponentialLR(o, 0.9), m.CosineAnnealingWarmRestarts(o, 5, 2), m.StepLR(o, 3)],
            [4, 15, 40],
        ),
    ),
    (
        "restarts first",
        lambda m, o: m.SequentialLR(o, [m.CosineAnnealingWarmRestarts(o, 5), m.PolynomialLR(o, 9)], [21]),
    ),
    (
        "chained",
        lambda m, o: m.ChainedScheduler([m.ConstantLR(o, 0.1, 10), m.ExponentialLR(o, 0.9), m.StepLR(o, 15, 0.5)]),
    ),
]
ALL = [(f"{name}-{sorted(options)}", single(name, options)) for name, options in SINGLE] + COMBINED
IDS = [name for name, _ in ALL]


def our_optimizer(betas: bool = False) -> Any:
    groups = [{"params": [pydl.ones((2,), requires_grad=True)], "lr": lr} for lr in (0.5, 0.05)]
    return optim.Adam(groups, betas=(0.9, 0.99)) if betas else optim.SGD(groups, lr=0.1, momentum=0.9)


def torch_optimizer(torch: Any, betas: bool = False) -> Any:
    groups = [{"params": [torch.ones(2, requires_grad=True)], "lr": lr} for lr in (0.5, 0.05)]
    return torch.optim.Adam(groups, betas=(0.9, 0.99)) if betas else torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def trace(optimizer: Any, schedule: Any, steps: int) -> np.ndarray:
    """(steps, groups, 2): the rate and the momentum before each step."""
    rows = []
    for _ in range(steps):
        rows.append([[g["lr"], g["betas"][0] if "betas" in g else g["momentum"]] for g in optimizer.param_groups])
        assert list(schedule.get_last_lr()) == [g["lr"] for g in optimizer.param_groups]
        optimizer.step()
        schedule.step()
    return np.array(rows)


@pytest.mark.parametrize("betas", [False, True], ids=["momentum", "betas"])
@pytest.mark.parametrize(("name", "make"), ALL, ids=IDS)
def test_pytorchs_values(name: str, make: Callable[[Any, Any], Any], betas: bool) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = our_optimizer(betas), torch_optimizer(torch, betas)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own
        expected = trace(theirs, make(torch.optim.lr_scheduler, theirs), STEPS)
    np.testing.assert_allclose(trace(ours, make(schedules, ours), STEPS), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("name", "make"), ALL, ids=IDS)
def test_state_goes_on_where_it_was(name: str, make: Callable[[Any, Any], Any]) -> None:
    whole = our_optimizer()
    expected = trace(whole, make(schedules, whole), STEPS)
    first = our_optimizer()
    schedule = make(schedules, first)
    trace(first, schedule, 23)
    state, groups = json.loads(json.dumps(schedule.state_dict())), copy.deepcopy(first.state_dict())
    second = our_optimizer()
    resumed = make(schedules, second)
    second.load_state_dict(groups)
    resumed.load_state_dict(state)
    np.testing.assert_array_equal(trace(second, resumed, STEPS - 23), expected[23:])


CLOSED: list[tuple[str, dict[str, Any], Callable[[int], float]]] = [
    ("StepLR", {"step_size": 7, "gamma": 0.5}, lambda t: 0.5 ** (t // 7)),
    ("MultiStepLR", {"milestones": [4, 9], "gamma": 0.5}, lambda t: 0.5 ** ((t >= 4) + (t >= 9))),
    ("ConstantLR", {"factor": 0.25, "total_iters": 6}, lambda t: 0.25 if t < 6 else 1.0),
    ("ConstantLR", {"factor": 0.0, "total_iters": 6}, lambda t: 0.0 if t < 6 else 1.0),
    ("LinearLR", {"start_factor": 0.2, "total_iters": 8}, lambda t: 0.2 + 0.8 * min(t, 8) / 8),
    ("ExponentialLR", {"gamma": 0.9}, lambda t: 0.9**t),
    ("PolynomialLR", {"total_iters": 20, "power": 2.0}, lambda t: max(0.0, 1 - t / 20) ** 2),
    ("CosineAnnealingLR", {"T_max": 12}, lambda t: (1 + math.cos(math.pi * t / 12)) / 2),
    ("WarmupLR", {"total_iters": 8}, lambda t: min(1.0, (t + 1) / 8)),
    ("WarmupLR", {"total_iters": 5, "start_factor": 0.1}, lambda t: 0.1 + 0.9 * min(1.0, (t + 1) / 5)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "formula"), CLOSED, ids=[name for name, _, _ in CLOSED])
def test_closed_forms_and_jumps(name: str, options: dict[str, Any], formula: Callable[[int], float]) -> None:
    optimizer = our_optimizer()
    rates = trace(optimizer, getattr(schedules, name)(optimizer, **options), 30)[:, :, 0]
    expected = np.outer([formula(t) for t in range(30)], [0.5, 0.05])
    np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=1e-15)
    schedule = getattr(schedules, name)(our_optimizer(), **options)
    schedule.optimizer.step()
    for t in (17, 3, 0):
        schedule.step(t)
        np.testing.assert_allclose(schedule.get_last_lr(), expected[t], rtol=1e-12, atol=1e-15)


def test_sequence_of_chains_and_sequences() -> None:
    optimizer = our_optimizer()
    chain = schedules.ChainedScheduler(
        [schedules.LinearLR(optimizer, 0.2, 1.0, 5), schedules.StepLR(optimizer, 3, 0.5)]
    )
    inner = schedules.SequentialLR(
        optimizer, [schedules.ExponentialLR(optimizer, 0.9), schedules.ConstantLR(optimizer, 0.3, 50)], [6]
    )
    rates = trace(optimizer, schedules.SequentialLR(optimizer, [chain, inner], [8]), 20)[:, 0, 0]
    expected = [0.5 * (0.2 + 0.8 * min(t, 5) / 5) * 0.5 ** (t // 3) for t in range(8)]
    expected += [0.5 * 0.9**t for t in range(6)] + [0.15] * 6
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_restarts_between_steps() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = our_optimizer(), torch_optimizer(torch)
    for t_mult in (1, 2):
        mine = schedules.CosineAnnealingWarmRestarts(ours, 4, t_mult, 0.01)
        yours = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(theirs, 4, t_mult, 0.01)
        ours.step()
        for epoch in np.arange(0, 30, 0.3):
            mine.step(float(epoch))
            yours.step(float(epoch))
            np.testing.assert_allclose(mine.get_last_lr(), yours.get_last_lr(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "max", "factor": 0.5, "patience": 2, "threshold": 0.05},
        {
            "factor": 0.3,
            "patience": 0,
            "threshold_mode": "abs",
            "threshold": 0.1,
            "cooldown": 3,
            "min_lr": [0.01, 0.001],
        },
        {"mode": "max", "patience": 1, "threshold_mode": "abs", "cooldown": 1, "min_lr": 0.02, "eps": 0.01},
    ],
    ids=str,
)
def test_plateau(options: dict[str, Any], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = our_optimizer(), torch_optimizer(torch)
    mine = schedules.ReduceLROnPlateau(ours, **options)
    yours = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for t, metric in enumerate(1 + np.abs(rng.normal(size=80)).cumsum()[::-1] / 20 + rng.normal(size=80) / 10):
        if t == 40:
            state = json.loads(json.dumps(mine.state_dict()))
            mine = schedules.ReduceLROnPlateau(ours, patience=99)
            mine.load_state_dict(state)
        mine.step(pydl.asarray(float(metric), dtype=pydl.float64))
        yours.step(float(metric))
        assert mine.get_last_lr() == pytest.approx(yours.get_last_lr(), rel=1e-12)
        assert mine.num_bad_epochs == yours.num_bad_epochs


def test_resumed_by_last_epoch() -> None:
    torch = pytest.importorskip("torch")
    for name, options in SINGLE:
        if name in ("LambdaLR", "OneCycleLR", "CyclicLR", "CosineAnnealingWarmRestarts"):
            continue
        ours, theirs = our_optimizer(), torch_optimizer(torch)
        for optimizer in (ours, theirs):
            for group in optimizer.param_groups:
                group["initial_lr"], group["lr"] = group["lr"], group["lr"] / 2
        mine = getattr(schedules, name)(ours, **options, last_epoch=6)
        yours = getattr(torch.optim.lr_scheduler, name)(theirs, **options, last_epoch=6)
        theirs.step()
        expected = trace(theirs, yours, 10)
        np.testing.assert_allclose(trace(ours, mine, 10), expected, rtol=1e-12, atol=1e-15, err_msg=name)


def test_units() -> None:
    optimizer = our_optimizer()
    assert schedules.StepLR(optimizer, 3).unit == "epoch"
    assert schedules.StepLR(optimizer, 3, unit="step").unit == "step"
    assert schedules.OneCycleLR(optimizer, 0.1, 10).unit == "step"
    assert schedules.ReduceLROnPlateau(optimizer).unit == "epoch"
    optimizer = our_optimizer()
    mixed = [schedules.WarmupLR(optimizer, 3), schedules.StepLR(optimizer, 3)]
    with pytest.raises(ValueError, match=r"\[SequentialLR\] got schedulers of both units, epoch and step"):
        schedules.SequentialLR(optimizer, mixed, [3])
    assert schedules.SequentialLR(optimizer, mixed, [3], unit="step").unit == "step"
    assert schedules.ChainedScheduler([schedules.WarmupLR(optimizer, 3)]).unit == "step"
    state = schedules.StepLR(optimizer, 3, unit="step").state_dict()
    assert state["unit"] == "step"


def test_a_step_before_the_optimizers_warns() -> None:
    optimizer = our_optimizer()
    schedule = schedules.ExponentialLR(optimizer, 0.5)
    with pytest.warns(UserWarning, match=r"\[ExponentialLR\] step\(\) was called before optimizer.step\(\)"):
        schedule.step()
    schedule.step()


WRONG: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda o: schedules.StepLR("sgd", 3), TypeError, r"\[StepLR\] got a str as optimizer, expected an Optimizer"),
    (lambda o: schedules.StepLR(o, 0), ValueError, r"\[StepLR\] got step_size 0, expected 1 or more"),
    (lambda o: schedules.StepLR(o, 3, unit="batch"), ValueError, r"got unit='batch', expected 'epoch' or 'step'"),
    (lambda o: schedules.StepLR(o, 3, last_epoch=4), ValueError, r"group 0 has no 'initial_lr'"),
    (lambda o: schedules.LambdaLR(o, [abs]), ValueError, r"got 1 values of lr_lambda, expected one for each of 2"),
    (lambda o: schedules.LambdaLR(o, 0.5), TypeError, r"\[LambdaLR\] got a float as lr_lambda, expected a function"),
    (lambda o: schedules.ConstantLR(o, 1.5), ValueError, r"\[ConstantLR\] got factor 1.5, expected 0 to 1"),
    (lambda o: schedules.LinearLR(o, 0.0), ValueError, r"got start_factor 0.0, expected above 0 and up to 1"),
    (lambda o: schedules.LinearLR(o, end_factor=2), ValueError, r"got end_factor 2"),
    (lambda o: schedules.WarmupLR(o, 0), ValueError, r"\[WarmupLR\] got total_iters 0"),
    (lambda o: schedules.CosineAnnealingLR(o, 0), ValueError, r"got T_max 0"),
    (lambda o: schedules.CosineAnnealingWarmRestarts(o, 1.5), ValueError, r"got T_0 1.5, expected an integer"),
    (lambda o: schedules.CyclicLR(o, 0.1, 1.0, mode="up"), ValueError, r"\[CyclicLR\] got mode='up'"),
    (lambda o: schedules.OneCycleLR(o, 0.1), ValueError, r"got no length: give total_steps, or epochs and steps_per"),
    (lambda o: schedules.OneCycleLR(o, 0.1, 10, pct_start=2.0), ValueError, r"got pct_start 2.0"),
    (lambda o: schedules.OneCycleLR(o, 0.1, 10, anneal_strategy="cubic"), ValueError, r"anneal_strategy='cubic'"),
    (lambda o: schedules.OneCycleLR(optim.Adagrad([pydl.ones((1,), requires_grad=True)]), 0.1, 10), ValueError,
     r"Adagrad has neither momentum nor betas to move; give cycle_momentum=False"),
    (lambda o: schedules.ReduceLROnPlateau(o, factor=1.0), ValueError, r"got factor 1.0, expected below 1"),
    (lambda o: schedules.ReduceLROnPlateau(o, mode="best"), ValueError, r"got mode='best'"),
    (lambda o: schedules.SequentialLR(o, [], []), ValueError, r"\[SequentialLR\] got no schedulers"),
    (lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 3)], [4]), ValueError, r"got 1 milestones for 1 sched"),
    (lambda o: schedules.ChainedScheduler([schedules.ReduceLROnPlateau(o)]), ValueError, r"wants a metric"),
    (lambda o: schedules.ChainedScheduler([schedules.StepLR(o, 3), schedules.StepLR(our_optimizer(), 3)]), ValueError,
     r"the scheduler at place 1 has another optimizer"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_errors(call: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(our_optimizer())


def test_one_cycle_ends() -> None:
    optimizer = our_optimizer()
    schedule = schedules.OneCycleLR(optimizer, 0.1, total_steps=3)
    optimizer.step()
    for _ in range(3):
        schedule.step()
    with pytest.raises(ValueError, match=r"\[OneCycleLR\] got step 4, but the cycle has 3; make it longer"):
        schedule.step()
