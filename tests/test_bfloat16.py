"""Products, linear layers and recurrent networks in bfloat16 against float64 on the same rounded numbers.

Where the CPU has instructions for it they are made in pairs of bfloat16, elsewhere in float32: the same bounds hold.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import pydl
from pydl import nn

HALF = 2.0**-8  # of a last place of bfloat16
SHAPES = [
    (1, 1, 2),
    (1, 5, 3),
    (3, 7, 0),
    (2, 64, 33),
    (5, 31, 2),
    (12, 100, 513),
    (13, 100, 515),
    (14, 32, 768),
    (50, 65, 130),
    (197, 513, 1025),
    (300, 40, 2048),
    (7, 2000, 64),
    (400, 700, 300),
    (64, 1, 77),
    (1, 64, 77),
]


def rounded(a: np.ndarray) -> tuple[pydl.Tensor, np.ndarray]:
    """``a`` in bfloat16, and the same numbers in float64."""
    x = pydl.asarray(np.asarray(a, np.float32)).astype(pydl.bfloat16)
    return x, x.astype(pydl.float64).numpy()


def assert_near(y: pydl.Tensor, expected: np.ndarray, terms: int, size: float = 1.0) -> None:
    assert y.dtype == pydl.bfloat16
    bound = HALF * np.abs(expected) + 4e-7 * size * np.sqrt(terms + 1) * 4
    error = np.abs(y.astype(pydl.float64).numpy() - expected)
    assert (error <= bound).all(), float((error - bound).max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_at_any_layout_and_number_of_threads(shape: tuple[int, int, int], threads: None) -> None:
    m, n, k = shape
    rng = np.random.default_rng(m + n + k)
    for turn_a, turn_b, shift in itertools.product((False, True), (False, True), (0, 1)):
        # One column more, and a view without it: rows that begin at odd places.
        a, wide_a = rounded(rng.standard_normal((k, m + shift) if turn_a else (m, k + shift)))
        b, wide_b = rounded(rng.standard_normal((n, k + shift) if turn_b else (k, n + shift)))
        a, wide_a, b, wide_b = a[:, shift:], wide_a[:, shift:], b[:, shift:], wide_b[:, shift:]
        if turn_a:
            a, wide_a = a.T, wide_a.T
        if turn_b:
            b, wide_b = b.T, wide_b.T
        results = []
        for count in (1, 2, 3):
            pydl.set_num_threads(count)
            results.append(a @ b)
        assert_near(results[0], wide_a @ wide_b, k)
        first, *others = (r.astype(pydl.float32).numpy().tobytes() for r in results)
        assert others == [first, first]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((6, 9, 20, 30), (6, 1, 30, 40)),
        ((70, 12, 16), (70, 16, 5)),
        ((3, 300, 64), (3, 64, 300)),
        ((4, 7, 33), (33, 8)),
    ],
)
def test_products_of_batches(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(a))
    x, wide_x = rounded(rng.standard_normal(a))
    y, wide_y = rounded(rng.standard_normal(b))
    assert_near(x @ y, wide_x @ wide_y, a[-1])
    assert_near(pydl.clone(x.mT).mT @ y, wide_x @ wide_y, a[-1])


def test_infinite_and_undefined_numbers_go_through() -> None:
    a = np.ones((20, 40), np.float32)
    a[3, 5], a[4, 6] = np.inf, np.nan
    y = (pydl.asarray(a).astype(pydl.bfloat16) @ pydl.ones((40, 33), dtype=pydl.bfloat16)).astype(pydl.float32).numpy()
    assert np.isposinf(y[3]).all()
    assert np.isnan(y[4]).all()
    assert (np.delete(y, [3, 4], axis=0) == 40).all()


def test_linear_with_bias_and_its_gradients() -> None:
    rng = np.random.default_rng(0)
    layer = nn.Linear(70, 50).bfloat16()
    x, wide_x = rounded(rng.standard_normal((9, 70)))
    g, wide_g = rounded(rng.standard_normal((9, 50)))
    x.requires_grad_()
    y = layer(x)
    weight = layer.weight.detach().astype(pydl.float64).numpy()
    assert_near(y.detach(), wide_x @ weight.T + layer.bias.detach().astype(pydl.float64).numpy(), 70)
    y.backward(g)
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert_near(x.grad, wide_g @ weight, 50)
    assert_near(layer.weight.grad, wide_g.T @ wide_x, 9)


def test_a_linear_layer_in_float16_rounds_once() -> None:
    rng = np.random.default_rng(1)
    layer = nn.Linear(70, 50).half()
    x = pydl.asarray(rng.standard_normal((9, 70)).astype(np.float32)).half().requires_grad_()
    y = layer(x)
    wide_x, weight, bias = (np.asarray(t.detach().astype(pydl.float64)) for t in (x, layer.weight, layer.bias))
    exact = wide_x @ weight.T + bias
    assert y.dtype == pydl.float16
    error = np.abs(np.asarray(y.detach().astype(pydl.float64)) - exact)
    assert (error <= 2.0**-11 * np.abs(exact) + 1e-6).all()
    y.backward(pydl.ones(9, 50).half())
    assert layer.bias.grad is not None
    np.testing.assert_array_equal(np.asarray(layer.bias.grad.astype(pydl.float32)), np.full(50, 9.0, np.float32))


RECURRENT = [
    # steps, batch, input, hidden, layers, bidirectional, batch_first
    (7, 3, 10, 12, 1, False, False),
    (5, 1, 6, 64, 2, True, False),
    (1, 1, 128, 128, 2, False, False),
    (20, 50, 64, 96, 2, False, True),
    (4, 17, 34, 40, 1, True, True),
    (3, 2, 7, 9, 1, False, False),
    (6, 64, 128, 512, 1, False, False),
]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("case", RECURRENT, ids=str)
def test_recurrent_inference_is_near_that_of_float32(kind: str, case: tuple[int, ...]) -> None:
    steps, batch, features, hidden, layers, both, batch_first = case
    options = {"bidirectional": bool(both), "batch_first": bool(batch_first)}
    half = getattr(nn, kind)(features, hidden, layers, **options).bfloat16()
    wide = getattr(nn, kind)(features, hidden, layers, **options)
    wide.load_state_dict({name: w.astype(pydl.float32) for name, w in half.state_dict().items()})
    rng = np.random.default_rng(steps)
    x, _ = rounded(rng.standard_normal((batch, steps, features) if batch_first else (steps, batch, features)))
    h, _ = rounded(rng.standard_normal((layers * (2 if both else 1), batch, hidden)))
    state = (h, h) if kind == "LSTM" else h
    wide_state = (h.astype(pydl.float32),) * 2 if kind == "LSTM" else h.astype(pydl.float32)
    lengths = pydl.asarray([steps - i % steps for i in range(batch)])
    with pydl.no_grad():
        for keywords in ({}, {"lengths": lengths}):
            y, last = half(x, state, **keywords)
            expected, last_expected = wide(x.astype(pydl.float32), wide_state, **keywords)
            assert y.dtype == pydl.bfloat16
            pairs = (
                zip((y, *last), (expected, *last_expected))
                if kind == "LSTM"
                else ((y, expected), (last, last_expected))
            )
            for got, want in pairs:
                error = np.abs(got.astype(pydl.float32).numpy() - want.numpy()).max()
                # States between steps are rounded, and what is rounded differs by that much again after some steps.
                assert error <= 4 * HALF * max(1.0, float(np.abs(want.numpy()).max())), error


def test_recurrent_rows_are_the_same_one_by_one() -> None:
    layer = nn.LSTM(32, 48).bfloat16()
    x, _ = rounded(np.random.default_rng(1).standard_normal((5, 20, 32)))
    with pydl.no_grad():
        together = layer(x)[0].astype(pydl.float32).numpy()
        alone = [layer(x[:, i : i + 1])[0].astype(pydl.float32).numpy() for i in range(20)]
    np.testing.assert_allclose(np.concatenate(alone, axis=1), together, rtol=0, atol=2 * HALF)


def test_a_network_in_bfloat16_still_learns() -> None:
    layer = nn.GRU(8, 16).bfloat16()
    x, _ = rounded(np.random.default_rng(2).standard_normal((4, 3, 8)))
    layer(x)[0].sum().backward()
    for w in layer.parameters():
        assert w.grad is not None
        assert w.grad.dtype == pydl.bfloat16
        assert float(pydl.abs(w.grad).astype(pydl.float32).sum()) > 0


CONVOLUTIONS = [
    # x, weight, options
    ((2, 4, 9, 9), (6, 4, 3, 3), {"stride": 2, "padding": 1}),
    ((2, 64, 14, 14), (33, 64, 1, 1), {}),
    ((3, 32, 10, 12), (40, 16, 3, 3), {"groups": 2, "padding": 1}),
    ((1, 130, 7, 7), (20, 130, 5, 5), {"padding": 2, "dilation": 2}),
    ((2, 6, 20), (8, 6, 5), {"padding": 2}),
    ((1, 8, 5, 6, 7), (4, 8, 3, 3, 3), {"padding": 1}),
    ((2, 3, 20, 20), (8, 3, 7, 7), {"stride": 2}),
    ((2, 10, 6, 6), (12, 5, 1, 1), {"groups": 2}),
    ((2, 96, 9, 9), (96, 6, 3, 3), {"groups": 16, "padding": 1}),
    ((64, 9, 9), (32, 64, 2, 2), {}),
    ((2, 500, 5, 5), (10, 500, 3, 3), {"stride": 2}),
    ((2, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}),
    ((2, 16, 28, 28), (16, 1, 3, 3), {"padding": 1, "groups": 16}),
    ((4, 64, 9, 9), (70, 64, 1, 1), {"stride": 2}),
    ((0, 8, 9, 9), (6, 8, 3, 3), {}),
]


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions_at_any_layout(
    case: tuple[tuple[int, ...], tuple[int, ...], dict[str, int]], biased: bool
) -> None:
    shape, weights, options = case
    rng = np.random.default_rng(len(shape))
    convolve = getattr(pydl.nn.functional, f"conv{len(weights) - 2}d")
    x, wide_x = rounded(rng.standard_normal(shape))
    w, wide_w = rounded(rng.standard_normal(weights) * 0.2)
    b, wide_b = rounded(rng.standard_normal(weights[0])) if biased else (None, None)
    wide = [None if a is None else pydl.asarray(a) for a in (wide_x, wide_w, wide_b)]
    expected = convolve(*wide, **options).numpy()
    terms = int(np.prod(weights[1:]))
    assert_near(convolve(x, w, b, **options), expected, terms, size=2.0)
    assert_near(convolve(pydl.clone(x.mT).mT, w, b, **options), expected, terms, size=2.0)
    more = pydl.concat([x, x], axis=-2)[..., : shape[-2], :]
    assert_near(convolve(more, w, b, **options), expected, terms, size=2.0)
    if len(shape) == 4 and shape[0] > 1:  # a slice of channels whose neighbours stand at odd places
        last = pydl.clone(pydl.permute_dims(x, (0, 2, 3, 1)))
        wider = pydl.concat([last[..., :1], last], axis=3)[..., 1:]
        assert_near(convolve(pydl.permute_dims(wider, (0, 3, 1, 2)), w, b, **options), expected, terms, size=2.0)


def test_a_folded_block_in_bfloat16() -> None:
    rng = np.random.default_rng(5)
    for kernel in (1, 3):
        net = nn.Sequential(nn.Conv2d(8, 12, kernel, stride=2), nn.BatchNorm2d(12), nn.ReLU()).eval()
        half = nn.Sequential(nn.Conv2d(8, 12, kernel, stride=2), nn.BatchNorm2d(12), nn.ReLU()).eval().bfloat16()
        half.load_state_dict({name: w.astype(pydl.bfloat16) for name, w in net.state_dict().items()})
        x, wide_x = rounded(rng.standard_normal((3, 8, 9, 9)))
        with pydl.no_grad():
            y, expected = half(x), net(pydl.asarray(wide_x).astype(pydl.float32))
        np.testing.assert_allclose(y.astype(pydl.float32).numpy(), expected.numpy(), rtol=0, atol=0.05)
        assert (y.astype(pydl.float32).numpy() >= 0).all()
