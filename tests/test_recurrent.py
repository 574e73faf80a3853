"""Whole-sequence RNN, LSTM and GRU: values against the naive oracle, gradients by finite differences, and PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import pydl
from recurrent_oracle import MODES, cell, network, random_weights
from tolerances import EPS, RECURRENT_ULP, TORCH_ATOL, assert_near, assert_same_bits

STEP = np.longdouble(1e-6)


@dataclass(frozen=True)
class Setup:
    steps: int = 5
    batch: int = 3
    inputs: int = 4
    hidden: int = 5
    layers: int = 1
    bidirectional: bool = False
    biases: bool = True
    initial: bool = True
    lengths: tuple[int, ...] | None = None
    batch_first: bool = False

    def __str__(self) -> str:
        default = Setup()
        changed = {k: v for k, v in self.__dict__.items() if v != getattr(default, k)}
        return ",".join(f"{k}={v}" for k, v in changed.items()).replace(" ", "") or "plain"


SETUPS = [
    Setup(),
    Setup(steps=1),
    Setup(batch=1),
    Setup(steps=1, batch=1, inputs=1, hidden=1),
    Setup(initial=False),
    Setup(biases=False),
    Setup(batch_first=True),
    Setup(layers=3, steps=4),
    Setup(bidirectional=True),
    Setup(layers=2, bidirectional=True, steps=4, hidden=3),
    Setup(lengths=(2, 5, 1)),
    Setup(lengths=(0, 5, 3)),
    Setup(lengths=(0, 0, 0)),
    Setup(lengths=(4, 4, 2)),  # nobody reaches the last step
    Setup(layers=2, bidirectional=True, lengths=(1, 0, 4), steps=4, hidden=3, batch_first=True),
    Setup(layers=2, bidirectional=True, biases=False, initial=False, lengths=(3, 5, 1), inputs=3, hidden=4),
    Setup(hidden=17, inputs=9, batch=2, steps=3),
]
ODD = [
    Setup(steps=7, batch=33, inputs=31, hidden=65),
    Setup(steps=3, batch=1, inputs=65, hidden=127),
    Setup(steps=50, batch=5, inputs=3, hidden=8),
    Setup(steps=6, batch=50, inputs=64, hidden=128, layers=2),
    Setup(steps=5, batch=9, inputs=1, hidden=33, layers=2, bidirectional=True, lengths=(5, 0, 1, 3, 3, 2, 5, 4, 1)),
    Setup(
        steps=11,
        batch=64,
        inputs=16,
        hidden=100,
        lengths=tuple(int(k) for k in np.random.default_rng(3).integers(0, 12, 64)),
    ),
    Setup(steps=4, batch=17, inputs=15, hidden=31, bidirectional=True, batch_first=True),
]
BY_MODE = pytest.mark.parametrize("mode", MODES)
BY_SETUP = pytest.mark.parametrize("setup", SETUPS, ids=str)


def random_operands(
    setup: Setup, mode: str, rng: np.random.Generator, dtype: str = "float64"
) -> list[np.ndarray | None]:
    """x (T, B, D), h0, c0, then the weights."""
    directions = 2 if setup.bidirectional else 1
    state = (setup.layers * directions, setup.batch, setup.hidden)
    h0 = rng.normal(size=state) if setup.initial else None
    c0 = rng.normal(size=state) if setup.initial and mode == "lstm" else None
    weights = random_weights(rng, mode, setup.inputs, setup.hidden, setup.layers, directions, setup.biases)
    operands = [rng.normal(size=(setup.steps, setup.batch, setup.inputs)), h0, c0, *weights]
    return [None if a is None else a.astype(dtype) for a in operands]


def run_oracle(setup: Setup, mode: str, operands: list[Any]) -> list[np.ndarray]:
    lengths = None if setup.lengths is None else np.array(setup.lengths)
    x, h0, c0, *weights = operands
    outputs = network(mode, x, h0, c0, weights, setup.layers, setup.bidirectional, lengths)
    return [o for o in outputs if o is not None]


def run_pydl(setup: Setup, mode: str, operands: list[Any], **more: Any) -> list[pydl.Tensor]:
    """Operands are tensors in time-major order; outputs as well."""
    x, h0, c0, *weights = operands
    lengths = None if setup.lengths is None else pydl.asarray(np.array(setup.lengths))
    if setup.batch_first:
        x = pydl.permute_dims(x, (1, 0, 2))
    options = {"dropout": 0.0, "training": True, "generator": None, **more}
    y, h_n, c_n = pydl._C.recurrent(
        mode, x, h0, c0, weights, setup.layers, setup.bidirectional, setup.batch_first,
        options["dropout"], options["training"], lengths, options["generator"],
    )  # fmt: skip
    if setup.batch_first:
        y = pydl.permute_dims(y, (1, 0, 2))
    assert (c_n is None) == (mode != "lstm")
    return [o for o in (y, h_n, c_n) if o is not None]


def to_tensors(operands: list[np.ndarray | None], gradients: bool = False) -> list[Any]:
    tensors = [None if a is None else pydl.asarray(a.copy()) for a in operands]
    return [t.requires_grad_() if gradients and t is not None else t for t in tensors]


@BY_MODE
@BY_SETUP
def test_value(mode: str, setup: Setup, rng: np.random.Generator) -> None:
    for dtype in ("float64", "float32"):
        operands = random_operands(setup, mode, rng, dtype)
        got = run_pydl(setup, mode, to_tensors(operands))
        wanted = run_oracle(setup, mode, [None if a is None else a.astype(np.longdouble) for a in operands])
        for g, w in zip(got, wanted, strict=True):
            assert g.numpy().dtype == dtype
            assert_near(
                g.numpy(), w, 0, RECURRENT_ULP * EPS[dtype] * max(1.0, float(np.max(np.abs(w)))), f"{mode} {setup}"
            )


@BY_MODE
@pytest.mark.parametrize("setup", ODD, ids=lambda s: str(s)[:40])
def test_value_and_gradients_at_odd_sizes(mode: str, setup: Setup, rng: np.random.Generator) -> None:
    """float32 against the oracle's float64 values and pydl's own float64 gradients, which finite differences prove."""
    operands = random_operands(setup, mode, rng, "float32")
    doubles = [None if a is None else a.astype(np.float64) for a in operands]
    wanted = run_oracle(setup, mode, doubles)
    results = {}
    for dtype, inputs in (("float32", operands), ("float64", doubles)):
        tensors = to_tensors(inputs, gradients=True)
        outputs = run_pydl(setup, mode, tensors)
        for got, exact in zip(outputs, wanted, strict=True):
            tolerance = 10 * RECURRENT_ULP * EPS[dtype] * max(1.0, float(np.max(np.abs(exact))))
            assert_near(got.detach().numpy(), exact, 0, tolerance, f"{mode} {setup} {dtype}")
        weights_of_outputs = np.random.default_rng(5)
        loss: Any = 0
        for output in outputs:
            loss = loss + (output * pydl.asarray(weights_of_outputs.uniform(-1, 2, output.shape).astype(dtype))).sum()
        loss.backward()
        results[dtype] = [None if t is None else t.grad.numpy() for t in tensors]
    for single, double in zip(results["float32"], results["float64"], strict=True):
        if double is not None and single is not None:
            assert_near(single, double, 1e-4, 1e-5 * float(np.max(np.abs(double))), f"gradient of {mode} {setup}")


@BY_MODE
@BY_SETUP
def test_gradients_against_finite_differences(mode: str, setup: Setup, rng: np.random.Generator) -> None:
    """Some elements of every operand, and one random direction through all of it. Upstream to y, h_n and c_n alike."""
    operands = random_operands(setup, mode, rng)
    tensors = to_tensors(operands, gradients=True)
    outputs = run_pydl(setup, mode, tensors)
    upstream = [rng.uniform(-1, 2, o.shape) for o in outputs]
    loss: Any = 0
    for output, u in zip(outputs, upstream, strict=True):
        loss = loss + (output * pydl.asarray(u)).sum()
    loss.backward()
    wide = [None if a is None else a.astype(np.longdouble) for a in operands]

    def moved(which: int, direction: np.ndarray) -> np.longdouble:
        losses = []
        for step in (STEP, -STEP):
            changed = list(wide)
            changed[which] = wide[which] + step * direction
            losses.append(sum(np.sum(u * o) for u, o in zip(upstream, run_oracle(setup, mode, changed), strict=True)))
        return (losses[0] - losses[1]) / (2 * STEP)

    for which, (a, tensor) in enumerate(zip(wide, tensors, strict=True)):
        if a is None:
            continue
        gradient = tensor.grad.numpy()
        assert gradient.shape == a.shape
        directions = [rng.normal(size=a.shape)]
        for flat in rng.permutation(a.size)[:6]:
            unit = np.zeros(a.size)
            unit[flat] = 1
            directions.append(unit.reshape(a.shape))
        for direction in directions:
            wanted = float(moved(which, direction))
            got = float(np.sum(gradient * direction))
            assert got == pytest.approx(wanted, rel=1e-8, abs=1e-9), f"{mode} {setup}: operand {which}"


@BY_MODE
@pytest.mark.parametrize("used", ["y", "h_n", "c_n"])
def test_gradient_of_one_output_alone(mode: str, used: str, rng: np.random.Generator) -> None:
    """An output that nothing was made from contributes nothing, whatever its memory holds."""
    if used == "c_n" and mode != "lstm":
        pytest.skip("no cell state")
    setup = Setup(layers=2, bidirectional=True, lengths=(4, 2, 5))
    operands = random_operands(setup, mode, rng)
    at = ("y", "h_n", "c_n").index(used)
    ones, sums = [], []
    for separately in (True, False):
        tensors = to_tensors(operands, gradients=True)
        outputs = run_pydl(setup, mode, tensors)
        u = np.random.default_rng(1).normal(size=outputs[at].shape)
        loss = (outputs[at] * pydl.asarray(u)).sum()
        if not separately:
            for other in outputs:
                loss = loss + (other * 0.0).sum()
        loss.backward()
        (ones if separately else sums).extend(t.grad.numpy() for t in tensors if t is not None)
    for a, b in zip(ones, sums, strict=True):
        assert_near(a, b, 1e-13, 1e-14)


@BY_MODE
@BY_SETUP
def test_against_torch(mode: str, setup: Setup, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    if setup.lengths is not None and min(setup.lengths) == 0:
        pytest.skip("PyTorch has no empty sequences")
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(mode, torch.nn.RNN)
    more = {"nonlinearity": mode[4:]} if mode.startswith("rnn") else {}
    module = kind(
        setup.inputs,
        setup.hidden,
        setup.layers,
        bias=setup.biases,
        bidirectional=setup.bidirectional,
        dtype=torch.float64,
        **more,
    )
    operands = random_operands(setup, mode, rng)
    x, h0, c0, *weights = (None if a is None else torch.tensor(a, requires_grad=True) for a in operands)
    theirs = dict(zip([name for name, _ in module.named_parameters()], weights, strict=True))
    state = None if h0 is None else (h0, c0) if mode == "lstm" else h0
    packed = (
        x
        if setup.lengths is None
        else torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(setup.lengths), enforce_sorted=False)
    )
    y, final = torch.func.functional_call(module, theirs, (packed, state))
    if setup.lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=setup.steps)
    wanted = [y, *(final if mode == "lstm" else (final,))]
    tensors = to_tensors(operands, gradients=True)
    got = run_pydl(setup, mode, tensors)
    ours: Any = 0
    total = torch.zeros((), dtype=torch.float64)
    for g, w in zip(got, wanted, strict=True):
        assert_near(g.detach().numpy(), w.detach().numpy(), 1e-11, TORCH_ATOL, f"{mode} {setup}")
        u = rng.uniform(-1, 2, tuple(w.shape))
        ours = ours + (g * pydl.asarray(u)).sum()
        total = total + (w * torch.tensor(u)).sum()
    ours.backward()
    total.backward()
    for at, (t, w) in enumerate(zip(tensors, [x, h0, c0, *weights], strict=True)):
        if w is not None:
            assert_near(t.grad.numpy(), w.grad.numpy(), 1e-10, 1e-11, f"{mode} {setup}: gradient of operand {at}")


@BY_MODE
def test_padding_is_never_read_and_outputs_past_the_end_are_zero(mode: str, rng: np.random.Generator) -> None:
    setup = Setup(layers=2, bidirectional=True, lengths=(2, 5, 0))
    operands = random_operands(setup, mode, rng)
    poisoned = [None if a is None else a.copy() for a in operands]
    for b, length in enumerate(setup.lengths or ()):
        poisoned[0][length:, b] = np.nan
    clean, dirty = to_tensors(operands, gradients=True), to_tensors(poisoned, gradients=True)
    for first, second in zip(run_pydl(setup, mode, clean), run_pydl(setup, mode, dirty), strict=True):
        assert_same_bits(second.detach().numpy(), first.detach().numpy(), mode)
    y = run_pydl(setup, mode, dirty)[0]
    for b, length in enumerate(setup.lengths or ()):
        assert not np.any(y.detach().numpy()[length:, b])
    upstream = rng.normal(size=y.shape)
    for b, length in enumerate(setup.lengths or ()):
        upstream[length:, b] = np.nan  # whatever comes back from padding is not the network's
    y.backward(pydl.asarray(upstream))
    for tensor in dirty:
        assert tensor is None or np.all(np.isfinite(tensor.grad.numpy()))
    for b, length in enumerate(setup.lengths or ()):
        assert not np.any(dirty[0].grad.numpy()[length:, b])


@BY_MODE
def test_each_row_of_a_ragged_batch_is_as_if_alone(mode: str, rng: np.random.Generator) -> None:
    setup = Setup(layers=2, bidirectional=True, batch=4, steps=6, lengths=(3, 6, 1, 4))
    x, h0, c0, *weights = random_operands(setup, mode, rng)
    together = run_pydl(setup, mode, to_tensors([x, h0, c0, *weights]))
    for b, length in enumerate(setup.lengths or ()):
        one = replace(setup, batch=1, lengths=None, steps=length)
        row = [x[:length, b : b + 1], *(None if s is None else s[:, b : b + 1] for s in (h0, c0)), *weights]
        alone = run_pydl(one, mode, to_tensors(row))
        assert_near(together[0].numpy()[:length, b : b + 1], alone[0].numpy(), 1e-13, 1e-14)
        for t, a in zip(together[1:], alone[1:], strict=True):
            assert_near(t.numpy()[:, b : b + 1], a.numpy(), 1e-13, 1e-14)


@BY_MODE
def test_state_carries_over_a_cut_sequence(mode: str, rng: np.random.Generator) -> None:
    """Two chunks with the state handed on are one sequence: what truncated backpropagation rests on."""
    setup = Setup(steps=9, layers=2)
    x, h0, c0, *weights = random_operands(setup, mode, rng)
    y, *final = run_pydl(setup, mode, to_tensors([x, h0, c0, *weights]))
    first, *state = run_pydl(replace(setup, steps=4), mode, to_tensors([x[:4], h0, c0, *weights]))
    carried = [s.numpy() for s in state] + [None] * (2 - len(state))
    second, *end = run_pydl(replace(setup, steps=5), mode, to_tensors([x[4:], *carried, *weights]))
    assert_near(np.concatenate([first.numpy(), second.numpy()]), y.numpy(), 1e-13, 1e-14)
    for a, b in zip(end, final, strict=True):
        assert_near(a.numpy(), b.numpy(), 1e-13, 1e-14)


@BY_MODE
@pytest.mark.parametrize("setup", [ODD[0], ODD[3], ODD[4], ODD[5]], ids=lambda s: str(s)[:40])
def test_same_bits_for_any_thread_count(mode: str, setup: Setup, rng: np.random.Generator, threads: None) -> None:
    operands = random_operands(setup, mode, rng, "float32")
    reference: list[np.ndarray] = []
    for count in (1, 2, 3, 4, 8):
        pydl.set_num_threads(count)
        tensors = to_tensors(operands, gradients=True)
        outputs = run_pydl(setup, mode, tensors)
        loss: Any = 0
        for k, output in enumerate(outputs):
            loss = loss + (output * output * (k + 1.5)).sum()
        loss.backward()
        bits = [o.detach().numpy() for o in outputs] + [t.grad.numpy() for t in tensors if t is not None]
        reference = reference or bits
        for g, w in zip(bits, reference, strict=True):
            assert_same_bits(g, w, f"{mode} {setup} with {count} threads")


@BY_MODE
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 50])
def test_cell(mode: str, biases: bool, batch: int, rng: np.random.Generator) -> None:
    """The single-step entry: value, and gradients of everything by finite differences in a random direction."""
    w = random_weights(rng, mode, 6, 9, 1, 1, biases)
    operands = [
        rng.normal(size=(batch, 6)),
        rng.normal(size=(batch, 9)),
        rng.normal(size=(batch, 9)) if mode == "lstm" else None,
        *w,
    ]
    tensors = to_tensors(operands, gradients=True)
    x, h, c, *weights = tensors
    h1, c1 = pydl._C.recurrent_cell(mode, x, h, c, *weights, *([] if biases else [None, None]))
    outputs = [h1] if c1 is None else [h1, c1]
    upstream = [rng.uniform(-1, 2, (batch, 9)) for _ in outputs]

    def loss_of(arrays: list[Any]) -> Any:
        made = cell(mode, arrays[0], arrays[1], arrays[2], arrays[3:])
        return sum(np.sum(u * o) for u, o in zip(upstream, made, strict=False))

    for got, wanted in zip(outputs, cell(mode, operands[0], operands[1], operands[2], w), strict=False):
        assert_near(got.detach().numpy(), wanted, 1e-13, 1e-14)
    loss: Any = 0
    for output, u in zip(outputs, upstream, strict=True):
        loss = loss + (output * pydl.asarray(u)).sum()
    loss.backward()
    wide = [None if a is None else a.astype(np.longdouble) for a in operands]
    for which, a in enumerate(wide):
        if a is None:
            continue
        direction = rng.normal(size=a.shape)
        sides = [loss_of([*wide[:which], a + s * direction, *wide[which + 1 :]]) for s in (STEP, -STEP)]
        wanted = float((sides[0] - sides[1]) / (2 * STEP))
        assert float(np.sum(tensors[which].grad.numpy() * direction)) == pytest.approx(wanted, rel=1e-8, abs=1e-9)


@BY_MODE
def test_cell_and_sequence_agree(mode: str, rng: np.random.Generator) -> None:
    setup = Setup(steps=6, inputs=13, hidden=21)
    x, h, c, *weights = to_tensors(random_operands(setup, mode, rng, "float32"))
    y = run_pydl(setup, mode, [x, h, c, *weights])[0].numpy()
    h, c = h[0], c[0] if c is not None else None
    for t in range(6):
        h, c = pydl._C.recurrent_cell(mode, x[t], h, c, *weights)
        assert_near(h.numpy(), y[t], 0, RECURRENT_ULP * EPS["float32"])


def identity_network(width: int) -> list[Any]:
    """Two ReLU layers that pass a positive input on: what is missing at the end was dropped between them."""
    eye, zero = np.eye(width), np.zeros((width, width))
    return [pydl.asarray(a.copy()) for a in (eye, zero, eye, zero)]


def test_dropout_between_layers_scales_and_only_there(rng: np.random.Generator) -> None:
    setup = Setup(steps=20, batch=10, inputs=50, hidden=50, layers=2, biases=False, initial=False)
    x = rng.uniform(1, 2, (20, 10, 50))
    tensor = pydl.asarray(x.copy()).requires_grad_()
    y = run_pydl(
        setup, "rnn_relu", [tensor, None, None, *identity_network(50)], dropout=0.3, generator=pydl.Generator(1)
    )[0]
    kept = y.detach().numpy() != 0
    np.testing.assert_allclose(y.detach().numpy()[kept], (x / 0.7)[kept], rtol=1e-12)
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.21 / x.size)
    upstream = rng.normal(size=y.shape)
    y.backward(pydl.asarray(upstream))
    np.testing.assert_allclose(tensor.grad.numpy(), np.where(kept, upstream / 0.7, 0), rtol=1e-12)
    quiet = run_pydl(
        setup, "rnn_relu", [pydl.asarray(x), None, None, *identity_network(50)], dropout=0.3, training=False
    )[0]
    np.testing.assert_allclose(quiet.numpy(), x, rtol=1e-14)
    single = run_pydl(
        replace(setup, layers=1), "rnn_relu", [pydl.asarray(x), None, None, *identity_network(50)[:2]], dropout=0.3
    )[0]
    np.testing.assert_allclose(single.numpy(), x, rtol=1e-14)


def test_dropout_depends_on_the_generator_alone(rng: np.random.Generator, threads: None) -> None:
    setup = Setup(steps=7, batch=9, inputs=40, hidden=40, layers=2, biases=False, initial=False)
    x = pydl.asarray(rng.uniform(1, 2, (7, 9, 40)))
    masks = []
    for seed, count in ((1, 1), (1, 2), (1, 8), (2, 1)):
        pydl.set_num_threads(count)
        y = run_pydl(
            setup, "rnn_relu", [x, None, None, *identity_network(40)], dropout=0.5, generator=pydl.Generator(seed)
        )[0]
        masks.append(y.numpy().tobytes())
    assert masks[0] == masks[1] == masks[2] != masks[3]
    generator = pydl.Generator(1)
    first, second = (
        run_pydl(setup, "rnn_relu", [x, None, None, *identity_network(40)], dropout=0.5, generator=generator)[0]
        for _ in range(2)
    )
    assert first.numpy().tobytes() == masks[0] != second.numpy().tobytes()


@BY_MODE
def test_non_contiguous_operands(mode: str, rng: np.random.Generator) -> None:
    setup = Setup(layers=2, bidirectional=True)
    operands = random_operands(setup, mode, rng)
    plain = run_pydl(setup, mode, to_tensors(operands))
    strided = [None if a is None else pydl.asarray(np.repeat(a, 2, axis=-1))[..., ::2] for a in operands]
    flipped = [None if a is None else pydl.asarray(np.ascontiguousarray(a[..., ::-1]))[..., ::-1] for a in operands]
    for variant in (strided, flipped):
        for g, w in zip(run_pydl(setup, mode, variant), plain, strict=True):
            assert_near(g.numpy(), w.numpy(), 1e-13, 1e-14, mode)


WRONG = {
    "two-dimensional input": (lambda o: {"x": np.zeros((5, 4))}, r"\[(recurrent|lstm)\]"),
    "input width": (lambda o: {"x": np.zeros((5, 3, 7))}, r"\[(recurrent|lstm)\].*7"),
    "h0 batch": (lambda o: {"h0": np.zeros((1, 4, 5))}, r"\[(recurrent|lstm)\].*h_?0"),
    "h0 layers": (lambda o: {"h0": np.zeros((2, 3, 5))}, r"\[(recurrent|lstm)\].*h_?0"),
    "too few weights": (lambda o: {"weights": o[3:5]}, None),
    "odd number of weights": (lambda o: {"weights": o[3:6]}, r"\[(recurrent|lstm)\].*weights"),
    "weight shape": (lambda o: {"weights": [o[3][:-1], *o[4:]]}, r"\[(recurrent|lstm)\]"),
    "weight dtype": (lambda o: {"weights": [o[3].astype(np.float32), *o[4:]]}, r"\[(recurrent|lstm)\].*float"),
    "length too long": (lambda o: {"lengths": np.array([5, 6, 1])}, r"\[(recurrent|lstm)\].*6"),
    "negative length": (lambda o: {"lengths": np.array([5, -1, 1])}, r"\[(recurrent|lstm)\].*-1"),
    "too few lengths": (lambda o: {"lengths": np.array([5, 1])}, r"\[(recurrent|lstm)\].*lengths"),
    "lengths of floats": (lambda o: {"lengths": np.array([5.0, 1.0, 2.0])}, r"\[(recurrent|lstm)\].*lengths"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_raise(case: str, rng: np.random.Generator) -> None:
    operands = random_operands(Setup(), "lstm", rng)
    change, pattern = WRONG[case]
    given = {
        "x": operands[0],
        "h0": operands[1],
        "c0": operands[2],
        "weights": operands[3:],
        "lengths": None,
        **change(operands),
    }

    def call() -> Any:
        single = {k: None if v is None else pydl.asarray(v) for k, v in given.items() if k != "weights"}
        return pydl._C.recurrent(
            "lstm", single["x"], single["h0"], single["c0"], [pydl.asarray(w) for w in given["weights"]],
            1, False, False, 0.0, True, single["lengths"], None,
        )  # fmt: skip

    if pattern is None:  # two weights are a network without biases: legal
        assert call()[0].shape == (5, 3, 5)
        return
    with pytest.raises((ValueError, TypeError, IndexError), match=pattern):
        call()


def test_a_missing_cell_state_is_zero(rng: np.random.Generator) -> None:
    operands = random_operands(Setup(), "lstm", rng)
    zeros = [operands[0], operands[1], np.zeros_like(operands[1]), *operands[3:]]
    without = [operands[0], operands[1], None, *operands[3:]]
    results = [run_pydl(Setup(), "lstm", to_tensors(o)) for o in (without, zeros)]
    for got, wanted in zip(*results, strict=True):
        assert_same_bits(got.numpy(), wanted.numpy())


@BY_MODE
@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 0), (0, 0)])
def test_empty_sequences_and_batches(mode: str, steps: int, batch: int, rng: np.random.Generator) -> None:
    """Nothing to do is no error: the final state is the initial one, gradients are zero."""
    setup = Setup(steps=steps, batch=batch)
    operands = random_operands(setup, mode, rng)
    tensors = to_tensors(operands, gradients=True)
    y, h_n, *_ = run_pydl(setup, mode, tensors)
    assert y.shape == (steps, batch, 5)
    np.testing.assert_array_equal(h_n.detach().numpy(), operands[1])
    (h_n.sum() + y.sum()).backward()
    np.testing.assert_array_equal(
        tensors[1].grad.numpy(), np.ones((1, batch, 5)) if steps == 0 else np.zeros((1, batch, 5))
    )
    assert not np.any(tensors[3].grad.numpy())
