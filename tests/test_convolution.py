"""Convolutions: every algorithm against a plain sum over taps in float64, gradients, layers, layouts, errors."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import layouts
import pydl
from pydl import _C, nn
from pydl.nn import functional as F
from tolerances import EPS, assert_near, assert_same_bits

FORWARD = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def numbers(value: Any, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def correlate(x, w, stride=1, padding=0, dilation=1, groups=1, d_y=None, d_x_shape=None):
    """y of x and w; with d_y the gradients (d_x, d_w) instead. One tap after the other, in the arrays' own type."""
    rank = w.ndim - 2
    st, pad, dil = numbers(stride, rank), numbers(padding, rank), numbers(dilation, rank)
    padded = np.pad(x, [(0, 0), (0, 0), *[(p, p) for p in pad]])
    out = [(n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(padded.shape[2:], dil, w.shape[2:], st, strict=True)]
    n, o, c = x.shape[0], w.shape[0] // groups, w.shape[1]
    wg = w.reshape(groups, o, c, *w.shape[2:])
    y = np.zeros((n, groups, o, *out), x.dtype)
    d_padded, d_w = np.zeros_like(padded), np.zeros_like(wg)
    for tap in itertools.product(*map(range, w.shape[2:])):
        at = tuple(slice(t * d, t * d + (m - 1) * s + 1, s) for t, d, m, s in zip(tap, dil, out, st, strict=True))
        part = padded[(slice(None), slice(None), *at)].reshape(n, groups, c, *out)
        if d_y is None:
            y += np.einsum("ngc...,goc->ngo...", part, wg[(slice(None),) * 3 + tap])
            continue
        g = d_y.reshape(n, groups, o, *out)
        d_padded[(slice(None), slice(None), *at)] += np.einsum(
            "ngo...,goc->ngc...", g, wg[(slice(None),) * 3 + tap]
        ).reshape(n, groups * c, *out)
        d_w[(slice(None),) * 3 + tap] = np.einsum(
            "ngcp,ngop->goc", part.reshape(n, groups, c, -1), g.reshape(n, groups, o, -1)
        )
    if d_y is None:
        return y.reshape(n, groups * o, *out)
    inner = tuple(slice(p, p + m) for p, m in zip(pad, x.shape[2:], strict=True))
    return d_padded[(slice(None), slice(None), *inner)], d_w.reshape(w.shape)


def close(got: Any, exact: np.ndarray, dtype: str, terms: int, what: str, factor: float = 1.0) -> None:
    """Errors in units of the result's own scale: sums of `terms` products, Winograd's a few times that."""
    scale = max(float(np.sqrt(np.mean(np.square(exact)))), 1e-30)
    allowed = factor * EPS[dtype] * (16 + 2 * np.sqrt(terms)) * scale
    got = got.numpy() if hasattr(got, "numpy") else got
    assert got.shape == exact.shape, what
    error = float(np.max(np.abs(got.astype(np.float64) - exact), initial=0.0))
    assert error <= allowed, f"{what}: {error / scale:.3g} of the scale, allowed {allowed / scale:.3g}"


def run(rank, x, w, b, g, algorithm=None, **options):
    """(y, d_x, d_w, d_b) of pydl."""
    xs, ws, bs = (pydl.asarray(a).requires_grad_() for a in (x, w, b))
    y = _C.convolution(rank, xs, ws, bs, algorithm=algorithm, **options)
    y.backward(pydl.asarray(g))
    return y.detach(), xs.grad, ws.grad, bs.grad


def check(rng, dtype, x_shape, w_shape, algorithm=None, factor=1.0, **options):
    rank = len(w_shape) - 2
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1]))
    wide = [a.astype(np.float64) for a in (x, w)]
    exact = correlate(*wide, **options) + b.astype(np.float64).reshape(-1, *(1,) * rank)
    g = (rng.standard_normal(exact.shape) + 0.1).astype(dtype)
    d_x, d_w = correlate(*wide, **options, d_y=g.astype(np.float64))
    tensors = pydl.asarray(x), pydl.asarray(w)
    if "winograd" in (algorithm, *_C.convolution_algorithms(rank, *tensors, **options)):
        factor *= 4
    y, got_x, got_w, got_b = run(rank, x, w, b, g, algorithm, **options)
    what = f"{algorithm} {x_shape} {w_shape} {options}"
    terms = int(np.prod(w_shape[1:]))
    close(y, exact, dtype, terms, f"y, {what}", factor)
    close(got_x, d_x, dtype, terms * w_shape[0] // w_shape[1], f"d_x, {what}", factor)
    close(got_w, d_w, dtype, exact[:, 0].size, f"d_w, {what}", factor)
    close(got_b, g.astype(np.float64).sum(axis=(0, *range(2, rank + 2))), dtype, exact[:, 0].size, f"d_b, {what}", 4)


KERNELS = (((17,), (5,)), ((9, 11), (3, 3)), ((8, 7), (1, 1)), ((12, 10), (2, 5)), ((6, 5, 7), (3, 2, 3)))
# in, out, groups
CHANNELS = ((1, 1, 1), (4, 6, 1), (6, 4, 2), (5, 5, 5), (3, 33, 1), (20, 7, 1), (10, 14, 2), (9, 3, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("size", "kernel"), KERNELS, ids=str)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 2), (1, 2)])
def test_values_and_gradients(rng, dtype, size, kernel, stride, dilation) -> None:
    for (c, o, groups), padding in itertools.product(CHANNELS, (0, 1)):
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        check(rng, dtype, (2, c, *size), (o, c // groups, *kernel), **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((3, 300, 13, 14), (40, 300, 3, 3), {"padding": 1}),
        ((3, 40, 13, 14), (300, 40, 3, 3), {"padding": 1, "stride": 2}),
        ((2, 64, 28, 28), (130, 64, 1, 1), {}),
        ((2, 64, 28, 28), (64, 32, 1, 1), {"groups": 2}),
        ((1, 3, 65, 63), (17, 3, 7, 7), {"stride": 2, "padding": 3}),
        ((5, 1, 28, 28), (32, 1, 3, 3), {"padding": 1}),
        ((1, 600, 1, 1), (3, 600, 3, 3), {"padding": 1}),
        ((1, 7, 1, 1), (9, 7, 1, 1), {}),
        ((2, 3, 5, 5), (4, 3, 3, 3), {"padding": (5, 0), "stride": (7, 1)}),
        ((1, 2, 9), (3, 2, 4), {"stride": 5, "dilation": 2, "padding": 6}),
        ((70, 16, 4, 4), (24, 16, 4, 4), {}),
        ((2, 96, 14, 15), (12, 96, 3, 3), {"dilation": 2, "padding": (0, 3)}),
        ((2, 200, 13, 12), (1, 200, 3, 3), {"stride": 2, "padding": 1}),
        ((3, 130, 40), (33, 130, 5), {"padding": 2, "stride": 2}),
        ((1, 70, 5, 6, 7), (35, 70, 3, 2, 3), {"padding": 1, "stride": (1, 2, 2)}),
        ((1, 500, 9, 9), (64, 500, 5, 5), {"stride": 2, "padding": 2}),
        ((2, 40, 2999), (24, 40, 5), {"padding": 3}),
        ((1, 64, 1500), (9, 64, 4), {"stride": 3, "dilation": 2, "padding": 7}),
        ((1, 64, 5, 2100), (8, 64, 3, 3), {"padding": 1}),
        ((3, 2, 20, 22), (44, 1, 4, 5), {"groups": 2, "padding": (1, 4)}),
        ((2, 12, 13, 11), (99, 4, 3, 2), {"groups": 3, "stride": 2, "padding": 1}),
        ((2, 8, 15, 9), (72, 2, 5, 4), {"groups": 4, "padding": 1, "dilation": (2, 1)}),
        ((2, 4, 568), (6, 2, 2), {"groups": 2}),
        ((2, 51, 300), (51, 17, 3), {"groups": 3, "padding": 2, "dilation": 3}),
        ((1, 68, 3, 2100), (40, 34, 2, 3), {"groups": 2, "padding": 1}),
        ((2, 6, 5, 6, 7), (36, 3, 2, 3, 2), {"groups": 2, "padding": 1}),
    ],
    ids=str,
)
def test_larger_and_odder_shapes(rng, dtype, x, w, options) -> None:
    check(rng, dtype, x, w, **options)


