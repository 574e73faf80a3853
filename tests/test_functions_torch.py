"""PyTorch's further functions: special functions, linear algebra, statistics, writing by places; against PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import pydl
from function_oracle import Case, case_id, compare

rng = np.random.default_rng(11)
M, N, V = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.normal(size=(5,))
CUBE, SQUARE = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 4))
POSITIVE = SQUARE @ np.swapaxes(SQUARE, 1, 2) + np.eye(4)
HOLES = np.array([[1.0, np.nan, -2.0, 0.5], [3.0, 0.25, -0.5, 2.0], [np.nan, np.nan, 4.0, 1.0]])
LINE = np.array([-3.3, -0.7, 0.0, 0.2, 1.0, 1.7, 2.0, 6.5, 40.0])
PLACES, SENT = np.array([[0, 2, 2, 1], [1, 1, 0, 0]]), rng.normal(size=(2, 4))
TIES = np.array([[1.0, 2.0, 2.0, 0.0], [2.0, 1.0, 1.0, 2.0], [0.0, 0.0, 3.0, 3.0]])
WHOLE = np.array([[3, -1, 3], [0, 2, 2]])

# `histc`, `mode` and others without a gradient in PyTorch are below.
CASES: list[Case] = [
    *[(f"special.{name}", (LINE,), {}) for name in ("digamma", "gammaln", "i0", "i0e", "i1", "i1e", "ndtr", "log_ndtr",
                                                  "sinc", "expit")],
    *[("polygamma", (n, np.abs(LINE) + 0.3), {}) for n in (2, 4)], ("lgamma", (LINE[LINE != 0],), {}),
    *[("as_strided", (np.arange(12.0).reshape(3, 4), *how), {}) for how in (((2, 3), (4, 1)), ((5, 3), (2, 1), 1),
                                                                            ((2, 2), (0, 3), 2), ((0, 3), (1, 1)))],
    ("mvlgamma", (np.array([2.5, 7.0]), 3), {}), ("erfinv", (np.linspace(-0.999, 0.999, 9),), {}),
    ("special.ndtri", (np.linspace(0.01, 0.99, 9),), {}), ("special.entr", (np.array([0.1, 2.0]),), {}),
    ("special.log_ndtr", (np.array([-45.0, -21.0, -19.0, 3.0]),), {}), ("logaddexp2", (M, N), {}),
    ("special.xlog1py", (M, np.abs(N)), {}),
    *[(f"linalg.{name}", (SQUARE,), {}) for name in ("inv", "det", "matrix_exp", "pinv", "svdvals", "cond")],
    ("linalg.slogdet", (SQUARE,), {}), ("logdet", (POSITIVE,), {}), ("linalg.cholesky", (POSITIVE,), {}),
    *[("linalg.qr", (a,), {}) for a in (M, np.swapaxes(CUBE, 1, 2).copy())], ("linalg.pinv", (M,), {}),
    ("linalg.solve", (SQUARE, np.swapaxes(CUBE, 1, 2).copy()), {}), ("linalg.solve", (SQUARE, SQUARE[:, 0].copy()), {}),
    ("linalg.solve_triangular", (np.triu(POSITIVE), SQUARE), {"upper": True}), ("linalg.eigvalsh", (POSITIVE,), {}),
    *[("linalg.matrix_norm", (SQUARE,), {"ord": o}) for o in ("fro", "nuc", 2, -2, 1, -1, float("inf"))],
    *[("linalg.norm", (x,), {"ord": o}) for x in (M, M[0].copy()) for o in (None, 2, -2, 1, -1, float("inf"))],
    *[("linalg.norm", (CUBE,), {"ord": o, "dim": d, "keepdim": k})
      for o, d in ((1, (0, 2)), (2, (2, 0)), ("nuc", (0, 1)), (3, 1), (None, (0, 1))) for k in (False, True)],
    ("linalg.matrix_norm", (CUBE, 1, (2, 0), True), {}), ("linalg.matrix_rank", (CUBE,), {"atol": 1.5}),
    ("linalg.matrix_rank", (CUBE, 2.0), {}), ("linalg.matrix_rank", (CUBE,), {"rtol": 0.5}),
    *[("linalg.matrix_power", (SQUARE, n), {}) for n in (0, 1, 5, -2)], ("norm", (M, "nuc"), {}),
    ("cov", (M,), {}), ("cov", (V,), {}), ("cov", (M,), {"correction": 0}), ("corrcoef", (M,), {}),
    *[(name, (a, 1), {}) for name in ("cummax", "cummin") for a in (M, TIES, HOLES)], ("cummax", (CUBE,), {"dim": -2}),
    *[("logcumsumexp", (a, axis), {}) for a in (M * 30, CUBE) for axis in (0, 1)],
    ("kthvalue", (M, 2), {}), ("kthvalue", (M, 3, 0, True), {}), ("nanmedian", (HOLES,), {}),
    ("nanmedian", (HOLES, 1), {}), *[("nanquantile", (HOLES, np.array([0.1, 0.5])), {"dim": d}) for d in (0, 1)],
    ("trapezoid", (M,), {}), ("trapezoid", (M, np.sort(V[:4])), {}), ("cumulative_trapezoid", (M,), {"dim": 0}),
    ("trapezoid", (M,), {"dx": 0.3, "dim": 0}), ("msort", (M,), {}), ("renorm", (M, 2, 0, 0.5), {}),
    ("gradient", (CUBE,), {}), ("gradient", (V**2,), {"spacing": 0.5, "edge_order": 2}),
    ("gradient", (M,), {"dim": 1, "edge_order": 2}), ("diff", (M, 1, 1, N, N[:, :1].copy()), {}),
    *[("scatter_reduce", (M, 0, PLACES, SENT, how), {"include_self": own})
      for how in ("sum", "prod", "mean", "amax", "amin") for own in (True, False)],
    *[("scatter_reduce", (TIES, 0, PLACES, TIES[:2], how), {}) for how in ("prod", "amax", "amin")],
    *[("index_reduce", (M, 1, np.array([2, 0, 2]), N[:, :3].copy(), how), {}) for how in ("prod", "mean", "amax")],
    ("masked_scatter", (M, M > 0, N), {}), ("put", (M, np.array([0, -1, 5]), V[:3]), {}),
    ("put", (M, np.array([0, 5, 5]), V[:3], True), {}), ("select_scatter", (M, V[:4], 0, -1), {}),
    ("index_put", (M, [np.array([0, 2]), np.array([1, -1])], V[:2]), {}),
    ("index_put", (M, [np.array([0, 0]), np.array([1, 1])], V[:2], True), {}),
    ("slice_scatter", (M, N[:, :2]), {"dim": 1, "start": 1, "end": 4, "step": 2}),
    ("diagonal_scatter", (M, V[:3], 1), {}), ("take_along_dim", (M, np.array([[0, 11, 3]])), {}),
    ("take", (M, np.array([[0, -1], [5, 5]])), {}), ("block_diag", (M, V, N), {}), ("rot90", (CUBE, 3, (0, 2)), {}),
    *[("rot90", (M, k), {}) for k in (0, 1, 2, -3)], ("fliplr", (M,), {}), ("flipud", (M,), {}),
    ("diag_embed", (CUBE, -1, 0, 2), {}), ("diag_embed", (CUBE,), {"dim1": 3, "dim2": 1}), ("diagflat", (M, 1), {}),
    ("combinations", (V,), {"r": 3}), ("combinations", (V,), {"with_replacement": True}),
    *[(name, (a,), {}) for name in ("atleast_1d", "atleast_2d", "atleast_3d") for a in (np.array(2.0), V,
                                                                                     M)],
    ("hsplit", (M, 2), {}), ("vsplit", (M, [1]), {}), ("dsplit", (CUBE, 2), {}),
    ("float_power", (np.abs(M), 2.5), {}), ("rsub", (M, N), {"alpha": 2}), ("add", (M, N), {"alpha": 3}),
    ("sub", (M, N), {"alpha": 3}), ("deg2rad", (M,), {}), ("rad2deg", (M,), {}), ("angle", (M,), {}),
    ("constant_pad_nd", (M, (1, 2), 0.5), {}),
    ("tensordot", (M[:1], N[:, :2].copy()), {"dims": ([0], [0])}),
    ("cosine_similarity", (M, N), {}), ("conv1d", (CUBE, rng.normal(size=(5, 3, 2))), {}),
]  # fmt: skip
PLAIN: list[Case] = [
    ("mode", (TIES,), {}), ("mode", (WHOLE,), {"dim": 0, "keepdim": True}), ("frexp", (M,), {}),
    ("histc", (M,), {"bins": 5}), ("histc", (M, 4, -1.0, 1.0), {}), ("histogram", (M, 4), {}),
    ("histogram", (M, np.array([-1.0, 0.0, 0.5])), {"density": True}), ("gcd", (WHOLE * 6, WHOLE * 4), {}),
    ("lcm", (WHOLE, WHOLE * 4), {}), ("isin", (WHOLE, np.array([2, 3])), {"invert": True}), ("isposinf", (LINE,), {}),
    ("unique", (WHOLE,), {"dim": 1, "return_counts": True}), ("unravel_index", (np.array([1, 5]), (2, 3)), {}),
    ("unique_consecutive", (np.array([1, 1, 2, 1]),), {"return_inverse": True, "return_counts": True}),
    ("unique_consecutive", (np.array([[1, 1], [1, 1], [2, 2]]),), {"dim": 0}),
    ("ldexp", (V, np.array([1, -2, 0, 3, 4])), {}), ("diff", (M > 0,), {"dim": 1}),
    ("searchsorted", (np.sort(M, 1), N), {"right": True, "out_int32": True}), ("cov", (M,), {"fweights": np.array([1, 2,
     0, 3])}),
    ("searchsorted", (V, M), {"sorter": np.argsort(V)}), ("linalg.matrix_rank", (TIES,), {}), ("isreal", (M,), {}),
    ("tensor_split", (M, np.array([1, 3]), 1), {}), ("nonzero", (np.array(3.0),), {"as_tuple": True}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*beta:UserWarning")
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_as_in_pytorch(case: Case) -> None:
    compare(pytest.importorskip("torch"), case)


@pytest.mark.parametrize("case", PLAIN, ids=case_id)
def test_as_in_pytorch_without_gradients(case: Case) -> None:
    compare(pytest.importorskip("torch"), case, plain=True)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", [(4, 3), (3, 4)])
def test_svd_and_its_gradient(shape: tuple[int, int], full: bool) -> None:
    # Vectors are known up to their signs: what is compared does not depend on them.
    torch = pytest.importorskip("torch")
    a = np.random.default_rng(0).normal(size=shape)
    found = []
    for library, x in ((pydl, pydl.asarray(a.copy())), (torch, torch.from_numpy(a))):
        x.requires_grad_()
        u, s, vh = library.linalg.svd(x, full_matrices=full)
        u, vh = u[:, :3], vh[:3]
        ((u * u) @ (s[:, None] * vh * vh)).square().sum().backward()
        found.append((s.detach().numpy(), x.grad.numpy()))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_eigenvectors_and_their_gradient() -> None:
    x = pydl.asarray(POSITIVE[0].copy(), requires_grad=True)
    values, vectors = pydl.linalg.eigh(x)
    rebuilt = (vectors * values) @ vectors.mT
    np.testing.assert_allclose(rebuilt.detach().numpy(), POSITIVE[0], rtol=1e-10)

    def weighted(x: pydl.Tensor) -> pydl.Tensor:
        values, vectors = pydl.linalg.eigh((x + x.mT) * 0.5)
        return (vectors * vectors) @ values

    pydl.autograd.gradcheck(weighted, (x,))


def test_second_gradients_of_special_functions() -> None:
    x = pydl.asarray(np.array([0.3, 1.2, 4.5]), requires_grad=True)
    for function in (pydl.lgamma, pydl.special.i0, pydl.special.ndtri, pydl.sinc):
        argument = x * 0.2 if function is pydl.special.ndtri else x
        (first,) = pydl.autograd.grad(function(argument).sum(), [x], create_graph=True)
        (second,) = pydl.autograd.grad(first.sum(), [x])
        step = 1e-5
        ends = []
        for at in (step, -step):
            moved = pydl.asarray(x.detach().numpy() + at, requires_grad=True)
            argument = moved * 0.2 if function is pydl.special.ndtri else moved
            ends.append(pydl.autograd.grad(function(argument).sum(), [moved])[0].numpy())
        np.testing.assert_allclose(second.numpy(), (ends[0] - ends[1]) / (2 * step), rtol=1e-6)


def test_lstsq_is_numpys() -> None:
    a, b = M.T.copy(), V[:4]
    found = pydl.linalg.lstsq(pydl.asarray(a), pydl.asarray(b))
    wanted = np.linalg.lstsq(a, b, rcond=None)
    np.testing.assert_allclose(found.solution.numpy(), wanted[0], rtol=1e-10)
    assert found.rank.item() == 3


def test_random_fills_have_their_distributions() -> None:
    pydl.manual_seed(3)
    x = pydl.empty(40_000)
    assert abs(x.exponential_(2.0).mean().item() - 0.5) < 0.01
    assert abs(x.geometric_(0.25).mean().item() - 4.0) < 0.1
    assert x.min().item() == 1.0
    assert abs(x.log_normal_(0.5, 0.25).log().mean().item() - 0.5) < 0.01
    assert abs(x.cauchy_(3.0, 2.0).median().item() - 3.0) < 0.1
    assert set(x.random_(2, 5).tolist()) == {2.0, 3.0, 4.0}
    assert 0 <= x.random_().min().item() < x.max().item() < 2**24


def test_types_by_their_old_names() -> None:
    assert pydl.LongTensor([1, 2]).dtype == pydl.int64
    assert pydl.FloatTensor(2, 3).shape == (2, 3)
    assert pydl.Tensor(2, 3).shape == (2, 3)
    assert pydl.Tensor([2, 3]).tolist() == [2.0, 3.0]
    assert isinstance(pydl.zeros(2), pydl.FloatTensor)
    assert not isinstance(pydl.zeros(2), pydl.LongTensor)
    assert pydl.ones(2).type(pydl.LongTensor).dtype == pydl.int64
    assert pydl.ones(2).type("torch.DoubleTensor").type() == "pydl.DoubleTensor"
    assert pydl.ones(2).short().dtype == pydl.int16
    with pytest.raises(TypeError, match=r"^\[LongTensor\] got 2 arguments"):
        pydl.LongTensor([1], [2])
    with pytest.raises(TypeError, match=r"^\[Tensor\] got 2 arguments.*put the numbers in a list"):
        pydl.Tensor(1.5, 2.5)


def test_shapes_changed_in_place() -> None:
    x = pydl.zeros(2, 3)
    assert x.unsqueeze_(0).transpose_(0, 2).shape == x.shape == (3, 2, 1)
    assert x.squeeze_().t_().shape == (2, 3)
    x.requires_grad_()
    with pytest.raises(pydl.AutogradError, match=r"\[t_\] can't reshape a tensor with a gradient in place; use t\(\)"):
        x.t_()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x[:, :2].as_strided((2,), (1,)), ValueError, r"^\[as_strided\] got a part of a larger tensor"),
        (lambda x: pydl.as_strided(x, (2, 50), (3, 1)), ValueError, r"^\[as_strided\] place 52 lies outside"),
        (lambda x: pydl.as_strided(x, (2,), (3, 1)), ValueError, r"^\[as_strided\].*one stride an axis"),
        (lambda x: (x * 1).requires_grad_().resize_(3), ValueError, r"^\[resize_\]"),
        (lambda x: pydl.igamma(x.requires_grad_(), x).sum().backward(), NotImplementedError, r"^\[igamma\]"),
        (lambda x: pydl.linalg.norm(pydl.ones((1, 2, 2)), 2), ValueError, r"^\[norm\] got shape"),
        (lambda x: pydl.linalg.norm(x[0], "fro"), ValueError, r"^\[norm\] got the order 'fro' for vectors"),
        (lambda x: pydl.linalg.matrix_norm(x[0]), ValueError, r"^\[matrix_norm\] got shape"),
        (lambda x: pydl.linalg.inv(x), ValueError, r"^\[inv\] singular matrix; shape \(3, 3\)"),
        (lambda x: pydl.linalg.inv(x[:2]), ValueError, r"^\[inv\] got shape \(2, 3\), expected square"),
        (lambda x: pydl.linalg.cholesky(-x), ValueError, r"^\[cholesky\] matrix is not positive definite"),
        (lambda x: pydl.linalg.det(x.long()), TypeError, r"^\[det\] got a matrix of pydl.int64"),
        (lambda x: x.kthvalue(4), ValueError, r"^\[kthvalue\] got k=4"),
        (lambda x: x.scatter_reduce(0, x.long(), x, "max"), ValueError, r"^\[scatter_reduce\].*'max'"),
        (lambda x: x.masked_scatter(x == x, x[0]), ValueError, r"^\[masked_scatter\] the mask has 9 places"),
        (lambda x: x.hsplit(2), ValueError, r"^\[hsplit\] axis 1"),
        (lambda x: x.gcd(x), TypeError, r"^\[gcd\]"),
        (lambda x: pydl.polygamma(-1, x), ValueError, r"^\[polygamma\]"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(pydl.ones((3, 3)))


def test_closed_forms() -> None:
    x = pydl.asarray([1.0, 0.5], dtype=pydl.float64)
    np.testing.assert_allclose(pydl.polygamma(1, x).numpy(), [np.pi**2 / 6, np.pi**2 / 2], rtol=1e-14)
    np.testing.assert_allclose(pydl.digamma(x).numpy(), [-np.euler_gamma, -np.euler_gamma - np.log(4)], rtol=1e-14)
    assert pydl.vander(pydl.asarray([2.0]), 3).tolist() == [[4.0, 2.0, 1.0]]
    assert pydl.relu_(pydl.asarray([-1.0, 2.0])).tolist() == [0.0, 2.0]
    assert pydl.sgn(pydl.asarray([-3.0])).tolist() == [-1.0]
    assert pydl.chain_matmul(pydl.ones((2, 3)), pydl.ones((3, 4)), pydl.ones((4, 1))).tolist() == [[12.0], [12.0]]


def test_a_sum_without_its_first_term_does_not_look_at_it() -> None:
    nothing = pydl.full((2, 2), float("nan"))
    a = pydl.ones((2, 2))
    assert pydl.addmm(nothing, a, a, beta=0).tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert pydl.addr(nothing, a[0], a[0], beta=0, alpha=2).tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_dtypes_of_results() -> None:
    whole, truth = pydl.asarray([1, 2]), pydl.asarray([True, False])
    assert pydl.cumsum(whole, 0, dtype=pydl.uint8).dtype == pydl.uint8
    assert pydl.logsumexp(whole, 0).dtype == pydl.float32
    assert pydl.isclose(truth, truth).all()
    assert pydl.bincount(whole, whole).dtype == pydl.float64
    assert pydl.logspace(0, 2, 3, dtype=pydl.int64).tolist() == [1, 10, 100]
    assert pydl.unravel_index(pydl.asarray([3], dtype=pydl.uint8), (2, 300))[1].tolist() == [3]
    assert truth.scatter_reduce(0, whole - 1, ~truth, "amax").tolist() == [True, True]
    assert whole.scatter_reduce(0, whole - 1, whole, "mean").dtype == pydl.int64


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("index_select", lambda x: pydl.index_select(x, 0, pydl.asarray([9]))),
        ("index_add", lambda x: x.index_add(0, pydl.asarray([9]), pydl.ones((1, 4)))),
        ("masked_fill", lambda x: x.masked_fill(pydl.ones(5) > 0, 1.0)),
        ("addmm", lambda x: pydl.addmm(x, x, x)),
        ("outer", lambda x: pydl.outer(x, pydl.ones((5, 6)))),
        ("hstack", lambda x: pydl.hstack([x, pydl.ones((5, 6))])),
        ("chunk", lambda x: x.chunk(2, 5)),
        ("amax", lambda x: x.amax(dim=9)),
        ("median", lambda x: x.median(9)),
        ("quantile", lambda x: x.quantile(1.5)),
        ("diff", lambda x: pydl.diff(x, 1, 9)),
        ("flatten", lambda x: x.flatten(3)),
        ("trace", lambda x: pydl.trace(x[0])),
        ("normalize", lambda x: pydl.nn.functional.normalize(x, dim=9)),
        ("pairwise_distance", lambda x: pydl.nn.functional.pairwise_distance(x, pydl.ones((5, 6)))),
        ("embedding_bag", lambda x: pydl.nn.functional.embedding_bag(pydl.asarray([[9]]), x)),
    ],
)
def test_messages_name_the_function_that_was_called(name: str, call: Any) -> None:
    with pytest.raises((ValueError, IndexError), match=rf"^\[{name}\] "):
        call(pydl.ones((3, 4)))


def test_names_are_found_late_and_listed() -> None:
    assert "lgamma" in dir(pydl)
    assert {"lgamma", "unsqueeze", "softmax"} < set(dir(pydl.zeros(2)))
    assert pydl.kthvalue is pydl.kthvalue
    assert not hasattr(pydl, "kthvalues")
    assert not hasattr(pydl.zeros(2), "block_diag")


def test_incomplete_gamma_functions() -> None:
    torch = pytest.importorskip("torch")
    a = np.array([0.0, 0.0, 1.0, np.inf, 2.0, np.inf, -1.0, np.nan, 0.01, 0.3, 4.0, 4.0, 50.0, 120.0, 300.0, 2.0])
    x = np.array([0.0, 1.0, 0.0, 1.0, np.inf, np.inf, 1.0, 1.0, 0.2, 3.0, 1.0, 9.0, 60.0, 80.0, 310.0, 40.0])
    grad = rng.normal(size=x.shape)
    for name in ("igamma", "igammac"):
        ours, theirs = pydl.asarray(x.copy(), requires_grad=True), torch.tensor(x, requires_grad=True)
        found = getattr(pydl, name)(pydl.asarray(a), ours)
        wanted = getattr(torch, name)(torch.tensor(a), theirs)
        np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=1e-8)
        found.backward(pydl.asarray(grad))
        wanted.backward(torch.tensor(grad))
        inside = slice(8, None)
        np.testing.assert_allclose(ours.grad.numpy()[inside], theirs.grad.numpy()[inside], rtol=1e-10)
    rest = 8 / math.exp(7)  # of two whole numbers: the chance of fewer than 2 events where 7 are expected
    assert pydl.special.gammaincc(pydl.asarray([2.0]), pydl.asarray([7.0])).item() == pytest.approx(rest, rel=1e-6)


def test_what_is_turned_does_not_share_memory() -> None:
    x = pydl.arange(6.0).reshape((2, 3))
    for turned in (x.flip(1), pydl.flip(x), x.fliplr(), x.flipud(), x.rot90(), x.rot90(2), x[:1].flip(0)):
        assert turned.is_contiguous()
        turned.fill_(9.0)
    assert x.view(-1).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_resize_in_place() -> None:
    transposed = pydl.arange(12).reshape((3, 4)).T
    assert transposed.as_strided((2, 3), (4, 1)).tolist() == [[0, 1, 2], [4, 5, 6]]
    x = pydl.arange(6.0).reshape((2, 3)).T
    assert x.resize_(2, 2).tolist() == [[0.0, 3.0], [1.0, 4.0]]
    assert x.resize_((6,)).tolist()[:4] == [0.0, 3.0, 1.0, 4.0]
    assert x.resize_as_(pydl.zeros((1, 0))).shape == (1, 0)
