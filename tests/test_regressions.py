"""Mistakes that were found once: crashes, leaks and silent wrong gradients that no other file's subject covers."""

from __future__ import annotations

import gc
import math
import os
import threading
import weakref

import numpy as np
import pytest

import pydl
from pydl import _C


def leaf(*values: float) -> pydl.Tensor:
    return pydl.asarray(values, dtype=pydl.float32, requires_grad=True)


# ---- in place, and whose history it is


def test_copy_of_a_leaf_into_a_tensor_keeps_both() -> None:
    w, z = leaf(1, 2, 3), pydl.zeros(3)
    z.copy_(w)
    (z * z).sum().backward()
    assert w.is_leaf
    assert w.grad.tolist() == [2.0, 4.0, 6.0]


def test_copy_of_a_result_leaves_its_retained_gradient() -> None:
    w, z = leaf(1, 2), pydl.zeros(2)
    y = w * 3
    y.retain_grad()
    z.copy_(y)
    (z * 5).sum().backward()
    assert y.grad.tolist() == [5.0, 5.0]
    assert w.grad.tolist() == [15.0, 15.0]


def test_changed_tensor_may_die_before_backward() -> None:
    w = leaf(1, 2, 3)
    y = w * 2
    y.add_(1)
    loss = (y * 3).sum()
    del y
    gc.collect()
    others = [pydl.ones(3, requires_grad=True) for _ in range(64)]
    loss.backward()
    assert w.grad.tolist() == [6.0, 6.0, 6.0]
    assert all(t.grad is None for t in others)


def test_retained_gradient_is_that_of_the_last_value() -> None:
    w = leaf(1, 2)
    y = w * 2
    y.retain_grad()
    y.mul_(pydl.asarray([3.0, 3.0]))
    (y * 5).sum().backward()
    assert y.grad.tolist() == [5.0, 5.0]


def test_hook_stays_with_the_value_it_was_put_on() -> None:
    w = leaf(1, 2)
    y = w * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.mul_(pydl.asarray([3.0, 3.0]))
    (y * 5).sum().backward()
    assert seen == [[15.0, 15.0]]


def test_view_made_before_its_base_was_overwritten_is_stale() -> None:
    w = leaf(1, 2, 3)
    y = w * 2
    part = y[:2]
    y.zero_()
    with pytest.raises(pydl.AutogradError, match="changed in place"):
        part.sum()


def test_overwriting_with_constants_ends_the_history() -> None:
    w = leaf(1, 2, 3)
    y = w * 2
    y.greater_(3)
    assert not y.requires_grad
    assert y.tolist() == [0.0, 1.0, 1.0]