WINOGRAD = [
    ((2, 16, 9, 11), 24), ((3, 17, 13, 14), 33), ((2, 64, 28, 28), 64), ((1, 300, 7, 7), 40), ((2, 40, 4, 4), 300),
    ((5, 16, 1, 1), 24), ((1, 16, 2, 3), 16), ((3, 100, 6, 17), 70), ((1, 3, 5, 6), 2), ((40, 24, 14, 14), 16),
]  # fmt: skip


@pytest.mark.parametrize("padding", [0, 1, 2, (3, 0), (0, 5)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("x", "channels"), WINOGRAD, ids=str)
def test_winograd(rng, x, channels, groups, padding) -> None:
    p, q = numbers(padding, 2)
    if x[2] + 2 * p < 3 or x[3] + 2 * q < 3 or x[1] % groups or channels % groups:
        pytest.skip("no such convolution")
    w = (channels, x[1] // groups, 3, 3)
    check(rng, "float32", x, w, "winograd", padding=padding, groups=groups)


DEPTHWISE = [
    ((2, 5, 9, 8), (3, 3)), ((2, 37, 11, 13), (5, 7)), ((1, 64, 28, 28), (3, 3)), ((3, 16, 1, 1), (3, 3)),
    ((2, 19, 40), (9,)), ((1, 9, 4, 5, 6), (2, 3, 3)), ((2, 8, 3, 30), (1, 12)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize(("x", "kernel"), DEPTHWISE, ids=str)
def test_depthwise(rng, dtype, x, kernel, stride, dilation) -> None:
    for padding, multiplier in itertools.product((1, 4), (1, 3)):
        if any(n + 2 * padding < dilation * (k - 1) + 1 for n, k in zip(x[2:], kernel, strict=True)):
            continue
        options = {"stride": stride, "dilation": dilation, "padding": padding, "groups": x[1]}
        w = (x[1] * multiplier, 1, *kernel)
        check(rng, dtype, x, w, "depthwise" if multiplier == 1 else None, **options)


# Rows of 24 and more outputs are convolved plane by plane, where the image lies so.
PLANES = [
    ((2, 3, 9, 61), (3, 3), {"padding": 1}), ((2, 5, 40, 60), (3, 3), {"padding": (0, 4), "stride": (1, 2)}),
    ((1, 2, 300, 50), (3, 3), {"padding": 1, "stride": 2}), ((3, 2, 7, 90), (3, 3), {"stride": 3, "dilation": 2}),
    ((2, 3, 12, 80), (3, 5), {"padding": (2, 1), "dilation": (1, 3)}), ((1, 4, 11, 57), (7, 7), {"padding": 3}),
    ((2, 2, 10, 99), (1, 4), {"stride": (2, 4)}), ((1, 3, 30, 35), (4, 1), {"dilation": (5, 1)}),
    ((2, 3, 200), (9,), {"padding": 4}), ((1, 2, 3000), (16,), {"stride": 2, "padding": 20}),
    ((2, 2, 2, 24), (5, 2), {"padding": (9, 1), "stride": (2, 1)}), ((1, 2, 70, 57), (3, 6), {"stride": (3, 2)}),
]  # fmt: skip


@pytest.mark.parametrize(("x", "kernel", "options"), PLANES, ids=str)
def test_depthwise_of_planes(rng, threads, x, kernel, options) -> None:
    w = (x[1], 1, *kernel)
    check(rng, "float32", x, w, groups=x[1], **options)
    images, weight, bias = (rng.standard_normal(s).astype(np.float32) for s in (x, w, w[:1]))
    y = _C.convolution(len(kernel), *map(pydl.asarray, (images, weight, bias)), groups=x[1], **options)
    assert y.is_contiguous()
    g = rng.standard_normal(y.shape).astype(np.float32)
    results = []
    for count in (1, 3):
        pydl.set_num_threads(count)
        results.append(run(len(kernel), images, weight, bias, g, groups=x[1], **options))
    for one, three in zip(*results, strict=True):
        assert_same_bits(one.numpy(), three.numpy())


def test_depthwise_of_planes_whose_gradient_lies_otherwise(rng) -> None:
    x, w = (pydl.asarray(rng.standard_normal(s).astype(np.float32)) for s in ((2, 3, 8, 33), (3, 1, 3, 3)))
    g = rng.standard_normal((2, 3, 8, 33)).astype(np.float32)
    turned = pydl.permute_dims(pydl.asarray(np.ascontiguousarray(g.transpose(0, 2, 3, 1))), (0, 3, 1, 2))
    gradients = []
    for up in (pydl.asarray(g), turned):
        xs, ws = x.detach().requires_grad_(), w.detach().requires_grad_()
        gradients.append(pydl.autograd.grad(F.conv2d(xs, ws, padding=1, groups=3), (xs, ws), up))
    for a, b in zip(*gradients, strict=True):
        assert_same_bits(a.numpy(), b.numpy())


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"stride": (3, 2), "padding": 2, "output_padding": (1, 0)}])
def test_transposed_depthwise_of_planes(rng, options) -> None:
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((2, 3, 12, 30), (3, 1, 4, 5), (3,)))
    args = (pydl.asarray(x), pydl.asarray(w), pydl.asarray(b))
    y = F.conv_transpose2d(*args, groups=3, **options)
    assert y.is_contiguous()
    exact = F.conv_transpose2d(*(a.astype(pydl.float64) for a in args), groups=3, **options)
    close(y, exact.numpy(), "float32", 20, "y")


def test_what_is_not_finite_stays_in_its_columns_of_planes() -> None:
    for value, where in itertools.product((np.nan, np.inf), (0, 15, 16, 39)):
        x = np.ones((1, 2, 6, 40), np.float32)
        x[0, 0, 3, where] = value
        xs, ws = pydl.asarray(x).requires_grad_(), pydl.ones((2, 1, 3, 3)).requires_grad_()
        y = F.conv2d(xs, ws, padding=1, groups=2)
        touched = np.zeros(y.shape, bool)
        touched[0, 0, 2:5, max(where - 1, 0) : where + 2] = True
        np.testing.assert_array_equal(~np.isfinite(y.detach().numpy()), touched)
        y.sum().backward()
        assert np.isfinite(xs.grad.numpy()).all()
        assert not np.isfinite(ws.grad.numpy()[0, 0, 1, 1])
        assert np.isfinite(ws.grad.numpy()[1]).all()


