"""What pydl's optimizers have beyond PyTorch's: no_decay, lazy_rows, decoupled decay, Lion; hooks, dtypes, threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import _C, nn, optim
from tolerances import assert_near, assert_same_bits

DECAYED = [
    "SGD",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "Adagrad",
    "Adadelta",
    "RMSprop",
    "ASGD",
    "Adafactor",
    "Lion",
]
ELEMENTWISE = [name for name in DECAYED if name != "Adafactor"] + ["Rprop"]
MOMENTUM = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.5, "centered": True}, "Adam": {"amsgrad": True}}


def make(name: str, params: Any, **options: Any) -> Any:
    return getattr(optim, name)(params, **{"lr": 0.05, **MOMENTUM.get(name, {}), **options})


def net() -> Any:
    pydl.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False), nn.PReLU())


def train(model: Any, optimizer: Any, rng: np.random.Generator, steps: int = 4) -> list[np.ndarray]:
    for _ in range(steps):
        for p in model.parameters():
            p.grad = pydl.asarray(rng.normal(size=tuple(p.shape)).astype("float32"))
        optimizer.step()
    return [p.detach().numpy() for p in model.parameters()]


@pytest.mark.parametrize("name", DECAYED)
def test_no_decay_is_a_group_of_its_own(name: str, rng: np.random.Generator) -> None:
    """One argument does what two groups made by hand do, to the bit."""
    state = rng.bit_generator.state
    by_hand = net()
    params = list(by_hand.parameters())
    matrices = [p for p in params if p.ndim > 1]
    others = [p for p in params if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}]
    expected = train(by_hand, make(name, groups), rng)
    for spec, named in (
        ("bias_and_norm", False),
        ("bias_and_norm", True),
        (["*.bias", "1.*", "3.weight"], True),
        (lambda _, p: p.ndim < 2, False),
        (lambda full, _: full.endswith("bias") or full[0] in "13", True),
    ):
        rng.bit_generator.state = state
        model = net()
        given = model.named_parameters() if named else model.parameters()
        optimizer = make(name, given, weight_decay=0.3, no_decay=spec)
        assert len(optimizer.param_groups) == 1
        assert optimizer.param_groups[0]["no_decay"] == [1, 2, 3, 5]
        for a, b in zip(train(model, optimizer, rng), expected, strict=True):
            assert_same_bits(a, b)
    rng.bit_generator.state = state
    decayed = net()
    assert any((a != b).any() for a, b in zip(train(decayed, make(name, decayed, weight_decay=0.3), rng), expected))


def test_no_decay_survives_a_state_and_added_groups(rng: np.random.Generator) -> None:
    model = net()
    optimizer = optim.AdamW([{"params": model[0].named_parameters()}, {"params": model[1].parameters()}],
                            no_decay="bias_and_norm")  # fmt: skip
    assert [g["no_decay"] for g in optimizer.param_groups] == [[1], [0, 1]]
    optimizer.add_param_group({"params": model[2].named_parameters(), "no_decay": "weight"})
    optimizer.add_param_group({"params": model[3].parameters(), "no_decay": None})
    assert [g["no_decay"] for g in optimizer.param_groups] == [[1], [0, 1], [0], []]
    fresh = optim.AdamW(net().parameters())
    state = optim.AdamW(net(), no_decay="bias_and_norm", lr=0.5).state_dict()
    fresh.load_state_dict(state)
    assert fresh.param_groups[0]["no_decay"] == [1, 2, 3, 5]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_lazy_rows(name: str, rng: np.random.Generator) -> None:
    """Each row is trained as if it were alone and only the steps where it has a gradient existed."""
    if name in ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "ASGD", "Adagrad"):
        pytest.skip("their scalars count the steps of all rows")
    start = rng.normal(size=(6, 5)).astype("float32")
    options = {} if name == "Rprop" else {"weight_decay": 0.1}
    table = pydl.asarray(start.copy()).requires_grad_()
    bias = pydl.zeros((5,), requires_grad=True)
    optimizer = make(name, [table, bias], lazy_rows=True, **options)
    seen: list[list[np.ndarray]] = [[] for _ in range(6)]
    for _ in range(6):
        grad = np.zeros_like(start)
        for row in rng.choice(5, size=2, replace=False):
            grad[row] = rng.normal(size=5)
            seen[row].append(grad[row].copy())
        table.grad, bias.grad = pydl.asarray(grad), pydl.zeros((5,))
        optimizer.step()
    for row, grads in enumerate(seen):
        alone = pydl.asarray(start[row : row + 1].copy()).requires_grad_()
        other = make(name, [alone], **options)
        for grad in grads:
            alone.grad = pydl.asarray(grad[None])
            other.step()
        assert_same_bits(table.detach().numpy()[row], alone.detach().numpy()[0], f"row {row}")
    assert_same_bits(table.detach().numpy()[5], start[5])


def test_lazy_rows_of_adam(rng: np.random.Generator) -> None:
    start = rng.normal(size=(40, 3, 2))
    table, dense = (pydl.asarray(start.copy()).requires_grad_() for _ in range(2))
    lazy, exact = optim.Adam([table], 0.1, lazy_rows=True), optim.Adam([dense], 0.1)
    m, v, w = np.zeros_like(start), np.zeros_like(start), start.copy()
    for t in range(1, 8):
        grad = np.where(rng.random((40, 1, 1)) < 0.3, rng.normal(size=start.shape), 0.0)
        rows = np.abs(grad).sum(axis=(1, 2)) > 0
        m[rows] = 0.9 * m[rows] + 0.1 * grad[rows]
        v[rows] = 0.999 * v[rows] + 0.001 * grad[rows] ** 2
        w[rows] -= 0.1 * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8))[rows]
        for tensor, optimizer in ((table, lazy), (dense, exact)):
            tensor.grad = pydl.asarray(grad)
            optimizer.step()
    assert_near(table.detach().numpy(), w, 1e-11, 1e-12)
    assert np.abs(dense.detach().numpy() - w).max() > 1e-3  # the default goes on where there is no gradient


def test_lion_by_its_formula(rng: np.random.Generator) -> None:
    w, m = rng.normal(size=(5, 7)), np.zeros((5, 7))
    tensor = pydl.asarray(w.copy()).requires_grad_()
    optimizer = optim.Lion([tensor], lr=0.03, betas=(0.8, 0.95), weight_decay=0.2, maximize=True)
    for _ in range(12):
        grad = rng.normal(size=(5, 7))
        grad[0, 0] = 0.0
        tensor.grad = pydl.asarray(grad)
        optimizer.step()
        w = w * (1 - 0.03 * 0.2) - 0.03 * np.sign(0.8 * m + 0.2 * -grad)
        m = 0.95 * m + 0.05 * -grad
    assert_near(tensor.detach().numpy(), w, 1e-12, 1e-13)
    assert_near(optimizer.state[tensor]["exp_avg"].numpy(), m, 1e-12, 1e-13)


@pytest.mark.parametrize("lazy_rows", [False, True])
@pytest.mark.parametrize("name", [*ELEMENTWISE, "Adafactor", "SparseAdam"])
def test_same_bits_for_any_thread_count(name: str, lazy_rows: bool, rng: np.random.Generator, threads: None) -> None:
    shapes = [(260, 501), (3,), (), (7, 1, 5, 3), (40001,), (1, 1)]
    start = [rng.normal(size=s).astype("float32") for s in shapes]
    grads = [[np.asarray(rng.normal(size=s), "float32") for s in shapes] for _ in range(3)]
    grads[1][0][17:200] = 0
    bits = []
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        tensors = [pydl.asarray(np.asarray(a).copy()).requires_grad_() for a in start]
        optimizer = make(name, tensors, **({"lazy_rows": lazy_rows} if name in ELEMENTWISE else {}))
        for step in grads:
            for tensor, grad in zip(tensors, step, strict=True):
                tensor.grad = pydl.asarray(grad)
            optimizer.step()
        bits.append([t.detach().numpy() for t in tensors])
    for other in bits[1:]:
        for a, b in zip(bits[0], other, strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("name", [*ELEMENTWISE, "Adafactor", "SparseAdam"])
def test_half_dtypes_strides_and_missing_gradients(name: str, rng: np.random.Generator) -> None:
    w, g = rng.normal(size=(6, 4)).astype("float32"), rng.normal(size=(6, 4)).astype("float32")
    plain = pydl.asarray(w.copy()).requires_grad_()
    strided = pydl.asarray(w.T.copy()).T.detach().requires_grad_()
    half = pydl.asarray(w).astype(pydl.bfloat16).detach().requires_grad_()
    idle = pydl.ones((2, 2), requires_grad=True)
    tensors = [plain, strided, half, idle]
    optimizer = make(name, tensors)
    for _ in range(3):
        plain.grad, strided.grad = pydl.asarray(g), pydl.asarray(g.T.copy()).T
        half.grad = pydl.asarray(g).astype(pydl.bfloat16)
        optimizer.step()
    assert_same_bits(strided.detach().numpy(), plain.detach().numpy())
    assert half.dtype == pydl.bfloat16
    assert_near(half.detach().astype(pydl.float32).numpy(), plain.detach().numpy(), 0.05, 0.05)
    assert np.abs(plain.detach().numpy() - w).max() > 1e-5
    assert idle.detach().numpy().tolist() == [[1.0, 1.0], [1.0, 1.0]]
    nan = pydl.asarray(np.array([[np.nan, 1.0, np.inf, 2.0]], "float32"))
    fresh = pydl.ones((1, 4), requires_grad=True)
    other = make(name, [fresh])
    fresh.grad = nan
    other.step()
    got = fresh.detach().numpy()[0]
    assert np.isnan(got[0])
    assert np.isfinite(got[3]) or name == "Adafactor"  # whose step is scaled by all elements


def test_hooks_around_steps() -> None:
    w = pydl.ones((2,), requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)
    w.grad = pydl.ones((2,))
    log: list[str] = []

    def note(what: str) -> Callable[..., None]:
        return lambda o, args, kwargs: log.append(f"{what} {w[0].item()} {o is optimizer}")

    before = optimizer.register_step_pre_hook(note("before"))
    after = optimizer.register_step_post_hook(note("after"))
    optimizer.step()
    before.remove()
    optimizer.step()
    after.remove()
    after.remove()
    optimizer.step()
    assert log == ["before 1.0 True", "after 0.5 True", "after 0.0 True"]


def test_pytorchs_groups_and_scalar_tensors_as_rates() -> None:
    model = net()
    optimizer = optim.SGD(
        [{"params": [model[0].weight], "foreach": True, "lr": pydl.asarray(0.5)}, {"params": [model[0].bias]}],
        lr=0.25,
        fused=True,
    )
    assert "foreach" not in optimizer.param_groups[0]
    model[0].weight.grad = pydl.ones((3, 4))
    before = model[0].weight.detach().numpy().copy()
    optimizer.step()
    assert_near(model[0].weight.detach().numpy(), before - 0.5, 1e-6, 1e-7)


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: optim.AdamW(net().parameters(), no_decay="*.bias"), ValueError,
     r"\[AdamW\] no_decay='\*.bias' selects by name, but the parameters came without; give model.named_parameters\(\)"),
    (lambda: optim.AdamW(net().named_parameters(), no_decay=["*.bias", "gamma"]), ValueError,
     r"\[AdamW\] no_decay: no parameter is called 'gamma'; names are: 0.weight"),
    (lambda: optim.Rprop(net().parameters(), etas=(1.5, 2.0)), ValueError, r"\[Rprop\] got etas = \(1.5, 2.0\)"),
    (lambda: optim.Rprop(net().parameters(), step_sizes=(1.5,)), ValueError, r"got step_sizes = \(1.5,\)"),
    (lambda: optim.Adadelta(net().parameters(), rho=1.5), ValueError, r"\[Adadelta\] got rho = 1.5, expected 0 to 1"),
    (lambda: optim.Adagrad(net().parameters(), lr_decay=-1), ValueError, r"\[Adagrad\] got lr_decay = -1"),
    (lambda: optim.RMSprop(net().parameters(), alpha=-1), ValueError, r"\[RMSprop\] got alpha = -1"),
    (lambda: optim.NAdam(net().parameters(), momentum_decay=-1), ValueError, r"\[NAdam\] got momentum_decay = -1"),
    (lambda: optim.Adafactor(net().parameters(), d=0.5), ValueError, r"\[Adafactor\] got d = 0.5, expected 1 or more"),
    (lambda: optim.Adafactor(net().parameters(), beta2_decay=0.5), ValueError, r"got beta2_decay = 0.5, expected 0 or"),
    (lambda: optim.Lion(net().parameters(), betas=(0.9, 1.0)), ValueError, r"\[Lion\] got betas = 1.0"),
    (lambda: optim.LBFGS(net().parameters(), line_search_fn="wolfe"), ValueError, r"got line_search_fn = 'wolfe'"),
    (lambda: optim.LBFGS(net().parameters()).step(), ValueError, r"\[LBFGS\] step\(\) needs a closure"),
    (lambda: optim.LBFGS(net()).add_param_group({"params": [pydl.ones((1,))]}), ValueError, r"a second parameter gr"),
    (lambda: _C.optimizer_step("newton", [], [], [], {}), ValueError, r"got the rule newton, which there is not"),
    (lambda: _C.optimizer_step("sgd", [], [], [], {"speed": 1.0}), TypeError, r"got an unknown scalar speed"),
    (lambda: _C.optimizer_step("adam", [], [], [[]], {}), ValueError, r"got 1 lists of states for adam, expected 2"),
    (lambda: _C.optimizer_step("sgd", [pydl.ones((2,))], [pydl.ones((3,))], [], {}), ValueError,
     r"\[sgd_step\] grad 0 has shape \(3,\), expected \(2,\), its param's"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
