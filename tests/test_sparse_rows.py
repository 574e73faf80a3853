"""Gradients of embeddings that know their touched rows: the same values as dense ones, at the cost of the batch."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from pydl.nn import functional as F

ROWS, SIZE = 40_000, 8  # above the size from which memory is mapped when it is touched


def table(rng: np.random.Generator, rows: int = ROWS, dtype: str = "float32") -> pydl.Tensor:
    return pydl.asarray(rng.standard_normal((rows, SIZE)).astype(dtype), requires_grad=True)


@pytest.mark.parametrize("rows", [ROWS, 50])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", [None, 3])
def test_gradient_is_that_of_a_dense_embedding(
    rng: np.random.Generator, rows: int, dtype: str, padding: int | None
) -> None:
    ids = pydl.asarray(rng.integers(0, rows, (5, 7)))
    ids[0, 0] = 3
    upstream = pydl.asarray(rng.standard_normal((5, 7, SIZE)).astype(dtype))
    grads = []
    for sparse in (False, True):
        w = table(np.random.default_rng(0), rows, dtype)
        for _ in range(2):  # the second adds to the first
            (F.embedding(ids, w, padding, sparse=sparse) * upstream).sum().backward()
        assert w.grad is not None
        grads.append(w.grad.numpy())
    np.testing.assert_array_equal(grads[0], grads[1])


def test_lookups_in_one_pass_and_in_several_add_up(rng: np.random.Generator) -> None:
    first, second = (pydl.asarray(rng.integers(0, ROWS, 6)) for _ in range(2))

    def gradient(sparse: bool) -> np.ndarray:
        w = table(np.random.default_rng(0))
        (F.embedding(first, w, sparse=sparse).sum() + 2 * F.embedding(second, w, sparse=sparse).sum()).backward()
        F.embedding(first, w, sparse=sparse).square().sum().backward()
        w.square().sum().backward()  # a dense one on top
        F.embedding(second, w, sparse=sparse).sum().backward()
        assert w.grad is not None
        return w.grad.numpy()

    np.testing.assert_array_equal(gradient(True), gradient(False))


OPTIMIZERS: list[Callable[[list[pydl.Tensor]], optim.Optimizer]] = [
    lambda p: optim.SGD(p, 0.1),
    lambda p: optim.SGD(p, 0.1, momentum=0.9),
    lambda p: optim.SGD(p, 0.1, weight_decay=0.1),
    lambda p: optim.SGD(p, 0.1, momentum=0.9, lazy_rows=True),
    lambda p: optim.SGD(p, 0.1, maximize=True),
    lambda p: optim.Adam(p, 0.1),
    lambda p: optim.Adam(p, 0.1, lazy_rows=True, amsgrad=True),
    lambda p: optim.AdamW(p, 0.1, lazy_rows=True),
    lambda p: optim.SparseAdam(p, 0.1),
    lambda p: optim.Adagrad(p, 0.1, lazy_rows=True),
    lambda p: optim.RMSprop(p, 0.1, lazy_rows=True, centered=True, momentum=0.5),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_optimizers_step_as_with_dense_gradients(
    rng: np.random.Generator, make: Callable[[list[pydl.Tensor]], optim.Optimizer]
) -> None:
    ids = [pydl.asarray(rng.integers(0, ROWS, 30)) for _ in range(3)]
    results = []
    for sparse in (False, True):
        w, other = table(np.random.default_rng(0)), table(np.random.default_rng(1), 5)
        optimizer = make([w, other])
        for batch in ids:
            optimizer.zero_grad()
            picked = F.embedding(batch, w, sparse=sparse)
            (picked.square() * pydl.asarray(np.arange(30.0).reshape(30, 1))).sum().backward()  # row 0: a zero gradient
            other.square().sum().backward()
            optimizer.step()
        results.append([w.detach().numpy().copy(), other.detach().numpy().copy()])
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("change", ["scale", "fill", "element", "clip", "view"])
def test_a_gradient_changed_in_place_is_taken_as_it_is(rng: np.random.Generator, change: str) -> None:
    w = table(rng)
    before = w.detach().numpy().copy()
    F.embedding(pydl.asarray([1, 5]), w, sparse=True).sum().backward()
    g: Any = w.grad
    if change == "scale":
        g += 1.0
    elif change == "fill":
        g.fill_(1.0)
    elif change == "element":
        g[7, 0] = 3.0
    elif change == "view":
        g.reshape((-1,))[70] = 3.0
    else:
        nn.utils.clip_grad_norm_([w], 0.5)
    expected = before - 0.5 * g.numpy()
    optim.SGD([w], 0.5).step()
    np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-6)


def test_second_derivatives_go_through(rng: np.random.Generator) -> None:
    w = pydl.asarray(rng.standard_normal((6, 2)), requires_grad=True)
    ids = pydl.asarray([1, 1, 4])
    assert pydl.autograd.gradcheck(lambda t: F.embedding(ids, t, sparse=True).square(), [w])
    (g,) = pydl.autograd.grad([F.embedding(ids, w, sparse=True).square().sum()], [w], create_graph=True)
    (second,) = pydl.autograd.grad([g.square().sum()], [w])
    expected = np.zeros((6, 2))
    expected[1], expected[4] = 32 * w.detach().numpy()[1], 8 * w.detach().numpy()[4]  # of (2 n w)^2, n lookups
    np.testing.assert_allclose(second.numpy(), expected)


def test_memory_written_to_from_outside_is_taken_as_it_is(rng: np.random.Generator) -> None:
    w = table(rng)
    before = w.detach().numpy().copy()
    F.embedding(pydl.asarray([1, 5]), w, sparse=True).sum().backward()
    assert w.grad is not None
    w.grad.numpy()[7] = 2.0
    optim.SGD([w], 0.5).step()
    np.testing.assert_array_equal(w.detach().numpy()[7], before[7] - 1)

    layer, ids = nn.LSTM(SIZE, 3), pydl.asarray([[1], [2]])
    with pydl.no_grad():
        x = nn.Embedding(9, SIZE)(ids)
        x.numpy()[:] = 0.25
        given, expected = layer(x)[0], layer(pydl.full((2, 1, SIZE), 0.25))[0]
    np.testing.assert_array_equal(given.numpy(), expected.numpy())


def test_layers_pass_it_on(rng: np.random.Generator) -> None:
    ids = pydl.asarray([[1, 2], [2, 9]])
    for make in (nn.Embedding, nn.EmbeddingBag):
        dense, sparse = make(ROWS, SIZE), make(ROWS, SIZE, sparse=True)
        sparse.load_state_dict(dense.state_dict())
        for layer in (dense, sparse):
            layer(ids).square().sum().backward()
        assert dense.weight.grad is not None
        assert sparse.weight.grad is not None
        np.testing.assert_array_equal(dense.weight.grad.numpy(), sparse.weight.grad.numpy())
        assert "sparse=True" in repr(sparse)
    recurrent = nn.LSTM(SIZE, 4)
    layer = nn.Embedding(ROWS, SIZE, sparse=True)
    recurrent(layer(ids))[0].sum().backward()
    assert layer.weight.grad is not None
    assert sorted({int(r) for r in np.nonzero(layer.weight.grad.numpy())[0]}) == [1, 2, 9]


def test_memory_of_a_gradient_is_made_when_it_is_touched() -> None:
    w = pydl.zeros((1_000_000, 64), requires_grad=True)  # 256 MB
    before = resident()
    for _ in range(3):
        w.grad = None
        F.embedding(pydl.asarray([1, 500_000]), w, sparse=True).sum().backward()
    optim.SGD([w], 0.5).step()
    assert resident() - before < 20 * 1024
    assert w[500_000].sum().item() == -32.0


def resident() -> int:
    """Kilobytes of this process that are in memory."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system has no /proc")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))
