"""functional_call: other tensors for one call, their gradients, shared ones, and the module as it was."""

from __future__ import annotations

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.nn.utils.stateless import functional_call
from tolerances import assert_near


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3, dtype=pydl.float64), nn.Linear(3, 3, dtype=pydl.float64)
        self.b.weight = self.a.weight
        self.norm = nn.BatchNorm1d(3, dtype=pydl.float64)

    def forward(self, x: pydl.Tensor, scale: float = 1.0) -> pydl.Tensor:
        return self.norm(self.b(pydl.tanh(self.a(x)))) * scale


def test_gradient_through_a_step_in_closed_form(rng: np.random.Generator) -> None:
    x, w = rng.normal(size=(5, 3)), pydl.asarray(rng.normal(size=(1, 3))).requires_grad_()
    layer = nn.Linear(3, 1, bias=False, dtype=pydl.float64)
    loss = (functional_call(layer, {"weight": w}, pydl.asarray(x)) ** 2).sum()
    (grad,) = pydl.autograd.grad(loss, [w], create_graph=True)
    (functional_call(layer, {"weight": w - 0.1 * grad}, pydl.asarray(x)) ** 2).sum().backward()
    h = x.T @ x
    step = np.eye(3) - 0.2 * h
    assert_near(w.grad.numpy()[0], 2 * step @ h @ step @ w.detach().numpy()[0], 1e-12, 1e-12)


def test_shared_tensors_and_buffers(rng: np.random.Generator) -> None:
    module = Tied().eval()
    x = pydl.asarray(rng.normal(size=(4, 3)))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    other = {
        "a.weight": pydl.asarray(rng.normal(size=(3, 3))),
        "norm.running_mean": pydl.full((3,), 2.0, dtype=pydl.float64),
    }
    y = functional_call(module, other, (x,), {"scale": 3.0})
    twin = Tied().eval()
    twin.load_state_dict({**before, **other, "b.weight": other["a.weight"]})
    assert_near(y.detach().numpy(), twin(x, 3.0).detach().numpy(), 1e-14, 0)
    assert all((module.state_dict()[name] == value).all() for name, value in before.items())
    assert module.b.weight is module.a.weight


def test_errors_leave_the_module_alone() -> None:
    layer = nn.Linear(3, 2)
    weight = layer.weight
    with pytest.raises(ValueError, match=r"unknown names wight, expected some of weight, bias"):
        functional_call(layer, {"wight": pydl.ones((2, 3))}, pydl.ones((1, 3)))
    with pytest.raises(ValueError, match="bias are not given"):
        functional_call(layer, {"weight": pydl.ones((2, 3))}, pydl.ones((1, 3)), strict=True)
    with pytest.raises(ValueError, match="in_features"):
        functional_call(layer, {"weight": pydl.ones((2, 3))}, pydl.ones((1, 4)))
    assert layer.weight is weight