# Channels of a group, in and out: such that groups fill a vector, leave lanes empty, or reach into a second one.
WIDTHS = (
    (2, 2),
    (4, 4),
    (8, 8),
    (1, 2),
    (3, 1),
    (4, 8),
    (8, 4),
    (3, 5),
    (7, 5),
    (6, 6),
    (16, 2),
    (11, 3),
    (2, 12),
    (20, 4),
    (8, 16),
    (13, 9),
    (5, 1),
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", WIDTHS, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_groups_of_few_channels(rng, dtype, width, stride) -> None:
    c, o = width
    for groups, size, kernel, padding in ((3, (9, 13), (3, 3), 1), (8, (5, 8), (2, 3), 2), (13, (3, 3), (3, 1), 1)):
        check(
            rng, dtype, (2, groups * c, *size), (groups * o, c, *kernel), groups=groups, stride=stride, padding=padding
        )
    check(rng, dtype, (2, 5 * c, 21), (5 * o, c, 3), groups=5, stride=stride, dilation=2)
    check(rng, dtype, (1, 5 * c, 3, 4, 10), (5 * o, c, 2, 2, 3), groups=5, stride=stride, padding=1)


def test_groups_of_few_channels_in_long_lines_and_empty_batches(rng, threads) -> None:
    """Lines that are cut, by threads in one direction and by length in the other."""
    for c, o, dilation in ((4, 8, 1), (3, 5, 2), (9, 4, 1)):
        x, w = (1, 7 * c, 1301), (7 * o, c, 3)
        check(rng, "float32", x, w, groups=7, padding=1, dilation=dilation)
        arrays = [rng.standard_normal(s).astype(np.float32) for s in (x, w, w[:1], (1, 7 * o, 1303 - 2 * dilation))]
        results = []
        for count in (1, 2, 4):
            pydl.set_num_threads(count)
            results.append([t.numpy().tobytes() for t in run(1, *arrays, groups=7, padding=1, dilation=dilation)])
        assert results[0] == results[1] == results[2]
        empty = [pydl.zeros((0, *x[1:]), requires_grad=True), pydl.zeros(w, requires_grad=True)]
        F.conv1d(*empty, groups=7).sum().backward()
        assert (empty[1].grad == 0).all()


def test_an_algorithm_is_asked_for_the_pass_that_runs() -> None:
    x, up, down = pydl.ones((1, 4, 5)), pydl.ones((4, 8, 3)), pydl.ones((32, 1, 3))
    y = _C.convolution_transposed(1, x, up, None, groups=4, algorithm="depthwise")
    np.testing.assert_array_equal(y.numpy(), F.conv_transpose1d(x, up, groups=4).numpy())
    with pytest.raises(ValueError, match="cannot do"):
        _C.convolution_transposed(1, pydl.ones((1, 32, 5)), down, None, groups=4, algorithm="depthwise")


@pytest.mark.parametrize("width", [(4, 8), (6, 5)], ids=str)
def test_groups_of_few_channels_and_many_pixels(rng, threads, width) -> None:
    """More than a cache keeps; the bits are those of one thread, and bias and relu come in the same pass."""
    c, o = width
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((2, 9 * c, 90, 91), (9 * o, c, 3, 3), (9 * o,)))
    check(rng, "float32", x.shape, w.shape, groups=9, padding=1)
    g = rng.standard_normal((2, 9 * o, 90, 91)).astype(np.float32)
    results = []
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        y = _C.convolution(2, *map(pydl.asarray, (x, w, b)), groups=9, padding=1, relu=True)
        results.append([y, *run(2, x, w, b, g, groups=9, padding=1)])
    plain = results[0][1].numpy()
    np.testing.assert_array_equal(results[0][0].numpy(), np.maximum(plain, 0))
    for other in results[1:]:
        assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x", "w", "groups"),
    [
        ((3, 4, 12, 11), (6, 2, 1, 1), 2),
        ((2, 60, 128), (40, 15, 1), 4),
        ((1, 9, 6, 5, 7), (9, 1, 1, 1, 1), 9),
        ((2, 120, 15, 17), (240, 60, 1, 1), 2),
        ((0, 4, 12, 11), (6, 2, 1, 1), 2),
    ],
    ids=str,
)
def test_pointwise_groups_of_planes(rng, threads, dtype, x, w, groups) -> None:
    rank = len(x) - 2
    arrays = [rng.standard_normal(s).astype(dtype) for s in (x, w, w[:1])]
    images, weight, bias = map(pydl.asarray, arrays)
    y = _C.convolution(rank, images, weight, bias, groups=groups)
    assert y.shape == (x[0], w[0], *x[2:])
    if x[0]:
        assert set(_C.convolution_algorithms(rank, images, weight, groups=groups)) == {"pointwise"}
        assert y.is_contiguous()
        check(rng, dtype, x, w, groups=groups)
    relu = _C.convolution(rank, images, weight, bias, groups=groups, relu=True)
    np.testing.assert_array_equal(relu.numpy(), np.maximum(y.numpy(), 0))
    g = rng.standard_normal(y.shape).astype(dtype)
    last = pydl.permute_dims(images, (0, *range(2, rank + 2), 1)).contiguous()
    other = _C.convolution(
        rank, pydl.permute_dims(last, (0, rank + 1, *range(1, rank + 1))), weight, bias, groups=groups
    )
    np.testing.assert_allclose(other.numpy(), y.numpy(), rtol=1e-4, atol=1e-5)
    results = []
    for count in (1, 3):
        pydl.set_num_threads(count)
        results.append(run(rank, *arrays, g, groups=groups))
    for one, three in zip(*results, strict=True):
        assert_same_bits(one.numpy(), three.numpy())


def test_pointwise_groups_of_planes_are_differentiable_twice(rng) -> None:
    x, w = (pydl.asarray(rng.standard_normal(s)).requires_grad_() for s in ((2, 4, 150), (6, 2, 1)))
    dense = pydl.zeros((6, 4, 1), dtype=pydl.float64)
    dense[:3, :2], dense[3:, 2:] = w.detach()[:3], w.detach()[3:]
    dense.requires_grad_()
    results = []
    for weight, groups in ((w, 2), (dense, 1)):
        y = F.conv1d(x, weight, groups=groups)
        (d_x,) = pydl.autograd.grad((y * y * y).sum(), [x], create_graph=True)
        second = pydl.autograd.grad((d_x * d_x).sum(), [x, weight])
        results.append([d_x.detach().numpy(), second[0].numpy(), second[1].numpy()])
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-12)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-12)
    np.testing.assert_allclose(results[0][2][:3], results[1][2][:3, :2], rtol=1e-12)
    np.testing.assert_allclose(results[0][2][3:], results[1][2][3:, 2:], rtol=1e-12)


def test_what_is_not_finite_stays_in_its_group_of_planes_and_of_staged_rows() -> None:
    for x, w, options in (((1, 4, 12, 12), (6, 2, 1, 1), {}), ((1, 4, 12, 12), (40, 2, 3, 3), {"padding": 1})):
        images = pydl.ones(x)
        images[0, 0, 5, 5], images[0, 1, 6, 6] = float("inf"), float("nan")
        y = F.conv2d(images, pydl.ones(w), groups=2, **options).numpy()
        half = w[0] // 2
        assert np.isfinite(y[:, half:]).all()
        assert not np.isfinite(y[:, :half, 5, 5]).any()
        assert np.isfinite(y[:, :half, :4]).all()


