"""Pooling: against PyTorch and NumPy, gradients, places of the maxima, layouts, threads, mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from images import LAYOUTS, as_channels_last, channels_last, compare, is_channels_last
from pydl import nn
from pydl.nn import functional as F
from tolerances import assert_near, assert_same_bits

SHAPES = {1: [(2, 3, 11), (1, 40, 6)], 2: [(2, 5, 9, 12), (3, 41, 8, 7), (1, 1, 8, 8), (4, 6, 5)], 3: [(2, 9, 5, 6, 7)]}
RANKS_AND_SHAPES = [(rank, shape) for rank, shapes in SHAPES.items() for shape in shapes]
WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 1},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
]
DILATED: list[dict[str, Any]] = [
    {"kernel_size": 2, "stride": 1, "dilation": 3},
    {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 1, "ceil_mode": True},
]
BY_SHAPE = pytest.mark.parametrize(("rank", "shape"), RANKS_AND_SHAPES, ids=str)


def ties(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray:
    """Few different values, so that windows hold equal ones."""
    return rng.integers(-2, 3, shape).astype(dtype)


def fits(shape: tuple[int, ...], rank: int, dilation: int = 1, kernel_size: int = 1, **_: Any) -> bool:
    return min(shape[-rank:]) > dilation * (kernel_size - 1)


@BY_SHAPE
@pytest.mark.parametrize("layout", LAYOUTS)
def test_max_pool_against_torch(rank: int, shape: tuple[int, ...], layout: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(F, f"max_pool{rank}d"), getattr(torch.nn.functional, f"max_pool{rank}d")
    for window in [w for w in WINDOWS + DILATED if fits(shape, rank, **w)]:
        for dtype in ("float32", "float64"):
            x = ties(rng, shape, dtype)
            compare(
                lambda t, w=window: ours(t, **w),
                lambda t, w=window: theirs(t, **w),
                [x],
                rng,
                LAYOUTS[layout] if x.ndim > rank + 1 else LAYOUTS["channels first"],
                f"{shape} {window}",
            )
            got, places = ours(pydl.asarray(x), return_indices=True, **window)
            wanted, wanted_places = theirs(torch.tensor(x), return_indices=True, **window)
            np.testing.assert_array_equal(got.numpy(), wanted.numpy())
            np.testing.assert_array_equal(places.numpy(), wanted_places.numpy())
            assert places.dtype == pydl.int64


@BY_SHAPE
@pytest.mark.parametrize("layout", LAYOUTS)
def test_avg_pool_against_torch(rank: int, shape: tuple[int, ...], layout: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(F, f"avg_pool{rank}d"), getattr(torch.nn.functional, f"avg_pool{rank}d")
    more: list[dict[str, Any]] = [{}, {"count_include_pad": False}]
    if rank > 1:
        more.append({"divisor_override": -3})
    for window in [w | m for w in WINDOWS for m in more]:
        for dtype in ("float32", "float64"):
            x = rng.normal(size=shape).astype(dtype)
            compare(
                lambda t, w=window: ours(t, **w),
                lambda t, w=window: theirs(t, **w),
                [x],
                rng,
                LAYOUTS[layout] if x.ndim > rank + 1 else LAYOUTS["channels first"],
                f"{shape} {window}",
            )


@BY_SHAPE
@pytest.mark.parametrize("size", [1, 2, 5, 7, 13, None])
def test_adaptive_pools_against_torch(
    rank: int, shape: tuple[int, ...], size: int | None, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    for kind in ("avg", "max"):
        ours = getattr(F, f"adaptive_{kind}_pool{rank}d")
        theirs = getattr(torch.nn.functional, f"adaptive_{kind}_pool{rank}d")
        wanted = (size,) * rank if size is not None else shape[-rank:]
        for layout in ("channels first", "channels last"):
            x = ties(rng, shape) + rng.normal(size=shape) * (kind == "avg")
            laid = LAYOUTS[layout] if x.ndim > rank + 1 else LAYOUTS["channels first"]
            what = f"{kind} {shape} {size}"
            compare(lambda t, f=ours: f(t, size), lambda t, f=theirs, w=wanted: f(t, w), [x], rng, laid, what)
    got, places = getattr(F, f"adaptive_max_pool{rank}d")(pydl.asarray(x), size, return_indices=True)
    values, wanted_places = theirs(torch.tensor(x), wanted, return_indices=True)
    np.testing.assert_array_equal(got.numpy(), values.numpy())
    np.testing.assert_array_equal(places.numpy(), wanted_places.numpy())


def naive(x: np.ndarray, k: int, s: int, reduce: Any) -> np.ndarray:
    """Windows of k x k at stride s over the last two axes, in float64."""
    rows, cols = (x.shape[2] - k) // s + 1, (x.shape[3] - k) // s + 1
    out = [[reduce(x[:, :, i * s : i * s + k, j * s : j * s + k]) for j in range(cols)] for i in range(rows)]
    return np.moveaxis(np.array(out, np.float64), (0, 1), (2, 3))


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 9, 31, 32, 33, 40, 65])
@pytest.mark.parametrize(("k", "s"), [(2, 2), (3, 2), (1, 1), (2, 1), (20, 3)])
def test_against_numpy(channels: int, k: int, s: int, rng: np.random.Generator) -> None:
    """Vector bodies and tails; windows of more places than a byte counts."""
    x = rng.normal(size=(2, channels, 20, 21)).astype(np.float32)
    for laid in LAYOUTS.values():
        got, places = F.max_pool2d(laid(x), k, s, return_indices=True)
        np.testing.assert_array_equal(got.numpy(), naive(x, k, s, lambda w: w.max((2, 3))))
        flat = np.take_along_axis(x.reshape(2, channels, -1), places.numpy().reshape(2, channels, -1), 2)
        np.testing.assert_array_equal(flat.reshape(got.shape), got.numpy())
        np.testing.assert_array_equal(F.max_pool2d(laid(x), k, s).numpy(), got.numpy())
        mean = naive(x.astype(np.float64), k, s, lambda w: w.mean((2, 3)))
        assert_near(F.avg_pool2d(laid(x), k, s).numpy(), mean, 1e-6, 1e-6)


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_gradients(layout: str, rng: np.random.Generator) -> None:
    last = layout == "channels last"
    shape = (2, 7, 6, 3) if last else (2, 3, 7, 6)
    x = pydl.asarray(rng.permutation(252).reshape(shape) * 0.1, requires_grad=True)
    functions = [
        lambda t: F.max_pool2d(t, 3, 2, 1),
        lambda t: F.max_pool2d(t, 17, 1, 8),
        lambda t: F.max_pool2d(t, 2, dilation=2, ceil_mode=True),
        lambda t: F.avg_pool2d(t, 3, 2, 1, count_include_pad=False, ceil_mode=True),
        lambda t: F.adaptive_avg_pool2d(t, (3, 4)),
        lambda t: F.adaptive_max_pool2d(t, (4, 3)),
        lambda t: F.lp_pool2d(t + 1, 3.0, 2),
        lambda t: F.max_unpool2d(*F.max_pool2d(t, 2, return_indices=True), 2, output_size=(7, 6)),
    ]
    for function in functions:
        assert pydl.autograd.gradcheck(lambda t, f=function: f(as_channels_last(t) if last else t), x)


def test_second_order_against_torch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    functions = [
        lambda m, t: m.nn.functional.avg_pool2d(t * t, 3, 2, 1) ** 3,
        lambda m, t: m.nn.functional.adaptive_avg_pool2d(t * t, 2) ** 3,
        lambda m, t: m.nn.functional.max_pool2d(t * t, 3, 2, 1) ** 3,
    ]
    a = rng.normal(size=(2, 3, 6, 5))
    for function in functions:
        results = []
        for m, x in ((pydl, channels_last(a).detach().requires_grad_()), (torch, torch.tensor(a, requires_grad=True))):
            (g,) = m.autograd.grad(function(m, x).sum(), x, create_graph=True)
            (g,) = m.autograd.grad((g * g * x).sum(), x, create_graph=True)
            results.append(m.autograd.grad((g * x).sum(), x)[0].detach().numpy())
        assert_near(results[0], results[1], 1e-9, 1e-9)


def test_output_is_channels_last(rng: np.random.Generator) -> None:
    x = pydl.asarray(rng.normal(size=(2, 16, 8, 8)), requires_grad=True)
    for function in (lambda t: F.max_pool2d(t, 2), lambda t: F.avg_pool2d(t, 2), lambda t: F.adaptive_avg_pool2d(t, 2)):
        y = function(x)
        assert is_channels_last(y)
        (d_x,) = pydl.autograd.grad(y.sum(), x)
        assert d_x.shape == x.shape


def test_nan_and_infinity() -> None:
    x = np.zeros((1, 1, 2, 8))
    x[0, 0, :, 1] = np.nan
    x[0, 0, 0, 2:4] = -np.inf
    x[0, 0, 1, 2:4] = -np.inf
    x[0, 0, 1, 5] = np.inf
    for laid in LAYOUTS.values():
        y, places = F.max_pool2d(laid(x), 2, return_indices=True)
        np.testing.assert_array_equal(y.numpy()[0, 0, 0], [np.nan, -np.inf, np.inf, 0])
        np.testing.assert_array_equal(places.numpy()[0, 0, 0], [9, 2, 13, 6])  # the last NaN, the first of equal ones
        np.testing.assert_array_equal(F.max_pool2d(laid(x), 2).numpy(), y.numpy())
        np.testing.assert_array_equal(F.avg_pool2d(laid(x), 2).numpy()[0, 0, 0], [np.nan, -np.inf, np.inf, 0])


# Float32 rows of 32 and more places are pooled plane by plane, where the image lies so.
PLANES: list[tuple[str, tuple[int, ...], Any, dict[str, Any]]] = [
    ("max", (2, 3, 9, 57), 2, {}),
    ("max", (2, 5, 11, 101), (3, 2), {"ceil_mode": True}),
    ("max", (1, 4, 21, 83), 3, {"stride": 2, "padding": 1}),
    ("max", (2, 3, 7, 35), 2, {"stride": 3, "padding": 1, "ceil_mode": True}),
    ("max", (2, 2, 40, 70), (20, 17), {}),
    ("max", (1, 2, 12, 40), 2, {"dilation": (3, 1)}),
    ("max", (3, 4, 67), 2, {}),
    ("max", (2, 3, 7, 13), 3, {"stride": 2, "padding": 1}),
    ("avg", (2, 3, 7, 9), 4, {"stride": 1, "padding": 2}),
    ("max", (3, 4, 50), 3, {"stride": 1, "padding": 1}),
    ("max", (3, 2, 131), 40, {"stride": 37, "ceil_mode": True}),
    ("max", (2, 3, 5, 6, 33), 2, {"ceil_mode": True}),
    ("avg", (2, 3, 9, 57), 2, {}),
    ("avg", (2, 5, 11, 101), (3, 2), {"padding": 1, "ceil_mode": True}),
    ("avg", (2, 3, 10, 47), (3, 4), {"padding": (1, 2), "count_include_pad": False}),
    ("avg", (2, 3, 7, 35), 2, {"stride": 3, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
    ("avg", (1, 3, 33, 64), 16, {"stride": 15, "divisor_override": -7}),
    ("avg", (1, 2, 150, 40), (140, 30), {}),
    ("avg", (3, 4, 67), 5, {}),
    ("avg", (2, 3, 5, 6, 33), 2, {"padding": 1}),
    ("avg", (2, 1, 20, 40), 3, {"stride": 1, "padding": 1}),  # one channel: planes too
    ("avg", (1, 1, 6, 90), (1, 33), {"stride": 1, "padding": (0, 16)}),
    ("max", (1, 1, 20, 40), 5, {"stride": 1, "padding": 2}),
    ("max", (1, 1, 9, 20), 3, {"stride": 2, "dilation": 2}),
    ("adaptive_max", (2, 3, 23, 59), 7, {}),
    ("adaptive_max", (2, 3, 37, 64), (2, 1), {}),
    ("adaptive_max", (2, 3, 1000), 5, {}),
    ("adaptive_max", (2, 4, 4, 1), 7, {}),  # every window begins at the same column
    ("adaptive_avg", (2, 3, 23, 59), 5, {}),
    ("adaptive_avg", (2, 3, 37, 64), (3, 2), {}),
    ("adaptive_avg", (2, 3, 2500), 2, {}),
    ("adaptive_avg", (2, 3, 2, 5), (5, 40), {}),
    ("adaptive_avg", (2, 3, 4, 9, 40), (3, 4, 6), {}),
]
BY_PLANES = pytest.mark.parametrize(("kind", "shape", "window", "options"), PLANES, ids=str)


def pool_of(m: Any, kind: str, shape: tuple[int, ...]) -> Any:
    return getattr(m.nn.functional, f"{kind}_pool{len(shape) - 2}d")


@BY_PLANES
def test_planes_against_torch(
    kind: str, shape: tuple[int, ...], window: Any, options: dict[str, Any], rng: np.random.Generator, threads: None
) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = pool_of(pydl, kind, shape), pool_of(torch, kind, shape)
    x = rng.normal(size=shape).astype(np.float32) if "avg" in kind else ties(rng, shape, "float32")
    exact = torch.tensor(x.astype(np.float64), requires_grad=True)
    wanted = theirs(exact, window, **options)
    g = rng.normal(size=wanted.shape).astype(np.float32)
    wanted.backward(torch.tensor(g.astype(np.float64)))
    results = []
    for count in (1, 3):
        pydl.set_num_threads(count)
        t = pydl.asarray(x, requires_grad=True)
        y = ours(t, window, **options)
        assert y.is_contiguous()
        np.testing.assert_array_equal(ours(t.detach(), window, **options).numpy(), y.detach().numpy())
        for up in (pydl.asarray(g), channels_last(g)):
            results.append(
                (y.detach().numpy(), *(d.numpy() for d in pydl.autograd.grad(ours(t, window, **options), t, up)))
            )
    for one in results:
        for got, first in zip(one, results[0], strict=True):
            assert_same_bits(np.ascontiguousarray(got), np.ascontiguousarray(first))
    assert_near(results[0][0], wanted.detach().numpy(), 3e-6, 1e-6)
    assert_near(results[0][1], exact.grad.numpy(), 3e-6, 1e-6)
    if "max" in kind:
        _, places = ours(pydl.asarray(x), window, return_indices=True, **options)
        np.testing.assert_array_equal(places.numpy(), theirs(exact, window, return_indices=True, **options)[1].numpy())


@BY_PLANES
def test_nan_and_infinity_in_planes(
    kind: str, shape: tuple[int, ...], window: Any, options: dict[str, Any], rng: np.random.Generator
) -> None:
    """As in channels-last images, in values and in places."""
    f = pool_of(pydl, kind, shape)
    x = ties(rng, shape, "float32")
    for value in (np.nan, np.inf, -np.inf):
        x[rng.random(shape) < 0.03] = value
    x[0, 0, ..., :40] = -np.inf
    arguments = {"return_indices": True} if "max" in kind else {}
    for image in (x, np.full(shape, np.nan, np.float32)):
        got = f(pydl.asarray(image), window, **options, **arguments)
        wanted = f(pydl.asarray(image.astype(np.float64)), window, **options, **arguments)  # which is turned first
        if arguments:
            np.testing.assert_array_equal(got[1].numpy(), wanted[1].numpy())
            np.testing.assert_array_equal(f(pydl.asarray(image), window, **options).numpy(), got[0].numpy())
            got, wanted = got[0], wanted[0]
        finite = np.isfinite(wanted.numpy())
        np.testing.assert_array_equal(got.numpy()[~finite], wanted.numpy()[~finite])
        assert_near(got.numpy()[finite], wanted.numpy()[finite], 3e-6, 1e-6)


def test_second_order_of_planes(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    a = rng.normal(size=(2, 3, 6, 50)).astype(np.float32)
    for function in (
        lambda m, t: m.nn.functional.avg_pool2d(t * t, 2) ** 3,
        lambda m, t: m.nn.functional.adaptive_avg_pool2d(t * t, (2, 7)) ** 3,
        lambda m, t: m.nn.functional.max_pool2d(t * t, 3, 2, 1) ** 3,
    ):
        results = []
        for m, x in ((pydl, pydl.asarray(a)), (torch, torch.tensor(a.astype(np.float64)))):
            x.requires_grad_()
            (g,) = m.autograd.grad(function(m, x).sum(), x, create_graph=True)
            results.append(m.autograd.grad((g * g * x).sum(), x)[0].detach().numpy())
        assert_near(results[0], results[1], 1e-4, 1e-4)


def test_half_dtypes(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 6, 6)).astype(np.float32)
    for dtype in (pydl.float16, pydl.bfloat16):
        h = pydl.asarray(x).astype(dtype).requires_grad_()
        y = F.avg_pool2d(F.max_pool2d(h, 2), 3)
        assert y.dtype == dtype
        y.sum().backward()
        assert h.grad is not None
        assert h.grad.dtype == dtype
        wanted = F.avg_pool2d(F.max_pool2d(h.detach().astype(pydl.float32), 2), 3).astype(dtype)
        np.testing.assert_array_equal(y.detach().astype(pydl.float32).numpy(), wanted.astype(pydl.float32).numpy())


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_same_bits_for_any_thread_count(layout: str, rng: np.random.Generator, threads: None) -> None:
    x = rng.normal(size=(3, 130, 33, 31)).astype(np.float32)

    def results() -> list[np.ndarray]:
        out = []
        for function in (
            lambda t: F.max_pool2d(t, 3, 2, 1),
            lambda t: F.avg_pool2d(t, 3, 2, 1),
            lambda t: F.adaptive_avg_pool2d(t, 1),
        ):
            t = LAYOUTS[layout](x).detach().requires_grad_()
            y = function(t)
            (y * y).sum().backward()
            out += [y.detach().numpy(), t.grad.numpy()]
        return out

    pydl.set_num_threads(1)
    alone = results()
    for count in (2, 3):
        pydl.set_num_threads(count)
        for a, b in zip(results(), alone, strict=True):
            assert_same_bits(a, b)


def test_large_gradients(rng: np.random.Generator) -> None:
    """Results of 18 MB go past the cache: the same bits as those of a part."""
    x = rng.normal(size=(8, 64, 97, 96)).astype(np.float32)
    for function in (F.max_pool2d, F.avg_pool2d):
        gradients = []
        for part in (slice(None), slice(0, 2)):
            t = channels_last(x[part]).detach().requires_grad_()
            y = function(t, 2)
            (y * y).sum().backward()
            gradients.append(t.grad.numpy())
        assert_same_bits(gradients[0][:2], gradients[1])


def test_empty_batch_and_empty_output() -> None:
    x = pydl.zeros((0, 3, 4, 4)).requires_grad_()
    for function in (lambda t: F.max_pool2d(t, 2), lambda t: F.avg_pool2d(t, 2), lambda t: F.adaptive_max_pool2d(t, 2)):
        y = function(x)
        assert y.shape == (0, 3, 2, 2)
        y.sum().backward()
        assert x.grad.shape == x.shape
    assert F.max_pool2d(x, 2, return_indices=True)[1].shape == (0, 3, 2, 2)
    full = pydl.ones((1, 3, 4, 4)).requires_grad_()
    y = F.adaptive_avg_pool2d(full, 0)
    assert y.shape == (1, 3, 0, 0)
    y.sum().backward()
    assert full.grad.sum().item() == 0


def test_unpool_against_torch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    for rank, shape, window in [(1, (2, 3, 9), (3, 2)), (2, (2, 3, 8, 7), (2, 2)), (3, (1, 2, 4, 5, 6), (2, 2))]:
        x = rng.normal(size=shape)
        results = []
        for m, t in ((pydl, pydl.asarray(x)), (torch, torch.tensor(x))):
            f = m.nn.functional
            y, places = getattr(f, f"max_pool{rank}d")(t, *window, return_indices=True)
            results.append(getattr(f, f"max_unpool{rank}d")(y, places, *window, output_size=shape[2:]).numpy())
        np.testing.assert_array_equal(*results)
    layer = nn.MaxUnpool2d(2)
    y, places = F.max_pool2d(pydl.asarray(rng.normal(size=(3, 4, 4))), 2, return_indices=True)
    assert layer(y, places).shape == (3, 4, 4)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_lp_pool_against_torch(rank: int, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x = rng.uniform(0.1, 2, (2, 3, 6, 7, 8)[: rank + 2])
    ours, theirs = getattr(F, f"lp_pool{rank}d"), getattr(torch.nn.functional, f"lp_pool{rank}d")
    for p, window in [(2, (2,)), (1, (3, 2)), (3.5, (2, 1, True))]:
        compare(lambda t, p=p, w=window: ours(t, p, *w), lambda t, p=p, w=window: theirs(t, p, *w), [x], rng)


LAYERS = [
    (nn.MaxPool1d, (3, 2, 1), (2, 3, 9)),
    (nn.MaxPool2d, (3, 2, 1, 1, False, True), (2, 3, 9, 9)),
    (nn.MaxPool3d, (2,), (2, 3, 4, 4, 4)),
    (nn.AvgPool1d, (3, 2, 1, True, False), (2, 3, 9)),
    (nn.AvgPool2d, (3, 2, 1, True, False, 5), (2, 3, 9, 9)),
    (nn.AvgPool3d, ((2, 1, 2),), (3, 4, 4, 4)),
    (nn.LPPool1d, (2, 3), (2, 3, 9)),
    (nn.LPPool2d, (2, 3, 1), (2, 3, 9, 9)),
    (nn.LPPool3d, (2, 2), (2, 3, 4, 4, 4)),
    (nn.AdaptiveAvgPool1d, (4,), (2, 3, 9)),
    (nn.AdaptiveAvgPool2d, ((None, 3),), (2, 3, 9, 9)),
    (nn.AdaptiveAvgPool3d, (2,), (2, 3, 4, 4, 4)),
    (nn.AdaptiveMaxPool1d, (4,), (2, 3, 9)),
    (nn.AdaptiveMaxPool2d, ((None, 3),), (3, 9, 9)),
    (nn.AdaptiveMaxPool3d, (2,), (2, 3, 4, 4, 4)),
]


@pytest.mark.parametrize(("layer", "arguments", "shape"), LAYERS, ids=[layer.__name__ for layer, _, _ in LAYERS])
def test_layers_are_torchs(layer: Any, arguments: Any, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = layer(*arguments), getattr(torch.nn, layer.__name__)(*arguments)
    x = rng.uniform(0, 1, shape)
    assert_near(ours(pydl.asarray(x)).numpy(), theirs(torch.tensor(x)).numpy(), 1e-12, 1e-12)
    assert repr(ours) == repr(theirs)


def test_mistakes() -> None:
    x = pydl.ones((2, 3, 4, 4))
    mistakes = [
        (lambda: F.max_pool2d(pydl.ones((4, 4)), 2), r"\[max_pool2d\].*shape \(4, 4\), expected \(N, C"),
        (lambda: F.max_pool1d(x, 2), r"\[max_pool1d\]"),
        (lambda: F.max_pool2d(x, 5), "smaller than the kernel"),
        (lambda: F.max_pool2d(x, 2, padding=2), "at most half"),
        (lambda: F.max_pool2d(x, 0), "kernel_size.*at least 1"),
        (lambda: F.max_pool2d(x, 2, 0), "stride.*at least 1"),
        (lambda: F.max_pool2d(x, 2, padding=-1), "padding.*at least 0"),
        (lambda: F.max_pool2d(x, (2, 2, 2)), "3 numbers for kernel_size, expected 1 or 2"),
        (lambda: F.max_pool2d(pydl.ones((2, 0, 4, 4)), 2), "none of C and the axes empty"),
        (lambda: F.avg_pool2d(x, 2, divisor_override=0), "divisor_override 0"),
        (lambda: F.adaptive_avg_pool2d(x, -2), "output_size"),
        (lambda: F.adaptive_max_pool2d(x, (1, 2, 3)), "output_size"),
        (lambda: F.max_unpool2d(x, pydl.zeros((2, 3, 4, 3), dtype=pydl.int64), 2), "indices of shape"),
        (lambda: F.max_unpool2d(x, pydl.zeros(x.shape, dtype=pydl.int64), 2, output_size=(20, 20)), "output_size"),
    ]
    for function, message in mistakes:
        with pytest.raises(ValueError, match=message):
            function()
    with pytest.raises(TypeError, match="floating"):
        F.max_pool2d(pydl.ones((2, 3, 4, 4), dtype=pydl.int64), 2)
    with pytest.raises(IndexError, match="outside"):
        F.max_unpool2d(x, pydl.full(x.shape, 64, dtype=pydl.int64), 2)


def test_signs_of_zeros_do_not_depend_on_recording(rng: np.random.Generator) -> None:
    """Of equal elements the first is taken, and -0 equals 0."""
    for shape in ((1, 9, 196), (2, 3, 11, 50), (1, 20, 4, 60)):
        x = np.where(rng.random(shape) < 0.5, np.float32(0), np.float32(-0.0))
        pool = F.max_pool1d if len(shape) == 3 else F.max_pool2d
        adaptive = F.adaptive_max_pool1d if len(shape) == 3 else F.adaptive_max_pool2d
        for f in (
            lambda t, p=pool: p(t, 3, 1, 1),
            lambda t, p=pool: p(t, 3, 3),
            lambda t, p=adaptive: p(t, 3),
            lambda t, p=adaptive: p(t, 40),
        ):
            recorded = f(pydl.asarray(x, requires_grad=True)).detach().numpy()
            assert_same_bits(f(pydl.asarray(x)).numpy(), recorded)


def test_window_of_padding_alone() -> None:
    x = pydl.ones((1, 1, 2, 20, 20))
    with pytest.raises(ValueError, match=r"^\[max_pool3d\] .* window of padding alone along axis 2"):
        F.max_pool3d(x, (2, 1, 1), padding=(1, 0, 0), dilation=(3, 1, 1))
