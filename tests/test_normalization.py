"""Normalization: against PyTorch and NumPy, gradients, running statistics, layouts, threads, mistakes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import pydl
from images import LAYOUTS, as_channels_last, channels_last, compare, near
from pydl import nn
from pydl.nn import functional as F
from tolerances import assert_near, assert_same_bits

LAYER = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}
# Long and short planes, one channel, few and many, odd ones, pieces of more than 4096.
SHAPES = [
    (5, 3), (64, 1), (7, 33), (300, 40), (100, 100), (1, 3, 7), (4, 3, 5), (3, 8, 17, 19), (32, 24, 7, 7),
    (30, 3, 2, 2), (2, 9, 3, 4, 5), (2, 3, 100, 101), (2, 20, 70, 70), (1, 1, 3, 3), (2, 64, 1, 1),
]  # fmt: skip
MODES = ("training", "evaluation", "no statistics")


def pair(shape: tuple[int, ...], mode: str, dtype: str, rng: np.random.Generator, **more: Any) -> tuple[Any, Any]:
    """pydl's layer and PyTorch's, with the same irregular parameters and statistics."""
    import torch

    channels = shape[1]
    layers = []
    values = {
        "weight": rng.uniform(0.5, 2, channels),
        "bias": rng.normal(size=channels),
        "running_mean": rng.normal(size=channels),
        "running_var": rng.uniform(0.5, 2, channels),
    }
    for m, make in ((pydl, pydl.asarray), (torch, torch.tensor)):
        layer = getattr(m.nn, LAYER[len(shape)])(channels, track_running_stats=mode != "no statistics", **more)
        layer = layer.double() if dtype == "float64" else layer
        state = layer.state_dict()
        for name in state:
            if name in values:
                state[name] = make(values[name].astype(dtype))
        layer.load_state_dict(state)
        layers.append(layer.train(mode != "evaluation"))
    return layers[0], layers[1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_batch_norm_against_torch(shape: tuple[int, ...], mode: str, rng: np.random.Generator) -> None:
    pytest.importorskip("torch")
    for dtype, (name, layout) in itertools.product(("float32", "float64"), LAYOUTS.items()):
        ours, theirs = pair(shape, mode, dtype, rng)
        x = rng.normal(3, 2, shape).astype(dtype)
        compare(ours, theirs, [x], rng, layout, f"{dtype} {name}")
        for parameter in ("weight", "bias"):
            near(getattr(ours, parameter).grad, getattr(theirs, parameter).grad, dtype, f"{parameter} {dtype} {name}")
        for buffer in ("running_mean", "running_var", "num_batches_tracked"):
            if getattr(theirs, buffer) is not None:
                near(getattr(ours, buffer), getattr(theirs, buffer), dtype, f"{buffer} {dtype} {name}")
        assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("shape", [(6, 3), (4, 9, 2, 2), (3, 10, 5, 5), (2, 3, 4, 4)], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_batch_norm_gradients(
    shape: tuple[int, ...], mode: str, relu: bool, layout: str, rng: np.random.Generator
) -> None:
    last = layout == "channels last" and len(shape) > 2
    x = pydl.asarray(rng.normal(size=(shape[0], *shape[2:], shape[1]) if last else shape), requires_grad=True)
    w = pydl.asarray(rng.uniform(0.5, 2, shape[1]), requires_grad=True)
    b = pydl.asarray(rng.normal(size=shape[1]), requires_grad=True)
    mean, var = pydl.asarray(rng.normal(size=shape[1])), pydl.asarray(rng.uniform(1, 2, shape[1]))

    def function(t: pydl.Tensor, *more: pydl.Tensor, relu: bool = relu) -> pydl.Tensor:
        t = as_channels_last(t) if last else t
        return pydl._C.batch_norm(t, *more, mean, var, None, mode != "evaluation", 0.0, 1e-5, "test", relu)

    assert pydl.autograd.gradcheck(function, (x, w, b))
    # the gradient made of ops is the fused one
    upstream = pydl.asarray(rng.normal(size=shape))
    fused = pydl.autograd.grad(function(x, w, b), (x, w, b), upstream)
    composed = pydl.autograd.grad(function(x, w, b), (x, w, b), upstream, create_graph=True)
    for f, c in zip(fused, composed, strict=True):
        assert_near(f.numpy(), c.detach().numpy(), 1e-10, 1e-10)
    y = function(x, w, b).detach().numpy()
    plain = function(x, w, b, relu=False).detach().numpy()
    np.testing.assert_array_equal(y, np.maximum(plain, 0) if relu else plain)


@pytest.mark.parametrize("mode", MODES)
def test_batch_norm_second_order_against_torch(mode: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = pair((4, 3, 2, 3), mode, "float64", rng)
    x, upstream = rng.normal(size=(4, 3, 2, 3)), rng.normal(size=(4, 3, 2, 3))
    results = []
    for m, layer, t, g in (
        (pydl, ours, channels_last(x).detach().requires_grad_(), pydl.asarray(upstream)),
        (torch, theirs, torch.tensor(x, requires_grad=True), torch.tensor(upstream)),
    ):
        inputs = (t, layer.weight)
        first = m.autograd.grad((layer(t) ** 2 * g).sum(), (*inputs, layer.bias), create_graph=True)
        second = m.autograd.grad(sum((f * f).sum() for f in first), inputs)
        results.append([s.detach().numpy() for s in second])
    for a, b in zip(*results, strict=True):
        assert_near(a, b, 1e-8, 1e-8)


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("shape", [(64, 4, 9, 9), (500, 3, 1, 1), (16, 40, 30, 30), (1, 2, 300, 300)], ids=str)
def test_batch_norm_is_sound_far_from_zero(shape: tuple[int, ...], layout: str, rng: np.random.Generator) -> None:
    """A mean of 4096 deviations, and a first element that is like no other: sums of squares would be lost."""
    x = (rng.normal(size=shape) + 4096).astype(np.float32)
    x[0, :, 0, 0] = 0
    layer = nn.BatchNorm2d(shape[1], momentum=1.0)
    layer(LAYOUTS[layout](x))
    exact = x.astype(np.float64)
    assert_near(layer.running_var.numpy(), exact.var((0, 2, 3), ddof=1), 2e-6, 0)
    assert_near(layer.running_mean.numpy(), exact.mean((0, 2, 3)), 2e-7, 0)


def test_running_statistics(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    for momentum in (0.1, 0.7, None, 0.0):
        ours, theirs = nn.BatchNorm1d(3, momentum=momentum), torch.nn.BatchNorm1d(3, momentum=momentum)
        for _ in range(3):
            x = rng.normal(2, 3, (5, 3)).astype(np.float32)
            ours(pydl.asarray(x))
            theirs(torch.tensor(x))
        near(ours.running_mean, theirs.running_mean, "float32", str(momentum))
        near(ours.running_var, theirs.running_var, "float32", str(momentum))
        assert ours.num_batches_tracked.item() == 3
        ours.eval()(pydl.asarray(x))
        assert ours.num_batches_tracked.item() == 3
        near(ours.running_mean, theirs.running_mean, "float32", "evaluation changes nothing")
    ours.reset_parameters()
    assert ours.num_batches_tracked.item() == 0
    assert ours.running_mean.sum().item() == 0
    assert ours.running_var.sum().item() == 3


def test_batch_norm_layers(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    for more in (
        {},
        {"affine": False},
        {"bias": False},
        {"track_running_stats": False},
        {"momentum": None, "eps": 0.1},
    ):
        ours, theirs = nn.BatchNorm2d(3, **more), torch.nn.BatchNorm2d(3, **more)
        assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
            k: tuple(v.shape) for k, v in theirs.state_dict().items()
        }
        x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
        compare(ours, theirs, [x], rng)
    frozen = nn.Sequential(nn.BatchNorm1d(2)).freeze().train()
    frozen(pydl.asarray(rng.normal(size=(4, 2)).astype(np.float32)))
    assert frozen[0].num_batches_tracked.item() == 0


def test_only_some_gradients(rng: np.random.Generator) -> None:
    for layout in ("channels first", "channels last"):
        a = rng.normal(size=(4, 9, 5, 5))
        w, b = rng.uniform(0.5, 2, 9), rng.normal(size=9)
        every = [LAYOUTS[layout](a).detach(), pydl.asarray(w), pydl.asarray(b)]
        wanted: list[Any] = []
        for chosen in ((0, 1, 2), (0,), (1,), (2,)):
            inputs = [t.detach().requires_grad_(i in chosen) for i, t in enumerate(every)]
            y = F.batch_norm(inputs[0], None, None, inputs[1], inputs[2], training=True)
            (y * pydl.asarray(a)).sum().backward()
            gradients = [t.grad for t in inputs]
            wanted = wanted or gradients
            for i, g in enumerate(gradients):
                assert (g is not None) == (i in chosen)
                if g is not None:
                    assert_same_bits(g.numpy(), wanted[i].numpy())


def test_half_batch_norm(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 3, 5, 5)).astype(np.float32)
    layer = nn.BatchNorm2d(3)
    for dtype in (pydl.float16, pydl.bfloat16):
        h = pydl.asarray(x).astype(dtype).requires_grad_()
        y = layer(h)
        assert y.dtype == dtype
        y.sum().backward()
        assert h.grad is not None
        assert h.grad.dtype == dtype
        assert layer.running_mean.dtype == pydl.float32
        wanted = F.batch_norm(h.detach().astype(pydl.float32), None, None, training=True).astype(dtype)
        np.testing.assert_array_equal(y.detach().astype(pydl.float32).numpy(), wanted.astype(pydl.float32).numpy())


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("shape", [(32, 65, 14, 14), (3000, 5, 2, 2), (2, 3, 200, 100), (20, 130, 3, 3)], ids=str)
def test_batch_norm_same_bits_for_any_thread_count(
    shape: tuple[int, ...], layout: str, rng: np.random.Generator, threads: None
) -> None:
    x, g = (rng.normal(size=shape).astype(np.float32) for _ in range(2))

    def results() -> list[np.ndarray]:
        layer = nn.BatchNorm2d(shape[1])
        t = LAYOUTS[layout](x).detach().requires_grad_()
        y = layer(t)
        y.backward(pydl.asarray(g))
        tensors = (y.detach(), t.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var)
        return [tensor.numpy() for tensor in tensors]

    pydl.set_num_threads(1)
    alone = results()
    for count in (2, 3):
        pydl.set_num_threads(count)
        for a, b in zip(results(), alone, strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("training", [True, False])
def test_large_batch_norm(layout: str, training: bool, rng: np.random.Generator) -> None:
    """Results of 18 MB go past the cache: the same bits as those of a part, given the same statistics."""
    x, g = (rng.normal(size=(8, 64, 96, 96)).astype(np.float32) for _ in range(2))
    mean, var = rng.normal(size=64).astype(np.float32), rng.uniform(0.5, 2, 64).astype(np.float32)
    for relu in (False, True):

        def both(part: slice, relu: bool = relu) -> list[np.ndarray]:
            t = LAYOUTS[layout](x[part]).detach().requires_grad_()
            w, b = pydl.asarray(var, requires_grad=True), pydl.asarray(mean, requires_grad=True)
            statistics = (None, None) if training else (pydl.asarray(mean), pydl.asarray(var))
            y = pydl._C.batch_norm(t, w, b, *statistics, None, training, 0.1, 1e-5, "test", relu)
            y.backward(LAYOUTS[layout](g[part]))
            return [y.detach().numpy(), t.grad.numpy()]

        whole = both(slice(None))
        if training:
            wide = x.astype(np.float64)
            normal = (wide - wide.mean((0, 2, 3), keepdims=True)) / np.sqrt(wide.var((0, 2, 3), keepdims=True) + 1e-5)
            exact = normal * var[:, None, None] + mean[:, None, None]
            assert_near(whole[0], np.maximum(exact, 0) if relu else exact, 1e-5, 1e-5)
        else:
            for a, b in zip(whole, both(slice(0, 2)), strict=True):
                assert_same_bits(a[:2], b)


def test_not_a_number_stays_in_its_channel(rng: np.random.Generator) -> None:
    for layout, bad in itertools.product(("channels first", "channels last"), (np.nan, np.inf)):
        x = rng.normal(size=(3, 12, 5, 5))
        x[1, 4, 2, 2] = bad
        y = nn.BatchNorm2d(12).double()(LAYOUTS[layout](x)).detach().numpy()
        assert np.isnan(y[:, 4]).all()
        assert np.isfinite(np.delete(y, 4, axis=1)).all()


def test_empty_batch() -> None:
    layer = nn.BatchNorm2d(3)
    x = pydl.zeros((0, 3, 2, 2)).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == x.shape
    assert layer.weight.grad.numpy().tolist() == [0, 0, 0]
    assert layer.running_mean.numpy().tolist() == [0, 0, 0]
    assert layer.running_var.numpy().tolist() == [1, 1, 1]


def test_batch_norm_mistakes() -> None:
    with pytest.raises(
        ValueError, match=r"\[BatchNorm1d\].*one value per channel.*drop_last=True.*eval\(\).*GroupNorm"
    ):
        nn.BatchNorm1d(3)(pydl.ones((1, 3)))
    with pytest.raises(ValueError, match=r"\[BatchNorm2d\].*one value per channel"):
        nn.BatchNorm2d(3)(pydl.ones((1, 3, 1, 1)))
    assert nn.BatchNorm1d(3).eval()(pydl.ones((1, 3))).shape == (1, 3)
    with pytest.raises(ValueError, match=r"\[BatchNorm2d\] got an input of shape \(2, 3\), expected \(N, C, H, W\)"):
        nn.BatchNorm2d(3)(pydl.ones((2, 3)))
    with pytest.raises(ValueError, match=r"\[BatchNorm2d\].*shape \(4,\).*\(2, 3, 4, 4\)"):
        nn.BatchNorm2d(4)(pydl.ones((2, 3, 4, 4)))
    with pytest.raises(ValueError, match="running mean and variance are needed"):
        F.batch_norm(pydl.ones((2, 3)), None, None)
    with pytest.raises(TypeError, match="floating"):
        F.batch_norm(pydl.ones((2, 3), dtype=pydl.int64), None, None, training=True)
    with pytest.raises(ValueError, match="expected 0 or more"):
        nn.BatchNorm1d(-1)


# --- within a sample


def parameters(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> list[np.ndarray]:
    return [rng.uniform(0.5, 2, shape).astype(dtype), rng.normal(size=shape).astype(dtype)]


LAST_AXES = [((5,), 1), ((4, 3), 1), ((3, 64), 1), ((7, 65), 1), ((2, 3, 4, 5), 2), ((130, 33), 1), ((3, 5000), 1)]


@pytest.mark.parametrize(("shape", "axes"), LAST_AXES, ids=str)
@pytest.mark.parametrize("given", ["both", "weight", "neither"])
def test_layer_and_rms_norm_against_torch(
    shape: tuple[int, ...], axes: int, given: str, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    last = shape[-axes:]
    for dtype in ("float32", "float64"):
        x = rng.normal(2, 3, shape).astype(dtype)
        extra = parameters(rng, last, dtype)[: {"both": 2, "weight": 1, "neither": 0}[given]]
        for layout in ("channels first", "channels last", "every second"):
            compare(
                lambda t, *p: F.layer_norm(t, last, *p),
                lambda t, *p: torch.nn.functional.layer_norm(t, last, *p),
                [x, *extra],
                rng,
                LAYOUTS[layout],
                f"layer_norm {dtype} {layout}",
            )
        for eps in (None, 0.1):
            compare(
                lambda t, *p, e=eps: F.rms_norm(t, last, *p, eps=e),
                lambda t, *p, e=eps: torch.nn.functional.rms_norm(t, last, *p, eps=e),
                [x, *extra[:1]],
                rng,
                what=f"rms_norm {dtype} {eps}",
            )


GROUPED = [
    ((2, 6), 3),
    ((2, 12, 5), 4),
    ((3, 8, 4, 5), 8),
    ((3, 8, 4, 5), 1),
    ((1, 70, 9, 9), 7),
    ((2, 3, 2, 90, 60), 1),
]


@pytest.mark.parametrize(("shape", "groups"), GROUPED, ids=str)
@pytest.mark.parametrize("given", ["both", "weight", "neither"])
def test_group_norm_against_torch(shape: tuple[int, ...], groups: int, given: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    for dtype in ("float32", "float64"):
        x = rng.normal(2, 3, shape).astype(dtype)
        extra = parameters(rng, shape[1:2], dtype)[: {"both": 2, "weight": 1, "neither": 0}[given]]
        for name, layout in LAYOUTS.items():
            compare(
                lambda t, *p: F.group_norm(t, groups, *p),
                lambda t, *p: torch.nn.functional.group_norm(t, groups, *p),
                [x, *extra],
                rng,
                layout,
                f"{dtype} {name}",
            )


@pytest.mark.parametrize("shape", [(2, 3, 7), (3, 20, 4, 5), (2, 3, 4, 5, 2)], ids=str)
def test_instance_norm_against_torch(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    name, channels = f"InstanceNorm{len(shape) - 2}d", shape[1]
    x = rng.normal(2, 3, shape).astype(np.float32)
    for more in ({}, {"affine": True}, {"affine": True, "bias": False}, {"track_running_stats": True, "momentum": 0.3}):
        ours, theirs = (getattr(m.nn, name)(channels, **more) for m in (pydl, torch))
        assert list(ours.state_dict()) == list(theirs.state_dict())
        for training in (True, False):
            for layer in (ours, theirs):
                layer.train(training)
            for layout in LAYOUTS.values():
                compare(ours, theirs, [x], rng, layout, f"{more} {training}")
            if ours.running_mean is not None:
                near(ours.running_mean, theirs.running_mean, "float32", "running mean")
                near(ours.running_var, theirs.running_var, "float32", "running variance")
        near(ours(pydl.asarray(x[0])), theirs(torch.tensor(x[0])), "float32", "without batch")


@pytest.mark.parametrize("shape", [(2, 7, 5), (2, 3, 4, 5), (1, 5, 2, 3, 2)], ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_local_response_norm_against_torch(shape: tuple[int, ...], size: int, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = nn.LocalResponseNorm(size, 0.3, 0.6, 2.0), torch.nn.LocalResponseNorm(size, 0.3, 0.6, 2.0)
    for layout in ("channels first", "channels last"):
        compare(ours, theirs, [rng.normal(size=shape)], rng, LAYOUTS[layout])
    assert repr(ours) == repr(theirs)


NORMS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...]]] = {
    "layer": (lambda m, x, w, b: m.nn.functional.layer_norm(x, (5,), w, b), (2, 3, 5), (5,)),
    "rms": (lambda m, x, w, b: m.nn.functional.rms_norm(x, (3, 5), w) + b, (2, 3, 5), (3, 5)),
    "group": (lambda m, x, w, b: m.nn.functional.group_norm(x, 2, w, b), (2, 4, 3, 2), (4,)),
    "instance": (lambda m, x, w, b: m.nn.functional.instance_norm(x, weight=w, bias=b), (2, 4, 3, 2), (4,)),
}


@pytest.mark.parametrize("name", NORMS)
def test_gradients_within_a_sample(name: str, rng: np.random.Generator) -> None:
    function, shape, of_parameters = NORMS[name]
    inputs = [
        pydl.asarray(a, requires_grad=True) for a in (rng.normal(size=shape), *parameters(rng, of_parameters, "f8"))
    ]
    assert pydl.autograd.gradcheck(lambda *t: function(pydl, *t), inputs)
    if len(shape) == 4:
        last = pydl.asarray(rng.normal(size=(2, 3, 2, 4)), requires_grad=True)
        assert pydl.autograd.gradcheck(lambda x, *t: function(pydl, as_channels_last(x), *t), [last, *inputs[1:]])


@pytest.mark.parametrize("name", NORMS)
def test_second_order_within_a_sample_against_torch(name: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    function, shape, of_parameters = NORMS[name]
    arrays = [rng.normal(size=shape), *parameters(rng, of_parameters, "f8")]
    upstream = rng.normal(size=shape)
    results = []
    for m, make in ((pydl, pydl.asarray), (torch, torch.tensor)):
        inputs = [make(a, requires_grad=True) for a in arrays]
        y = function(m, *inputs)
        first = m.autograd.grad((y**2 * make(upstream)).sum(), inputs, create_graph=True)
        second = m.autograd.grad(sum((f * f).sum() for f in first), inputs)
        results.append([t.detach().numpy() for t in (*first, *second)])
    for a, b in zip(*results, strict=True):
        assert_near(a, b, 1e-8, 1e-8)


def test_only_some_gradients_within_a_sample(rng: np.random.Generator) -> None:
    for function, shape, of_parameters in NORMS.values():
        arrays = [rng.normal(size=shape), *parameters(rng, of_parameters, "f8")]
        wanted: list[Any] = []
        for chosen in ((0, 1, 2), (0,), (1,), (2,)):
            inputs = [pydl.asarray(a, requires_grad=i in chosen) for i, a in enumerate(arrays)]
            (function(pydl, *inputs) * pydl.asarray(arrays[0])).sum().backward()
            wanted = wanted or [t.grad for t in inputs]
            for i, t in enumerate(inputs):
                assert (t.grad is not None) == (i in chosen)
                if t.grad is not None:
                    assert_same_bits(t.grad.numpy(), wanted[i].numpy())


def test_same_bits_within_a_sample_for_any_thread_count(rng: np.random.Generator, threads: None) -> None:
    rows = rng.normal(size=(3000, 65)).astype(np.float32)
    images = rng.normal(size=(5, 36, 41, 40)).astype(np.float32)

    def results() -> list[np.ndarray]:
        out = []
        for laid, layer in (
            (pydl.asarray(rows), nn.LayerNorm(65)),
            (pydl.asarray(rows), nn.RMSNorm(65)),
            (pydl.asarray(images), nn.GroupNorm(4, 36)),
            (channels_last(images), nn.GroupNorm(4, 36)),
        ):
            x = laid.detach().requires_grad_()
            y = layer(x)
            (y * y * y).sum().backward()
            out += [y.detach().numpy(), x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())]
        return out

    pydl.set_num_threads(1)
    alone = results()
    for count in (2, 3):
        pydl.set_num_threads(count)
        for a, b in zip(results(), alone, strict=True):
            assert_same_bits(a, b)


def test_far_from_zero_within_a_sample(rng: np.random.Generator) -> None:
    x = (rng.normal(size=(4, 8, 30, 30)) + 4096).astype(np.float32)
    exact = x.astype(np.float64)
    for layout in ("channels first", "channels last"):
        grouped = exact.reshape(4, 2, -1)
        wanted = (grouped - grouped.mean(2, keepdims=True)) / grouped.std(2, keepdims=True)
        got = F.group_norm(LAYOUTS[layout](x), 2, eps=0.0).numpy().reshape(4, 2, -1)
        assert_near(got, wanted, 0, 5e-4)  # a step of float32 at 4096: the mean is not known better
    flat = exact.reshape(4, -1)
    wanted = (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)
    assert_near(F.layer_norm(pydl.asarray(x.reshape(4, -1)), 7200, eps=0.0).numpy(), wanted, 0, 5e-4)


def test_zero_size_within_a_sample() -> None:
    for layer, shape in (
        (nn.LayerNorm(3), (0, 3)),
        (nn.RMSNorm(3), (0, 3)),
        (nn.GroupNorm(2, 4), (0, 4, 3, 3)),
        (nn.InstanceNorm2d(4, affine=True), (0, 4, 3, 3)),
    ):
        x = pydl.zeros(shape).requires_grad_()
        y = layer(x)
        y.sum().backward()
        assert y.shape == x.grad.shape == shape
        assert all(p.grad.abs().sum().item() == 0 for p in layer.parameters())


def test_half_within_a_sample(rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 4, 6)).astype(np.float32)
    for function in (lambda t: F.layer_norm(t, 6), lambda t: F.rms_norm(t, 6, eps=1e-5), lambda t: F.group_norm(t, 2)):
        for dtype in (pydl.float16, pydl.bfloat16):
            h = pydl.asarray(x).astype(dtype).requires_grad_()
            y = function(h)
            assert y.dtype == dtype
            y.sum().backward()
            assert h.grad.dtype == dtype
            wanted = function(h.detach().astype(pydl.float32)).astype(dtype)
            np.testing.assert_array_equal(y.detach().astype(pydl.float32).numpy(), wanted.astype(pydl.float32).numpy())


def test_layers_within_a_sample(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 6, 4, 5)).astype(np.float32)
    for name, arguments in (
        ("LayerNorm", (5,)), ("LayerNorm", ((4, 5), 0.1, False)), ("LayerNorm", ([4, 5], 0.1, True, False)),
        ("RMSNorm", (5,)), ("RMSNorm", ([4, 5], 0.1, False)), ("GroupNorm", (3, 6)), ("GroupNorm", (1, 6, 0.1, False)),
    ):  # fmt: skip
        ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        compare(ours, theirs, [x], rng)


def test_mistakes_within_a_sample() -> None:
    x = pydl.ones((2, 4, 3))
    mistakes = [
        (lambda: F.layer_norm(x, 4), r"\[layer_norm\].*\(2, 4, 3\).*normalized_shape \(4,\)"),
        (lambda: F.layer_norm(x, ()), "normalized_shape"),
        (lambda: F.layer_norm(x, 3, pydl.ones((4,))), r"a weight of shape \(4,\)"),
        (lambda: F.rms_norm(x, (2, 4, 3, 1)), r"\[rms_norm\]"),
        (lambda: nn.LayerNorm(()), "one or more sizes"),
        (lambda: F.group_norm(x, 3), r"\[group_norm\].*multiple of the groups"),
        (lambda: F.group_norm(x, 0), r"\[group_norm\]"),
        (lambda: F.group_norm(pydl.ones((2, 4)), 4), "one value per group"),
        (lambda: nn.GroupNorm(3, 4), r"\[GroupNorm\]"),
        (lambda: F.instance_norm(pydl.ones((2, 4, 1))), "more than one value"),
        (lambda: F.instance_norm(x, use_input_stats=False), r"\[instance_norm\].*running"),
        (lambda: nn.InstanceNorm1d(5)(x), "C = 5"),
        (lambda: nn.InstanceNorm2d(4)(pydl.ones((4, 4))), r"\[InstanceNorm2d\]"),
        (lambda: F.local_response_norm(pydl.ones((2, 3)), 2), r"\[local_response_norm\]"),
        (lambda: F.local_response_norm(x, 0), "1 or more"),
    ]
    for function, message in mistakes:
        with pytest.raises(ValueError, match=message):
            function()
    with pytest.raises(TypeError, match="floating"):
        F.layer_norm(pydl.ones((2, 3), dtype=pydl.int64), 3)


# --- folding into the layer before


def test_fuse_into_convolution_and_linear(rng: np.random.Generator) -> None:
    def ready(bn: Any) -> Any:
        with pydl.no_grad():
            for t, low, high in (
                (bn.running_mean, -1, 1),
                (bn.running_var, 0.5, 2),
                (bn.weight, 0.5, 2),
                (bn.bias, -1, 1),
            ):
                if t is not None:
                    t.uniform_(low, high)
        return bn.eval()

    images, rows = pydl.asarray(rng.normal(size=(2, 4, 5, 5)).astype(np.float32)), pydl.ones((3, 4))
    for layer, bn, x, fuse in (
        (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), images, nn.utils.fuse_conv_bn_eval),
        (nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), images, nn.utils.fuse_conv_bn_eval),
        (nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, affine=False), images, nn.utils.fuse_conv_bn_eval),
        (nn.Linear(4, 6), nn.BatchNorm1d(6), rows, nn.utils.fuse_linear_bn_eval),
    ):
        before = layer.weight.detach().numpy().copy()
        fused = fuse(layer.eval(), ready(bn))
        assert type(fused) is type(layer)
        assert_near(fused(x).detach().numpy(), bn(layer(x)).detach().numpy(), 1e-5, 1e-5)
        np.testing.assert_array_equal(layer.weight.detach().numpy(), before)
    for groups in (1, 2):
        layer, bn = nn.ConvTranspose2d(4, 6, 3, 2, groups=groups).eval(), ready(nn.BatchNorm2d(6))
        fused = nn.utils.fuse_conv_bn_eval(layer, bn, transpose=True)
        assert_near(fused(images).detach().numpy(), bn(layer(images)).detach().numpy(), 1e-5, 1e-5)
    with pytest.raises(ValueError, match="training mode"):
        nn.utils.fuse_conv_bn_eval(nn.Conv2d(4, 6, 3), bn)
    with pytest.raises(ValueError, match="output channels"):
        nn.utils.fuse_conv_bn_eval(nn.Conv2d(4, 5, 3).eval(), bn)
    with pytest.raises(ValueError, match="no running statistics"):
        nn.utils.fuse_conv_bn_eval(layer, nn.BatchNorm2d(6, track_running_stats=False).eval(), transpose=True)
