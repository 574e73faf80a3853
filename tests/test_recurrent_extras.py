"""What recurrent layers have beyond PyTorch's kernels: projections, masks of a whole sequence, normalization in the
cell, trained first states, Keras's starting values; and the step-by-step path that computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from recurrent_oracle import GATES, sigmoid
from test_nn_recurrent import LAYERS, double, numpy
from tolerances import assert_near
from torch_oracle import Case, case_id, compare, real

BY_MODE = pytest.mark.parametrize("mode", GATES)


@BY_MODE
@pytest.mark.parametrize(
    "options", [{}, {"bias": False, "num_layers": 2}, {"bidirectional": True, "batch_first": True}]
)
@pytest.mark.parametrize("lengths", [None, [4, 0, 2]])
def test_step_by_step_is_the_fused_kernel(
    mode: str, options: dict[str, Any], lengths: Any, rng: np.random.Generator
) -> None:
    layer = LAYERS[mode](3, 5, dtype=pydl.float64, **options)
    grid = layer.num_layers * (2 if layer.bidirectional else 1)
    x = double(rng.normal(size=(3, 4, 3) if layer.batch_first else (4, 3, 3))).requires_grad_()
    h, c = (double(rng.normal(size=(grid, 3, 5))).requires_grad_() for _ in range(2))
    state = (h, c) if mode == "lstm" else h
    lengths = None if lengths is None else pydl.asarray(lengths)
    results = []
    for call in (
        lambda: layer(x, state, lengths=lengths),
        lambda: layer._step_by_step(x, h, c if mode == "lstm" else None, lengths),
    ):
        y, *last = call()
        last = list(last[0]) if mode == "lstm" and isinstance(last[0], tuple) else [t for t in last if t is not None]
        leaves = [x, h, *layer.parameters()]
        weights = double(np.random.default_rng(1).normal(size=y.shape))
        gradients = pydl.autograd.grad((y * weights).sum() + last[0].sum(), leaves)
        results.append([y, *last, *gradients])
    for got, wanted in zip(*results, strict=True):
        assert_near(numpy(got), numpy(wanted), 1e-11, 1e-12)


PROJECTIONS = [
    Case("nn.LSTM", (real(*shape),), arguments=(4, 6), options={"proj_size": 2, **options})
    for shape, options in [
        ((5, 3, 4), {}),
        ((5, 4), {"bias": False}),
        ((3, 5, 4), {"batch_first": True, "bidirectional": True, "num_layers": 2}),
    ]
]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("case", PROJECTIONS, ids=case_id)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_projections_are_pytorchs(case: Case, dtype: str, rng: np.random.Generator) -> None:
    compare(case, dtype, rng)


def test_projection_with_given_states_and_its_errors(rng: np.random.Generator) -> None:
    states = (real(2, 3, 2), real(2, 3, 6))
    options = {"proj_size": 2, "bidirectional": True}
    compare(Case("nn.LSTM", (real(5, 3, 4), states), arguments=(4, 6), options=options), "float64", rng)
    layer = nn.LSTM(4, 6, proj_size=2)
    with pytest.raises(ValueError, match=r"\[LSTM\] got h_0 of shape .* expected \(1, 3, 2\).*proj_size"):
        layer(pydl.zeros((5, 3, 4)), (pydl.zeros((1, 3, 6)), pydl.zeros((1, 3, 6))))
    with pytest.raises(ValueError, match=r"\[GRU\] got proj_size 2"):
        nn.RNNBase.__init__(nn.GRU(4, 6), "gru", 4, 6, proj_size=2)


def relu_chain(**options: Any) -> nn.RNN:
    """h' = relu(W_ih x + h), so that what a mask has dropped can be read off."""
    layer = nn.RNN(8, 8, nonlinearity="relu", bias=False, **options)
    nn.init.eye_(layer.weight_hh_l0)
    nn.init.zeros_(layer.weight_ih_l0)
    return layer


def test_recurrent_dropout_has_one_mask_a_sequence() -> None:
    layer = relu_chain(recurrent_dropout=0.5)
    y, _ = layer(pydl.zeros((5, 40, 8)), pydl.ones((1, 40, 8)))
    kept = y[0] > 0
    for t in range(5):  # kept units are doubled at every step, dropped ones never come back
        assert np.array_equal(numpy(y[t]), numpy(kept) * 2.0 ** (t + 1))
    assert 0.4 < float(kept.float().mean().item()) < 0.6
    assert len({tuple(row) for row in numpy(kept)}) > 30  # each sequence its own
    assert np.array_equal(numpy(layer.eval()(pydl.zeros((5, 40, 8)), pydl.ones((1, 40, 8)))[0]), np.ones((5, 40, 8)))


