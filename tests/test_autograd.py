"""The engine: what accumulates, what is cut, what raises, what is freed. Gradients of single ops are elsewhere."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import pydl


def leaf(*values: float) -> pydl.Tensor:
    return pydl.asarray(np.array(values, dtype=np.float64)).requires_grad_()


def scalar(value: float) -> pydl.Tensor:
    return pydl.asarray(np.array(value, dtype=np.float64)).requires_grad_()


def test_gradients_accumulate_over_backward_calls() -> None:
    x = leaf(1, 2, 3)
    (x * x).sum().backward()
    (x * 5).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [7, 9, 11])
    x.grad = None
    (x * 5).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [5, 5, 5])


def test_the_same_operand_twice() -> None:
    x = leaf(1, 2, 3)
    (x + x).backward(pydl.asarray(np.array([1.0, 10, 100])))
    np.testing.assert_array_equal(x.grad.numpy(), [2, 20, 200])
    y = leaf(3)
    (y * y * y).backward(pydl.asarray(np.array([2.0])))
    np.testing.assert_array_equal(y.grad.numpy(), [54])


def test_shared_subgraph_is_visited_once() -> None:
    calls: list[float] = []
    x = leaf(2)
    shared = x * 3
    shared.register_hook(lambda g: calls.append(float(g.numpy()[0])))
    (shared * shared + shared * 4).backward(pydl.asarray(np.array([1.0])))
    assert calls == [16.0]  # 2 * 6 + 4: one visit, with the whole sum
    assert x.grad.numpy().tolist() == [48.0]


def test_diamonds_cost_linear_time() -> None:
    x = scalar(1.0)
    y = x
    for _ in range(200):  # 2^200 paths
        y = (y + y) * 0.5
    y.backward()
    assert float(x.grad.numpy()) == 1.0


def test_gradient_of_a_view_reaches_the_base() -> None:
    x = leaf(1, 2, 3, 4, 5, 6)
    y = x.reshape((2, 3))[1, ::-1]
    y.backward(pydl.asarray(np.array([1.0, 10, 100])))
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0, 0, 100, 10, 1])


def test_gradients_handed_over_are_not_shared() -> None:
    """x.grad and y.grad come from one upstream; changing one must not change the other."""
    x, y = leaf(1, 2), leaf(3, 4)
    upstream = pydl.asarray(np.array([5.0, 6.0]))
    (x + y).backward(upstream)
    x.grad.mul_(100)
    np.testing.assert_array_equal(y.grad.numpy(), [5, 6])
    np.testing.assert_array_equal(upstream.numpy(), [5, 6])
    (x + y).sum().backward()
    np.testing.assert_array_equal(upstream.numpy(), [5, 6])


def test_non_leaf_gradients_are_not_kept_unless_asked() -> None:
    x = leaf(1, 2)
    y = x * 2
    y.sum().backward()
    assert not y.is_leaf
    assert x.is_leaf
    z = x * 2
    z.retain_grad()
    (z * 3).sum().backward()
    np.testing.assert_array_equal(z.grad.numpy(), [3, 3])


def test_no_grad_as_context_and_decorator() -> None:
    x = leaf(1, 2)
    assert pydl.is_grad_enabled()
    with pydl.no_grad():
        assert not pydl.is_grad_enabled()
        y = x * 2
        with pydl.enable_grad():
            z = x * 2
    assert (y.requires_grad, z.requires_grad) == (False, True)
    assert pydl.is_grad_enabled()

    @pydl.no_grad()
    def doubled(t: pydl.Tensor) -> pydl.Tensor:
        """Doc."""
        return t * 2

    assert not doubled(x).requires_grad
    assert (doubled.__name__, doubled.__doc__) == ("doubled", "Doc.")
    assert pydl.is_grad_enabled()


def test_no_grad_is_undone_by_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), pydl.no_grad():
        raise ZeroDivisionError
    assert pydl.is_grad_enabled()


def test_no_grad_belongs_to_its_thread() -> None:
    seen: list[bool] = []
    with pydl.no_grad():
        worker = threading.Thread(target=lambda: seen.append(pydl.is_grad_enabled()))
        worker.start()
        worker.join()
    assert seen == [True]


def test_detach_shares_memory_and_cuts() -> None:
    x = leaf(1, 2)
    cut = x.detach()
    assert not cut.requires_grad
    (x * cut).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 2])
    cut.fill_(7)
    np.testing.assert_array_equal(x.detach().numpy(), [7, 7])


def test_clone_copies_and_passes_the_gradient() -> None:
    x = leaf(1, 2)
    y = x.clone()
    y.backward(pydl.asarray(np.array([3.0, 4.0])))
    np.testing.assert_array_equal(x.grad.numpy(), [3, 4])
    y.detach().fill_(9)
    np.testing.assert_array_equal(x.detach().numpy(), [1, 2])


def test_second_backward_raises_unless_the_graph_is_kept() -> None:
    x = leaf(1, 2)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [4, 8])
    with pytest.raises(ValueError, match=r"\[backward\].*retain_graph"):
        y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [4, 8])


def test_backward_of_a_vector_needs_an_upstream_gradient() -> None:
    x = leaf(1, 2)
    with pytest.raises(ValueError, match=r"\[backward\]"):
        (x * 2).backward()
    assert x.grad is None


def test_backward_of_one_element_needs_none() -> None:
    x = leaf(3)
    (x * x).backward()
    assert x.grad.numpy().tolist() == [6.0]


def test_backward_of_a_constant_raises() -> None:
    with pytest.raises(ValueError, match=r"\[backward\]"):
        pydl.ones(()).backward()


def test_upstream_of_another_shape_raises() -> None:
    x = leaf(1, 2)
    with pytest.raises(ValueError, match=r"\[backward\].*\(3,?\)"):
        (x * 2).backward(pydl.ones((3,), dtype=pydl.float64))


def test_in_place_on_a_leaf_that_wants_gradients_raises() -> None:
    x = leaf(1, 2)
    with pytest.raises(ValueError, match=r"\[add_?\].*leaf"):
        x.add_(1)
    with pytest.raises(ValueError, match="leaf"):
        x[0] = 3.0
    np.testing.assert_array_equal(x.detach().numpy(), [1, 2])
    with pydl.no_grad():
        x.add_(1)
    np.testing.assert_array_equal(x.detach().numpy(), [2, 3])


def test_integers_cannot_require_gradients() -> None:
    with pytest.raises((TypeError, ValueError), match=r"\[requires_grad_?\]"):
        pydl.zeros((2,), dtype=pydl.int64).requires_grad_()


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("exp", lambda y: pydl.exp(y)),
        ("multiply", lambda y: y * y),
        ("sigmoid", lambda y: pydl.sigmoid(y)),
        ("matmul", lambda y: pydl.matmul(y, y)),
        ("softmax", lambda y: pydl.nn.functional.softmax(y, axis=0)),
    ],
)
def test_a_saved_tensor_that_was_changed_raises(name: str, function) -> None:
    x = leaf(1, 2)
    y = x * 1.0
    z = function(y)
    with pydl.no_grad():
        (z if name in ("exp", "sigmoid", "softmax") else y).add_(1)
    with pytest.raises(ValueError, match=r"in place|in-place|modified|changed"):
        z.sum().backward()


def test_change_through_a_view_is_seen() -> None:
    x = leaf(1, 2, 3)
    y = x * 1.0
    window = y.detach()[1:]
    z = y * y
    window.fill_(5)
    with pytest.raises(ValueError, match=r"in place|in-place|modified|changed"):
        z.sum().backward()


def test_change_of_a_tensor_that_backward_does_not_need_is_allowed() -> None:
    x = leaf(1, 2)
    y = x + 3
    z = y + 4  # needs neither operand
    with pydl.no_grad():
        y.zero_()
    z.backward(pydl.asarray(np.array([1.0, 2.0])))
    np.testing.assert_array_equal(x.grad.numpy(), [1, 2])


def _multiply_in_place(x):
    y = x * 2
    y.mul_(3)
    return y


def _add_leaf_in_place(x):
    y = x * 2
    y += x
    return y


def _fill_constant_in_place(x):
    y = x * 2
    y.fill_(5.0)
    return y * x


def _copy_in_place(x):
    y = x * 2
    y.copy_(x * x)
    return y


def _into_a_constant(x):
    y = x.detach() * 0
    y.add_(x)
    return y * y


def _assign_element(x):
    y = x * 2
    y[0] = 5.0
    return y * y


def _assign_from_recorded(x):
    y = x.detach() * 0
    y[0:1] = x[1:2] * 3
    return y


def _change_a_view(x):
    y = x * 2
    y[1:].mul_(3)
    return y


def _change_under_a_view(x):
    y = x * 2
    window = y[1:]
    y.mul_(3)
    return window * window


@pytest.mark.parametrize(
    "program",
    [
        _multiply_in_place, _add_leaf_in_place, _fill_constant_in_place, _copy_in_place, _into_a_constant,
        _assign_element, _assign_from_recorded, _change_a_view, _change_under_a_view,
    ],
    ids=lambda program: program.__name__.strip("_"),
)  # fmt: skip
def test_in_place_is_recorded_or_refused_and_never_wrong(program) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    program(theirs).sum().backward()
    x = leaf(1, 2, 4)
    try:
        program(x).sum().backward()
    except ValueError:
        assert x.grad is None
        return
    np.testing.assert_array_equal(x.grad.numpy(), theirs.grad.numpy())


def test_hook_on_a_leaf_replaces_the_gradient_and_can_be_removed() -> None:
    x = leaf(1, 2)
    handle = x.register_hook(lambda g: g * 10)
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [30, 30])
    handle.remove()
    x.grad = None
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])


def test_hook_on_a_non_leaf_acts_upstream_of_it() -> None:
    x = leaf(1, 2)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.numpy().copy()))
    y.register_hook(lambda g: g + 1)
    (y * pydl.asarray(np.array([5.0, 7.0]))).sum().backward()
    np.testing.assert_array_equal(seen[0], [5, 7])
    np.testing.assert_array_equal(x.grad.numpy(), [12, 16])


def test_an_exception_in_a_hook_reaches_the_caller() -> None:
    x = leaf(1, 2)
    y = x * 2

    def broken(_: pydl.Tensor) -> None:
        raise KeyError("from the hook")

    y.register_hook(broken)
    with pytest.raises(KeyError, match="from the hook"):
        y.sum().backward()
    (x * 2).sum().backward()  # the engine still works
    assert x.grad.numpy().tolist() == [2, 2]


def test_grad_returns_gradients_and_leaves_no_trace() -> None:
    x, y = leaf(1, 2), leaf(3, 4)
    gx, gy = pydl.autograd.grad((x * y * y).sum(), [x, y])
    np.testing.assert_array_equal(gx.numpy(), [9, 16])
    np.testing.assert_array_equal(gy.numpy(), [6, 16])
    assert x.grad is None
    assert y.grad is None


def test_grad_of_a_non_leaf_and_of_several_outputs() -> None:
    x = leaf(1, 2)
    y = x * 3
    (gy,) = pydl.autograd.grad(
        [y * y, y * 5], [y], [pydl.asarray(np.array([1.0, 2])), pydl.asarray(np.array([10.0, 20]))]
    )
    np.testing.assert_array_equal(gy.numpy(), [6 + 50, 24 + 100])


def test_grad_of_an_unused_input() -> None:
    x, unused = leaf(1, 2), leaf(3)
    with pytest.raises(ValueError, match=r"\[grad\].*allow_unused"):
        pydl.autograd.grad((x * 2).sum(), [x, unused])
    gx, none = pydl.autograd.grad((x * 2).sum(), [x, unused], allow_unused=True)
    np.testing.assert_array_equal(gx.numpy(), [2, 2])
    assert none is None


class Cube(pydl.autograd.Function):
    """x^3 with a constant that is no tensor."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x * x * x * scale

    @staticmethod
    def backward(ctx, d_y):
        (x,) = ctx.saved_tensors
        return d_y * x * x * (3 * ctx.scale), None


