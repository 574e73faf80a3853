"""Writing by index in place: what the function gives, in the same memory, at the cost of what is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import _C, Tensor

ROWS, TWICE, MASK = [2, 0, 2], [[0, 1, 1], [4, 4, 2]], [True, False, False, True, True]

# Each form by name, of a tensor (5, 4) and values made to measure.
FORMS: dict[str, Callable[[Any, Tensor, Callable[..., Tensor]], Tensor]] = {
    "index_add": lambda f, x, v: f(x, 0, pydl.tensor(ROWS), v(3, 4)),
    "index_add columns": lambda f, x, v: f(x, -1, pydl.tensor(ROWS), v(5, 3), alpha=2),
    "index_copy": lambda f, x, v: f(x, 0, pydl.tensor([3, 1]), v(2, 4)),
    "index_copy columns": lambda f, x, v: f(x, 1, pydl.tensor([-1, 1]), v(5, 2)),
    "index_fill": lambda f, x, v: f(x, 1, pydl.tensor(ROWS), 7),
    "index_fill by a tensor": lambda f, x, v: f(x, 0, pydl.tensor(ROWS), v()),
    "index_put": lambda f, x, v: f(x, (pydl.tensor(ROWS), pydl.tensor([1, -1, 0])), v(3)),
    "index_put rows": lambda f, x, v: f(x, (pydl.tensor([1, 3]),), v(1, 4)),
    "index_put mask": lambda f, x, v: f(x, [pydl.tensor(MASK)], v(3, 1)),
    "index_put broadcast": lambda f, x, v: f(x, (pydl.tensor([1, 3]),), v(1, 1, 1)),
    "index_put adds": lambda f, x, v: f(x, (pydl.tensor(TWICE), pydl.tensor([0, 3, 3])), v(2, 3), accumulate=True),
    "index_put number": lambda f, x, v: f(x, (pydl.tensor(ROWS),), 3),
    "put": lambda f, x, v: f(x, pydl.tensor([[1, -1], [7, 0]]), v(2, 2)),
    "put adds": lambda f, x, v: f(x, pydl.tensor([1, 19, 1]), v(3), accumulate=True),
    "scatter": lambda f, x, v: f(x, 0, pydl.tensor(TWICE), v(2, 3)),
    "scatter number": lambda f, x, v: f(x, 1, pydl.tensor([[3], [0]]), 2),
    "scatter adds": lambda f, x, v: f(x, 0, pydl.tensor(TWICE), v(2, 4), reduce="add"),
    "scatter multiplies": lambda f, x, v: f(x, 0, pydl.tensor(TWICE), v(2, 4), reduce="multiply"),
    "scatter_add": lambda f, x, v: f(x, 0, pydl.tensor(TWICE), v(2, 4)),
}


def in_place(form: str) -> Any:
    return getattr(Tensor, form.split()[0] + "_")


def function(form: str) -> Any:
    return getattr(pydl, form.split()[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["all", "inner", "transposed"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int64", "bool"])
def test_what_the_function_gives(form: str, layout: str, dtype: str, rng: np.random.Generator) -> None:
    if dtype == "bool" and form in ("index_add columns", "scatter adds", "scatter multiplies", "scatter_add"):
        pytest.skip("not defined for booleans")
    kind = pydl.bool_ if dtype == "bool" else getattr(pydl, dtype)

    def tensor(*shape: int) -> Tensor:
        return pydl.tensor(rng.integers(0, 2 if dtype == "bool" else 9, shape)).astype(kind)

    whole = {"all": tensor(5, 4), "inner": tensor(8, 9), "transposed": tensor(4, 5)}[layout]
    x = {"all": lambda t: t, "inner": lambda t: t[2:7, 1:5], "transposed": lambda t: t.T}[layout](whole)
    values: list[Tensor] = []

    def value(*shape: int) -> Tensor:
        values.append(tensor(*shape))
        return values[-1]

    around, version = whole.clone(), whole._version
    assert FORMS[form](in_place(form), x, value) is x
    assert whole._version > version
    copy = {"all": lambda t: t, "inner": lambda t: t[2:7, 1:5], "transposed": lambda t: t.T}[layout](around)
    expected = FORMS[form](function(form), copy.clone(), lambda *shape: values[0])
    assert expected.dtype == kind
    copy.copy_(expected)
    np.testing.assert_array_equal(whole.astype("float64").numpy(), around.astype("float64").numpy())


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form: str, rng: np.random.Generator) -> None:
    numbers = rng.standard_normal((5, 4))
    measured: list[tuple[int, ...]] = []

    def measure(*shape: int) -> Tensor:
        measured.append(shape)
        return pydl.ones(shape, dtype=pydl.float64)

    FORMS[form](function(form), pydl.tensor(numbers), measure)
    inputs = [pydl.tensor(numbers).requires_grad_()]
    inputs += [pydl.tensor(rng.standard_normal(shape)).requires_grad_() for shape in measured]
    of_function = lambda x, *v: FORMS[form](function(form), x, lambda *shape: v[0])  # noqa: E731
    of_method = lambda x, *v: FORMS[form](in_place(form), x * 1, lambda *shape: v[0])  # noqa: E731
    assert pydl.autograd.gradcheck(of_function, inputs)
    assert pydl.autograd.gradcheck(of_method, inputs)
    results = []
    for f in (of_function, of_method):
        (gradient,) = pydl.autograd.grad((f(*inputs) ** 3).sum(), inputs[0], create_graph=True)
        results.append(
            [t.numpy() for t in pydl.autograd.grad((gradient**2).sum(), inputs, allow_unused=True) if t is not None]
        )
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_gradient_of_what_was_an_index_changed_later() -> None:
    x, index = pydl.zeros(4).requires_grad_(), pydl.tensor([1, 2])
    y = pydl.index_put(x, (index,), pydl.ones(2))
    index.fill_(0)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 0.0, 0.0, 1.0]


def test_assignment_is_recorded(rng: np.random.Generator) -> None:
    numbers = rng.standard_normal((3, 4))
    v = pydl.tensor(numbers).requires_grad_()

    def filled(v: Tensor) -> Tensor:
        out = pydl.zeros((3, 4), dtype=pydl.float64)
        for t in range(4):
            out[:, t] = v[:, t] * (t + 1) + (out[:, t - 1] if t else 0)
        out[1] = 0.5
        out[out > 1] = 1
        return out

    assert pydl.autograd.gradcheck(filled, [v])
    out = filled(v)
    assert out.requires_grad
    assert not out.is_leaf
    out.sum().backward()
    leaf = pydl.zeros(3).requires_grad_()
    with pytest.raises(pydl.AutogradError, match=r"\[setitem\] a leaf"):
        leaf[0] = 1
    with pytest.raises(pydl.AutogradError, match=r"\[setitem\] a view"):
        out[0][1] = v[0, 0]
    with pydl.no_grad():
        leaf[0] = 1
    assert leaf.tolist() == [1.0, 0.0, 0.0]
    plain = pydl.zeros(3)
    plain[1] = v.detach()[0, 0]
    assert not plain.requires_grad
    whole = pydl.zeros(3, dtype=pydl.int64)
    whole[:2] = v[0, :2] * 0 + 7
    assert whole.tolist() == [7, 7, 0]


def test_an_earlier_view_of_what_was_assigned_to() -> None:
    x = pydl.ones(3).requires_grad_() * 2
    view = x[1:]
    x[0] = 5.0
    with pytest.raises(pydl.AutogradError, match="make the view again"):
        (view * 2).sum().backward()


def test_values_and_index_in_the_same_memory() -> None:
    x = pydl.arange(12).reshape(4, 3)
    x.index_add_(0, x[0], x[1:])
    assert x.tolist() == [[3, 5, 7], [9, 11, 13], [15, 17, 19], [9, 10, 11]]
    y = pydl.arange(4)
    y.scatter_(0, y, pydl.flip(y, 0))
    assert y.tolist() == [3, 2, 1, 0]
    y.scatter_add_(0, y, y)
    assert y.tolist() == [3, 3, 3, 3]
    y.index_copy_(0, y[:2], y[2:] * 2)
    assert y.tolist() == [3, 3, 3, 6]
    y.put_(y[:1], y[3:])
    assert y.tolist() == [3, 3, 3, 6]


def test_only_what_is_written_is_touched() -> None:
    """No copy of the whole is made."""
    x, values = pydl.zeros((1000, 64)), pydl.ones((3, 64))
    index, spread = pydl.tensor([5, 999, 5]), pydl.tensor([[5] * 64, [999] * 64, [5] * 64])
    changes: list[Callable[[], Tensor]] = [
        lambda: x.index_add_(0, index, values), lambda: x.index_copy_(0, index, values),
        lambda: x.index_fill_(0, index, 2.0), lambda: x.index_put_((index,), values),
        lambda: x.index_put_((index,), values, accumulate=True), lambda: x.put_(index, values[:, 0]),
        lambda: x.scatter_(0, spread, values), lambda: x.scatter_add_(0, spread, values),
    ]  # fmt: skip
    for change in changes:
        change()
        _C.reset_peak_memory()
        before = _C.memory_stats()["allocated"]
        change()
        assert _C.memory_stats()["peak"] - before < 64 * 1000 * 4


def test_mistakes() -> None:
    x, index = pydl.zeros((5, 4)), pydl.tensor([1, 7])
    wrong: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: x.index_add_(0, index, pydl.ones((2, 4))), IndexError, r"\[index_add_\] index 7 is out of range"),
        (lambda: x.index_add_(0, index, pydl.ones((2, 3))), ValueError, r"source of shape \(2, 3\), expected \(2, 4\)"),
        (lambda: x.index_copy_(2, index, pydl.ones((2, 4))), IndexError, "axis 2 is out of range for a tensor of 2"),
        (lambda: x.index_fill_(0, index[None], 1), ValueError, r"shape \(1, 2\), expected a vector"),
        (lambda: x.index_put_((index, index, index), pydl.ones(2)), IndexError, r"\[index_put_\] too many indices"),
        (lambda: x.index_put_((index[:1],), pydl.ones(3)), ValueError, r"\[index_put_\]"),
        (lambda: x.index_fill_(0, index, pydl.ones(4)), ValueError, r"value of shape \(4,\)"),
        (lambda: x.index_fill(0, index, pydl.tensor(1.0).requires_grad_()), IndexError, "index 7 is out of range"),
        (lambda: x.index_fill(0, -index, pydl.tensor(1.0).requires_grad_()), IndexError, "index -7 is out of range"),
        (lambda: x.put_(index, pydl.ones(3)), ValueError, r"\[put_\] got 3 elements"),
        (lambda: x.scatter_(0, index, 1), ValueError, "as many axes"),
        (lambda: x.scatter_(0, index[:, None], 1), IndexError, "index 7 is out of range"),
        (lambda: x.scatter_(0, index[:, None], 1, reduce="mean"), ValueError, "reduce 'mean'"),
        (lambda: pydl.broadcast_to(x[0], (3, 4)).index_fill_(0, pydl.tensor([1]), 1), ValueError, "broadcast"),
    ]
    for change, error, message in wrong:
        with pytest.raises(error, match=message):
            change()
    assert not x.any()
    leaf = pydl.zeros(3).requires_grad_()
    for form in ("index_fill_", "scatter_"):
        with pytest.raises(pydl.AutogradError, match="leaf"):
            getattr(leaf, form)(0, pydl.tensor([1]), 2.0)
    with pydl.no_grad():
        assert leaf.index_fill_(0, pydl.tensor([1]), 2.0).tolist() == [0.0, 2.0, 0.0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int8", "uint8", "uint64"])
@pytest.mark.parametrize("how", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reduce(how: str, include_self: bool, dtype: str, rng: np.random.Generator) -> None:
    """In place it gives what the function gives, and what NumPy's ufunc.at gives where that is exact."""
    x, src = (rng.integers(0, 9, shape).astype(dtype) for shape in ((5, 4), (7, 3)))
    index = rng.integers(0, 5, (7, 3))
    t = pydl.asarray(x)
    y = t.scatter_reduce(0, pydl.asarray(index), pydl.asarray(src), how, include_self=include_self)
    assert y.dtype == t.dtype
    same = pydl.asarray(x.copy())
    assert same.scatter_reduce_(0, pydl.asarray(index), pydl.asarray(src), how, include_self=include_self) is same
    np.testing.assert_array_equal(same.numpy(), y.numpy())
    part = pydl.asarray(np.repeat(x, 2, axis=1))
    part[:, ::2].scatter_reduce_(0, pydl.asarray(index), pydl.asarray(src), how, include_self=include_self)
    np.testing.assert_array_equal(part.numpy()[:, ::2], y.numpy())
    np.testing.assert_array_equal(part.numpy()[:, 1::2], x)
    join = {"sum": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}.get(how)
    if join is None or dtype == "float16":
        return
    wanted = x.copy()
    columns = np.broadcast_to(np.arange(3), index.shape)
    if not include_self:
        first = {"sum": 0, "prod": 1}.get(how)
        if first is None:
            info = np.finfo(dtype) if x.dtype.kind == "f" else np.iinfo(dtype)
            first = info.min if how == "amax" else info.max
        wanted[index, columns] = first
    join.at(wanted, (index, columns), src)
    np.testing.assert_array_equal(y.numpy(), wanted)


