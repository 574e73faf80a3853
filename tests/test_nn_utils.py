"""Clipping of gradients, and parameters as one vector."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.nn import utils


def with_gradients(arrays: list[np.ndarray]) -> list[Any]:
    tensors = []
    for array in arrays:
        tensor = pydl.zeros(array.shape, dtype=pydl.float64, requires_grad=True)
        tensor.grad = pydl.asarray(array.copy())
        tensors.append(tensor)
    return [*tensors, pydl.zeros((2,), requires_grad=True)]  # the last has no gradient


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.0, 0.7, 1e6])
def test_clip_grad_norm(norm_type: float, max_norm: float, rng: np.random.Generator) -> None:
    arrays = [rng.normal(size=(3, 4)), rng.normal(size=()), rng.normal(size=(1001,))]
    norm = np.linalg.norm(np.concatenate([a.ravel() for a in arrays]), norm_type)
    tensors = with_gradients(arrays)
    got = utils.clip_grad_norm_(iter(tensors), max_norm, norm_type)
    assert got.shape == ()
    assert got.item() == pytest.approx(norm, rel=1e-12)
    for tensor, array in zip(tensors, arrays, strict=False):
        np.testing.assert_allclose(tensor.grad.numpy(), array * min(1, max_norm / (norm + 1e-6)), rtol=1e-10)


def test_clip_grad_norm_of_one_tensor_none_and_nonfinite() -> None:
    tensor = with_gradients([np.asarray([3.0, 4.0])])[0]
    assert utils.clip_grad_norm_(tensor, 1.0).item() == pytest.approx(5.0)
    assert utils.clip_grad_norm_([], 1.0).item() == 0
    assert utils.clip_grad_norm_(pydl.ones((2,)), 1.0).item() == 0
    bad = with_gradients([np.asarray([3.0, np.inf]), np.asarray([1.0])])
    with pytest.raises(ValueError, match=r"\[clip_grad_norm_\] the gradients' norm is inf; nothing was changed"):
        utils.clip_grad_norm_(bad, 1.0, error_if_nonfinite=True)
    assert bad[1].grad.item() == 1.0
    for max_norm in (-1.0, math.nan):
        with pytest.raises(ValueError, match="max_norm"):
            utils.clip_grad_norm_(tensor, max_norm)


def test_get_total_norm_changes_nothing(rng: np.random.Generator) -> None:
    array = rng.normal(size=(5, 5))
    tensor = pydl.asarray(array.copy())
    assert utils.get_total_norm([tensor]).item() == pytest.approx(np.linalg.norm(array), rel=1e-12)
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_clip_grad_value(rng: np.random.Generator) -> None:
    array = rng.normal(size=(7, 9))
    tensors = with_gradients([array])
    utils.clip_grad_value_(tensors, 0.5)
    np.testing.assert_array_equal(tensors[0].grad.numpy(), np.clip(array, -0.5, 0.5))
    with pytest.raises(ValueError, match="clip_value"):
        utils.clip_grad_value_(tensors, -1.0)


def test_parameters_as_a_vector_and_back() -> None:
    layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    vector = utils.parameters_to_vector(layer.parameters())
    expected = np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()])
    np.testing.assert_array_equal(vector.detach().numpy(), expected)
    (vector * vector).sum().backward()
    np.testing.assert_allclose(layer.bias.grad.numpy(), 2 * layer.bias.detach().numpy())
    utils.vector_to_parameters(vector, other.parameters())
    for p, q in zip(layer.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
    assert other.weight.is_leaf
    for wrong in (vector[:-1], pydl.zeros((9,)), pydl.zeros((2, 4))):
        with pytest.raises(ValueError, match=r"expected \(8,\)"):
            utils.vector_to_parameters(wrong, other.parameters())
