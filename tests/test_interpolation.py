"""Interpolation, and channels moved into space: against PyTorch, gradients, mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from images import LAYOUTS, as_channels_last, compare
from pydl import nn
from pydl.nn import functional as F
from tolerances import assert_near, assert_same_bits

MODES = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "area": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "bicubic": (2,),
    "trilinear": (3,),
}
CASES = [(mode, rank) for mode, ranks in MODES.items() for rank in ranks]
SHAPES = {1: (2, 3, 11), 2: (2, 9, 7, 6), 3: (1, 3, 4, 5, 6)}
TARGETS: list[dict[str, Any]] = [
    {"size": 13},
    {"size": 3},
    {"size": 1},
    {"scale_factor": 2},
    {"scale_factor": 2.6},
    {"scale_factor": 0.55},
    {"scale_factor": 1.7, "recompute_scale_factor": True},
]


@pytest.mark.parametrize(("mode", "rank"), CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_against_torch(mode: str, rank: int, layout: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    for target in TARGETS:
        for align in (None,) if "nearest" in mode or mode == "area" else (False, True):
            for dtype in ("float32", "float64"):
                keywords = {**target, "mode": mode, "align_corners": align}
                compare(
                    lambda t, k=keywords: F.interpolate(t, **k),
                    lambda t, k=keywords: torch.nn.functional.interpolate(t, **k),
                    [rng.normal(size=SHAPES[rank]).astype(dtype)],
                    rng,
                    LAYOUTS[layout],
                    str(keywords),
                )


FEW_CHANNELS = [(3, 15, 90), (1, 1, 40, 50), (2, 3, 31, 33), (1, 7, 9, 60), (7, 1, 24, 19), (1, 3, 12, 13, 14)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", FEW_CHANNELS, ids=str)
def test_few_channels_against_torch(shape: tuple[int, ...], layout: str, rng: np.random.Generator) -> None:
    """They go by planes, or as the channels of one image."""
    torch = pytest.importorskip("torch")
    for mode, ranks in MODES.items():
        if len(shape) - 2 not in ranks:
            continue
        for target in ({"scale_factor": 1.7}, {"scale_factor": 0.55}, {"size": 21}):
            for dtype in ("float32", "float64"):
                compare(
                    lambda t, k=target, m=mode: F.interpolate(t, mode=m, **k),
                    lambda t, k=target, m=mode: torch.nn.functional.interpolate(t, mode=m, **k),
                    [rng.normal(size=shape).astype(dtype)],
                    rng,
                    LAYOUTS[layout],
                    f"{mode} {target}",
                )


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_meets_the_same_places_as_torch(mode: str) -> None:
    torch = pytest.importorskip("torch")
    for n in range(1, 40, 3):
        x = np.arange(n, dtype=np.float32).reshape(1, 1, n)
        for size in range(1, 50):
            got = F.interpolate(pydl.asarray(x), size=size, mode=mode).numpy()
            np.testing.assert_array_equal(
                got, torch.nn.functional.interpolate(torch.tensor(x), size, mode=mode).numpy()
            )
        for scale in (0.3, 0.7, 1.1, 1.3, 2.3, 3.7):
            if int(n * scale) > 0:
                got = F.interpolate(pydl.asarray(x), scale_factor=scale, mode=mode).numpy()
                wanted = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=scale, mode=mode).numpy()
                np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_gradients(mode: str, rng: np.random.Generator) -> None:
    for shape, last in (((2, 3, 4, 5), False), ((2, 4, 5, 3), True)):
        x = pydl.asarray(rng.normal(size=shape), requires_grad=True)
        assert pydl.autograd.gradcheck(
            lambda t, f=last: F.interpolate(as_channels_last(t) if f else t, (7, 3), mode=mode), x
        )

        def gradient(t: pydl.Tensor, f: bool = last) -> pydl.Tensor:
            with pydl.enable_grad():  # gradcheck switches recording off for its differences
                y = F.interpolate(as_channels_last(t) if f else t, (7, 3), mode=mode) ** 3
                return pydl.autograd.grad(y.sum(), t, create_graph=True)[0]

        assert pydl.autograd.gradcheck(gradient, x)


@pytest.mark.parametrize("channels", [1, 3, 8, 31, 33, 64])
def test_channels(channels: int, rng: np.random.Generator) -> None:
    """Each channel by itself is what it is beside the others: vector bodies and tails."""
    x = rng.normal(size=(2, channels, 5, 6)).astype(np.float32)
    together = F.interpolate(pydl.asarray(x), (9, 4), mode="bilinear").numpy()
    for c in range(channels):
        alone = F.interpolate(pydl.asarray(x[:, c : c + 1].copy()), (9, 4), mode="bilinear").numpy()
        assert_same_bits(together[:, c : c + 1], alone)


def test_same_bits_for_any_thread_count(rng: np.random.Generator, threads: None) -> None:
    x = rng.normal(size=(2, 33, 30, 31)).astype(np.float32)

    def results() -> list[np.ndarray]:
        t = pydl.asarray(x, requires_grad=True)
        y = F.interpolate(t, scale_factor=2.3, mode="bicubic")
        (y * y).sum().backward()
        return [y.detach().numpy(), t.grad.numpy()]

    pydl.set_num_threads(1)
    alone = results()
    for count in (2, 3):
        pydl.set_num_threads(count)
        for a, b in zip(results(), alone, strict=True):
            assert_same_bits(a, b)


def test_not_a_number_and_half(rng: np.random.Generator) -> None:
    x = np.zeros((1, 1, 4))
    x[0, 0, 3] = np.inf
    y = F.interpolate(pydl.asarray(x), size=4, mode="linear").numpy()
    np.testing.assert_array_equal(y, x)  # a place that has no weight counts for nothing
    h = pydl.asarray(rng.normal(size=(1, 2, 3, 3)).astype(np.float32)).astype(pydl.float16).requires_grad_()
    up = F.interpolate(h, scale_factor=2, mode="bilinear")
    assert up.dtype == pydl.float16
    up.sum().backward()
    assert h.grad.dtype == pydl.float16
    assert_near(h.grad.astype(pydl.float32).numpy(), np.full((1, 2, 3, 3), 4.0), 1e-3, 0)


def test_empty_batch() -> None:
    x = pydl.zeros((0, 3, 4, 4)).requires_grad_()
    y = F.interpolate(x, size=7, mode="bilinear")
    y.sum().backward()
    assert y.shape == (0, 3, 7, 7)
    assert x.grad.shape == x.shape


def test_layers_against_torch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 8, 6, 4))
    for name, keywords in (
        ("Upsample", {"scale_factor": 2}),
        ("Upsample", {"size": (3, 9), "mode": "bicubic", "align_corners": True}),
        ("Upsample", {"scale_factor": (1.5, 2), "mode": "bilinear", "recompute_scale_factor": True}),
        ("UpsamplingNearest2d", {"scale_factor": 3}),
        ("UpsamplingBilinear2d", {"size": 5}),
        ("PixelShuffle", {"upscale_factor": 2}),
        ("PixelUnshuffle", {"downscale_factor": 2}),
        ("ChannelShuffle", {"groups": 4}),
    ):
        ours, theirs = getattr(nn, name)(**keywords), getattr(torch.nn, name)(**keywords)
        for layout in ("channels first", "channels last"):
            compare(ours, theirs, [x], rng, LAYOUTS[layout], name)
        assert repr(ours) == repr(theirs)
    assert F.pixel_shuffle(pydl.ones((4, 2, 2)), 2).shape == (1, 4, 4)
    shuffled = F.pixel_shuffle(pydl.asarray(x), 2)
    np.testing.assert_array_equal(F.pixel_unshuffle(shuffled, 2).numpy(), x)
    np.testing.assert_array_equal(
        F.upsample_nearest(pydl.asarray(x), 7).numpy(), F.interpolate(pydl.asarray(x), 7).numpy()
    )


def test_mistakes() -> None:
    x = pydl.ones((2, 4, 3, 3))
    mistakes = [
        (lambda: F.interpolate(x), "both or neither"),
        (lambda: F.interpolate(x, 2, 2.0), "both or neither"),
        (lambda: F.interpolate(x, 2, mode="linear"), "expected 3 axes"),
        (lambda: F.interpolate(x, 2, mode="cubic"), "expected one of 'nearest'"),
        (lambda: F.interpolate(x, 2, align_corners=True), "no align_corners"),
        (lambda: F.interpolate(x, 0), "above 0"),
        (lambda: F.interpolate(x, scale_factor=0.1), "above 0"),
        (lambda: F.interpolate(x, scale_factor=-1), "above 0"),
        (lambda: F.interpolate(x, (1, 2, 3)), "3 numbers for size"),
        (lambda: F.interpolate(x, 2, recompute_scale_factor=True), "recompute_scale_factor"),
        (lambda: F.interpolate(pydl.ones((2, 4)), 2), "axes"),
        (lambda: F.pixel_shuffle(x, 3), "upscale_factor 3"),
        (lambda: F.pixel_unshuffle(x, 2), "downscale_factor 2"),
        (lambda: F.channel_shuffle(x, 3), "3 groups"),
    ]
    for function, message in mistakes:
        with pytest.raises(ValueError, match=message):
            function()
    with pytest.raises(TypeError, match="floating"):
        F.interpolate(pydl.ones((1, 1, 2), dtype=pydl.int64), 2)
    with pytest.raises(NotImplementedError, match="antialias"):
        F.interpolate(x, 2, mode="bilinear", antialias=True)
