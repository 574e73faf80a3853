"""Keras's regularizers and constraints as arguments of layers, and what constructors say of wrong arguments."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from pydl.constraints import MaxNorm, NonNeg, apply
from pydl.regularizers import L1, L2, penalty
from tolerances import assert_near


def sum_of_squares(*tensors: Any) -> float:
    return float(sum((t.detach().numpy().astype(np.float64) ** 2).sum() for t in tensors))


def test_each_kind_of_parameter_has_its_argument() -> None:
    lstm = nn.LSTM(3, 2, bidirectional=True, kernel_regularizer=L2(1.0))
    assert_near(penalty(lstm).item(), sum_of_squares(lstm.weight_ih_l0, lstm.weight_ih_l0_reverse), 1e-6, 0)
    lstm = nn.LSTM(3, 2, bidirectional=True, recurrent_regularizer=L2(1.0))
    assert_near(penalty(lstm).item(), sum_of_squares(lstm.weight_hh_l0, lstm.weight_hh_l0_reverse), 1e-6, 0)
    lstm = nn.LSTM(3, 2, bias_regularizer=L2(1.0))
    assert_near(penalty(lstm).item(), sum_of_squares(lstm.bias_ih_l0, lstm.bias_hh_l0), 1e-6, 0)
    norm = nn.BatchNorm1d(3, gamma_regularizer=L2(2.0), beta_regularizer=L1(1.0))
    nn.init.constant_(norm.bias, -0.5)
    assert penalty(norm).item() == 2.0 * 3 + 1.5
    table = nn.Embedding(5, 2, embeddings_regularizer=L2(1.0))
    assert_near(penalty(table).item(), sum_of_squares(table.weight), 1e-6, 0)
    attention = nn.MultiheadAttention(4, 2, kernel_regularizer=L2(1.0))
    assert_near(penalty(attention).item(), sum_of_squares(attention.in_proj_weight, attention.out_proj.weight), 1e-6, 0)


@pytest.mark.parametrize(
    "layer",
    [
        lambda **k: nn.Linear(3, 2, **k), lambda **k: nn.Conv2d(3, 2, 3, **k), lambda **k: nn.ConvTranspose1d(3, 2,
         3, **k),
        lambda **k: nn.GRUCell(3, 2, **k), lambda **k: nn.Bilinear(3, 3, 2, **k), lambda **k: nn.LazyLinear(2, **k),
        lambda **k: nn.TransformerEncoderLayer(4, 2, 8, **k),
    ],
)  # fmt: skip
def test_every_layer_with_weights_takes_them(layer: Any) -> None:
    made = layer(kernel_regularizer=L2(0.5), bias_regularizer=None, kernel_constraint=NonNeg())
    if isinstance(made, nn.LazyLinear):
        made(pydl.ones((1, 3)))
    kernels = [
        p for n, p in made.named_parameters() if p.ndim > 1 and "bias" not in n and not n.startswith("weight_hh")
    ]
    assert_near(penalty(made).item(), 0.5 * sum_of_squares(*kernels), 1e-5, 0)
    apply(made)
    assert all(p.min().item() >= 0 for p in kernels)


def test_gradient_of_an_argument_is_that_of_the_closed_form() -> None:
    layer = nn.Linear(3, 2, kernel_regularizer=L2(0.25), dtype=pydl.float64)
    penalty(nn.Sequential(layer, nn.ReLU())).backward()
    assert_near(layer.weight.grad.numpy(), 0.5 * layer.weight.detach().numpy(), 1e-15, 0)
    assert layer.bias.grad is None


def test_activity_also_of_layers_without_parameters() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(activity_regularizer=L1(0.5)), nn.ReLU(activity_regularizer=L1(1.0)))
    x = pydl.asarray([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]])
    y = model(x).detach().numpy().astype(np.float64)
    hidden = np.tanh(model[0](x).detach().numpy().astype(np.float64))
    assert_near(penalty(model).item(), (0.5 * np.abs(hidden).sum() + y.sum()) / 3, 1e-5, 0)


def test_copies_keep_them_and_signatures_stay() -> None:
    layer = nn.Linear(3, 2, kernel_regularizer=L2(0.5), kernel_constraint=MaxNorm(0.1))
    twin = copy.deepcopy(layer)
    nn.init.ones_(twin.weight)
    assert penalty(twin).item() == 3.0
    apply(twin)
    assert_near(twin.weight.detach().numpy(), np.full((2, 3), 0.1 / 3**0.5), 1e-5, 0)
    names = ["in_features", "out_features", "bias", "device", "dtype", "attached"]
    assert list(inspect.signature(nn.Linear).parameters) == names


def test_a_class_of_ones_own_is_left_alone() -> None:
    class Own(nn.Module):
        def __init__(self, kernel_regularizer: Any) -> None:
            super().__init__()
            self.mine = kernel_regularizer

    class Wider(nn.Linear):
        def __init__(self, **options: Any) -> None:
            super().__init__(3, 2, **options)

    assert Own("any").mine == "any"
    wider = Wider(kernel_regularizer=L2(1.0))
    assert_near(penalty(wider).item(), sum_of_squares(wider.weight), 1e-6, 0)


PARAMETERS = [pydl.ones((2,), requires_grad=True)]
LINEAR = r"Linear\(in_features, out_features, bias=True, device=None, dtype=None\)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Linear(3, 2, biases=False), TypeError,
         rf"^\[Linear\] got the unknown argument 'biases', expected {LINEAR}; did you mean 'bias'\?$"),
        (lambda: nn.Linear(3, units=2), TypeError, "did you mean 'out_features'"),
        (lambda: nn.Linear(3), TypeError, rf"^\[Linear\] needs out_features, got 1 arguments; expected {LINEAR}"),
        (lambda: nn.Linear(3, 2, True, None, None, 7), TypeError,
         r"^\[Linear\] got 6 arguments by place, .* at most 5"),
        (lambda: nn.Linear(3, 2, in_features=3), TypeError, r"^\[Linear\] got 'in_features' twice"),
        (lambda: nn.LSTM(3, 2, hidden=3), TypeError,
         r"^\[LSTM\] .*'hidden', expected LSTM\(input_size, hid.*mean 'hidd"),
        (lambda: nn.Dropout(rate=0.3), TypeError, r"^\[Dropout\] .*did you mean 'p'"),
        (lambda: nn.Tanh(3), TypeError, r"^\[Tanh\] got 1 arguments by place, expected at most 0"),
        (lambda: optim.Adam(PARAMETERS, learning_rate=1.0), TypeError, r"^\[Adam\] .*did you mean 'lr'\?"),
        (lambda: optim.SGD(PARAMETERS, nestrov=True), TypeError, r"^\[SGD\] .*did you mean 'nesterov'\?"),
        (lambda: nn.ReLU(kernel_regularizer=L2(1.0)), ValueError, r"^\[ReLU\] got kernel_regularizer, .*: none$"),
        (lambda: nn.Linear(3, 2, recurrent_regularizer=L2(1.0)), ValueError, "its parameters: weight, bias"),
        (lambda: nn.Linear(3, 2, kernel_regularizer="l2"), TypeError,
         r"kernel_regularizer='l2', expected a Regularizer"),
        (lambda: nn.Linear(3, 2, kernel_constraint=3.0), TypeError, r"kernel_constraint=3.0, expected a Constraint"),
    ],
)  # fmt: skip
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_type_error_from_inside_stays_what_it_is() -> None:
    with pytest.raises(TypeError, match=r"^\[LSTM\] got hidden_size 3\.5, expected a whole number$"):
        nn.LSTM(3, 3.5)  # type: ignore[arg-type]
