"""weight_norm, spectral_norm and parametrizations: PyTorch's numbers and names, removal, copies, errors."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from pydl.nn import utils
from pydl.nn.utils import parametrizations, parametrize
from tolerances import assert_near, assert_same_bits

OLD = ["weight_norm", "spectral_norm"]


def copy_state(theirs: Any, ours: Any) -> None:
    ours.load_state_dict({name: value.detach().numpy().copy() for name, value in theirs.state_dict().items()})


def pair(torch: Any, kind: str) -> tuple[Any, Any, tuple[int, ...]]:
    if kind == "linear":
        return nn.Linear(5, 4, dtype=pydl.float64), torch.nn.Linear(5, 4, dtype=torch.float64), (3, 5)
    if kind == "conv":
        return (
            nn.Conv2d(2, 4, 3, dtype=pydl.float64),
            torch.nn.Conv2d(2, 4, 3, dtype=torch.float64),
            (2, 2, 6, 5),
        )
    return (
        nn.ConvTranspose2d(2, 4, 3, dtype=pydl.float64),
        torch.nn.ConvTranspose2d(2, 4, 3, dtype=torch.float64),
        (2, 2, 4, 5),
    )


@pytest.mark.parametrize("options", [{}, {"dim": None}, {"dim": 1}], ids=str)
@pytest.mark.parametrize("new", [False, True], ids=["old", "new"])
@pytest.mark.parametrize("op", OLD)
@pytest.mark.parametrize("kind", ["linear", "conv", "transposed"])
def test_pytorchs_outputs_and_gradients(
    kind: str, op: str, new: bool, options: dict[str, Any], rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs, shape = pair(torch, kind)
    if new and op == "weight_norm" and options == {"dim": None}:
        options = {"dim": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(torch.nn.utils.parametrizations if new else torch.nn.utils, op)(theirs, **options)
    getattr(parametrizations if new else utils, op)(ours, **options)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    assert {n for n, _ in ours.named_parameters()} == {n for n, _ in theirs.named_parameters()}
    copy_state(theirs, ours)
    for step in range(4):
        if step == 3:
            ours.eval(), theirs.eval()
        x, upstream = rng.normal(size=shape), None
        a, b = ours(pydl.asarray(x)), theirs(torch.tensor(x))
        assert_near(a.detach().numpy(), b.detach().numpy(), 1e-11, 1e-12)
        upstream = rng.normal(size=tuple(b.shape))
        (a * pydl.asarray(upstream)).sum().backward()
        (b * torch.tensor(upstream)).sum().backward()
    grads = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    for name, p in ours.named_parameters():
        assert_near(p.grad.numpy(), grads[name], 1e-10, 1e-11, name)
    for name, value in theirs.state_dict().items():
        assert_near(ours.state_dict()[name].numpy(), value.numpy(), 1e-10, 1e-11, name)


@pytest.mark.parametrize("op", OLD)
@pytest.mark.parametrize("new", [False, True], ids=["old", "new"])
def test_copies_pickles_training_and_removal(op: str, new: bool, rng: np.random.Generator) -> None:
    layer = nn.Linear(4, 3)
    net = nn.Sequential(layer, nn.Tanh(), nn.Linear(3, 2))
    getattr(parametrizations if new else utils, op)(layer)
    assert isinstance(layer, nn.Linear)
    x = pydl.asarray(rng.normal(size=(6, 4)).astype("float32"))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    before = layer.weight.detach().numpy().copy()
    for _ in range(3):
        optimizer.zero_grad()
        (net(x) ** 2).mean().backward()
        optimizer.step()
    assert np.abs(layer.weight.detach().numpy() - before).max() > 1e-5
    net.eval()
    expected = net(x).detach().numpy()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert_same_bits(twin(x).detach().numpy(), expected)
        assert type(twin[0]) is type(layer)
        with pydl.no_grad():
            for p in twin.parameters():
                p.mul_(0.0)
    assert_same_bits(net(x).detach().numpy(), expected)
    fresh = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).eval()
    getattr(parametrizations if new else utils, op)(fresh[0])
    fresh.load_state_dict(net.state_dict())
    assert_same_bits(fresh(x).detach().numpy(), expected)
    if new:
        assert type(layer).__name__ == "ParametrizedLinear"
        parametrize.remove_parametrizations(layer, "weight")
    else:
        getattr(utils, f"remove_{op}")(layer)
    assert type(layer) is nn.Linear
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
    assert not layer._hooks
    assert_near(net(x).detach().numpy(), expected, 1e-6, 1e-7)
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_weight_norm_of_a_recurrent_layer(rng: np.random.Generator) -> None:
    rnn = nn.GRU(3, 4)
    x = pydl.asarray(rng.normal(size=(5, 2, 3)).astype("float32"))
    expected = rnn(x)[0].detach().numpy()
    utils.weight_norm(rnn, "weight_hh_l0")
    assert_near(rnn(x)[0].detach().numpy(), expected, 1e-5, 1e-6)
    with pydl.no_grad():
        rnn.weight_hh_l0_g.mul_(0.0)
    rnn(x)[0].sum().backward()
    assert rnn.weight_hh_l0_g.grad is not None
    assert np.abs(rnn(x)[0].detach().numpy() - expected).max() > 1e-3


class Symmetric(nn.Module):
    def forward(self, x: Any) -> Any:
        upper = pydl.triu(x)
        return upper + pydl.triu(x, k=1).T

    def right_inverse(self, x: Any) -> Any:
        return pydl.triu(x)


class Doubled(nn.Module):
    def forward(self, x: Any) -> Any:
        return 2 * x

    def right_inverse(self, x: Any) -> Any:
        return x / 2


class Narrow(nn.Module):
    def forward(self, x: Any) -> Any:
        return x[:1]


def test_chains_assignment_and_cache(rng: np.random.Generator) -> None:
    layer = nn.Linear(3, 3)
    weight = layer.weight
    array = weight.detach().numpy().copy()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    symmetric = np.triu(array) + np.triu(array, 1).T
    assert_near(layer.weight.detach().numpy(), symmetric, 1e-7, 0)
    assert layer.parametrizations.weight.original is weight  # an optimizer made before goes on with it
    parametrize.register_parametrization(layer, "weight", Doubled())
    assert_near(layer.weight.detach().numpy(), symmetric, 1e-6, 1e-7)
    wanted = rng.normal(size=(3, 3)).astype("float32")
    wanted = wanted + wanted.T
    layer.weight = pydl.asarray(wanted)
    assert_near(layer.weight.detach().numpy(), wanted, 1e-6, 1e-7)
    assert layer.weight is not layer.weight
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert parametrize.is_parametrized(layer)
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    parametrize.register_parametrization(layer, "bias", Doubled())
    twin = copy.deepcopy(layer)
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert layer.weight is weight
    assert parametrize.is_parametrized(layer, "bias")
    parametrize.remove_parametrizations(layer, "bias")
    assert type(layer) is nn.Linear
    assert not parametrize.is_parametrized(layer)
    assert_near(twin.weight.detach().numpy(), wanted, 1e-6, 1e-7)


WRONG: list[tuple[Any, type[Exception], str]] = [
    (lambda: utils.weight_norm(nn.Linear(2, 2), "kernel"), ValueError,
     r"\[weight_norm\] Linear has no parameter 'kernel'; it has: weight, bias"),
    (lambda: utils.weight_norm(utils.weight_norm(nn.Linear(2, 2))), ValueError, r"of Linear is computed already"),
    (lambda: utils.spectral_norm(nn.Linear(2, 2), n_power_iterations=0), ValueError, r"got n_power_iterations 0"),
    (lambda: utils.remove_weight_norm(nn.Linear(2, 2)), ValueError, r"\[remove_weight_norm\] 'weight' of Linear"),
    (lambda: utils.remove_spectral_norm(utils.weight_norm(nn.Linear(2, 2))), ValueError, r"has no spectral_norm"),
    (lambda: setattr(utils.weight_norm(nn.Linear(2, 2)), "weight", pydl.ones((2, 2))), ValueError,
     r"'weight' is computed; assign to weight_g and weight_v"),
    (lambda: parametrizations.spectral_norm(nn.Linear(2, 2), "kernel"), ValueError, r"has no parameter 'kernel'"),
    (lambda: parametrizations.spectral_norm(nn.Linear(2, 2), dim=2), IndexError, r"got dim 2, but 'weight' has shape"),
    (lambda: parametrize.register_parametrization(nn.Linear(2, 2), "weight", Narrow()), ValueError,
     r"'weight' would become \(1, 2\) of .*float32, expected \(2, 2\)"),
    (lambda: parametrize.remove_parametrizations(nn.Linear(2, 2), "weight"), ValueError, r"is not parametrized"),
    (lambda: parametrize.remove_parametrizations(parametrizations.weight_norm(nn.Linear(2, 2)), "weight", False),
     ValueError, r"is made from 2 tensors, so leave_parametrized must be True"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
