"""One case of a function or module, run by pydl and by PyTorch on the same numbers: values, gradients, second gradients
and buffers are compared, in float64 and float32. Tables of cases are in the tests that use this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import pydl
from tolerances import assert_near


@dataclass(frozen=True)
class Draw:
    """An argument that is drawn: floating ones take the case's dtype and, with grad, a gradient."""

    draw: Callable[[np.random.Generator], np.ndarray]
    grad: bool = False


def real(*shape: int, low: float = -2.0, high: float = 2.0, grad: bool = True) -> Draw:
    return Draw(lambda rng: rng.uniform(low, high, shape), grad)


def fixed(*shape: int, low: float = -2.0, high: float = 2.0) -> Draw:
    return real(*shape, low=low, high=high, grad=False)


def whole(*shape: int, high: int, low: int = 0) -> Draw:
    return Draw(lambda rng: np.asarray(rng.integers(low, high, shape)))


def signs(*shape: int) -> Draw:
    return Draw(lambda rng: np.asarray(rng.choice([-1.0, 1.0], shape)))


def given(values: Any, grad: bool = False) -> Draw:
    return Draw(lambda rng: np.asarray(values), grad)


def flags(*shape: int, p: float = 0.3) -> Draw:
    return Draw(lambda rng: rng.random(shape) < p)


@dataclass(frozen=True)
class Case:
    name: str  # under pydl and torch
    inputs: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[Any, ...] = ()  # of a module's constructor
    options: dict[str, Any] = field(default_factory=dict)
    twice: bool = True  # compare second gradients
    evaluate: bool = True  # modules: in evaluation mode too
    train: bool = True
    loose: float = 1.0  # factor of the tolerances

    @property
    def is_module(self) -> bool:
        return self.name.rsplit(".", 1)[-1][0].isupper()


def case_id(case: Case) -> str:
    def brief(x: Any) -> str:
        return "~" if isinstance(x, Draw) else getattr(x, "__name__", None) or str(x)

    parts = [case.name.rsplit(".", 1)[-1], *map(brief, case.arguments)]
    parts += [f"{k}={brief(v)}" for k, v in {**case.options, **case.keywords}.items()]
    return "-".join(parts).replace(" ", "")


def torch_of(name: str) -> Any:
    torch = pytest.importorskip("torch")
    target: Any = torch
    for part in name.split("."):
        target = getattr(target, part)
    return target


def pydl_of(name: str) -> Any:
    target: Any = pydl
    for part in name.split("."):
        target = getattr(target, part)
    return target


def flatten(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in flatten(part)]
    return [] if value is None else [value]


class Side:
    """pydl or torch: how arrays become tensors, and back."""

    def __init__(self, library: Any, dtype: str) -> None:
        self.library, self.dtype = library, dtype
        self.leaves: list[Any] = []

    def tensor(self, array: np.ndarray, grad: bool) -> Any:
        array = np.array(array, dtype=self.dtype) if array.dtype.kind == "f" else np.array(array)
        tensor = pydl.asarray(array) if self.library is pydl else self.library.from_numpy(array)
        if grad and array.dtype.kind == "f":
            tensor.requires_grad_(True)
            self.leaves.append(tensor)
        return tensor

    def convert(self, value: Any, drawn: dict[int, np.ndarray]) -> Any:
        if isinstance(value, Draw):
            return self.tensor(drawn[id(value)], value.grad)
        if isinstance(value, tuple):
            return tuple(self.convert(v, drawn) for v in value)
        if isinstance(value, list):
            return [self.convert(v, drawn) for v in value]
        return value


def numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    return tensor.numpy() if isinstance(tensor, pydl.Tensor) else tensor.numpy(force=True)


def draws(value: Any) -> list[Draw]:
    if isinstance(value, Draw):
        return [value]
    if isinstance(value, dict):
        return [d for v in value.values() for d in draws(v)]
    if isinstance(value, (tuple, list)):
        return [d for v in value for d in draws(v)]
    return []


def run(side: Side, case: Case, target: Any, drawn: dict[int, np.ndarray]) -> Any:
    keywords = {k: side.convert(v, drawn) for k, v in case.keywords.items()}
    return target(*[side.convert(v, drawn) for v in case.inputs], **keywords)


