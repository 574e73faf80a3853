"""One function of the package and PyTorch's of that name on the same float64 numbers: values, dtypes, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

import pydl
from tolerances import assert_near

Case = tuple[str, tuple[Any, ...], dict[str, Any]]  # name, arrays and further arguments, keywords


def case_id(case: Case) -> str:
    return f"{case[0]}-{len(case[1])}-{','.join(case[2])}"


def convert(value: Any, tensor: Any, leaves: list[Any] | None) -> Any:
    if isinstance(value, np.ndarray):
        made = tensor(value.copy())
        if value.dtype.kind == "f" and leaves is not None:
            leaves.append(made.requires_grad_())
        return made
    return [convert(v, tensor, leaves) for v in value] if isinstance(value, list) else value


def flat(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in flat(part)] if isinstance(value, (tuple, list)) else [value]


def find(library: Any, name: str) -> Any:
    for part in name.split("."):
        library = getattr(library, part)
    return library


def compare(torch: Any, case: Case, plain: bool = False) -> None:
    """``plain`` leaves gradients out, for what PyTorch cannot differentiate."""
    name, arguments, options = case
    results = []
    for library, tensor in ((torch, torch.from_numpy), (pydl, pydl.asarray)):
        leaves: list[Any] = []
        made = [convert(a, tensor, None if plain else leaves) for a in arguments]
        if library is torch and name == "index_copy":
            made[3] = made[3].contiguous()
        outputs = flat(
            find(library, name)(*made, **{key: convert(value, tensor, None) for key, value in options.items()})
        )
        live = [y for y in outputs if y.requires_grad]
        if live and not any(np.isnan(y.detach().numpy()).any() for y in live):
            sum((y * y * 0.5 + y).sum() for y in live).backward()
        results.append((outputs, leaves))
    (wanted, their_leaves), (got, our_leaves) = results
    assert len(got) == len(wanted)
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert str(a.dtype).rpartition(".")[2] == str(b.dtype).rpartition(".")[2]
        assert_near(a.detach().numpy(), b.detach().numpy(), 1e-12, 1e-13, f"output {i}")
    for i, (a, b) in enumerate(zip(our_leaves, their_leaves, strict=True)):
        zero = np.zeros(a.shape)
        a, b = (zero if leaf.grad is None else leaf.grad.numpy() for leaf in (a, b))
        if np.isfinite(b).all():
            assert_near(a, b, 1e-11, 1e-12, f"gradient {i}")
