"""What PyTorch computes for the tables of cases, in float64, kept as numbers for machines without it.

``python tests/stored_references.py`` writes references.json anew; test_stored_references.py compares pydl with it.
Of every output and gradient there are two numbers: a sum with irregular weights, and the norm.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

import pydl
from test_layers_torch import CASES as LAYERS
from test_layers_torch_edges import CASES as EDGES
from torch_oracle import Case, Side, case_id, draws, fixed, flatten, numpy, real, run, signs, whole

FILE = pathlib.Path(__file__).parent / "references.json"
X, N = real(5, 4), "nn."
LOGITS = real(5, 4, 3)
CHANCES = real(5, 4, low=0.1, high=0.9)
LOSSES = [
    *[Case(N + name, (X, fixed(5, 4)))
      for name in ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss", "SoftMarginLoss")],
    Case(N + "CrossEntropyLoss", (X, whole(5, high=4)), options={"label_smoothing": 0.1}),
    Case(N + "CrossEntropyLoss", (LOGITS, whole(5, 3, high=4)), options={"ignore_index": 2, "reduction": "sum"}),
    Case(N + "NLLLoss", (X, whole(5, high=4)), options={"weight": fixed(4, low=0.5)}),
    Case(N + "BCELoss", (CHANCES, fixed(5, 4, low=0.0, high=1.0))),
    Case(N + "BCEWithLogitsLoss", (X, fixed(5, 4, low=0.0, high=1.0)), options={"pos_weight": fixed(4, low=0.5)}),
    Case(N + "KLDivLoss", (X, fixed(5, 4, low=0.1, high=1.0)), options={"reduction": "batchmean"}),
    Case(N + "PoissonNLLLoss", (X, fixed(5, 4, low=0.0)), options={"full": True}),
    Case(N + "GaussianNLLLoss", (X, fixed(5, 4), real(5, 4, low=0.2))),
    Case(N + "HingeEmbeddingLoss", (X, signs(5, 4))),
    Case(N + "MarginRankingLoss", (X, real(5, 4), signs(5, 4)), options={"margin": 0.3}),
    Case(N + "CosineEmbeddingLoss", (X, real(5, 4), signs(5)), options={"margin": 0.1}),
    Case(N + "MultiMarginLoss", (X, whole(5, high=4)), options={"p": 2}),
    Case(N + "MultiLabelMarginLoss", (X, whole(5, 4, high=4, low=-1))),
    Case(N + "MultiLabelSoftMarginLoss", (X, fixed(5, 4, low=0.0, high=1.0))),
    Case(N + "TripletMarginLoss", (X, real(5, 4), real(5, 4)), options={"swap": True}),
]  # fmt: skip
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}), ("AdamW", {"lr": 0.1}), ("Adamax", {"lr": 0.1}), ("NAdam", {"lr": 0.1}),
    ("RAdam", {"lr": 0.1}), ("Adagrad", {"lr": 0.1}), ("Adadelta", {"lr": 1.0}),
    ("RMSprop", {"lr": 0.1, "centered": True}),
    ("Rprop", {"lr": 0.1}), ("ASGD", {"lr": 0.1}), ("Adafactor", {"lr": 0.1}), ("LBFGS", {"lr": 0.5}),
]  # fmt: skip


def all_names() -> Iterator[tuple[str, Any]]:
    """Every case under a name of its own."""
    seen: dict[str, int] = {}
    for case in [*LAYERS, *EDGES, *LOSSES]:
        name = case_id(case)
        seen[name] = seen.get(name, 0) + 1
        yield f"{name}#{seen[name]}", case
    for name, options in OPTIMIZERS:
        yield "optim." + name + json.dumps(options), (name, options)


def in_two_numbers(x: Any) -> list[float]:
    flat = np.asarray(x, np.float64).reshape(-1)
    flat = np.where(np.isfinite(flat), flat, 0.0)
    return [float(np.sum(flat * np.cos(1.7 * np.arange(flat.size) + 0.3))), float(np.sqrt(np.sum(flat * flat)))]


def numbers(library: Any, name: str, case: Any) -> list[float]:
    """What a library computes for a case."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return steps(library, *case, rng) if isinstance(case, tuple) else forward_and_backward(library, case, rng)


def forward_and_backward(library: Any, case: Case, rng: np.random.Generator) -> list[float]:
    drawn = {id(d): d.draw(rng) for d in draws((case.inputs, case.keywords, case.arguments, case.options))}
    side = Side(library, "float64")
    target: Any = library
    for part in case.name.split("."):
        target = getattr(target, part)
    parameters = []
    if case.is_module:
        options = {k: side.convert(v, drawn) for k, v in case.options.items()}
        target = target(*[side.convert(v, drawn) for v in case.arguments], **options)
        target = target.to(library.float64).train(case.train and not case.evaluate)
        side.leaves.clear()
        values = {}
        for key, value in target.state_dict().items():
            given = np.array(numpy(value))
            low = 0.5 if "var" in key else -0.5  # variances are positive
            values[key] = rng.uniform(low, 1.0, given.shape) if given.dtype.kind == "f" else given
        tensor = pydl.asarray if library is pydl else library.from_numpy
        target.load_state_dict({key: tensor(value) for key, value in values.items()})
        parameters = [p for p in target.parameters() if p.requires_grad]
    outputs = [t for t in flatten(run(side, case, target, drawn)) if hasattr(t, "detach")]
    found = [number for t in outputs for number in in_two_numbers(numpy(t))]
    live = [t for t in outputs if t.requires_grad]
    leaves = side.leaves + parameters
    if live and leaves:
        weights = [np.asarray(rng.uniform(0.5, 2.0, tuple(t.shape))) for t in live]
        total = sum((t * side.tensor(w, False)).sum() for t, w in zip(live, weights, strict=True))
        for leaf, grad in zip(leaves, library.autograd.grad(total, leaves, allow_unused=True), strict=True):
            found += in_two_numbers(np.zeros(tuple(leaf.shape)) if grad is None else numpy(grad))
    return found


def steps(library: Any, name: str, options: dict[str, Any], rng: np.random.Generator) -> list[float]:
    tensor = pydl.asarray if library is pydl else library.from_numpy
    params = [tensor(rng.normal(size=shape)).requires_grad_() for shape in ((3, 4), (5,))]
    optimizer = getattr(library.optim, name)(params, **options)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum((p * p + 0.3 * p.sin() + 0.1 * p).sum() for p in params)
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)
    return [number for p in params for number in in_two_numbers(numpy(p))]


def written(values: list[float]) -> str:
    return "[" + ", ".join(f"{value:.12g}" for value in values) + "]"


def main() -> None:
    torch = importlib.import_module("torch")
    attention = importlib.import_module("torch.nn.attention")
    with attention.sdpa_kernel(attention.SDPBackend.MATH):
        lines = [f"{json.dumps(name)}: {written(numbers(torch, name, case))}" for name, case in all_names()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