def compare(case: Case, dtype: str, rng: np.random.Generator, training: bool = True) -> None:
    torch = pytest.importorskip("torch")
    attention = torch.nn.attention  # its quick kernels have no second derivative
    with attention.sdpa_kernel(attention.SDPBackend.MATH):
        _compare(torch, case, dtype, rng, training)


def _compare(torch: Any, case: Case, dtype: str, rng: np.random.Generator, training: bool) -> None:
    drawn = {id(d): d.draw(rng) for d in draws((case.inputs, case.keywords, case.arguments, case.options))}
    sides = [Side(pydl, dtype), Side(torch, dtype)]
    targets = [pydl_of(case.name), torch_of(case.name)]
    modules: list[Any] = []
    if case.is_module:
        for i, side in enumerate(sides):
            options = {k: side.convert(v, drawn) for k, v in case.options.items()}
            module = targets[i](*[side.convert(v, drawn) for v in case.arguments], **options)
            modules.append(module.to(getattr(side.library, dtype)).train(training))
            side.leaves.clear()
        ours, theirs = modules
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
        for name, parameter in theirs.named_parameters():  # biases start as zeros: a fair test needs more
            if parameter.ndim == 1 and "weight" not in name:
                parameter.data.uniform_(-0.5, 0.5)
        ours.load_state_dict({n: t.numpy().copy() for n, t in theirs.state_dict().items()})
        targets = modules
    outputs = [flatten(run(side, case, target, drawn)) for side, target in zip(sides, targets)]
    for module, side in zip(modules, sides):
        side.leaves += [p for p in module.parameters() if p.requires_grad]
    # Gradients of a float32 run carry the rounding of all that is added up on the way.
    rtol, atol = (1e-9, 1e-10) if dtype == "float64" else (2e-4, 3e-5)
    rtol, atol = rtol * case.loose, atol * case.loose
    assert len(outputs[0]) == len(outputs[1])
    for i, (got, wanted) in enumerate(zip(*outputs)):
        if isinstance(wanted, torch.Tensor):
            assert tuple(got.shape) == tuple(wanted.shape), f"shape of output {i}"
            assert str(got.dtype).rsplit(".", 1)[-1] == str(wanted.dtype).rsplit(".", 1)[-1]
            assert_near(numpy(got), numpy(wanted), rtol, atol, f"output {i}")
        else:
            assert got == wanted
    if modules:
        for (name, ours), (_, theirs) in zip(modules[0].named_buffers(), modules[1].named_buffers()):
            assert_near(numpy(ours), numpy(theirs), rtol, atol, f"buffer {name}")
    compare_gradients(case, sides, outputs, rng, rtol, atol)


def compare_gradients(
    case: Case, sides: list[Side], outputs: list[list[Any]], rng: np.random.Generator, rtol: float, atol: float
) -> None:
    live = [i for i, t in enumerate(outputs[1]) if getattr(t, "requires_grad", False)]
    if not live or not sides[1].leaves:
        return
    upstream = [np.asarray(rng.uniform(0.5, 2.0, tuple(outputs[1][i].shape))) for i in live]
    weights = [np.asarray(rng.uniform(0.5, 2.0, tuple(leaf.shape))) for leaf in sides[1].leaves]
    results = []
    for side, out in zip(sides, outputs):
        total = sum((out[i] * side.tensor(u, False)).sum() for i, u in zip(live, upstream))
        grad = side.library.autograd.grad
        first = grad(total, side.leaves, create_graph=case.twice, allow_unused=True)
        second: Any = [None] * len(side.leaves)
        if case.twice:
            used = [(g, w) for g, w in zip(first, weights) if g is not None and g.requires_grad]
            if used:
                again = sum((g * side.tensor(w, False)).sum() for g, w in used)
                second = grad(again, side.leaves, allow_unused=True)
        results.append((first, second))
    for order in (0, 1):
        for i, (got, wanted) in enumerate(zip(results[0][order], results[1][order])):
            shape = tuple(sides[1].leaves[i].shape)
            a = np.zeros(shape) if got is None else numpy(got)
            b = np.zeros(shape) if wanted is None else numpy(wanted)
            assert a.shape == b.shape
            scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
            assert_near(a, b, rtol, atol * scale, f"gradient of order {order + 1} for leaf {i}")
