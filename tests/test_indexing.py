"""x[...] and x[...] = v are NumPy's, for every kind of index and mixture; gradients of repeated indices add up."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pydl

SHAPES = st.lists(st.integers(0, 5), min_size=0, max_size=4).map(tuple)


def counted(shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray:
    """Every element different, so that no wrong place goes unnoticed."""
    return np.arange(1, int(np.prod(shape)) + 1).reshape(shape).astype(dtype)


@st.composite
def slices(draw: st.DrawFn, length: int) -> slice:
    bound = st.none() | st.integers(-length - 2, length + 2)
    step = draw(st.none() | st.integers(-3, 3).filter(bool))
    return slice(draw(bound), draw(bound), step)


@st.composite
def basic_index(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Slices, integers, None and at most one Ellipsis."""
    used = draw(st.integers(0, len(shape)))
    axes = list(range(used))
    ellipsis_at = draw(st.none() | st.integers(0, used))
    if ellipsis_at is not None:
        axes = axes[:ellipsis_at] + [len(shape) - used + a for a in axes[ellipsis_at:]]
    items: list[Any] = []
    for axis in axes:
        choices: list[st.SearchStrategy[Any]] = [slices(shape[axis])]
        if shape[axis] > 0:
            choices.append(st.integers(-shape[axis], shape[axis] - 1))
        items.append(draw(st.one_of(choices)))
    if ellipsis_at is not None:
        items.insert(ellipsis_at, Ellipsis)
    for _ in range(draw(st.integers(0, 2))):
        items.insert(draw(st.integers(0, len(items))), None)
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@st.composite
def array_index(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Integer arrays that broadcast together, boolean masks, mixed with slices, integers, None and Ellipsis."""
    common = draw(st.sampled_from([(3,), (2, 3), (1,), (0,), ()]))
    items: list[Any] = []
    axis = 0
    while axis < len(shape):
        kind = draw(st.sampled_from(["slice", "array", "array", "int", "mask", "stop"]))
        if kind == "stop":
            break
        if kind == "mask":
            # A mask counts as its nonzero() arrays, which must broadcast with the other ones: so it stands alone.
            if any(isinstance(i, np.ndarray) for i in items):
                kind = "slice"
            else:
                covered = draw(st.integers(1, len(shape) - axis))
                bits = draw(st.lists(st.booleans(), min_size=64, max_size=64))
                part = shape[axis : axis + covered]
                mask = np.resize(np.array(bits), part)
                items.append(mask)
                axis += covered
                common = (int(mask.sum()),) if mask.sum() != 1 else common
                if mask.sum() != 1:
                    common = (1,)
                continue
        if shape[axis] == 0 or kind == "slice":
            items.append(draw(slices(shape[axis])))
        elif kind == "int":
            items.append(draw(st.integers(-shape[axis], shape[axis] - 1)))
        else:
            own = draw(st.sampled_from([common, (1,), common[-1:]])) if common != () else ()
            size = int(np.prod(own))
            values = draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=size, max_size=size))
            items.append(np.array(values, dtype=np.int64).reshape(own))
        axis += 1
    if draw(st.booleans()):
        items.append(Ellipsis)
    if draw(st.integers(0, 4)) == 0:
        items.insert(draw(st.integers(0, len(items))), None)
    return tuple(items)


def tensors_in(index: Any) -> Any:
    """The same index with pydl tensors in place of NumPy arrays."""
    if isinstance(index, tuple):
        return tuple(pydl.asarray(i) if isinstance(i, np.ndarray) else i for i in index)
    return pydl.asarray(index) if isinstance(index, np.ndarray) else index


@given(st.data())
def test_basic_getitem(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    index = data.draw(basic_index(shape))
    a = counted(shape)
    np.testing.assert_array_equal(pydl.asarray(a)[index].numpy(), a[index], strict=True)


@given(st.data())
def test_basic_getitem_is_a_view(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    index = data.draw(basic_index(shape))
    a = counted(shape)
    x = pydl.asarray(a.copy())
    x[index].fill_(-1)
    a[index] = -1
    np.testing.assert_array_equal(x.numpy(), a)


@given(st.data())
def test_getitem_of_getitem(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    a = counted(shape)
    x = pydl.asarray(a)
    for _ in range(3):
        index = data.draw(basic_index(a.shape))
        a, x = np.asarray(a[index]), x[index]
    np.testing.assert_array_equal(x.numpy(), a)


@given(st.data())
def test_advanced_getitem(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    index = data.draw(array_index(shape))
    a = counted(shape, data.draw(st.sampled_from(["float32", "int64", "bool", "uint8"])))
    np.testing.assert_array_equal(pydl.asarray(a)[tensors_in(index)].numpy(), a[index], strict=True)


@given(st.data())
def test_setitem(data: st.DataObject) -> None:
    """Distinct places only: where an index repeats, NumPy itself does not say which value stays."""
    shape = data.draw(SHAPES)
    index = data.draw(st.one_of(basic_index(shape), array_index(shape)))
    a = counted(shape)
    place = np.arange(a.size).reshape(shape)[index]
    x = pydl.asarray(a.copy())
    if np.unique(place).size == place.size and data.draw(st.booleans()):
        value: Any = -counted(place.shape)
        a[index] = value
        x[tensors_in(index)] = pydl.asarray(value)
    else:
        a[index] = -7
        x[tensors_in(index)] = -7
    np.testing.assert_array_equal(x.numpy(), a)


@given(st.data())
def test_setitem_broadcasts_and_converts(data: st.DataObject) -> None:
    shape = data.draw(SHAPES.filter(lambda s: len(s) > 0))
    index = data.draw(basic_index(shape))
    a = counted(shape, "float32")
    target = a[index].shape
    value = -counted(tuple(1 if data.draw(st.booleans()) else n for n in target), "int32")
    x = pydl.asarray(a.copy())
    x[index] = pydl.asarray(value)
    a[index] = value
    np.testing.assert_array_equal(x.numpy(), a, strict=True)


@given(st.data())
def test_gradient_of_getitem(data: st.DataObject) -> None:
    """Each element receives the sum of the upstream gradients of all its copies."""
    shape = data.draw(SHAPES)
    index = data.draw(st.one_of(basic_index(shape), array_index(shape)))
    a = counted(shape)
    x = pydl.asarray(a).requires_grad_()
    y = x[tensors_in(index)]
    upstream = np.random.default_rng(7).normal(size=y.shape)
    y.backward(pydl.asarray(upstream))
    wanted = np.zeros(a.size)
    np.add.at(wanted, np.arange(a.size).reshape(shape)[index].ravel(), upstream.ravel())
    np.testing.assert_allclose(x.grad.numpy(), wanted.reshape(shape), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    "index",
    [
        np.array([[0, 2], [3, 3]]),
        [0, 2, 2],
        (slice(None), [1, 0]),
        ([0, 1], slice(None), [2, 3]),
        ([0, 1], 1, [2, 3]),
        (0, slice(None), [2, 3]),
        (slice(None), 0, [2, 3]),
        (slice(None), [0, 1], None, [2, 3]),
        (None, [0, 1]),
        (Ellipsis, [0, -1]),
        (np.array([[0], [3]]), np.array([0, 1, 2]), Ellipsis),
        (np.array(2), slice(1, None)),
        np.array([True, False, True, True]),
        (slice(None), np.array([True, False, True])),
        (np.array([True, False, False, True]), [0, 1]),
        True,
        False,
        np.int64(2),
        (np.uint8(1), np.int32(-1)),
        np.array([], dtype=np.int64),
        (slice(None, None, -1), slice(None, None, -2), slice(-1, 0, -3)),
    ],
    ids=str,
)
def test_index_forms(index: Any) -> None:
    """NumPy arrays, lists and NumPy scalars serve as indices as they are."""
    a = counted((4, 3, 5))
    np.testing.assert_array_equal(pydl.asarray(a)[index].numpy(), a[index], strict=True)
    np.testing.assert_array_equal(pydl.asarray(a)[tensors_in(index)].numpy(), a[index])


def test_mask_of_the_tensor_itself() -> None:
    a = np.array([[1.0, -2.0], [-3.0, 4.0]])
    x = pydl.asarray(a.copy())
    assert x[x > 0].numpy().tolist() == [1.0, 4.0]
    x[x < 0] = 0.0
    assert x.numpy().tolist() == [[1.0, 0.0], [0.0, 4.0]]


@pytest.mark.parametrize("turned", [False, True], ids=["as one axis", "apart in memory"])
def test_mask_over_several_axes(turned: bool, rng: np.random.Generator) -> None:
    """Of axes that lie in memory as one, and of others; read, written, and with its gradient."""
    a = rng.standard_normal((3, 4, 5, 2))
    x = pydl.asarray(a.swapaxes(1, 2).copy()).swapaxes(1, 2) if turned else pydl.asarray(a.copy())
    mask = rng.random((4, 5)) < 0.4
    m = pydl.asarray(mask)
    np.testing.assert_array_equal(x[:, m].numpy(), a[:, mask])
    np.testing.assert_array_equal(x[1:, m, 1].numpy(), a[1:, mask, 1])
    np.testing.assert_array_equal(pydl.nonzero(m, as_tuple=False).numpy(), np.argwhere(mask))
    y = x.detach().requires_grad_()
    (y[:, m] ** 2).sum().backward()
    np.testing.assert_array_equal(y.grad.numpy(), np.where(mask[None, :, :, None], 2 * a, 0))
    x[:, m] = 7.0
    a[:, mask] = 7.0
    np.testing.assert_array_equal(x.numpy(), a)


def test_setitem_from_an_overlapping_view() -> None:
    for target, source in (
        (slice(1, None), slice(None, -1)),
        (slice(None, -1), slice(1, None)),
        (slice(None), slice(None, None, -1)),
    ):
        a = counted((9,))
        x = pydl.asarray(a.copy())
        x[target] = x[source]
        a[target] = a[source].copy()
        np.testing.assert_array_equal(x.numpy(), a)


@pytest.mark.parametrize(
    "index", [5, -6, (0, 3), (0, -4), (0, 0, 0), (Ellipsis, Ellipsis), "a", 1.5, (slice(None, None, 0),)]
)
def test_wrong_indices_raise(index: Any) -> None:
    x = pydl.asarray(counted((5, 3)))
    with pytest.raises((IndexError, TypeError, ValueError), match=r"\[(getitem|index|slice)"):
        x[index]
    with pytest.raises((IndexError, TypeError, ValueError), match=r"\["):
        x[index] = 0


@pytest.mark.parametrize("index", [[0, 5], [-6, 0], ([0, 1], [0, 3])])
def test_out_of_range_arrays_raise_index_error(index: Any) -> None:
    x = pydl.asarray(counted((5, 3)))
    with pytest.raises(IndexError, match=r"\[\w+\].*(5|-6|3)"):
        x[index]
    with pytest.raises(IndexError, match=r"\["):
        x[index] = 0.0
    np.testing.assert_array_equal(x.numpy(), counted((5, 3)))


@pytest.mark.parametrize("mask", [np.ones(4, bool), np.ones((5, 4), bool), np.ones((5, 3, 1), bool)])
def test_masks_of_another_shape_raise(mask: np.ndarray) -> None:
    with pytest.raises(IndexError, match=r"\["):
        pydl.asarray(counted((5, 3)))[pydl.asarray(mask)]


def test_indices_that_do_not_broadcast_raise() -> None:
    with pytest.raises((IndexError, ValueError), match=r"\["):
        pydl.asarray(counted((5, 3)))[[0, 1], [0, 1, 2]]


def test_setitem_of_a_wrong_shape_raises() -> None:
    x = pydl.asarray(counted((5, 3)))
    with pytest.raises(ValueError, match=r"\[setitem\].*4"):
        x[1:3] = pydl.zeros((4,))


@pytest.mark.parametrize("bad", [3, -4, 2**40, -(2**40)])
def test_out_of_range_gathers_raise(bad: int) -> None:
    x = pydl.asarray(counted((3, 4)))
    at = pydl.asarray(np.array([0, bad]))
    grid = pydl.asarray(np.array([[0, 1, 2, bad]]))
    with pytest.raises(IndexError, match=r"\[take\]"):
        pydl.take(x, at, axis=0)
    with pytest.raises(IndexError, match=r"\[take_along_axis\]"):
        pydl.take_along_axis(x, grid, axis=0)
    with pytest.raises(IndexError, match=r"\[scatter_add\]"):
        pydl.scatter_add(x, 0, grid, pydl.ones((1, 4), dtype=pydl.float64))
    with pytest.raises(IndexError, match=rf"\[embedding\].*{bad}"):
        pydl.nn.functional.embedding(at, x)
    np.testing.assert_array_equal(x.numpy(), counted((3, 4)))


def test_gathers_take_other_integer_types() -> None:
    x = pydl.asarray(counted((3, 4)))
    for dtype in ("int8", "int32", "uint8", "int64"):
        at = pydl.asarray(np.array([2, 0], dtype))
        np.testing.assert_array_equal(pydl.take(x, at, axis=0).numpy(), counted((3, 4))[[2, 0]])
        np.testing.assert_array_equal(pydl.nn.functional.embedding(at, x).numpy(), counted((3, 4))[[2, 0]])
    with pytest.raises((TypeError, IndexError), match=r"\["):
        pydl.take(x, pydl.asarray(np.array([0.0])), axis=0)


@pytest.mark.parametrize("count", [1, 7, 5000])
def test_repeated_embedding_rows_add_up(count: int, rng: np.random.Generator) -> None:
    weight = pydl.asarray(rng.normal(size=(11, 5))).requires_grad_()
    ids = rng.integers(0, 11, count)
    ids[: count // 2] = 3
    upstream = rng.normal(size=(count, 5))
    pydl.nn.functional.embedding(pydl.asarray(ids), weight).backward(pydl.asarray(upstream))
    wanted = np.zeros((11, 5))
    np.add.at(wanted, ids, upstream)
    np.testing.assert_allclose(weight.grad.numpy(), wanted, rtol=1e-11, atol=1e-11)


def test_padding_row_gets_no_gradient() -> None:
    weight = pydl.asarray(counted((4, 2))).requires_grad_()
    ids = pydl.asarray(np.array([[1, 2], [2, 3]]))
    y = pydl.nn.functional.embedding(ids, weight, padding_idx=2)
    np.testing.assert_array_equal(y.detach().numpy(), counted((4, 2))[[[1, 2], [2, 3]]])
    y.backward(pydl.asarray(counted((2, 2, 2))))
    np.testing.assert_array_equal(weight.grad.numpy(), [[0, 0], [1, 2], [0, 0], [7, 8]])


def test_gradient_through_an_embedding_is_bitwise_repeatable(rng: np.random.Generator, threads: None) -> None:
    ids = pydl.asarray(rng.integers(0, 65, (50, 50)))
    upstream = pydl.asarray(rng.normal(size=(50, 50, 128)).astype(np.float32))
    results = []
    for count in (1, 2, 3, 8):
        pydl.set_num_threads(count)
        weight = pydl.zeros((65, 128)).requires_grad_()
        pydl.nn.functional.embedding(ids, weight).backward(upstream)
        results.append(weight.grad.numpy().tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8", "bool"])
def test_take_along_an_inner_axis_of_any_layout(rng: np.random.Generator, dtype: str) -> None:
    x = rng.integers(0, 2 if dtype == "bool" else 100, (3, 4, 7, 5)).astype(dtype)
    index = rng.integers(-7, 7, 9)
    xs = pydl.asarray(x)
    for axes in itertools.permutations(range(4)):
        turned, turned_x = pydl.permute_dims(xs, axes), x.transpose(axes)
        for axis in range(4):
            at = index % turned_x.shape[axis]
            np.testing.assert_array_equal(
                pydl.index_select(turned, axis, pydl.asarray(at)).numpy(), np.take(turned_x, at, axis)
            )
    np.testing.assert_array_equal(xs[:, 1:, pydl.asarray(index)].numpy(), x[:, 1:, index])
    np.testing.assert_array_equal(xs[::2, ::3, pydl.asarray(index), 1:3].numpy(), x[::2, ::3, index, 1:3])


def test_an_index_may_be_overwritten_before_the_gradient(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 6)).astype(np.float32)
    at = rng.integers(0, 6, (4, 6))
    for op in (pydl.gather, lambda t, axis, i: pydl.scatter_add(t, axis, i, pydl.ones((4, 6)))):
        index, xs = pydl.asarray(at.copy()), pydl.asarray(x).requires_grad_()
        y = op(xs, 1, index)
        expected = pydl.autograd.grad(op(xs, 1, pydl.asarray(at)).square().sum(), [xs])[0]
        loss = y.square().sum()
        index[:] = 0
        np.testing.assert_array_equal(pydl.autograd.grad(loss, [xs])[0].numpy(), expected.numpy())
        with pydl.no_grad():  # and what is not recorded does not touch it
            index = pydl.asarray(at.copy() - 6)
            np.testing.assert_array_equal(op(xs, 1, index).numpy(), y.detach().numpy())
            np.testing.assert_array_equal(index.numpy(), at - 6)


@pytest.mark.parametrize("bad", [6, -7, 2**62, -(2**63), 2**63 - 1])
def test_an_index_out_of_range_is_refused_wherever_it_stands(bad: int) -> None:
    for place in (0, 7, 23):
        at = np.zeros(24, np.int64)
        at[place] = bad
        with pytest.raises(IndexError, match=rf"index {bad} is out of range for an axis of size 6"), pydl.no_grad():
            pydl.gather(pydl.zeros((4, 6)), 1, pydl.asarray(at.reshape(4, 6)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8"])
def test_reversed_runs(dtype: str) -> None:
    for n in (1, 2, 7, 8, 15, 16, 17, 31, 64, 65, 130):
        x = np.arange(3 * n).reshape(3, n).astype(dtype)
        np.testing.assert_array_equal(pydl.flip(pydl.asarray(x), 1).numpy(), x[:, ::-1])
        np.testing.assert_array_equal(pydl.flip(pydl.asarray(x)).numpy(), x[::-1, ::-1])


def test_parts_share_memory_and_one_gradient(rng: np.random.Generator) -> None:
    x = pydl.asarray(rng.standard_normal((3, 10, 2)).astype(np.float32)).requires_grad_()
    a, b, c, d = pydl.split(x, [4, 0, 1, 5], 1)
    assert [t.shape for t in (a, b, c, d)] == [(3, 4, 2), (3, 0, 2), (3, 1, 2), (3, 5, 2)]
    assert a.grad_fn == "split"
    ((a * 2).sum() + (d * d).sum()).backward()  # nothing flows through b and c
    expected = np.concatenate([np.full((3, 4, 2), 2.0), np.zeros((3, 1, 2)), 2 * x.detach().numpy()[:, 5:]], 1)
    np.testing.assert_array_equal(x.grad.numpy(), expected.astype(np.float32))
    with pydl.no_grad():
        pydl.split(x, 5, 1)[1].zero_()
    assert not x.detach().numpy()[:, 5:].any()
    (first,) = pydl.autograd.grad(sum((p**3).sum() for p in pydl.unstack(x, 2)), [x], create_graph=True)
    (second,) = pydl.autograd.grad(first.sum(), [x])
    np.testing.assert_allclose(second.numpy(), 6 * x.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("sizes", [[3, 3], [4, 4], [-1, 8], [8, -1]])
def test_parts_that_do_not_fill_the_axis(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"\[split\]"):
        pydl.split(pydl.zeros((7,)), sizes)


VIEWS = {
    "part": lambda t: t[:, 1:4],
    "turned": lambda t: t.permute(2, 0, 1),
    "every second": lambda t: t[::2, :, ::2],
    "backwards": lambda t: t[::-1],
    "repeated": lambda t: t[:1].expand(5, -1, -1),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather_and_scatter_of_views(view: str, axis: int, rng: np.random.Generator) -> None:
    """Places along an axis of what does not lie in memory as it is indexed."""
    x = rng.normal(size=(4, 5, 6))
    t = pydl.asarray(x, requires_grad=True)
    seen = VIEWS[view](t)
    values = np.array(seen.detach().numpy())
    shape = list(values.shape)
    shape[axis] = 3
    index = rng.integers(0, values.shape[axis], shape)
    got = pydl.gather(seen, axis, pydl.asarray(index))
    np.testing.assert_array_equal(got.detach().numpy(), np.take_along_axis(values, index, axis))
    fewer = index[: shape[0] - 1, :, : shape[2] - 1]
    narrow = tuple(slice(None) if d == axis else slice(n) for d, n in enumerate(fewer.shape))
    np.testing.assert_array_equal(
        pydl.gather(seen, axis, pydl.asarray(fewer)).detach().numpy(),
        np.take_along_axis(values[narrow], fewer, axis),
    )
    up = rng.normal(size=shape)
    (d,) = pydl.autograd.grad(got, t, pydl.asarray(up))
    counted = pydl.zeros(values.shape, dtype=pydl.float64).scatter_add(axis, pydl.asarray(index), pydl.asarray(up))
    again = pydl.asarray(x, requires_grad=True)
    (wanted,) = pydl.autograd.grad(VIEWS[view](again), again, counted)
    np.testing.assert_allclose(d.numpy(), wanted.numpy(), rtol=1e-12, atol=1e-12)
    if view == "repeated":
        return
    base = pydl.asarray(x.copy())
    VIEWS[view](base).scatter_(axis, pydl.asarray(fewer), 7.0)
    wanted_base = x.copy()
    marked = values.copy()
    np.put_along_axis(marked[narrow], fewer, 7.0, axis)
    other = pydl.asarray(wanted_base)
    VIEWS[view](other)[...] = pydl.asarray(marked)
    np.testing.assert_array_equal(base.numpy(), other.numpy())


@pytest.mark.parametrize("turned", [False, True])
def test_few_rows_of_a_table_that_is_a_view(turned: bool, rng: np.random.Generator) -> None:
    x = rng.normal(size=(7, 30) if turned else (30, 9)).astype(np.float32)
    ids = np.array([[3, 29, 3], [0, 11, 5]])
    t = pydl.asarray(x, requires_grad=True)
    table = t.T if turned else t[:, :7]
    values = x.T if turned else x[:, :7]
    y = pydl.nn.functional.embedding(pydl.asarray(ids), table)
    np.testing.assert_array_equal(y.detach().numpy(), values[ids])
    up = rng.normal(size=y.shape).astype(np.float32)
    y.backward(pydl.asarray(up))
    wanted = np.zeros_like(values)
    np.add.at(wanted, ids, up)
    assert t.grad is not None
    np.testing.assert_allclose((t.grad.numpy().T if turned else t.grad.numpy()[:, :7]), wanted, rtol=1e-6)