def test_what_is_not_finite_stays_in_its_group(rng) -> None:
    """One NaN and one infinity reach the destinations and the weights that they meet, and no other."""
    x = rng.standard_normal((1, 12, 6, 7))
    x[0, 1, 0, 0], x[0, 5, 3, 3] = np.nan, np.inf
    w = rng.standard_normal((18, 4, 3, 3))
    y, _, d_w, _ = run(2, x.astype(np.float32), w.astype(np.float32), np.zeros(18, np.float32),
                       np.ones((1, 18, 6, 7), np.float32), groups=3, padding=1)  # fmt: skip
    touched = np.zeros((3, 6, 6, 7), bool)
    touched[0, :, :2, :2] = True
    touched[1, :, 2:5, 2:5] = True
    np.testing.assert_array_equal(~np.isfinite(y.numpy()), touched.reshape(1, 18, 6, 7))
    met = np.zeros((3, 6, 4, 3, 3), bool)
    met[0, :, 1, :2, :2] = True  # a corner has no destination beyond it
    met[1, :, 1] = True
    np.testing.assert_array_equal(~np.isfinite(d_w.numpy()), met.reshape(18, 4, 3, 3))


NARROW = [
    ((2, 20, 9, 8), (3, 20, 3, 3), {"padding": 1}), ((1, 300, 17), (1, 300, 5), {"dilation": 2, "padding": 3}),
    ((1, 16, 40, 40), (2, 16, 3, 3), {"padding": 2, "dilation": 2}), ((2, 17, 3, 4, 5), (8, 17, 2, 3, 1), {}),
    ((3, 60, 9, 10), (9, 20, 3, 3), {"padding": 1, "groups": 3}), ((5, 40, 4, 4), (4, 20, 3, 3), {"groups": 2}),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("x", "w", "options"), NARROW, ids=str)
def test_to_few_channels(rng, dtype, x, w, options) -> None:
    check(rng, dtype, x, w, "narrow", **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_gradient_of_an_input_with_few_channels(rng, dtype, stride) -> None:
    for x, w in (((3, 3, 21, 22), (24, 3, 7, 7)), ((1, 1, 40, 40), (32, 1, 3, 3)), ((2, 2, 5, 6, 7), (16, 2, 3, 2, 3))):
        for dilation in (1, 2):
            check(
                rng, dtype, x, w, None, stride=stride, padding=int(len(x) == 4), dilation=dilation if w[-1] == 3 else 1
            )


def test_algorithms_can_be_asked_for() -> None:
    def chosen(x, w, **options):
        return pydl.kernels.convolution_algorithms(pydl.ones(x), pydl.ones(w), **options)

    assert chosen((1, 64, 56, 56), (64, 64, 3, 3)) == ("winograd",) * 3
    assert chosen((1, 64, 56, 56), (64, 64, 1, 1)) == ("pointwise",) * 3
    assert chosen((1, 64, 56, 56), (64, 1, 3, 3), groups=64) == ("depthwise",) * 3
    assert chosen((1, 64, 56, 56), (128, 4, 3, 3), groups=16) == ("depthwise",) * 3
    assert chosen((1, 64, 56, 56), (512, 4, 3, 3), groups=16) == ("gemm", "narrow", "gemm")
    assert chosen((1, 3, 56, 56), (64, 3, 3, 3)) == ("gemm", "narrow", "gemm")
    assert chosen((1, 64, 56, 56), (64, 64, 3, 3), stride=2) == ("gemm",) * 3
    assert chosen((1, 64, 56, 56), (64, 64, 5, 5)) == ("winograd",) * 3
    assert chosen((4, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3) == ("winograd",) * 3
    assert chosen((1, 8, 56, 56), (8, 8, 5, 5)) == ("gemm",) * 3
    assert chosen((1, 64, 56, 56), (1, 64, 5, 5))[0] == "narrow"
    x = pydl.ones((1, 64, 20, 20), dtype=pydl.float64)
    assert pydl.kernels.convolution_algorithms(x, pydl.ones((64, 64, 3, 3), dtype=pydl.float64)) == ("gemm",) * 3


@pytest.mark.parametrize(("x", "channels", "groups"), [((24, 102, 8, 8), 200, 1), ((6, 260, 16, 13), 264, 2)], ids=str)
def test_winograd_of_many_channels_and_tiles(rng, x, channels, groups) -> None:
    """The weights' gradient is made plane by plane."""
    check(rng, "float32", x, (channels, x[1] // groups, 3, 3), "winograd", padding=1, groups=groups)


IN_PHASES = [  # x, channels, kernel, stride, padding
    ((2, 3, 33, 30), 20, 7, 2, 3), ((1, 5, 16, 17), 18, (7, 8), 2, (3, 2)), ((3, 4, 12, 13), 33, 3, 2, 1),
    ((2, 6, 11, 11), 3, 4, 2, 0), ((1, 17, 21, 9), 40, 5, 2, (2, 7)), ((2, 2, 40, 37), 16, 11, 4, 2),
    ((2, 18, 9, 10), 17, 7, 1, 3), ((1, 3, 12, 9), 40, 9, 1, (4, 0)), ((2, 4, 10, 10), 5, 6, 1, 0),
    ((1, 20, 8, 11), 16, (3, 5), 1, (1, 2)), ((2, 2, 13, 12), 3, (1, 4), 1, 0), ((1, 2, 30, 31), 4, 13, 2, 5),
    ((1, 3, 8, 8), 2, 2, 2, 0), ((1, 1, 9, 9), 1, 6, 3, (0, 1)), ((1, 3, 5, 5), 4, (5, 6), 3, 3),
    ((2, 16, 8, 8), 16, 4, 2, 1),
]  # fmt: skip


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("padding", [0, 1, (0, 2), 4])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("x", "channels"), [*WINOGRAD[:5], *WINOGRAD[7:9]], ids=str)
def test_winograd_of_other_kernels(rng, x, channels, kernel, padding, groups) -> None:
    p, q = numbers(padding, 2)
    if x[2] + 2 * p < kernel or x[3] + 2 * q < kernel or x[1] % groups or channels % groups:
        pytest.skip("no such convolution")
    w = (channels, x[1] // groups, kernel, kernel)
    check(rng, "float32", x, w, "winograd", factor=2, padding=padding, groups=groups)


@pytest.mark.parametrize(("x", "channels", "kernel", "stride", "padding"), IN_PHASES, ids=str)
def test_winograd_in_phases(rng, x, channels, kernel, stride, padding) -> None:
    w = (channels, x[1], *numbers(kernel, 2))
    check(rng, "float32", x, w, "winograd", factor=2, stride=stride, padding=padding)


@pytest.mark.parametrize(("x", "channels", "kernel", "stride", "padding"), IN_PHASES, ids=str)
def test_transposed_winograd_in_phases(rng, x, channels, kernel, stride, padding) -> None:
    """With a bias, which pixels that no tap reaches get too."""
    out = [
        (n + 2 * p - k) // stride + 1 for n, p, k in zip(x[2:], numbers(padding, 2), numbers(kernel, 2), strict=True)
    ]
    extra = [n - ((m - 1) * stride - 2 * p + k) for n, m, p, k in
             zip(x[2:], out, numbers(padding, 2), numbers(kernel, 2), strict=True)]  # fmt: skip
    w, b = (rng.standard_normal(s).astype(np.float32) for s in ((channels, x[1], *numbers(kernel, 2)), x[1:2]))
    up = rng.standard_normal((x[0], channels, *out)).astype(np.float32)
    options = {"stride": stride, "padding": padding}
    exact, _ = correlate(np.zeros(x), w.astype(np.float64), **options, d_y=up.astype(np.float64))
    y = _C.convolution_transposed(
        2, *(pydl.asarray(a) for a in (up, w, b)), output_padding=extra, algorithm="winograd", **options
    )
    close(y, exact + b.reshape(-1, 1, 1), "float32", w[:, 0].size, "y", factor=8)


def test_winograd_of_results_larger_than_caches(rng) -> None:
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((2, 3, 400, 390), (64, 3, 7, 7)))
    tensors = pydl.asarray(x), pydl.asarray(w)
    y, plain = (_C.convolution(2, *tensors, stride=2, padding=3, algorithm=a) for a in ("winograd", "gemm"))
    close(y, plain.numpy().astype(np.float64), "float32", 147, "y", 4)


def test_winograd_of_large_results_of_groups(rng) -> None:
    """Whose channels are no whole vectors, though those of all groups are."""
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((1, 48, 300, 310), (48, 24, 3, 3)))
    tensors = pydl.asarray(x), pydl.asarray(w)
    y, plain = (_C.convolution(2, *tensors, padding=1, groups=2, algorithm=a) for a in ("winograd", "gemm"))
    close(y, plain.numpy().astype(np.float64), "float32", 216, "y", 4)


def test_winograd_of_more_images_than_are_staged_at_a_time(rng) -> None:
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((18, 16, 128, 127), (16, 16, 7, 7)))
    g = rng.standard_normal(x.shape).astype(np.float32)
    results = [run(2, x, w, np.ones(16, np.float32), g, a, padding=3) for a in ("winograd", "gemm")]
    for got, plain, terms in zip(*results, (784, 784, 18 * 128 * 127, 1), strict=True):
        close(got, plain.numpy().astype(np.float64), "float32", terms, "", 8)


def test_pointwise_groups_of_channels_that_are_not_whole_panels_in_a_large_result() -> None:
    x, w = pydl.randn(1, 10, 425, 420), pydl.randn(48, 5, 1, 1)
    y, plain = (_C.convolution(2, x, w, groups=2, algorithm=a) for a in ("pointwise", "gemm"))
    np.testing.assert_allclose(y.numpy(), plain.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "pixel", "tap", "value"),
    [(4, 1, 1, 0, 2e38), (7, 2, 2, 0, 2.5e38), (3, 1, 4, 2, 3.2e38), (5, 1, 2, 1, 3e38), (7, 1, 2, 0, 2.5e38)],
)
def test_winograd_makes_nothing_infinite_that_is_not(kernel, stride, pixel, tap, value) -> None:
    """Sums that overflow on the way to an output, though it and its neighbours are finite."""
    x, w = np.zeros((1, 1, 30, 30), np.float32), np.zeros((20, 1, kernel, kernel), np.float32)
    x[0, 0, pixel, pixel] = value / 2.0**63
    w[:, 0, tap, tap] = 2.0**63
    y = _C.convolution(2, pydl.asarray(x), pydl.asarray(w), stride=stride, algorithm="winograd").numpy()
    assert np.isfinite(y).all()
    assert y.max() == np.float32(value / 2.0**63) * np.float32(2.0**63)
    x[0, 0, 1, 1] = 1.5e38 / 2.0**63
    inputs, weight = pydl.asarray(x), pydl.asarray(w).requires_grad_()
    y = _C.convolution(2, inputs, weight, stride=stride, algorithm="winograd")
    g = np.zeros(y.shape, np.float32)
    g[0, :, 0, 0] = 2.0**63
    y.backward(pydl.asarray(g))
    assert weight.grad is not None
    assert np.isfinite(weight.grad.numpy()).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (7, 1), (7, 2)])
