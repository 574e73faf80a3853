"""Images lie channels-last between layers: element-wise ops keep that layout, and nobody has to know."""

from __future__ import annotations

import numpy as np
import pytest

import pydl
from pydl import nn

SHAPES = [(2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5, 6), (1, 3, 4, 5), (2, 3, 1, 5)]


def channels_last(shape: tuple[int, ...], **options: object) -> pydl.Tensor:
    x = pydl.rand(shape[0], *shape[2:], shape[1], **options)
    return x.permute_dims((0, len(shape) - 1, *range(1, len(shape) - 1)))


def order(x: pydl.Tensor) -> tuple[int, ...]:
    return tuple(s for s, n in zip(x.stride(), x.shape, strict=True) if n != 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_elementwise_ops_keep_the_layout_and_the_values(shape: tuple[int, ...]) -> None:
    x, y = channels_last(shape), channels_last(shape)
    plain = pydl.rand(*shape)
    bias = pydl.rand(1, shape[1], *(1 for _ in shape[2:]))
    a, b, c, d = (np.asarray(t) for t in (x, y, plain, bias))
    for got, expected in [
        (pydl.exp(x), np.exp(a)),
        (x + y, a + b),
        (x - plain, a - c),
        (plain - x, c - a),
        (x * bias, a * d),
        (bias * x, a * d),
        (x > y, a > b),
        (pydl.where(x > y, x, plain), np.where(a > b, a, c)),
        (x.astype(pydl.float64), a.astype(np.float64)),
    ]:
        np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-6)
        assert order(got) == order(x)


def test_results_keep_the_order_of_axes_in_memory() -> None:
    x = pydl.rand(2, 3, 4, 5).permute_dims((3, 1, 0, 2))
    y = pydl.rand(5, 3, 2, 4)
    a, b = np.asarray(x), np.asarray(y)
    row = b[:1, :1, :1]
    for got, expected in [
        (pydl.exp(x), np.exp(a)),
        (x + y, a + b),
        (x * pydl.asarray(row), a * row),
        (x + x, a + a),
        (x < y, a < b),
        (pydl.where(x < y, x, y), np.where(a < b, a, b)),
        (x.astype(pydl.float64), a.astype(np.float64)),
    ]:
        np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-6)
        assert got.stride() == x.stride()
    total = a + b
    x.add_(y)
    np.testing.assert_array_equal(np.asarray(x), total)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int8"])
@pytest.mark.parametrize("shape", [(70, 33), (16, 130), (3, 65, 40), (129, 17)])
def test_operands_that_lie_the_other_way_round(shape: tuple[int, ...], dtype: str) -> None:
    a = (np.arange(np.prod(shape)).reshape(shape) % 100).astype(dtype)
    b = np.ascontiguousarray((a * 3 % 101).astype(dtype).swapaxes(-1, -2))
    c = a[..., :1]
    x, y, z = pydl.asarray(a), pydl.asarray(b).mT, pydl.asarray(c)
    np.testing.assert_array_equal((x + y).numpy(), a + b.swapaxes(-1, -2))
    np.testing.assert_array_equal((y - x).numpy(), b.swapaxes(-1, -2) - a)
    np.testing.assert_array_equal(
        pydl.where(x > y, y, z).numpy(), np.where(a > b.swapaxes(-1, -2), b.swapaxes(-1, -2), c)
    )
    total = a + b.swapaxes(-1, -2)
    x += y
    np.testing.assert_array_equal(x.numpy(), total)


def test_results_of_gaps_and_repeats_are_contiguous() -> None:
    x = pydl.rand(6, 8)
    for view in (x[:, ::2], x[::2].T, x[:1].expand(5, 8), x[:, :3].T):
        got = pydl.exp(view)
        assert got.is_contiguous()
        np.testing.assert_allclose(np.asarray(got), np.exp(np.asarray(view)), rtol=1e-6)
        assert (view + view).is_contiguous()


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_go_through(shape: tuple[int, ...]) -> None:
    leaf = pydl.rand(shape[0], *shape[2:], shape[1], requires_grad=True, dtype=pydl.float64)

    def f(x: pydl.Tensor) -> pydl.Tensor:
        y = x.permute_dims((0, len(shape) - 1, *range(1, len(shape) - 1)))
        return pydl.sigmoid(y) * y + pydl.nn.functional.relu(y - 0.5)

    assert pydl.autograd.gradcheck(f, (leaf,))


def test_view_flattens_what_a_layer_gives() -> None:
    x = channels_last((2, 3, 4, 5))
    np.testing.assert_array_equal(np.asarray(x.view(2, -1)), np.asarray(x).reshape(2, -1))
    assert x.contiguous().is_contiguous()
    with pytest.raises(ValueError, match="use reshape"):
        pydl.rand(3, 4).T.view(12)


def test_the_gradient_of_a_leaf_stays_as_it_lies(rng: np.random.Generator) -> None:
    """A convolution leaves it channels-last; optimizers and clipping make the same of it as of a contiguous one."""
    results = []
    for turned in (False, True):
        x, w = (nn.Parameter(pydl.ones(shape)) for shape in ((2, 3, 8, 9), (4, 3, 3, 3)))
        optimizer = pydl.optim.Adam([x, w], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (nn.functional.conv2d(x, w, padding=1) ** 2).mean().backward()
            assert x.grad.is_contiguous() is False
            if turned:
                x.grad = x.grad.contiguous()
            nn.utils.clip_grad_norm_([x, w], 0.5)
            optimizer.step()
        nn.functional.conv2d(x, w, padding=1).sum().backward()  # adds to what is there
        results.append([t.numpy().tobytes() for t in (x.detach(), w.detach(), x.grad.contiguous())])
    assert results[0] == results[1]
