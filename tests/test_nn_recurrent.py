"""The recurrent modules: names, layout and starting values, and every form of their arguments. The arithmetic of the
kernels has its tests in test_recurrent.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from recurrent_oracle import GATES, cell, network
from tolerances import TORCH_ATOL, TORCH_RTOL, assert_near

LAYERS: dict[str, Any] = {
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}
CELLS: dict[str, Any] = {
    "rnn_tanh": nn.RNNCell,
    "rnn_relu": lambda *a, **k: nn.RNNCell(*a, nonlinearity="relu", **k),
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
}
BY_MODE = pytest.mark.parametrize("mode", GATES)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"batch_first": True, "bias": False, "num_layers": 2},
]


def double(array: Any) -> Any:
    return pydl.asarray(np.ascontiguousarray(array, np.float64))


def numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy()


def split_state(state: Any) -> tuple[np.ndarray, np.ndarray | None]:
    return (numpy(state[0]), numpy(state[1])) if isinstance(state, tuple) else (numpy(state), None)


@BY_MODE
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("given_state", [True, False])
@pytest.mark.parametrize("lengths", [None, [2, 4, 1]])
def test_layer_against_the_step_by_step_oracle(
    mode: str, options: dict[str, Any], given_state: bool, lengths: Any, rng: np.random.Generator
) -> None:
    layer = LAYERS[mode](4, 5, dtype=pydl.float64, **options)
    layers, directions = options.get("num_layers", 1), 2 if options.get("bidirectional") else 1
    x = rng.normal(size=(4, 3, 4))
    h0, c0 = rng.normal(size=(2, layers * directions, 3, 5))
    weights = [numpy(p) for p in layer.parameters()]
    expected = network(
        mode, x, h0 if given_state else None, c0 if given_state else None, weights, layers, directions == 2,
        None if lengths is None else np.asarray(lengths),
    )  # fmt: skip
    state = None
    if given_state:
        state = (double(h0), double(c0)) if mode == "lstm" else double(h0)
    first = options.get("batch_first", False)
    y, last = layer(double(x.swapaxes(0, 1) if first else x), state, lengths=lengths)
    h, c = split_state(last)
    assert_near(numpy(y).swapaxes(0, 1) if first else numpy(y), expected[0], 1e-12, 1e-13)
    assert_near(h, expected[1], 1e-12, 1e-13)
    if mode == "lstm":
        assert_near(c, expected[2], 1e-12, 1e-13)
    else:
        assert not isinstance(last, tuple)


@BY_MODE
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_layer_agrees_with_pytorch_with_copied_weights(
    mode: str, options: dict[str, Any], rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    kind = {"lstm": "LSTM", "gru": "GRU"}.get(mode, "RNN")
    extra = {"nonlinearity": "relu"} if mode == "rnn_relu" else {}
    theirs = getattr(torch.nn, kind)(4, 5, dtype=torch.float64, **options, **extra)
    ours = LAYERS[mode](4, 5, dtype=pydl.float64, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: t.numpy() for name, t in theirs.state_dict().items()})
    if not extra:
        assert repr(ours) == repr(theirs)
    x = rng.normal(size=(6, 3, 4))
    a, b = double(x).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()
    (y, s), (z, t) = ours(a), theirs(b)
    upstream = rng.normal(size=y.shape)
    assert_near(numpy(y), z.detach().numpy(), TORCH_RTOL, TORCH_ATOL)
    loss = (y * double(upstream)).sum()
    other = (z * torch.from_numpy(upstream)).sum()
    for k, (p, q) in enumerate(zip(s if mode == "lstm" else (s,), t if mode == "lstm" else (t,), strict=True)):
        assert_near(numpy(p), q.detach().numpy(), TORCH_RTOL, TORCH_ATOL)
        loss = loss + (p * p).sum() * (k + 0.5)
        other = other + (q * q).sum() * (k + 0.5)
    loss.backward()
    other.backward()
    assert_near(a.grad.numpy(), b.grad.numpy(), TORCH_RTOL, TORCH_ATOL)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert_near(p.grad.numpy(), q.grad.numpy(), TORCH_RTOL, TORCH_ATOL * 10, name)


@BY_MODE
@pytest.mark.parametrize("batch_first", [True, False])
def test_one_sequence_without_batch_axis(mode: str, batch_first: bool, rng: np.random.Generator) -> None:
    layer = LAYERS[mode](4, 5, num_layers=2, bidirectional=True, batch_first=batch_first, dtype=pydl.float64)
    x, h0 = double(rng.normal(size=(6, 4))), double(rng.normal(size=(4, 5)))
    axis = 0 if batch_first else 1
    single = (h0, h0 * 2) if mode == "lstm" else h0
    batched = tuple(pydl.expand_dims(s, axis=1) for s in single) if mode == "lstm" else pydl.expand_dims(h0, axis=1)
    y, last = layer(x, single, lengths=[5])
    z, other = layer(pydl.expand_dims(x, axis=axis), batched, lengths=[5])
    assert_near(numpy(y), numpy(z).squeeze(axis), 0, 0)
    for p, q in zip(split_state(last), split_state(other), strict=True):
        if p is not None:
            assert_near(p, q.squeeze(1), 0, 0)


def test_a_learned_first_state_gets_a_gradient(rng: np.random.Generator) -> None:
    layer = nn.GRU(2, 3, dtype=pydl.float64)
    h0 = nn.Parameter(double(np.zeros((1, 1, 3))))
    y, _ = layer(double(rng.normal(size=(3, 4, 2))), pydl.broadcast_to(h0, (1, 4, 3)))
    y.sum().backward()
    assert h0.grad.shape == (1, 1, 3)
    assert np.all(h0.grad.numpy() != 0)


@BY_MODE
def test_starting_values_and_shapes(mode: str) -> None:
    layer = LAYERS[mode](40, 100, num_layers=2, bidirectional=True)
    rows = GATES[mode] * 100
    assert {name: tuple(p.shape) for name, p in layer.named_parameters() if "l1_reverse" in name} == {
        "weight_ih_l1_reverse": (rows, 200), "weight_hh_l1_reverse": (rows, 100),
        "bias_ih_l1_reverse": (rows,), "bias_hh_l1_reverse": (rows,),
    }  # fmt: skip
    assert [len(group) for group in layer.all_weights] == [4] * 4
    assert layer.all_weights[1][0] is layer.weight_ih_l0_reverse
    for name, parameter in layer.named_parameters():
        values = numpy(parameter)
        assert np.abs(values).max() <= 0.1, name
        assert abs(values.var() * 300 - 1) < 6 / np.sqrt(values.size), name


def test_dropout_works_only_while_training() -> None:
    layer = nn.LSTM(3, 4, num_layers=2, dropout=0.5)
    x = pydl.ones((5, 2, 3))
    assert not np.array_equal(numpy(layer(x)[0]), numpy(layer(x)[0]))
    layer.eval()
    assert np.array_equal(numpy(layer(x)[0]), numpy(layer(x)[0]))
    layer.train()
    pydl.manual_seed(5)
    first = numpy(layer(x)[0])
    pydl.manual_seed(5)
    assert np.array_equal(first, numpy(layer(x)[0]))


def test_lengths_may_be_a_tensor_of_any_integer_type() -> None:
    layer = nn.RNN(2, 3)
    x = pydl.ones((4, 2, 2))
    results = [
        numpy(layer(x, lengths=n)[0]) for n in ([4, 1], np.asarray([4, 1]), pydl.asarray([4, 1], dtype=pydl.int32))
    ]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    assert not results[0][1:, 1].any()


ONE, X = pydl.ones, (2, 3, 4)
WRONG: list[tuple[Any, str, Any]] = [
    (lambda: nn.LSTM(4, 5)(ONE((2, 3, 6))), r"\[LSTM\] got input of shape \(2, 3, 6\).*\(T, B, D\).*= 4", ValueError),
    (lambda: nn.GRU(4, 5, batch_first=True)(ONE((2, 3, 6))), r"\[GRU\] got input.*\(B, T, D\)", ValueError),
    (lambda: nn.GRU(4, 5)(ONE((4,))), r"\[GRU\] got input of shape \(4,\)", ValueError),
    (lambda: nn.GRU(4, 5)(ONE(X), ONE((1, 2, 5))), r"h_0 of shape \(1, 2, 5\), expected \(1, 3, 5\)", ValueError),
    (lambda: nn.GRU(4, 5)(ONE((2, 4)), ONE((1, 1, 5))), r"h_0 of shape \(1, 1, 5\), expected \(1, 5\)", ValueError),
    (
        lambda: nn.LSTM(4, 5)(ONE(X), (ONE((1, 3, 5)), ONE((1, 3, 4)))),
        r"\[LSTM\] got c_0 of shape \(1, 3, 4\)",
        ValueError,
    ),
    (lambda: nn.LSTM(4, 5)(ONE(X), ONE((1, 3, 5))), r"\[LSTM\].*expected the pair", TypeError),
    (lambda: nn.GRU(4, 5)(ONE(X), (ONE((1, 3, 5)),)), r"\[GRU\] h_0 is a tuple", TypeError),
    (lambda: nn.GRU(4, 5)(ONE(X), lengths=[1, 2]), r"\[GRU\] got lengths of shape \(2,\), expected \(3,\)", ValueError),
    (lambda: nn.RNN(4, 0), r"\[RNN\] got hidden_size 0", ValueError),
    (lambda: nn.RNN(4, 5.0), r"\[RNN\] got hidden_size 5.0, expected a whole number", TypeError),  # type: ignore[arg-type]
    (lambda: nn.RNN(4, 5, nonlinearity="elu"), r"\[RNN\] got nonlinearity 'elu'", ValueError),
    (lambda: nn.RNN(4, 5, dropout=1.5), r"\[RNN\] got dropout 1.5", ValueError),
    (lambda: nn.LSTM(4, 5, proj_size=5), r"\[LSTM\] got proj_size 5", ValueError),
    (lambda: nn.GRU(4, 5, init="glorot"), r"\[GRU\] got init", ValueError),
    (lambda: nn.RNN(4, 5, recurrent_dropout=2), r"\[RNN\] got recurrent_dropout 2", ValueError),
    (
        lambda: nn.LSTMCell(4, 5)(ONE((3, 6))),
        r"\[LSTMCell\] got input of shape \(3, 6\), expected \(B, 4\)",
        ValueError,
    ),
    (lambda: nn.GRUCell(4, 5)(ONE((3, 4)), ONE((2, 5))), r"state h of shape \(2, 5\), expected \(3, 5\)", ValueError),
    (lambda: nn.RNNCell(0, 5), r"\[RNNCell\] got input_size 0, expected 1 or more", ValueError),
]


@pytest.mark.parametrize(("call", "message", "error"), WRONG, ids=[message[:40] for _, message, _ in WRONG])
def test_errors_name_the_layer_and_both_shapes(call: Any, message: str, error: Any) -> None:
    with pytest.raises(error, match=message):
        call()


@BY_MODE
@pytest.mark.parametrize("bias", [True, False])
def test_cell_module(mode: str, bias: bool, rng: np.random.Generator) -> None:
    layer = CELLS[mode](4, 5, bias=bias, dtype=pydl.float64)
    x, h, c = rng.normal(size=(3, 4)), rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    weights = [numpy(p) for p in layer.parameters()]
    assert [name for name, _ in layer.named_parameters()] == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"][
        : len(weights)
    ]
    for given in (True, False):
        state = None
        if given:
            state = (double(h), double(c)) if mode == "lstm" else double(h)
        zero = np.zeros((3, 5))
        expected = cell(mode, x, h if given else zero, c if given else zero, weights)
        got = split_state(layer(double(x), state))
        single = split_state(
            layer(double(x[1]), None if state is None else tuple(s[1] for s in state) if mode == "lstm" else state[1])
        )
        for g, s, e in zip(got, single, expected, strict=True):
            if e is not None:
                assert_near(g, e, 1e-13, 1e-14)
                assert_near(s, e[1], 1e-13, 1e-14)


@BY_MODE
def test_unrolled_cells_are_the_layer_and_their_gradients_add_up(mode: str, rng: np.random.Generator) -> None:
    """One weight set shared by all steps: the whole-sequence gradient is that of the unrolled graph."""
    layer, step = LAYERS[mode](4, 5, dtype=pydl.float64), CELLS[mode](4, 5, dtype=pydl.float64)
    step.load_state_dict({name.removesuffix("_l0"): t for name, t in layer.state_dict().items()})
    x, upstream = double(rng.normal(size=(6, 3, 4))), rng.normal(size=(6, 3, 5))
    (layer(x)[0] * double(upstream)).sum().backward()
    state, loss = None, 0.0
    for t in range(6):
        state = step(x[t], state)
        loss = loss + ((state[0] if mode == "lstm" else state) * double(upstream[t])).sum()
    loss.backward()
    for (name, p), q in zip(layer.named_parameters(), step.parameters(), strict=True):
        assert_near(p.grad.numpy(), q.grad.numpy(), 1e-12, 1e-13, name)