@pytest.mark.parametrize("channels", [20, 300])
def test_winograd_spreads_nothing_that_is_not_finite(rng, value, kernel, stride, channels) -> None:
    """What Winograd's sums would spread over a tile, or make infinite on their way, is made by plain sums."""
    x = rng.standard_normal((2, channels, 15, 13)).astype(np.float32)
    w = rng.uniform(0.1, 0.2, (24, channels, kernel, kernel)).astype(np.float32)
    x[1, 3, 6, 7] = value
    g = np.ones((2, 24, *((n - 1) // stride + 1 for n in (15, 13))), np.float32)
    options = {"stride": stride, "padding": kernel // 2}
    results = [run(2, x, w, np.zeros(24, np.float32), g, a, **options) for a in ("winograd", "gemm")]
    for got, plain in zip(*results, strict=True):
        np.testing.assert_array_equal(np.isnan(got.numpy()), np.isnan(plain.numpy()))
        np.testing.assert_array_equal(np.isposinf(got.numpy()), np.isposinf(plain.numpy()))
        np.testing.assert_array_equal(np.isneginf(got.numpy()), np.isneginf(plain.numpy()))
    assert np.isfinite(results[0][0].numpy()[0]).all()
    assert np.isfinite(results[0][0].numpy()[1, :, 0, 0]).all()


def test_winograd_of_slices_of_a_volume(rng) -> None:
    check(rng, "float32", (2, 16, 3, 9, 8), (20, 16, 1, 3, 3), "winograd", padding=(0, 1, 1))


def test_winograd_error_stays_small(rng) -> None:
    """The largest error over the result's scale: 1e-5 with 64 channels, where a plain sum makes 1e-6."""
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((4, 64, 24, 24), (64, 64, 3, 3)))
    exact = correlate(x.astype(np.float64), w.astype(np.float64), padding=1)
    y = _C.convolution(2, pydl.asarray(x), pydl.asarray(w), padding=1, algorithm="winograd").numpy()
    assert np.max(np.abs(y - exact)) < 2e-5 * exact.std()
    assert np.sqrt(np.mean((y - exact) ** 2)) < 2e-6 * exact.std()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("stride", "output_padding", "dilation"), [(1, 0, 1), (2, 1, 1), (3, 2, 2), (2, 0, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_is_the_gradient_of_the_convolution(rng, rank, stride, output_padding, dilation, groups) -> None:
    shape, kernel = (2, 4, *(5, 4, 3)[:rank]), (3, 2, 3)[:rank]
    x, w, b = (rng.standard_normal(s) for s in (shape, (4, 6 // groups, *kernel), (6,)))
    padding = 1
    out = [
        (n - 1) * stride - 2 * padding + dilation * (k - 1) + 1 + output_padding
        for n, k in zip(shape[2:], kernel, strict=True)
    ]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    exact, _ = correlate(np.zeros((2, 6, *out)), w, **options, d_y=x)
    exact = exact + b.reshape(-1, *(1,) * rank)
    xs, ws, bs = (pydl.asarray(a).requires_grad_() for a in (x, w, b))
    y = TRANSPOSED[rank - 1](xs, ws, bs, output_padding=output_padding, **options)
    close(y.detach(), exact, "float64", w[0].size * 4, "y")
    g = rng.standard_normal(exact.shape)
    y.backward(pydl.asarray(g))
    close(xs.grad, correlate(g, w, **options), "float64", 36, "d_x")
    close(ws.grad, correlate(g, w, **options, d_y=x)[1], "float64", 200, "d_w")
    close(bs.grad, g.sum(axis=(0, *range(2, rank + 2))), "float64", 200, "d_b")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x", "w", "stride"),
    [((70, 20, 1, 1), (20, 24, 4, 4), 1), ((3, 40, 3, 5), (40, 16, 5, 4), 2), ((2, 9, 2), (9, 33, 7), 1)],
)
def test_transposed_to_many_more_pixels(rng, dtype, x, w, stride) -> None:
    a, k = rng.standard_normal(x).astype(dtype), rng.standard_normal(w).astype(dtype)
    tensors = pydl.asarray(a), pydl.asarray(k)
    assert pydl.kernels.convolution_algorithms(*tensors, stride=stride, transposed=True)[0] == "narrow"
    y = TRANSPOSED[len(x) - 3](*tensors, stride=stride)
    wide = a.astype(np.float64), k.astype(np.float64)
    exact, _ = correlate(np.zeros(y.shape), wide[1], stride=stride, d_y=wide[0])
    close(y, exact, dtype, w[0] * 4, "y")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("transposed", [False, True])
def test_against_torch(rng, transposed, dtype, tolerance) -> None:
    torch = pytest.importorskip("torch")
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((2, 6, 9, 8), (6, 3, 3, 2), (6,)))
    options = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    name = "conv_transpose2d" if transposed else "conv2d"
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    ours = [pydl.asarray(a).requires_grad_() for a in (x, w, b)]
    wanted = getattr(torch.nn.functional, name)(*theirs, **options)
    got = getattr(F, name)(*ours, **options)
    g = rng.standard_normal(tuple(wanted.shape)).astype(dtype)
    wanted.backward(torch.tensor(g))
    got.backward(pydl.asarray(g))
    assert_near(got.detach().numpy(), wanted.detach().numpy(), 10 * tolerance, 5 * tolerance)
    for a, t in zip(ours, theirs, strict=True):
        assert_near(a.grad.numpy(), t.grad.numpy(), 10 * tolerance, 5 * tolerance)


CHECKED = [
    (lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1), (2, 3, 7), (4, 3, 3), (4,)),
    (lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=2), (2, 4, 4, 3), (6, 2, 3, 3), (6,)),
    (lambda x, w, b: F.conv2d(x, w, b), (2, 3, 3, 2), (4, 3, 1, 1), (4,)),
    (lambda x, w, b: F.conv2d(x, w, b, padding="same", groups=3), (1, 3, 3, 4), (3, 1, 3, 2), (3,)),
    (lambda x, w, b: F.conv3d(x, w, b, stride=(1, 2, 1)), (1, 2, 3, 4, 3), (2, 2, 2, 2, 2), (2,)),
    (lambda x, w, b: F.conv_transpose1d(x, w, b, stride=2, output_padding=1), (2, 3, 4), (3, 2, 3), (2,)),
    (lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1, 2, 2), (1, 4, 3, 3), (4, 1, 3, 2), (2,)),
]


@pytest.mark.parametrize("case", range(len(CHECKED)))
def test_gradients_and_their_gradients_against_finite_differences(rng, case) -> None:
    function, *shapes = CHECKED[case]
    arrays = [rng.standard_normal(s) for s in shapes]
    inputs = [pydl.asarray(a).requires_grad_() for a in arrays]
    assert pydl.autograd.gradcheck(function, inputs)

    def gradients(*tensors):
        with pydl.enable_grad():  # which gradcheck switches off
            y = function(*tensors)
            upstream = pydl.asarray(np.linspace(-1, 2, int(np.prod(y.shape))).reshape(y.shape))
            found = pydl.autograd.grad((y * y * upstream).sum(), tensors, create_graph=True)
            return sum((g * g).sum() for g in found)

    assert pydl.autograd.gradcheck(gradients, [pydl.asarray(a * 0.3).requires_grad_() for a in arrays])


FUSED = {"gemm": (40, 12, 3, 2), "pointwise": (16, 24, 1, 1), "winograd": (16, 24, 3, 1), "narrow": (20, 3, 3, 1)}


@pytest.mark.parametrize("algorithm", [*FUSED, "depthwise", "staged"])
def test_relu_in_the_same_pass(rng, algorithm) -> None:
    c, o, kernel, stride = FUSED.get(algorithm, (16, 16, 3, 1))
    groups = 16 if algorithm == "depthwise" else 1
    x, w, b = (
        rng.standard_normal(s).astype(np.float32) for s in ((2, c, 9, 8), (o, c // groups, kernel, kernel), (o,))
    )
    options = {"stride": stride, "groups": groups, "algorithm": "gemm" if algorithm == "staged" else algorithm}
    args = tuple(map(pydl.asarray, (x, w, b)))
    y = _C.convolution(2, *args, **options).numpy()
    assert (y < 0).any()
    assert_same_bits(_C.convolution(2, *args, **options, relu=True).numpy(), np.maximum(y, 0))
    with pytest.raises(ValueError, match="relu=True"):
        _C.convolution(2, args[0].requires_grad_(), *args[1:], **options, relu=True)


def test_only_wanted_gradients(rng) -> None:
    x, w = pydl.asarray(rng.standard_normal((1, 3, 5, 5))), pydl.asarray(rng.standard_normal((4, 3, 3, 3)))
    w.requires_grad_()
    F.conv2d(x, w).sum().backward()
    assert x.grad is None
    assert w.grad is not None
    x.requires_grad_()
    first = w.grad.numpy().copy()
    F.conv2d(x, w.detach()).sum().backward()
    assert x.grad is not None
    assert_same_bits(w.grad.numpy(), first)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_any_layout(rng, layout, kernel) -> None:
    """Values and gradients do not depend on strides; the gradient from above may have any, too."""
    make = layouts.LAYOUTS[layout]
    x, xs = make(rng.standard_normal((2, 5, 6, 7)))
    w, ws = make(rng.standard_normal((4, 5, kernel, kernel)))
    exact = correlate(x, w, padding=1)
    g, gs = make(rng.standard_normal(exact.shape))
    xs, ws = xs.detach().requires_grad_(), ws.detach().requires_grad_()
    y = F.conv2d(xs, ws, padding=1)
    close(y.detach(), exact, "float64", 45, "y")
    d_x, d_w = pydl.autograd.grad(y, (xs, ws), gs)
    want_x, want_w = correlate(x, w, padding=1, d_y=g)
    close(d_x, want_x, "float64", 36, "d_x")
    close(d_w, want_w, "float64", 84, "d_w")


def test_channels_last_goes_through(rng) -> None:
    x = pydl.asarray(rng.standard_normal((2, 8, 6, 5)).astype(np.float32)).requires_grad_()
    w = pydl.asarray(rng.standard_normal((16, 8, 3, 3)).astype(np.float32))
    y = F.conv2d(x, w, padding=1)
    assert pydl.permute_dims(y.detach(), (0, 2, 3, 1)).contiguous().shape == (2, 6, 5, 16)
    z = F.conv2d(y, pydl.asarray(rng.standard_normal((4, 16, 1, 1)).astype(np.float32)))
    z.sum().backward()
    assert x.grad.shape == (2, 8, 6, 5)


THREADED = [
    ((2, 32, 30, 30), (48, 32, 3, 3), {"padding": 1}),
    ((2, 24, 30, 31), (40, 24, 3, 3), {"padding": 1, "stride": 2}),
    ((3, 48, 20, 20), (64, 48, 1, 1), {}),
    ((2, 64, 30, 30), (64, 1, 3, 3), {"groups": 64}),
    ((1, 3, 80, 80), (32, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 256, 7, 7), (256, 256, 3, 3), {"padding": 1}),
    ((1, 64, 1, 2500), (24, 64, 1, 5), {"padding": (0, 2)}),
]


@pytest.mark.parametrize("case", range(len(THREADED)))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_for_any_thread_count(rng, threads, case, dtype) -> None:
    x_shape, w_shape, options = THREADED[case]
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1]))
    g = rng.standard_normal(correlate(x[:, :, :, :], w, **options).shape).astype(dtype)
    first = None
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        results = [t.numpy() for t in run(2, x, w, b, g, **options)]
        first = first or results
        for a, b_ in zip(results, first, strict=True):
            assert_same_bits(a, b_)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_computed_in_float32(rng, dtype, device) -> None:
    x, w = rng.standard_normal((2, 3, 6, 6)).astype(np.float32), rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    kind = getattr(pydl, dtype)
    xs, ws = pydl.asarray(x).astype(kind), pydl.asarray(w).astype(kind)
    y = F.conv2d(xs, ws)
    assert y.dtype == kind
    exact = F.conv2d(xs.astype(pydl.float32), ws.astype(pydl.float32)).astype(kind).astype(pydl.float32).numpy()
    if device == "cpu":
        assert_same_bits(y.astype(pydl.float32).numpy(), exact)
    else:  # sums of the same products in another order
        assert_near(y.astype(pydl.float32).numpy(), exact, EPS[dtype], EPS[dtype])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((3, 5, 7, 6), (8, 5, 3, 3), {"stride": 2, "padding": 1}),
        ((2, 12, 5, 5), (12, 1, 3, 3), {"groups": 12, "padding": 1}),
        ((3, 5, 4, 4), (7, 5, 1, 1), {}),
        ((2, 4, 20), (80, 4, 5), {"dilation": 2}),
    ],
)
def test_half_gradients_are_sums_in_float32(rng, dtype, x_shape, w_shape, options) -> None:
    kind = getattr(pydl, dtype)
    function = FORWARD[len(w_shape) - 3]
    narrow = [pydl.asarray(rng.standard_normal(s)).astype(kind) for s in (x_shape, w_shape, w_shape[:1])]
    if x_shape[0] == 3:  # images that do not follow each other
        narrow[0] = pydl.concat([narrow[0], narrow[0]], axis=1)[:, : x_shape[1]]
    wide = [t.astype(pydl.float64).requires_grad_() for t in narrow]
    narrow = [t.detach().requires_grad_() for t in narrow]
    exact, y = function(*wide, **options), function(*narrow, **options)
    g = pydl.asarray(rng.standard_normal(y.shape)).astype(kind)
    y.backward(g)
    exact.backward(g.astype(pydl.float64))
    for got, want in zip((y.detach(), *(t.grad for t in narrow)), (exact.detach(), *(t.grad for t in wide))):
        assert got.dtype == kind
        want = want.numpy()
        error = np.abs(got.astype(pydl.float64).numpy() - want).max()
        assert error <= 0.6 * EPS[dtype] * np.abs(want).max()


