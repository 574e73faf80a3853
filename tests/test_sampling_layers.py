"""Grids of places, fractional pooling, LP pooling of negative numbers: against PyTorch, with both gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.nn import functional as F
from tolerances import assert_near


def both(function: Any, *arrays: np.ndarray) -> None:
    """function(library, *tensors) and the gradients of all tensors are equal."""
    torch = pytest.importorskip("torch")
    results = []
    for library, tensor in ((torch, torch.from_numpy), (pydl, pydl.asarray)):
        leaves = [tensor(a.copy()).requires_grad_() for a in arrays]
        y = function(library, *leaves)
        weights = np.random.default_rng(3).normal(size=tuple(y.shape))
        (y * tensor(weights)).sum().backward()
        results.append([y.detach(), *(leaf.grad for leaf in leaves)])
    for i, (wanted, got) in enumerate(zip(*results, strict=True)):
        assert_near(got.numpy(), wanted.numpy(), 1e-9, 1e-10, f"result {i}")


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode: str, padding: str, align: bool, rng: np.random.Generator) -> None:
    shapes = [((2, 3, 4, 5), (2, 3, 6, 2)), ((1, 1, 1, 3), (1, 2, 2, 2))]
    if mode != "bicubic":
        shapes.append(((2, 2, 3, 4, 5), (2, 2, 3, 4, 3)))
    for image, grid in shapes:
        x, places = rng.normal(size=image), rng.uniform(-2.2, 2.2, size=grid)
        both(lambda lib, a, g: lib.nn.functional.grid_sample(a, g, mode, padding, align), x, places)


@pytest.mark.parametrize("align", [True, False])
def test_affine_grid(align: bool, rng: np.random.Generator) -> None:
    for size in ((2, 3, 4, 5), (1, 1, 2, 4)):
        both(lambda lib, t, s=size: lib.nn.functional.affine_grid(t, s, align), rng.normal(size=(size[0], 2, 3)))
    both(lambda lib, t: lib.nn.functional.affine_grid(t, (2, 1, 3, 4, 5), align), rng.normal(size=(2, 3, 4)))


def test_a_grid_that_changes_nothing(rng: np.random.Generator) -> None:
    x = pydl.asarray(rng.normal(size=(2, 3, 4, 5)))
    same = pydl.asarray(np.tile(np.eye(2, 3), (2, 1, 1)))
    assert_near(F.grid_sample(x, F.affine_grid(same, x.shape)).numpy(), x.numpy(), 1e-12, 1e-12)
    places = F.affine_grid(same, x.shape)
    places[0, 0, 0, 0] = float("nan")
    y = F.grid_sample(x, places)
    assert y[0, :, 0, 0].tolist() == [0.0, 0.0, 0.0]  # outside


@pytest.mark.parametrize("options", [{"output_ratio": 0.6}, {"output_size": 2}, {"output_size": (3, 2, 4)}], ids=str)
@pytest.mark.parametrize("rank", [2, 3])
def test_fractional_max_pool(rank: int, options: dict[str, Any], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    options = {k: v[:rank] if isinstance(v, tuple) else v for k, v in options.items()}
    x, drawn = rng.normal(size=(2, 3, 7, 6, 8)[: rank + 2]), rng.random((2, 3, rank))
    name = f"FractionalMaxPool{rank}d"
    ours = getattr(nn, name)(2, **options, return_indices=True, _random_samples=pydl.asarray(drawn))
    theirs = getattr(torch.nn, name)(2, **options, return_indices=True, _random_samples=torch.from_numpy(drawn))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    np.testing.assert_array_equal(ours(pydl.asarray(x))[1].numpy(), theirs(torch.from_numpy(x))[1].numpy())
    layers = {torch: theirs, pydl: ours}
    both(lambda lib, a: layers[lib](a)[0], x)


def test_fractional_windows_are_drawn_anew_and_repeatable(rng: np.random.Generator) -> None:
    x = pydl.asarray(rng.normal(size=(1, 2, 20, 20)))
    pool = nn.FractionalMaxPool2d(2, output_ratio=0.55)
    pydl.manual_seed(3)
    first, second = pool(x), pool(x)
    pydl.manual_seed(3)
    assert first.shape == (1, 2, 11, 11)
    assert (pool(x) == first).all()
    assert not (first == second).all()


def test_lp_pooling_keeps_nan_in_gradients() -> None:
    x = pydl.asarray([[[1.0, -1.0, 2.0, 3.0]]]).requires_grad_()
    F.lp_pool1d(x, 1.5, 2).sum().backward()
    assert np.isnan(x.grad.numpy()).tolist() == [[[True, True, False, False]]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: F.grid_sample(x, pydl.zeros((2, 3, 3, 3))), ValueError, r"grid of shape \(2, 3, 3, 3\), expected"),
        (lambda x: F.grid_sample(x, pydl.zeros((1, 3, 3, 2)), "cubic"), ValueError, "'bilinear', 'nearest', 'bicubic'"),
        (lambda x: F.grid_sample(x, pydl.zeros((1, 3, 3, 2), dtype=pydl.float64)), TypeError, "expected the same"),
        (lambda x: F.affine_grid(pydl.zeros((1, 2, 2)), (1, 1, 2, 2)), ValueError, r"expected \(N, 2, 3\)"),
        (lambda x: F.fractional_max_pool2d(x, 2), ValueError, "expected one of them"),
        (lambda x: F.fractional_max_pool2d(x, 2, 9), ValueError, "do not fit a size of 4"),
        (lambda x: F.fractional_max_pool2d(x, 2, output_ratio=1.5), ValueError, "between 0 and 1"),
        (lambda x: nn.FractionalMaxPool3d(2, 2)(x[0, 0]), ValueError, "expected 5 axes, or 4"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(pydl.ones((1, 1, 4, 4)))