def test_in_place_form_of_a_view_reads_before_it_writes() -> None:
    x = pydl.arange(6.0)
    assert x.flip_().tolist() == [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    m = pydl.reshape(pydl.arange(9.0), (3, 3))
    assert m.swap_axes_(0, 1).tolist() == np.arange(9.0).reshape(3, 3).T.tolist()


def test_broadcast_tensor_is_not_changed_in_place() -> None:
    x = pydl.ones(1).broadcast_to(3)
    with pytest.raises(ValueError, match="broadcast"):
        x.add_(pydl.arange(3.0))
    with pytest.raises(ValueError, match="broadcast"):
        x[0] = 5


# ---- gradients


def test_function_leaves_recording_on() -> None:
    class Twice(pydl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    Twice.apply(pydl.ones(2))
    assert pydl.is_grad_enabled()
    with pydl.no_grad():
        Twice.apply(pydl.ones(2, requires_grad=True))
        assert not pydl.is_grad_enabled()


def test_gradients_recorded_by_create_graph_share_no_memory() -> None:
    a, b, seed = leaf(1, 2), leaf(3, 4), pydl.ones(2)
    (a + b).backward(seed, create_graph=True)
    assert len({a.grad.data_ptr(), b.grad.data_ptr(), seed.data_ptr()}) == 3


def test_hook_may_change_the_dtype_but_the_gradient_keeps_its_own() -> None:
    w = leaf(1, 2)
    w.register_hook(lambda g: pydl.asarray([7, 8]))
    (w * 2).sum().backward()
    assert w.grad.dtype == pydl.float32
    assert w.grad.tolist() == [7.0, 8.0]


def test_gradient_that_was_set_to_a_broadcast_one_accumulates() -> None:
    w = leaf(1, 2, 3)
    w.grad = pydl.ones(1).broadcast_to(3)
    (w * pydl.asarray([1.0, 2.0, 3.0])).sum().backward()
    assert w.grad.tolist() == [2.0, 3.0, 4.0]


def test_data_exchanged_between_forward_and_backward_is_noticed() -> None:
    w = leaf(1, 2, 3)
    loss = w.square().sum()
    w.data = pydl.ones(2)
    with pytest.raises(pydl.AutogradError):
        loss.backward()
    other = leaf(1, 2, 3)
    loss = (other * 2).sum()
    other.data = pydl.ones(3, dtype=pydl.float64)
    (other * 3).sum().backward()
    assert other.grad.dtype == pydl.float64
    with pytest.raises(pydl.AutogradError, match="another shape, dtype or device"):
        loss.backward()


def test_retained_gradient_survives_a_recorded_backward() -> None:
    x = leaf(0.5)
    y = pydl.exp(x)
    y.retain_grad()
    pydl.autograd.grad(y, x, pydl.ones(1), create_graph=True)
    gc.collect()
    y.backward(pydl.ones(1))
    assert y.grad.tolist() == [1.0]


def test_second_derivative_through_a_saved_output() -> None:
    class Exp(pydl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = pydl.exp(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * y

    x = pydl.asarray([0.3], dtype=pydl.float64, requires_grad=True)
    (first,) = pydl.autograd.grad(Exp.apply(x).sum(), x, create_graph=True)
    (second,) = pydl.autograd.grad(first.sum(), x)
    np.testing.assert_allclose(second.numpy(), np.exp([0.3]), rtol=1e-14)


def test_gradients_from_several_threads_all_count() -> None:
    w = pydl.ones(200_000, requires_grad=True)

    def work() -> None:
        for _ in range(30):
            (w * 1.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert np.all(w.grad.numpy() == 120.0)


# ---- memory


def freed(make) -> bool:
    gc.collect()
    kept = weakref.ref(make())
    gc.collect()
    return kept() is None


class Token:
    pass


def test_hook_that_holds_its_tensor_is_collected() -> None:
    def make() -> Token:
        token, x = Token(), leaf(1, 2)

        def hook(_: pydl.Tensor) -> None:
            assert x is not None
            assert token is not None

        x.register_hook(hook)
        x.sum().backward()
        return token

    assert freed(make)


@pytest.mark.parametrize("backward", [False, True])
def test_function_that_saves_its_output_is_freed(backward: bool) -> None:
    class Keep(pydl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.token = Token()
            y = x * 2
            ctx.save_for_backward(y)
            made.append(weakref.ref(ctx.token))
            return y

        @staticmethod
        def backward(ctx, g):
            return g * 2

    made: list = []
    y = Keep.apply(leaf(1, 2))
    if backward:
        y.sum().backward()
    del y
    gc.collect()
    assert made[0]() is None


def test_tensor_asked_for_while_it_goes_away() -> None:
    x = leaf(1, 2)
    x.grad = pydl.ones(2)
    seen = []
    kept = weakref.ref(x.grad, lambda _: seen.append(x.grad.tolist()))
    gc.collect()
    assert kept() is None
    assert seen in ([], [[1.0, 1.0]])
    assert x.grad.tolist() == [1.0, 1.0]
    g = x.grad
    kept = weakref.ref(g, lambda _: seen.append(x.grad))
    del g
    assert seen[-1].tolist() == [1.0, 1.0]
    assert seen[-1] is x.grad


# ---- numbers and sizes at the edge


@pytest.mark.parametrize(
    "expression",
    [
        "x + 10**400",
        "x < 10**400",
        "x ** 10**400",
        "x.broadcast_to(-5)",
        "x.broadcast_to((-7, 3))",
        "pydl.pad(x, [(2**63 - 1, 2**63 - 1)])",
        "pydl.arange(-2**63, 2**63 - 1)",
        "_C.slice(x, 0, 0, 3, 2**62)",
        "_C.slice(x, 0, 2**62, 1, 1)",
    ],
)
def test_huge_numbers_are_errors(expression: str) -> None:
    x = pydl.ones(3)
    with pytest.raises((ValueError, OverflowError, IndexError, MemoryError)):
        eval(expression, {"x": x, "pydl": pydl, "_C": _C})


def test_huge_steps_take_one_element() -> None:
    x = pydl.arange(3.0)
    assert x[:: 2**63 - 1].tolist() == [0.0]
    assert x[:: -(2**63)].tolist() == [2.0]
    assert pydl.arange(0, 2**63 - 1, 2**62).tolist() == [0, 2**62]
    assert pydl.arange(0, -(2**63), -(2**62)).tolist() == [0, -(2**62)]
    assert pydl.eye(2, k=-(2**63)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert pydl.diagonal(pydl.ones((2, 2)), -(2**63)).shape == (0,)


def test_empty_ellipsis_sets_index_tensors_apart() -> None:
    a = np.arange(12.0).reshape(3, 4, 1)
    i = np.array([[0], [0]])
    expected = a[None, -2, ..., -3, i]
    np.testing.assert_array_equal(pydl.asarray(a)[None, -2, ..., -3, pydl.asarray(i)].numpy(), expected)


def test_largest_integers_keep_their_value() -> None:
    for dtype, value in (
        (pydl.uint64, 2**64 - 1),
        (pydl.uint64, 2**63),
        (pydl.int64, 2**63 - 1),
        (pydl.int64, -(2**63)),
    ):
        x = pydl.full((1,), value, dtype=dtype)
        assert x.item() == int(x) == value
        assert float(x) == float(value)


def test_integers_compare_with_numbers_their_dtype_lacks() -> None:
    x = pydl.asarray([-1, 100], dtype=pydl.int8)
    assert (x < 300).tolist() == [True, True]
    assert pydl.greater(x, -(2**40)).tolist() == [True, True]
    assert (pydl.asarray([0, 5], dtype=pydl.uint64) > -1).tolist() == [True, True]


def test_products_of_integer_matrices_are_exact() -> None:
    generator = np.random.default_rng(0)
    for dtype in (np.int64, np.uint64, np.int32, np.int8):
        info = np.iinfo(dtype)
        a = generator.integers(info.min, info.max, (2, 3, 4), dtype)
        b = generator.integers(info.min, info.max, (4, 5), dtype)
        np.testing.assert_array_equal((pydl.asarray(a) @ pydl.asarray(b)).numpy(), a @ b)
    x = pydl.asarray([[2**40 + 1]])
    assert (x @ x).item() == (2**40 + 1) ** 2 % 2**64


# ---- memory of others


def test_read_only_memory_is_not_given_away_as_writable() -> None:
    array = np.ones(3, np.float32)
    array.flags.writeable = False
    with pytest.raises(BufferError):
        np.from_dlpack(pydl.asarray(array))


def test_dlpack_with_negative_strides() -> None:
    array = np.arange(12.0).reshape(3, 4)[::-1, ::-2]
    x = pydl.from_dlpack(array)
    np.testing.assert_array_equal(x.numpy(), array)
    x[pydl.asarray([0, 2])] = 7.0
    assert array[0].tolist() == [7.0, 7.0]
    assert array[1].tolist() == [7.0, 5.0]


def test_forked_child_computes_gradients() -> None:
    w = pydl.ones(100_000, requires_grad=True)
    (w * 2).sum().backward()
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            (w * 2).sum().backward()

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                v = pydl.ones(100_000, requires_grad=True)
                (v * 2).sum().backward()
                (v * 2).sum().backward()
                os._exit(0 if v.grad[0].item() == 4.0 else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        busy.join()


# ---- numbers at the end of their range


@pytest.mark.parametrize("diagonal", [-(2**63), -9, -3, -2, 0, 1, 3, 9, 2**63 - 1])
def test_triangles_of_any_diagonal(diagonal: int) -> None:
    x = np.arange(1, 13).reshape(3, 4)
    near = max(-9, min(9, diagonal))
    assert pydl.tril(pydl.asarray(x), diagonal).tolist() == np.tril(x, near).tolist()
    assert pydl.triu(pydl.asarray(x), diagonal).tolist() == np.triu(x, near).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int8", "bool"])
def test_copies_of_what_is_repeated_along_the_last_axes(dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4, 1, 1) % 2
    x = pydl.asarray(values).astype(getattr(pydl, dtype))
    for shape in ((2, 3, 4, 5, 70), (2, 3, 4, 1, 33)):
        copied = pydl.clone(pydl.broadcast_to(x, shape))
        np.testing.assert_array_equal(copied.astype(pydl.float64).numpy(), np.broadcast_to(values, shape))
        turned = pydl.clone(pydl.permute_dims(pydl.broadcast_to(x, shape), (4, 0, 3, 1, 2)))
        expected = np.broadcast_to(values, shape).transpose(4, 0, 3, 1, 2)
        np.testing.assert_array_equal(turned.astype(pydl.float64).numpy(), expected)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(3, 5, 7), (16, 64, 28), (1, 17, 33), (2, 100, 300), (5, 8, 16)])
def test_transposed_copies_of_two_bytes(shape: tuple[int, ...], dtype: str) -> None:
    values = np.arange(np.prod(shape)).reshape(shape) % 199
    turned = pydl.clone(pydl.permute_dims(pydl.asarray(values).astype(getattr(pydl, dtype)), (0, 2, 1)))
    np.testing.assert_array_equal(turned.astype(pydl.int64).numpy(), values.transpose(0, 2, 1))


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [1.0], 1.0])
@pytest.mark.parametrize("repeats", [1, 3])
def test_repeated_elements_have_memory_of_their_own(values: float | list[float], repeats: int) -> None:
    x = pydl.tensor(values)
    y = pydl.repeat_interleave(x, repeats)
    expected = np.repeat(x.numpy(), repeats) + 10
    y += 10
    np.testing.assert_array_equal(y.numpy(), expected)
    np.testing.assert_array_equal(x.numpy(), values)


def test_norms_of_no_elements() -> None:
    for shape in ((0, 0), (0, 3), (3, 0)):
        for order in (1, 2, math.inf):
            assert pydl.linalg.matrix_norm(pydl.zeros(2, *shape), order, keepdims=True).tolist() == [[[0.0]], [[0.0]]]
            assert pydl.linalg.norm(pydl.zeros(shape), order).item() == 0.0
    with pytest.raises(ValueError, match="axis of size 0"):
        pydl.linalg.matrix_norm(pydl.zeros(0, 0), -1)


def test_least_squares_without_equations_to_spare_have_no_residuals() -> None:
    for rows, expected in ((2, (0,)), (3, (0,)), (5, (4,))):
        found = pydl.linalg.lstsq(pydl.randn(rows, 3), pydl.randn(rows, 4))
        assert found.residuals.shape == expected
        assert found.solution.shape == (3, 4)


def test_runs_of_slices_without_elements() -> None:
    empty = pydl.zeros(5, 0, 4)
    values, counts = pydl.unique_consecutive(empty, return_counts=True, dim=0)
    assert values.shape == (1, 0, 4)
    assert counts.tolist() == [5]
    assert pydl.unique_consecutive(empty, dim=1).shape == (5, 0, 4)


def test_the_pseudo_inverse_of_a_symmetric_matrix() -> None:
    x = pydl.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    expected = np.linalg.pinv(x.numpy().astype("float64"), hermitian=True)
    np.testing.assert_allclose(pydl.linalg.pinv(x, hermitian=True).numpy(), expected, atol=1e-6)