def test_empty_batch(rng) -> None:
    x, w = pydl.zeros((0, 3, 5, 5)).requires_grad_(), pydl.ones((4, 3, 3, 3)).requires_grad_()
    y = F.conv2d(x, w)
    assert y.shape == (0, 4, 3, 3)
    y.sum().backward()
    assert x.grad.shape == (0, 3, 5, 5)
    np.testing.assert_array_equal(w.grad.numpy(), np.zeros((4, 3, 3, 3), np.float32))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_same_and_valid_padding(rng) -> None:
    x, w = pydl.asarray(rng.standard_normal((2, 3, 9, 8))), pydl.asarray(rng.standard_normal((4, 3, 4, 3)))
    torch = pytest.importorskip("torch")
    theirs = torch.nn.functional.conv2d
    for padding in ("same", "valid"):
        wanted = theirs(torch.tensor(x.numpy()), torch.tensor(w.numpy()), padding=padding, dilation=(1, 2))
        assert_near(F.conv2d(x, w, padding=padding, dilation=(1, 2)).numpy(), wanted.numpy(), 1e-11, 1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_what_is_not_finite_reaches_all_that_depends_on_it(rng, value, kernel) -> None:
    x = rng.standard_normal((1, 32, 17, 17)).astype(np.float32)
    x[0, 3, 8, 8] = value
    w = rng.uniform(0.5, 1, (32, 32, kernel, kernel)).astype(np.float32)
    y = F.conv2d(pydl.asarray(x), pydl.asarray(w), padding=kernel // 2).numpy()
    reach = kernel // 2
    touched = np.zeros((17, 17), bool)
    touched[8 - reach : 9 + reach, 8 - reach : 9 + reach] = True
    assert not np.isfinite(y[0][:, touched]).any()
    near = np.zeros((17, 17), bool)
    near[8 - reach - 3 : 9 + reach + 3, 8 - reach - 3 : 9 + reach + 3] = True
    assert np.isfinite(y[0][:, ~near]).all()


ERRORS = [
    (lambda: F.conv2d(pydl.ones((3, 3)), pydl.ones((1, 1, 1, 1))), ValueError, r"\[conv2d\] got an input of shape"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 4, 3, 3))), ValueError, r"3 channels, expected 4"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3))), ValueError, r"got a weight of shape"),
    (lambda: F.conv2d(pydl.ones((1, 3, 2, 5)), pydl.ones((2, 3, 3, 3))), ValueError, r"kernel reaches over 3"),
    (lambda: F.conv2d(pydl.ones((1, 3, 0, 5)), pydl.ones((2, 3, 1, 1))), ValueError, r"kernel reaches over 1"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), stride=0), ValueError, "stride"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), padding=-1), ValueError, "padding"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), dilation=(1, 2, 3)), ValueError, "dilation"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), groups=0), ValueError, "groups"),
    (lambda: F.conv2d(pydl.ones((1, 4, 5, 5)), pydl.ones((3, 2, 3, 3)), groups=2), ValueError, "groups"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), pydl.ones((3,))), ValueError, "bias of shape"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((0, 3, 3, 3))), ValueError, "first axis"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), stride=2, padding="same"), ValueError, "same"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), padding="full"), ValueError, "'full'"),
    (lambda: F.conv2d(pydl.arange(75).reshape((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3))), TypeError, "int64"),
    (lambda: F.conv_transpose2d(pydl.ones((1, 3, 5, 5)), pydl.ones((3, 2, 3, 3)), output_padding=1), ValueError,
     "output_padding"),
    (lambda: F.conv_transpose2d(pydl.ones((1, 3, 1, 1)), pydl.ones((3, 2, 3, 3)), padding=2), ValueError, "output"),
    (lambda: F.conv_transpose2d(pydl.ones((1, 4, 5, 5)), pydl.ones((3, 2, 3, 3))), ValueError, "expected 3"),
    (lambda: _C.convolution(2, pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), algorithm="fft"), ValueError, "fft"),
    (lambda: _C.convolution(2, pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), algorithm="pointwise"), ValueError,
     "cannot"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "groups"),
    (lambda: nn.Conv2d(3, 4, 0), ValueError, "kernel_size"),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError, "padding_mode"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), ValueError, "padding_mode"),
    (lambda: F.unfold(pydl.ones((1, 1, 2, 2)), 3), ValueError, "reaches"),
    (lambda: F.fold(pydl.ones((1, 4, 5)), 3, 2), ValueError, "expected"),
    (lambda: F.pad(pydl.ones((3,)), (3, 0), mode="reflect"), ValueError, "at most 2"),
    (lambda: F.conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), padding=1.5), TypeError, "padding 1.5"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case) -> None:
    call, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        call()