def test_variational_dropout_has_one_mask_a_sequence_for_the_first_input_too() -> None:
    layer = relu_chain(variational=True, dropout=0.5)
    nn.init.eye_(layer.weight_ih_l0)
    nn.init.zeros_(layer.weight_hh_l0)
    y = numpy(layer(pydl.ones((6, 40, 8)))[0])
    assert set(np.unique(y)) == {0.0, 2.0}
    assert np.array_equal(y, np.broadcast_to(y[:1], y.shape))
    assert 0.4 < (y == 0).mean() < 0.6
    plain = relu_chain(dropout=0.5)
    nn.init.eye_(plain.weight_ih_l0)
    nn.init.zeros_(plain.weight_hh_l0)
    assert np.array_equal(numpy(plain(pydl.ones((6, 40, 8)))[0]), np.ones((6, 40, 8)))  # only between layers


def test_masks_repeat_with_the_seed() -> None:
    layer = nn.GRU(3, 4, num_layers=2, dropout=0.3, recurrent_dropout=0.3, variational=True)
    x, results = pydl.ones((5, 2, 3)), []
    for _ in range(2):
        pydl.manual_seed(4)
        results.append(numpy(layer(x)[0]))
    assert np.array_equal(*results)


def normalized(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def test_layer_normalization_in_the_cell(rng: np.random.Generator) -> None:
    layer = nn.LSTM(3, 4, layer_norm=True, dtype=pydl.float64)
    for p in layer.parameters():
        p.data = double(rng.normal(size=p.shape))
    w = {name.removesuffix("_l0"): numpy(p) for name, p in layer.named_parameters()}
    x = rng.normal(size=(5, 2, 3))
    h, c = np.zeros((2, 4)), np.zeros((2, 4))
    expected = []
    for step in x:
        gates = normalized(step @ w["weight_ih"].T) * w["norm_ih"] + w["bias_ih"]
        gates = gates + normalized(h @ w["weight_hh"].T) * w["norm_hh"] + w["bias_hh"]
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(normalized(c) * w["norm_c"][0] + w["norm_c"][1])
        expected.append(h)
    y, (last, cells) = layer(double(x))
    assert_near(numpy(y), np.array(expected), 1e-11, 1e-12)
    assert_near(numpy(last[0]), h, 1e-11, 1e-12)
    assert_near(numpy(cells[0]), c, 1e-11, 1e-12)


@BY_MODE
def test_gradients_with_everything_on(mode: str, rng: np.random.Generator) -> None:
    extras: dict[str, Any] = {"layer_norm": True, "learn_initial_state": True, "bidirectional": True}
    if mode == "lstm":
        extras["proj_size"] = 2
    layer = LAYERS[mode](2, 3, dtype=pydl.float64, **extras)
    for p in layer.parameters():
        p.data = double(rng.normal(size=p.shape) * 0.7)
    x = double(rng.normal(size=(3, 2, 2))).requires_grad_()
    lengths = pydl.asarray([3, 1])
    assert pydl.autograd.gradcheck(lambda *_: layer(x, lengths=lengths)[0], (x, *layer.parameters()))


@BY_MODE
def test_learned_first_states_start_as_zeros_and_train(mode: str, rng: np.random.Generator) -> None:
    layer = LAYERS[mode](3, 4, num_layers=2, learn_initial_state=True, dtype=pydl.float64)
    x = double(rng.normal(size=(3, 5, 3)))
    plain = LAYERS[mode](3, 4, num_layers=2, dtype=pydl.float64)
    plain.load_state_dict({k: v for k, v in layer.state_dict().items() if not k.startswith("initial")})
    assert np.array_equal(numpy(layer(x)[0]), numpy(plain(x)[0]))
    rows = [p for name, p in layer.named_parameters() if name.startswith("initial")]
    for p in rows:
        p.data = double(rng.normal(size=p.shape))
    states = [pydl.broadcast_to(pydl.expand_dims(p, axis=1), (2, 5, 4)) for p in rows]
    given = plain(x, tuple(states) if mode == "lstm" else states[0])[0]
    assert_near(numpy(layer(x)[0]), numpy(given), 1e-13, 1e-13)
    layer(x)[0].sum().backward()
    assert all(np.abs(p.grad.numpy()).max() > 0 for p in rows)


@BY_MODE
def test_keras_starting_values(mode: str) -> None:
    layer = LAYERS[mode](60, 50, init="keras", bidirectional=True)
    gates = GATES[mode]
    for suffix in ("_l0", "_l0_reverse"):
        get = layer.get_parameter
        w_ih, w_hh = numpy(get("weight_ih" + suffix)), numpy(get("weight_hh" + suffix))
        bound = np.sqrt(6 / (60 + gates * 50))
        assert 0.98 * bound < np.abs(w_ih).max() <= bound * (1 + 1e-6)
        assert abs(w_ih.var() / (bound**2 / 3) - 1) < 0.1
        assert_near(w_hh.T @ w_hh, np.eye(50), 0, 1e-5)
        forget = np.zeros(gates * 50)
        if mode == "lstm":
            forget[50:100] = 1
        assert np.array_equal(numpy(get("bias_ih" + suffix)), forget)
        assert not numpy(get("bias_hh" + suffix)).any()
    cell = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}.get(mode, nn.RNNCell)(6, 5, init="keras")
    assert_near(numpy(cell.weight_hh).T @ numpy(cell.weight_hh), np.eye(5), 0, 1e-5)
    assert numpy(cell.bias_ih).sum() == (5 if mode == "lstm" else 0)