def test_function_in_python() -> None:
    x = leaf(1, 2)
    y = Cube.apply(x * 1.0, 2.0)
    np.testing.assert_array_equal(y.detach().numpy(), [2, 16])
    y.backward(pydl.asarray(np.array([1.0, 10.0])))
    np.testing.assert_array_equal(x.grad.numpy(), [6, 240])


def test_function_with_two_outputs_and_needs_input_grad() -> None:
    class SumAndDifference(pydl.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b, a - b

        @staticmethod
        def backward(ctx, d_sum, d_difference):
            assert ctx.needs_input_grad == (True, False)
            return d_sum + d_difference, None

    a = leaf(1, 2)
    total, difference = SumAndDifference.apply(a, pydl.asarray(np.array([5.0, 6.0])))
    (total * 2 + difference * 7).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), [9, 9])


def test_function_errors_name_the_function() -> None:
    class TooFew(pydl.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            return a * b

        @staticmethod
        def backward(ctx, d_y):
            return d_y

    class WrongShape(pydl.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a * 2

        @staticmethod
        def backward(ctx, d_y):
            return d_y.sum()

    with pytest.raises((TypeError, ValueError), match="TooFew"):
        TooFew.apply(leaf(1), leaf(2)).backward()
    with pytest.raises((TypeError, ValueError), match="WrongShape"):
        WrongShape.apply(leaf(1, 2)).sum().backward()


def test_gradcheck_accepts_right_and_rejects_wrong() -> None:
    class Wrong(pydl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * x

        @staticmethod
        def backward(ctx, d_y):
            return d_y * 2.0

    assert pydl.autograd.gradcheck(lambda x: pydl.sin(x) * x, (leaf(0.3, 1.7),))
    with pytest.raises(Exception, match=r"(?i)gradcheck|gradient"):
        pydl.autograd.gradcheck(lambda x: Wrong.apply(x), (leaf(0.3, 1.7),))


@pytest.mark.parametrize("length", [100_000])
def test_deep_chains_do_not_overflow_the_stack(length: int) -> None:
    x = leaf(1)
    y = x
    for _ in range(length):
        y = y + 1.0
    y.backward(pydl.asarray(np.array([2.0])))
    assert x.grad.numpy().tolist() == [2.0]


def test_deep_chains_are_freed_without_a_backward() -> None:
    y = leaf(1)
    for _ in range(100_000):
        y = y * 1.0
    del y
    gc.collect()


def test_backward_from_several_threads() -> None:
    """Each thread has a graph of its own over one shared leaf; the sum must not lose an update."""
    shared = pydl.zeros((1000,), dtype=pydl.float64).requires_grad_()
    errors: list[BaseException] = []

    def work(factor: float) -> None:
        try:
            for _ in range(50):
                (shared * factor).sum().backward()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(float(k),)) for k in (1, 2, 4, 8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not errors
    np.testing.assert_array_equal(shared.grad.numpy(), np.full(1000, 50.0 * 15))


def test_saved_tensors_are_freed_by_backward() -> None:
    x = pydl.rand(300, 300).requires_grad_()
    y = pydl.exp(x)
    watched = weakref.ref(y)
    total = (y * y).sum()
    del y
    total.backward()
    gc.collect()
    assert watched() is None


def test_memory_does_not_grow_over_many_steps(threads: None) -> None:
    """With one thread: a worker's scratch memory comes when it first gets work, and stays."""
    pydl.set_num_threads(1)
    x = pydl.rand(100, 100).requires_grad_()

    def step() -> None:
        pydl.nn.functional.softmax(pydl.matmul(x, x), axis=1).sum().backward()
        x.grad = None

    for _ in range(20):
        step()
    gc.collect()
    before = pydl.backend.memory_stats()["allocated"]
    for _ in range(200):
        step()
    gc.collect()
    assert pydl.backend.memory_stats()["allocated"] <= before


def test_a_graph_that_is_dropped_frees_its_tensors() -> None:
    x = leaf(1, 2)

    class Probe:
        pass

    probe = Probe()
    watched = weakref.ref(probe)
    y = x * 2
    y.register_hook(lambda g, p=probe: None)
    del probe, y
    gc.collect()
    assert watched() is None


def test_zeros_for_inputs_without_influence() -> None:
    x, y = (pydl.ones((2,), requires_grad=True) for _ in range(2))
    grads = pydl.autograd.grad((x * 3).sum(), (x, y), materialize_grads=True, only_inputs=True)
    assert [g.tolist() for g in grads] == [[3.0, 3.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="materialize_grads with allow_unused=False"):
        pydl.autograd.grad((x * 3).sum(), (x, y), allow_unused=False, materialize_grads=True)