# ---- layers


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_layers_against_torch(rng, rank, mode) -> None:
    torch = pytest.importorskip("torch")
    options = {"stride": 1 if mode == "zeros" else 2, "padding": 2, "dilation": 1, "groups": 2, "padding_mode": mode}
    ours = getattr(nn, f"Conv{rank}d")(4, 6, 3, **options, dtype=pydl.float64)
    theirs = getattr(torch.nn, f"Conv{rank}d")(4, 6, 3, **options, dtype=torch.float64)
    assert [(k, tuple(v.shape)) for k, v in ours.named_parameters()] == [
        (k, tuple(v.shape)) for k, v in theirs.named_parameters()
    ]
    assert repr(ours) == repr(theirs)
    with torch.no_grad():
        for k, v in theirs.named_parameters():
            v.copy_(torch.tensor(dict(ours.named_parameters())[k].detach().numpy()))
    for x in (rng.standard_normal((2, 4, 6, 5, 7)[: rank + 2]), rng.standard_normal((4, 6, 5, 7)[: rank + 1])):
        a, t = pydl.asarray(x).requires_grad_(), torch.tensor(x, requires_grad=True)
        y, wanted = ours(a), theirs(t)
        assert_near(y.detach().numpy(), wanted.detach().numpy(), 1e-11, 1e-12)
        g = rng.standard_normal(tuple(wanted.shape))
        y.backward(pydl.asarray(g))
        wanted.backward(torch.tensor(g))
        assert_near(a.grad.numpy(), t.grad.numpy(), 1e-11, 1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_layers_against_torch(rng, rank) -> None:
    torch = pytest.importorskip("torch")
    ours = getattr(nn, f"ConvTranspose{rank}d")(4, 6, 3, 2, 1, 1, 2, dtype=pydl.float64)
    theirs = getattr(torch.nn, f"ConvTranspose{rank}d")(4, 6, 3, 2, 1, 1, 2, dtype=torch.float64)
    assert repr(ours) == repr(theirs)
    with torch.no_grad():
        for k, v in theirs.named_parameters():
            v.copy_(torch.tensor(dict(ours.named_parameters())[k].detach().numpy()))
    x = rng.standard_normal((2, 4, 6, 5, 3)[: rank + 2])
    size = [2 * n - 1 for n in x.shape[2:]]
    for given in (None, size):
        wanted = theirs(torch.tensor(x), given).detach().numpy()
        assert_near(ours(pydl.asarray(x), given).detach().numpy(), wanted, 1e-11, 1e-12)
    with pytest.raises(ValueError, match="output_size"):
        ours(pydl.asarray(x), [n + 2 for n in size])


@pytest.mark.parametrize("layer", [nn.Conv2d(16, 32, 5, groups=4), nn.ConvTranspose2d(32, 16, 5, groups=4)])
def test_starting_values(layer) -> None:
    """Uniform in +-1/sqrt(fan in): the bounds are reached and the variance is a third of their square."""
    bound = (layer.weight.shape[1] * 25) ** -0.5
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    assert np.abs(w).max() <= bound
    assert np.abs(w).max() > 0.97 * bound
    assert np.var(w) == pytest.approx(bound**2 / 3, rel=0.1)
    assert np.abs(b).max() <= bound


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_same_padding_in_a_layer(rng) -> None:
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((1, 2, 7, 6))
    for mode in ("zeros", "reflect"):
        ours = nn.Conv2d(2, 3, (4, 3), padding="same", padding_mode=mode, dtype=pydl.float64)
        theirs = torch.nn.Conv2d(2, 3, (4, 3), padding="same", padding_mode=mode, dtype=torch.float64)
        with torch.no_grad():
            theirs.weight.copy_(torch.tensor(ours.weight.detach().numpy()))
            theirs.bias.copy_(torch.tensor(ours.bias.detach().numpy()))
        wanted = theirs(torch.tensor(x)).detach().numpy()
        assert_near(ours(pydl.asarray(x)).detach().numpy(), wanted, 1e-11, 1e-12)


@pytest.mark.parametrize("options", [{}, {"dilation": 2}, {"padding": (1, 2), "stride": (2, 1)}])
def test_unfold_and_fold_against_torch(rng, options) -> None:
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 3, 7, 6))
    a, t = pydl.asarray(x).requires_grad_(), torch.tensor(x, requires_grad=True)
    y, wanted = F.unfold(a, (3, 2), **options), torch.nn.functional.unfold(t, (3, 2), **options)
    assert_same_bits(y.detach().numpy(), wanted.detach().numpy())
    g = rng.standard_normal(tuple(wanted.shape))
    y.backward(pydl.asarray(g))
    wanted.backward(torch.tensor(g))
    assert_near(a.grad.numpy(), t.grad.numpy(), 1e-12, 1e-13)
    back = nn.Fold((7, 6), (3, 2), **options)(pydl.asarray(g))
    assert_near(back.numpy(), torch.nn.Fold((7, 6), (3, 2), **options)(torch.tensor(g)).numpy(), 1e-12, 1e-13)
    assert_same_bits(nn.Unfold((3, 2), **options)(a[0]).detach().numpy(), wanted[0].detach().numpy())


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_pad_modes_against_torch(rng, mode) -> None:
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 3, 4, 5))
    a, t = pydl.asarray(x).requires_grad_(), torch.tensor(x, requires_grad=True)
    y, wanted = F.pad(a, (2, 1, 0, 3), mode=mode), torch.nn.functional.pad(t, (2, 1, 0, 3), mode=mode)
    assert_same_bits(y.detach().numpy(), wanted.detach().numpy())
    g = rng.standard_normal(tuple(wanted.shape))
    y.backward(pydl.asarray(g))
    wanted.backward(torch.tensor(g))
    assert_near(a.grad.numpy(), t.grad.numpy(), 1e-12, 1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("channels", "options"),
    [
        ((3, 16), {"stride": 2}),
        ((3, 1), {}),
        ((4, 4), {"groups": 2}),
        ((16, 32), {"dilation": 2}),
        ((8, 8), {"padding": 1}),
        ((64, 64), {}),
        ((6, 12), {"groups": 6}),
        ((1, 1), {}),
    ],
    ids=str,
)
def test_gradients_behind_a_part_of_the_output(
    channels: tuple[int, int], options: dict[str, Any], dtype: str, rng: np.random.Generator
) -> None:
    """Padding behind a convolution hands back a part of a channels-last gradient: there are gaps between its images."""
    c, o = channels
    x = rng.normal(size=(3, c, 12, 9)).astype(dtype)
    w = rng.normal(size=(o, c // options.get("groups", 1), 3, 3)).astype(dtype)
    t, v = pydl.asarray(x, requires_grad=True), pydl.asarray(w, requires_grad=True)
    y = F.conv2d(t, v, **options)
    h, across = y.shape[2:]
    whole = rng.normal(size=(3, h + 2, across, o)).astype(dtype)
    part = pydl.asarray(whole).permute(0, 3, 1, 2)[:, :, :h]
    dense = pydl.asarray(np.ascontiguousarray(whole.transpose(0, 3, 1, 2)[:, :, :h]))
    got = pydl.autograd.grad(y, (t, v), part, retain_graph=True)
    wanted = pydl.autograd.grad(y, (t, v), dense)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-4, atol=2e-3)
    line = F.conv1d(t[:, :, 0], v[:, :, 0], **{k: n for k, n in options.items() if k != "padding"})
    longer = pydl.asarray(rng.normal(size=(3, line.shape[2] + 1, o)).astype(dtype)).permute(0, 2, 1)[:, :, :-1]
    (got_line,) = pydl.autograd.grad(line, v, longer, retain_graph=True)
    (wanted_line,) = pydl.autograd.grad(line, v, pydl.asarray(longer.numpy().copy()))
    np.testing.assert_allclose(got_line.numpy(), wanted_line.numpy(), rtol=2e-4, atol=2e-3)
