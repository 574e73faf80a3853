"""PyTorch's functions beyond the array API against PyTorch: values, shapes, dtypes and first gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from function_oracle import Case, case_id, compare

rng = np.random.default_rng(5)
M, N, V = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.normal(size=(4,))
W, CUBE = rng.normal(size=(3,)), rng.normal(size=(2, 3, 4))
HOLES = np.array([[1.0, np.nan, -2.0], [np.inf, -np.inf, 0.5]])
PLACES = np.array([2, 0, 2])

CASES: list[Case] = [
    ("addmv", (W, M, V), {"beta": 0.5, "alpha": 2.0}), ("addr", (M, W, V), {"alpha": 2.0}), ("inner", (M, N), {}),
    ("baddbmm", (CUBE[:, :, :3], CUBE, np.swapaxes(CUBE, 1, 2).copy()), {"beta": 0.5}), ("vdot", (V, V + 1), {}),
    ("addbmm", (M[:, :3], CUBE, np.swapaxes(CUBE, 1, 2).copy()), {}), ("addcmul", (M, N, V), {"value": 0.3}),
    ("addcdiv", (M, N, V), {"value": 0.3}), ("kron", (M, N[:2, :2]), {}), ("kron", (M, V), {}), ("dist", (M, N),
     {"p": 3}),
    ("cross", (M[:, :3], N[:, :3]), {"dim": 1}), ("cross", (M, N), {"dim": 0}),
    *[("div", (M, N), {"rounding_mode": mode}) for mode in (None, "trunc", "floor")],
    ("div", (np.array([7, -7]), np.array([2, 2])), {"rounding_mode": "trunc"}), ("clamp_min", (M, 0.1), {}),
    ("clamp_max", (M, 0.1), {}), ("fmax", (HOLES, HOLES[::-1].copy()), {}), ("fmin", (HOLES, HOLES[::-1].copy()), {}),
    ("frac", (M * 3,), {}), ("logit", (np.array([0.1, 0.5, 0.99]),), {}), ("logit", (np.array([0.0, 0.5, 1.0]),),
     {"eps": 0.1}),
    ("heaviside", (np.array([-1.0, 0.0, 2.0]), np.array([0.5, 0.25, 0.5])), {}), ("nan_to_num", (HOLES,), {}),
    ("nan_to_num", (HOLES,), {"nan": 1.0, "posinf": 2.0, "neginf": -3.0}), ("nansum", (HOLES[:, :2],), {"dim": 1}),
    ("nanmean", (np.where(np.isinf(HOLES), 0.0, HOLES),), {"dim": 0, "keepdim": True}),
    ("xlogy", (np.array([0.0, 0.0, 2.0]), np.array([0.0, np.nan, 3.0])), {}),
    *[(name, (M,), options) for name in ("amax", "amin") for options in ({}, {"dim": 1}, {"dim": (0, 1),
     "keepdim": True})],
    ("aminmax", (M,), {"dim": 0}), *[("median", (M,), options) for options in ({}, {"dim": 1}, {"dim": 0,
     "keepdim": True})],
    ("median", (HOLES,), {"dim": 1}), ("median", (HOLES,), {}),
    *[("quantile", (M, q), {"dim": d, "interpolation": how})
      for q in (0.3, np.array([0.0, 0.55, 1.0])) for d in (None, 0, -1) for how in ("linear", "lower", "nearest",
       "midpoint")],
    ("quantile", (HOLES, 0.5), {"dim": 1, "keepdim": True}), ("quantile", (M, 0.5), {"keepdim": True}),
    *[(name, (M,), options) for name in ("var_mean", "std_mean", "var", "std")
      for options in ({"dim": 1}, {"dim": 0, "correction": 0, "keepdim": True}, {"dim": (0, 1), "unbiased": False})],
    ("var_mean", (M, False), {}),
    ("bincount", (np.array([3, 0, 3]),), {}), ("bincount", (np.array([3, 0, 3]), W), {"minlength": 6}),
    ("flatten", (CUBE, 1), {}), ("ravel", (CUBE,), {}), ("unflatten", (M, 1, (2, 2)), {}), ("t", (M,), {}), ("t",
     (V,), {}),
    ("narrow", (M, 1, 1, 2), {}), ("narrow", (M, 0, -2, 1), {}), ("select", (M, 1, 2), {}), ("unbind", (M, 1), {}),
    *[(name, ([M, N],), {}) for name in ("hstack", "vstack", "dstack", "column_stack")],
    *[(name, ([V, V],), {}) for name in ("hstack", "vstack", "dstack", "column_stack")],
    ("tensor_split", (V, 3), {}), ("tensor_split", (M, (1, 3), 1), {}), ("diag", (M,), {"diagonal": 1}), ("diag", (V,
     -1), {}),
    ("diag_embed", (M,), {"offset": 1}), ("diff", (M,), {}), ("diff", (M, 2, 0), {}), ("cartesian_prod", (V, W), {}),
    ("argwhere", (np.array([[0, 1], [2, 0]]),), {}), ("masked_select", (M, M > 0), {}), ("index_add", (M, 0, PLACES,
     N), {"alpha": 2}),
    ("index_copy", (M, 1, np.array([3, 1, 0]), N[:, :3]), {}), ("index_fill", (M, 1, np.array([3, 1]), -1.0), {}),
    ("searchsorted", (np.sort(V), M), {}), ("searchsorted", (np.array([1.0, 2.0, 2.0]), np.array([2.0])),
     {"right": True}),
    ("bucketize", (M, np.sort(V)), {}), ("unique", (np.array([3, 1, 3]),), {"return_inverse": True,
     "return_counts": True}),
    *[(name, (M, *extra), options) for name in ("max", "min") for extra, options in (((1,), {}), ((), {"dim": 0,
     "keepdim": True}),
                                                                                    ((N,), {}), ((), {}))],
    ("sort", (M, 1, True), {}), ("sort", (M,), {"dim": 0}), ("topk", (M, 2, 1, True, True), {}), ("argsort", (M, 1,
     True), {}),
    ("tensordot", (M, N), {"dims": ([0, 1], [0, 1])}), ("norm", (M, "fro"), {}), ("norm", (M,), {"p": 1, "dim": 1}),
    ("nonzero", (np.array([[0, 1], [2, 0]]),), {"as_tuple": False}), ("count_nonzero", (M,), {"dim": 1}),
    ("diagonal", (CUBE,), {"dim1": 1, "dim2": 2}), ("masked_fill", (M, M > 0, np.array(0.5)), {}), ("tril", (M, 1), {}),
    ("round", (M * 100,), {"decimals": 1}), ("round", (M * 100,), {"decimals": -1}), ("round", (M * 100,), {}),
    ("squeeze", (M[:, None],), {"dim": 0}), ("squeeze", (M[:, None],), {"dim": 1}), ("flip", (M, ()), {}),
    ("meshgrid", ([V, W],), {"indexing": "ij"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_as_in_pytorch(case: Case) -> None:
    compare(pytest.importorskip("torch"), case, plain=case[0] in ("heaviside", "bincount"))


def test_methods_and_in_place_forms() -> None:
    x = pydl.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert x.addcmul(x, x, value=2.0).tolist() == [[3.0, 10.0], [21.0, 36.0]]
    assert x.clone().addcdiv_(x, x).tolist() == [[2.0, 3.0], [4.0, 5.0]]
    assert [part.tolist() for part in x.unbind(1)] == [[1.0, 3.0], [2.0, 4.0]]
    assert x.add(x, alpha=2).tolist() == [[3.0, 6.0], [9.0, 12.0]]
    assert x.sub(x, alpha=0.5).tolist() == [[0.5, 1.0], [1.5, 2.0]]
    assert x.narrow(0, 1, 1).tolist() == [[3.0, 4.0]]
    assert x.div(2, rounding_mode="floor").tolist() == [[0.0, 1.0], [1.0, 2.0]]
    assert x.amax(dim=1).tolist() == [2.0, 4.0]
    assert pydl.max(x, axis=1).tolist() == [2.0, 4.0]  # the standard's word, the standard's meaning
    assert pydl.sort(x, axis=1, descending=True).tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert pydl.var(x, axis=1).tolist() == [0.25, 0.25]
    assert pydl.var(x, dim=1).tolist() == [0.5, 0.5]


def test_the_state_of_random_numbers() -> None:
    state = pydl.get_rng_state()
    first = pydl.rand(5)
    pydl.set_rng_state(state)
    assert (pydl.rand(5) == first).all()
    assert not hasattr(first, "get_rng_state")


def test_creation_with_pytorchs_words() -> None:
    assert pydl.arange(start=1, end=7, step=3).tolist() == [1, 4]
    assert pydl.linspace(0, 1, steps=3).tolist() == [0.0, 0.5, 1.0]
    assert pydl.eye(2, requires_grad=True).requires_grad
    assert pydl.randint(high=5, size=(2, 3), device="cpu").shape == (2, 3)
    assert pydl.normal(pydl.zeros(4), pydl.zeros(4)).tolist() == [0.0] * 4
    assert pydl.normal(1.0, 0.0, size=(2,)).tolist() == [1.0, 1.0]
    assert pydl.tril_indices(2, 3).tolist() == [[0, 1, 1], [0, 0, 1]]
    assert pydl.triu_indices(2, 3, 1).tolist() == [[0, 0, 1], [1, 2, 2]]
    assert pydl.logspace(0, 2, 3).tolist() == [1.0, 10.0, 100.0]
    assert pydl.ones((2, 2)).new_empty(3, dtype=pydl.int64).shape == (3,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: pydl.max(x, 1, 2, 3), TypeError, r"^\[max\] got"),
        (lambda x: pydl.cat(x, x), TypeError, r"^\[concat\] got a tensor"),
        (lambda x: pydl.div(x, x, rounding_mode="up"), ValueError, r"^\[div\].*'up'"),
        (lambda x: pydl.narrow(x, 0, 1, 5), ValueError, r"^\[narrow\]"),
        (lambda x: pydl.diag(pydl.ones((1, 1, 1))), ValueError, r"^\[diag\].*diag_embed"),
        (lambda x: pydl.bincount(x), ValueError, r"^\[bincount\]"),
        (lambda x: pydl.quantile(x, 0.5, interpolation="cubic"), ValueError, r"^\[quantile\].*'cubic'"),
        (lambda x: pydl.cross(x, x), ValueError, r"^\[cross\].*size 3"),
        (lambda x: pydl.tensordot(x, pydl.ones((3, 2)), 1), ValueError, r"^\[tensordot\].*expected equal sizes"),
        (lambda x: pydl.norm(x, "two"), ValueError, r"^\[norm\].*'two'"),
        (lambda x: pydl.moveaxis(x, (0, 0), (0, 1)), ValueError, r"^\[moveaxis\].*each once"),
        (lambda x: x.movedim(0, 2), IndexError, r"^\[moveaxis\] axis 2 is out of range"),
        (lambda x: pydl.normal(0.0, -1.0, (2,)), ValueError, r"^\[normal\].*-1"),
        (lambda x: pydl.isclose(x, x, rtol=-1.0), ValueError, r"^\[isclose\].*0 or more"),
        (lambda x: pydl.diag_embed(x, dim1=4), IndexError, r"^\[diag_embed\] axis 4"),
        (lambda x: pydl.hstack([]), ValueError, r"^\[hstack\] got no tensors"),
        (lambda x: pydl.hsplit(x, 0), ValueError, r"^\[hsplit\] got 0"),
        (lambda x: pydl.vsplit(x, "ab"), ValueError, r"^\[vsplit\] got 'ab'"),
        (lambda x: pydl.flipud(x[0, 0]), ValueError, r"^\[flipud\]"),
        (lambda x: pydl.rot90(x, dims=(1, -1)), ValueError, r"^\[rot90\].*two different"),
        (lambda x: pydl.rot90(x, dims=(0,)), ValueError, r"^\[rot90\].*two different"),
        (lambda x: pydl.ldexp(2.0, x), TypeError, r"^\[ldexp\] got a value of type float"),
        (lambda x: pydl.gcd(x.long(), 3), TypeError, r"^\[gcd\] got a value of type int"),
        (lambda x: pydl.masked_scatter(x, x, x), TypeError, r"^\[masked_scatter\].*mask != 0"),
        (lambda x: pydl.cov(x, fweights=x[0]), TypeError, r"^\[cov\].*whole numbers"),
        (
            lambda x: pydl.cov(x, aweights=x[0, :1]),
            ValueError,
            r"^\[cov\] got weights of shape \(1,\), expected \(2,\)",
        ),
        (lambda x: pydl.cov(x, aweights=-x[0]), ValueError, r"^\[cov\].*0 or more"),
        (lambda x: pydl.gradient(x, dim=(1, 1)), ValueError, r"^\[gradient\].*each once"),
        (lambda x: pydl.diff(x, -1), ValueError, r"^\[diff\] got n=-1"),
        (lambda x: pydl.kthvalue(x[0, 0], 2), ValueError, r"^\[kthvalue\] got k=2"),
        (lambda x: pydl.renorm(x[0], 2, 0, 1.0), ValueError, r"^\[renorm\]"),
        (lambda x: pydl.logcumsumexp(x, 2), IndexError, r"^\[logcumsumexp\] axis 2"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(pydl.ones((2, 2)))


def test_trapezoid_of_distances_that_differ() -> None:
    y = pydl.tensor([[1.0, 2.0, 4.0], [3.0, np.inf, 0.0]])
    assert pydl.trapezoid(y[0], dx=pydl.tensor([1.0, 10.0])).item() == 31.5
    assert pydl.trapezoid(y[0], dx=2).item() == 9.0
    assert pydl.trapezoid(y).tolist() == [4.5, np.inf]
    assert pydl.trapezoid(y[:, :1]).tolist() == [0.0, 0.0]
