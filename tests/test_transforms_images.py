"""Augmentation of images: values against NumPy written out pixel by pixel, and PyTorch; and each sample its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import pydl
from pydl.data.keys import SampleKeys
from pydl.data.transforms import (
    CenterCrop,
    ColorJitter,
    Compose,
    CutMix,
    Cutout,
    Lambda,
    Mixup,
    RandomAffine,
    RandomApply,
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomFlip,
    RandomNoise,
    RandomResizedCrop,
    RandomRotation,
    RandomShear,
    RandomShift,
    RandomZoom,
    Rescale,
    Transform,
    affine,
)

ALL: dict[str, Transform] = {
    "affine": RandomAffine(20, 0.2, 0.3, 10),
    "affine of pixels": RandomAffine(20, (0.1, 0.3), (0.5, 2), (-5, 10), fill_mode="wrap", interpolation="nearest"),
    "rotation": RandomRotation(30, fill_mode="nearest"),
    "shift": RandomShift(0.3, fill=1),
    "zoom": RandomZoom((0.5, 0.9), fill_mode="reflect"),
    "shear": RandomShear(30),
    "flip": RandomFlip("both"),
    "crop": RandomCrop((5, 4), padding=2, fill_mode="reflect"),
    "centre": CenterCrop((5, 4)),
    "resized": RandomResizedCrop((6, 9)),
    "noise": RandomNoise(3.0, 1.0),
    "jitter": ColorJitter(0.5, 0.5, 0.5),
    "cutout": Cutout((3, 4), count=2, fill=7),
    "apply": RandomApply(RandomFlip(p=1.0), 0.3),
    "compose": Compose([RandomAffine(20), RandomFlip(), RandomNoise(1.0), RandomNoise(1.0), Rescale(0.5, 1.0)]),
}


def images(rng: np.random.Generator, dtype: str = "float32", n: int = 12, channels: int = 3) -> np.ndarray:
    x = rng.integers(0, 256, (n, channels, 9, 7))
    return x.astype(dtype) if dtype == "uint8" else (x + rng.random(x.shape)).astype(dtype)


def outside(index: int, size: int, fill_mode: str) -> int | None:
    """The pixel that stands for one outside; None is the constant."""
    if fill_mode == "constant":
        return index if 0 <= index < size else None
    if fill_mode == "nearest":
        return min(max(index, 0), size - 1)
    if fill_mode == "wrap":
        return index % size
    index %= 2 * size
    return min(index, 2 * size - 1 - index)


def slow_warp(image: np.ndarray, forward: np.ndarray, shift: np.ndarray, fill_mode: str, fill: float) -> np.ndarray:
    """One (H, W) image; ``forward`` maps (x, y) from the centre, y up, to where it goes."""
    height, width = image.shape
    result = np.empty(image.shape)
    for i in range(height):
        for j in range(width):
            at = np.array([j - (width - 1) / 2, (height - 1) / 2 - i]) - shift
            x, y = np.linalg.solve(forward, at)
            x, y = x + (width - 1) / 2, (height - 1) / 2 - y
            left, top = math.floor(x), math.floor(y)
            total = 0.0
            for di, wi in ((0, top + 1 - y), (1, y - top)):
                for dj, wj in ((0, left + 1 - x), (1, x - left)):
                    row, column = outside(top + di, height, fill_mode), outside(left + dj, width, fill_mode)
                    total += wi * wj * (fill if row is None or column is None else image[row, column])
            result[i, j] = total
    return result


@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect", "wrap"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_warp_pixel_by_pixel(fill_mode: str, dtype: str, rng: np.random.Generator) -> None:
    x = images(rng, dtype)
    n = len(x)
    rotation, zoom, shear = rng.uniform(-180, 180, n), rng.uniform(0.4, 2, n), rng.uniform(-40, 40, n)
    shift = rng.uniform(-0.7, 0.7, (n, 2))
    y = affine(x, rotation, shift, zoom, shear, fill_mode=fill_mode, fill=100)
    assert y.dtype == x.dtype
    for k in range(n):
        a, s = math.radians(rotation[k]), math.tan(math.radians(shear[k]))
        turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])  # counter-clockwise, y up
        forward = turn @ np.array([[1, s], [0, 1]]) * zoom[k]
        expected = slow_warp(x[k, 1], forward, shift[k] * (7, -9), fill_mode, 100)
        tolerance = {"float32": 5e-3, "float64": 1e-9, "uint8": 0.501}[dtype]
        np.testing.assert_allclose(y[k, 1], expected, rtol=0, atol=tolerance)


def test_affine_is_what_its_words_say(rng: np.random.Generator) -> None:
    x = rng.random((2, 3, 8, 8))
    right, down = affine(x, shift=(0.25, 0)), affine(x, shift=(0, 0.25))
    assert np.array_equal(right[:, :, :, 2:], x[:, :, :, :-2])
    assert not right[:, :, :, :2].any()
    assert np.array_equal(down[:, :, 2:], x[:, :, :-2])
    np.testing.assert_allclose(affine(x, rotation=90), np.rot90(x, axes=(2, 3)), atol=1e-12)
    ramp = np.broadcast_to(np.arange(8.0), (1, 1, 8, 8))
    np.testing.assert_allclose(affine(ramp, zoom=2)[0, 0, 4], 3.5 + (np.arange(8) - 3.5) / 2)
    line = np.zeros((1, 1, 9, 9))
    line[..., 4] = 1.0
    assert affine(line, shear=45)[0, 0].argmax(axis=1).tolist() == [8, 7, 6, 5, 4, 3, 2, 1, 0]  # the top moves right
    assert np.array_equal(affine(x), x)


@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect"])
def test_warp_against_pytorch(fill_mode: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x = rng.random((6, 3, 16, 16), dtype=np.float32)
    rotation, zoom = rng.uniform(-90, 90, 6), rng.uniform(0.5, 2, 6)
    a = np.deg2rad(rotation)
    theta = np.zeros((6, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(a) / zoom, -np.sin(a) / zoom
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(a) / zoom, np.cos(a) / zoom
    padding = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}[fill_mode]
    grid = torch.nn.functional.affine_grid(torch.tensor(theta), x.shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(torch.tensor(x), grid, "bilinear", padding, align_corners=False)
    y = affine(x, rotation, zoom=zoom, fill_mode=fill_mode)
    np.testing.assert_allclose(y, expected.numpy(), atol=2e-5)


def test_nearest_takes_whole_pixels(rng: np.random.Generator) -> None:
    x = rng.permutation(2 * 81).reshape(2, 1, 9, 9).astype(np.float32)
    y = affine(x, 33, (0.1, 0.2), 1.7, 5, interpolation="nearest", fill_mode="nearest")
    assert np.isin(y, x).all()
    close = affine(x, 33, (0.1, 0.2), 1.7, 5, fill_mode="nearest")
    assert np.corrcoef(y.ravel(), close.ravel())[0, 1] > 0.5
    small = affine(x, shift=(0.04, -0.04), interpolation="nearest")  # less than half a pixel
    assert np.array_equal(small, x)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_sample_does_not_depend_on_its_batch(name: str, dtype: str, rng: np.random.Generator) -> None:
    transform, x, at = ALL[name], images(rng, dtype), np.arange(100, 112)
    whole = transform(x, SampleKeys(5, 1, at))
    assert np.array_equal(whole, transform(x, SampleKeys(5, 1, at)))
    order = rng.permutation(12)
    parts = np.concatenate([transform(x[rows], SampleKeys(5, 1, at[rows])) for rows in (order[:5], order[5:])])
    assert np.array_equal(parts, whole[order])
    if name != "centre":
        assert not np.array_equal(whole, transform(x, SampleKeys(5, 2, at)))
        assert not np.array_equal(whole, transform(x, SampleKeys(6, 1, at)))


@pytest.mark.parametrize("name", ALL)
def test_kinds_dtypes_and_layouts(name: str, rng: np.random.Generator) -> None:
    transform, keys = ALL[name], SampleKeys(0, 0, np.arange(12))
    for dtype in ("float32", "float64", "uint8"):
        x = images(rng, dtype)
        before = x.copy()
        expected = transform(x, keys)
        assert isinstance(expected, np.ndarray)
        assert expected.dtype == (np.float32 if name == "compose" and dtype == "uint8" else x.dtype)
        assert np.array_equal(x, before)
        last = np.ascontiguousarray(np.moveaxis(x, 1, 3))
        for tensor in (pydl.asarray(x), pydl.permute_dims(pydl.asarray(last), (0, 3, 1, 2))):
            y = transform(tensor, keys)
            assert isinstance(y, pydl.Tensor)
            assert np.array_equal(y.numpy(), expected)
        assert transform(x[:0], keys[:0]).shape == (0, *expected.shape[1:])


def test_a_transform_without_keys_follows_the_default_generator(rng: np.random.Generator) -> None:
    x = images(rng)
    results = []
    for seed in (1, 1, 2):
        pydl.manual_seed(seed)
        results.append(RandomAffine(30)(x))
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def amounts(measure: Callable[[np.ndarray], np.ndarray], transform: Transform, x: np.ndarray) -> np.ndarray:
    """What 4000 copies of one image were changed by."""
    return measure(transform(np.broadcast_to(x, (4000, *x.shape[1:])), SampleKeys(0, 0, np.arange(4000))))


def test_amounts_are_spread_over_their_ranges() -> None:
    ramp = np.broadcast_to(np.arange(64.0), (1, 1, 5, 64))  # the middle pixel tells the shift
    shifted = amounts(lambda y: ramp[0, 0, 2, 32] - y[:, 0, 2, 32], RandomShift((0.25, 0)), ramp)
    assert -16 <= shifted.min() < -15.9 < 15.9 < shifted.max() <= 16
    assert abs(shifted.mean()) < 5 * 32 / math.sqrt(12 * 4000)
    zoomed = amounts(lambda y: 2 / (y[:, 0, 2, 33] - y[:, 0, 2, 31]), RandomZoom((0.5, 2.0)), ramp)
    assert 0.5 <= zoomed.min() < 0.51 < 1.99 < zoomed.max() <= 2.0001
    assert abs(zoomed.mean() - 1.25) < 5 * 1.5 / math.sqrt(12 * 4000)
    bright = amounts(lambda y: y[:, 0, 0, 0], RandomBrightness(0.3), np.ones((1, 1, 2, 2)))
    assert 0.7 <= bright.min() < 0.71 < 1.29 < bright.max() <= 1.3
    chosen = amounts(lambda y: y[:, 0, 0, 0] == 1, RandomFlip(p=0.2), np.array([[[[0.0, 1.0]]]]))
    assert abs(chosen.mean() - 0.2) < 5 * 0.4 / math.sqrt(4000)
    tops = amounts(lambda y: y[:, 0, 0, 0], RandomCrop(2, padding=1), np.arange(16.0).reshape(1, 1, 4, 4) + 1)
    assert np.unique(tops).size == 17  # 16 pixels and the padding
    assert abs((tops == 0).mean() - 9 / 25) < 5 * 0.5 / math.sqrt(4000)


def test_rotation_goes_both_ways_about_the_centre() -> None:
    x = np.zeros((1, 1, 21, 21))
    x[0, 0, 10, 18] = 1.0  # right of the centre
    y = RandomRotation((80, 100))(np.repeat(x, 50, 0), SampleKeys(0, 0, np.arange(50)))
    rows, columns = np.unravel_index(y.reshape(50, -1).argmax(axis=1), (21, 21))
    assert (rows <= 3).all()  # above it now
    assert (np.abs(columns - 10) <= 2).all()
    assert len(np.unique(columns)) > 1


def test_flip_crop_and_centre(rng: np.random.Generator) -> None:
    x = images(rng)
    keys = SampleKeys(0, 0, np.arange(12))
    assert np.array_equal(RandomFlip(p=1.0)(x, keys), x[:, :, :, ::-1])
    assert np.array_equal(RandomFlip("vertical", p=1.0)(x, keys), x[:, :, ::-1])
    assert np.array_equal(RandomFlip("both", p=1.0)(x, keys), x[:, :, ::-1, ::-1])
    assert np.array_equal(RandomFlip(p=0.0)(x, keys), x)
    assert np.array_equal(CenterCrop((5, 3))(x, keys), x[:, :, 2:7, 2:5])
    cropped = RandomCrop((5, 4))(x, keys)
    for image, window in zip(x, cropped, strict=True):
        found = [(i, j) for i in range(5) for j in range(4) if np.array_equal(image[:, i : i + 5, j : j + 4], window)]
        assert len(found) == 1
    for mode, name in (("nearest", "edge"), ("reflect", "symmetric"), ("wrap", "wrap")):
        padded = RandomCrop((13, 11), padding=2, fill_mode=mode)(x, keys)
        assert np.array_equal(padded, np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), name))  # type: ignore[call-overload]


def test_resized_crop_of_everything_is_the_image(rng: np.random.Generator) -> None:
    x = images(rng)
    keys = SampleKeys(0, 0, np.arange(12))
    same = RandomResizedCrop((9, 7), scale=(1, 1), ratio=(7 / 9, 7 / 9))(x, keys)
    np.testing.assert_allclose(same, x, rtol=1e-4, atol=2e-3)
    ramp = np.broadcast_to(np.arange(64.0)[None, None, None], (500, 1, 64, 64))
    y = RandomResizedCrop(32, scale=(0.25, 0.25), ratio=(1, 1))(ramp, SampleKeys(0, 0, np.arange(500)))
    np.testing.assert_allclose(np.diff(y[:, 0, 5], axis=1)[:, 1:-1], 1, atol=1e-9)  # half the width, 32 pixels of it
    assert y[:, 0, 0, 0].min() < 1
    assert y[:, 0, 0, -1].max() > 62
    assert y[:, 0, 0, 0].min() >= 0


def test_noise(rng: np.random.Generator) -> None:
    x = np.full((200, 3, 9, 7), 10.0)
    noise = RandomNoise(2.0, 1.0)(x, SampleKeys(0, 0, np.arange(200))) - x
    assert abs(noise.mean() - 1) < 5 * 2 / math.sqrt(noise.size)
    assert abs(noise.std() - 2) < 5 * 2 / math.sqrt(2 * noise.size)
    assert abs(np.corrcoef(noise[:, 0].ravel(), noise[:, 1].ravel())[0, 1]) < 0.05
    saturated = RandomNoise(300.0)(np.full((4, 1, 9, 9), 128, np.uint8))
    assert {0, 255} <= set(saturated.ravel().tolist())
    sequence = RandomNoise(1.0)(np.zeros((3, 5), np.float32))
    assert sequence.shape == (3, 5)


def test_colours(rng: np.random.Generator) -> None:
    x = rng.random((5, 3, 4, 4))
    grey = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    keys = SampleKeys(0, 0, np.arange(5))
    np.testing.assert_allclose(RandomBrightness((1.5, 1.5))(x, keys), 1.5 * x)
    mean = grey.mean(axis=(1, 2))[:, None, None, None]
    np.testing.assert_allclose(RandomContrast((0.5, 0.5))(x, keys), 0.5 * x + 0.5 * mean)
    np.testing.assert_allclose(ColorJitter(saturation=(0, 0))(x, keys), np.repeat(grey[:, None], 3, 1), atol=1e-12)
    np.testing.assert_allclose(ColorJitter(saturation=(2, 2))(x, keys), 2 * x - grey[:, None], atol=1e-12)
    assert RandomBrightness((3, 3), clip=(0, 1))(x, keys).max() == 1
    white = RandomBrightness((3, 3))(np.full((1, 1, 2, 2), 100, np.uint8))
    assert white.tolist() == [[[[255, 255], [255, 255]]]]
    with pytest.raises(ValueError, match="got 1 channels"):
        ColorJitter(saturation=0.5)(x[:, :1], keys)


def test_cutout_makes_rectangles() -> None:
    x = np.ones((3000, 2, 12, 10))
    holes = Cutout((4, 3), fill=5)(x, SampleKeys(0, 0, np.arange(3000))) == 5
    assert np.array_equal(holes[:, 0], holes[:, 1])
    rows, columns = holes[:, 0].any(axis=2), holes[:, 0].any(axis=1)
    assert np.array_equal(holes[:, 0], rows[:, :, None] & columns[:, None, :])
    assert rows.sum(axis=1).max() == 4
    assert columns.sum(axis=1).max() == 3
    assert (np.diff(rows.astype(int), axis=1) == 1).sum(axis=1).max() == 1  # in one piece
    assert np.abs(holes[:, 0, 3:9, 3:8].mean(axis=0) - 12 / 120).max() < 5 * 0.3 / math.sqrt(3000)


def test_mixup(rng: np.random.Generator) -> None:
    x, y = rng.random((64, 5)), rng.integers(0, 4, 64)
    keys = SampleKeys(0, 0, np.arange(64))
    mixed, p, weight = Mixup(1.0, num_classes=4).apply((x, y, x[:, 0]), keys)
    assert np.array_equal(weight, x[:, 0])
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert (p[np.arange(64), y] >= 0.4999).all()
    tagged, q = Mixup(1.0, num_classes=64).apply((np.eye(64), np.arange(64)), keys)
    np.testing.assert_allclose(tagged, q, atol=1e-6)  # inputs and labels mix alike
    assert ((q > 0).sum(axis=1) == 2).all()
    assert (tagged > 0).sum() == 128
    np.testing.assert_allclose(mixed, tagged @ x, atol=1e-6)
    own = np.diag(tagged)
    assert 0.5 <= own.min() < 0.55 < 0.95 < own.max()
    assert np.array_equal(Mixup(1.0, num_classes=4, p=0.0).apply((x, y), keys)[0], x)
    real = Mixup(1.0).apply((x, x[:, 0]), keys)[1]
    np.testing.assert_allclose(real, tagged @ x[:, 0], atol=1e-6)
    tensors = Mixup(1.0, num_classes=4).apply((pydl.asarray(x), pydl.asarray(y)), keys)
    assert np.array_equal(tensors[1].numpy(), p)


def test_cutmix(rng: np.random.Generator) -> None:
    x = np.broadcast_to(np.arange(200.0)[:, None, None, None], (200, 2, 16, 12)).copy()
    mixed, p = CutMix(num_classes=200).apply((x, np.arange(200)), SampleKeys(0, 0, np.arange(200)))
    for k in range(200):
        own = (mixed[k] == k).mean()
        np.testing.assert_allclose(p[k, k], own, atol=1e-6)
        others = np.unique(mixed[k][mixed[k] != k]).astype(int)
        assert len(others) <= 1
        np.testing.assert_allclose(p[k, others].sum(), 1 - own, atol=1e-6)
        taken = mixed[k, 0] != k
        assert np.array_equal(taken, taken.any(axis=1)[:, None] & taken.any(axis=0)[None])
    assert np.diag(p).min() < 0.5
    assert np.diag(p).max() > 0.95


def test_mixing_in_a_loader_and_its_errors() -> None:
    chain = Compose([Rescale(), Mixup(num_classes=3), Lambda(lambda x: x * 2)])
    x = np.full((4, 1, 2, 2), 255, np.uint8)
    mixed, p = chain.apply((x, np.array([0, 1, 2, 2])), SampleKeys(0, 0, np.arange(4)))
    np.testing.assert_allclose(mixed, 2, atol=1e-6)
    assert p.shape == (4, 3)
    with pytest.raises(TypeError, match="mixes labels too"):
        Mixup()(x)
    with pytest.raises(ValueError, match="need num_classes"):
        Mixup().apply((x, np.array([0, 1, 2, 2])))
    with pytest.raises(ValueError, match="labels from 0 to 3"):
        Mixup(num_classes=3).apply((x, np.array([0, 1, 2, 3])))
    with pytest.raises(ValueError, match="4 inputs and 3 targets"):
        CutMix(num_classes=3).apply((x, np.array([0, 1, 2])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomAffine(rotation=-1), "rotation -1"),
        (lambda: RandomAffine(rotation=(5, 1)), r"rotation \(5, 1\)"),
        (lambda: RandomAffine(rotation=math.nan), "rotation nan"),
        (lambda: RandomZoom(1.0), "smallest factor is 0"),
        (lambda: RandomShear(90), "less than 90"),
        (lambda: RandomShift(0.1, fill_mode="mirror"), "'mirror', expected one of constant"),
        (lambda: RandomShift((0.1, 0.2, 0.3)), "one for x and one for y"),
        (lambda: RandomRotation(5, interpolation="cubic"), "'cubic'"),
        (lambda: RandomFlip("diagonal"), "'diagonal'"),
        (lambda: RandomFlip(p=2), "p 2"),
        (lambda: RandomCrop(0), "size 0"),
        (lambda: RandomCrop(3, padding=-1), "padding -1"),
        (lambda: RandomResizedCrop(3, scale=(0, 1)), r"scale \(0, 1\)"),
        (lambda: RandomNoise(-1), "std -1"),
        (lambda: Cutout(3, count=0), "count 0"),
        (lambda: Mixup(0), "alpha 0"),
        (lambda: CutMix(num_classes=1), "num_classes 1"),
        (lambda: RandomCrop(30)(np.zeros((2, 1, 28, 28))), "at least"),
        (lambda: RandomAffine()(np.zeros((2, 28, 28))), r"x\[:, None\]"),
        (lambda: affine(np.zeros((1, 1, 2, 2)), zoom=0), "zoom 0"),
        (lambda: RandomFlip()(np.zeros((2, 1, 2, 2)), SampleKeys(0, 0, [1])), "2 samples and the keys of 1"),
        (lambda: RandomApply(CenterCrop(1), 1.0)(np.zeros((2, 1, 2, 2))), "expected the same"),
    ],
)
def test_bad_values(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFlip()([[1.0]]), "got a list"),
        (lambda: RandomAffine()(np.zeros((2, 1, 2, 2), np.int64)), "int64, expected uint8"),
        (lambda: Compose([np.flip]), "expected a Transform; Lambda"),
        (lambda: RandomFlip()(np.zeros((2, 1, 2, 2)), 7), "keys of type int"),  # type: ignore[arg-type]
        (lambda: Lambda(3), "expected a function"),  # type: ignore[arg-type]
        (lambda: RandomFlip().apply(np.zeros((2, 1, 2, 2))), "expected a tuple"),  # type: ignore[arg-type]
    ],
)
def test_bad_types(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def test_channels_last_is_told() -> None:
    with pytest.raises(ValueError, match=r"^\[RandomCrop\] .*\(2, 8, 8, 3\), which looks like \(N, H, W, C\)"):
        RandomCrop(4)(np.zeros((2, 8, 8, 3), np.uint8), SampleKeys(0, 0, np.arange(2)))