def test_scatter_reduce_of_large_integers_and_nan() -> None:
    zero = pydl.asarray([0, 0])
    big = pydl.asarray(np.array([2**64 - 1, 2**63], np.uint64))
    one = pydl.asarray(np.array([1], np.uint64))
    assert one.scatter_reduce(0, zero, big, "amax").tolist() == [2**64 - 1]
    assert one.scatter_reduce(0, zero, big, "amin", include_self=False).tolist() == [2**63]
    holes = pydl.asarray([1.0, float("nan")])
    for how in ("amax", "amin", "prod"):
        assert np.isnan(pydl.asarray([3.0]).scatter_reduce_(0, zero, holes, how).item())


def test_scatter_reduce_that_fails_changes_nothing() -> None:
    x = pydl.asarray([1.0, 2.0])
    for index, src in (([0, 1, 1], [5.0, 6.0]), ([0, 2], [5.0, 6.0])):
        with pytest.raises((ValueError, IndexError)):
            x.scatter_reduce_(0, pydl.asarray(index), pydl.asarray(src), "amax", include_self=False)
        assert x.tolist() == [1.0, 2.0]


def test_flat_places_of_a_view(rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 8))
    for view in (lambda t: t[:, 2:5], lambda t: t.T, lambda t: t[::2, ::3]):
        t = pydl.asarray(x.copy(), requires_grad=True)
        seen, values = view(t), view(x)
        index = np.array([[0, 3], [-1, 5]])
        y = pydl.take(seen, pydl.asarray(index))
        np.testing.assert_array_equal(y.detach().numpy(), values.reshape(-1)[index])
        y.sum().backward()
        counted = np.zeros_like(x)
        mask = np.zeros(values.size)
        np.add.at(mask, index, 1)
        view(counted)[...] = mask.reshape(values.shape)
        assert t.grad is not None
        np.testing.assert_array_equal(t.grad.numpy(), counted)
        base, wanted = pydl.asarray(x.copy()), x.copy()
        view(base).put_(pydl.asarray(index), pydl.asarray([[1.0, 2.0], [3.0, 4.0]]))
        marked = values.reshape(-1).copy()
        marked[index] = [[1.0, 2.0], [3.0, 4.0]]
        view(wanted)[...] = marked.reshape(values.shape)
        np.testing.assert_array_equal(base.numpy(), wanted)
        with pytest.raises(IndexError, match=r"^\[take\] .*beyond"):
            pydl.take(seen, pydl.asarray([values.size]))
        with pytest.raises(IndexError, match=r"^\[put_\] .*beyond"):
            view(base).put_(pydl.asarray([-values.size - 1]), pydl.asarray([1.0]))