def test_extras_show_in_the_representation() -> None:
    layer = nn.LSTM(3, 4, proj_size=2, recurrent_dropout=0.2, init="keras")
    assert repr(layer) == "LSTM(3, 4, proj_size=2, recurrent_dropout=0.2, init=keras)"


def test_step_by_step_refuses_other_dtypes_and_bad_lengths() -> None:
    layer = nn.GRU(3, 4, layer_norm=True)
    with pytest.raises(TypeError, match=r"\[GRU\] got input of .*float64, expected .*float32"):
        layer(pydl.zeros((5, 2, 3), dtype=pydl.float64))
    with pytest.raises(ValueError, match=r"\[GRU\] got lengths \[6, 1\], expected 0 to 5"):
        layer(pydl.zeros((5, 2, 3)), lengths=[6, 1])
    assert layer(pydl.zeros((0, 2, 3)))[0].shape == (0, 2, 4)


@BY_MODE
@pytest.mark.parametrize(
    "options", [{}, {"layer_norm": True}, {"learn_initial_state": True}, {"variational": True, "dropout": 0.3}], ids=str
)
def test_ragged_rows_in_both_directions_are_those_of_one_by_one(
    mode: str, options: dict[str, Any], rng: np.random.Generator
) -> None:
    """Two layers, a row of no step among them: what is behind a row's end is never read, and its outputs are 0."""
    layer = LAYERS[mode](3, 4, 2, bidirectional=True, batch_first=True, **options).eval()
    with pydl.no_grad():
        for parameter in layer.parameters():
            parameter.add_(pydl.asarray(rng.normal(size=parameter.shape).astype(np.float32) * 0.3))
    lengths = [4, 0, 1, 6, 3]
    x = rng.normal(size=(5, 6, 3)).astype(np.float32)
    for row, length in enumerate(lengths):
        x[row, length:] = np.nan

    def run(x: Any, lengths: Any = None) -> list[Any]:
        y, state = layer(pydl.asarray(x), lengths=lengths)
        return [part.detach().numpy() for part in (y, *(state if isinstance(state, tuple) else (state,)))]

    y, *states = run(x, pydl.asarray(lengths))
    for row, length in enumerate(lengths):
        assert (y[row, length:] == 0).all()
        if length == 0:  # where it began
            for state in states:
                assert (np.abs(state[:, row]).max() > 0) == ("learn_initial_state" in options)
            continue
        alone, *ends = run(x[row : row + 1, :length])
        np.testing.assert_allclose(y[row, :length], alone[0], atol=1e-5)
        for state, end in zip(states, ends, strict=True):
            np.testing.assert_allclose(state[:, row], end[:, 0], atol=1e-5)
