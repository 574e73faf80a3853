"""Muon: momentum whose update is made orthogonal, for weight matrices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.optim.optimizer import Optimizer, check_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydl import Tensor

__all__ = ["Muon"]

_RATES = (None, "original", "match_rms_adamw")


class Muon(Optimizer):
    """Muon, for a weight matrix W (A, B); biases, embeddings and output layers want another optimizer beside it.

        M ← M + (1 - momentum)·(G - M),   U = G + momentum·(M - G) with Nesterov's look ahead, else M
        W ← W - lr·weight_decay·W - lr·s·O(U)

    O(U), near the orthogonal matrix closest to U, comes from ``ns_steps`` steps X ← aX + (b·XXᵀ + c·(XXᵀ)²)X from
    X = U/‖U‖, rounded to bfloat16 as in PyTorch; s = √max(1, A/B), or 0.2·√max(A, B) with ``"match_rms_adamw"``.
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); Liu et al., arXiv:2502.16982.

    Args:
        params: matrices, pairs (name, matrix), dicts with ``"params"`` and options of their own, or a module.
        lr: default 0.001.
        weight_decay: decoupled; default 0.1.
        momentum: default 0.95.
        nesterov: default True.
        ns_coefficients: a, b and c; default (3.4445, -4.775, 2.0315).
        eps: the least norm that U is divided by; default 1e-7.
        ns_steps: below 100; default 5.
        adjust_lr_fn: how s is found: None or ``"original"`` (default), or ``"match_rms_adamw"``.
        no_decay: see :class:`Optimizer`.

    Raises:
        ValueError: a parameter that is no matrix, or an option out of its range.

    >>> import pydl
    >>> w = pydl.zeros((3, 2), requires_grad=True)
    >>> optimizer = Muon([w], lr=0.5)
    >>> (w - 1).sum().backward()
    >>> optimizer.step()
    >>> bool((w < 0).all())
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        no_decay: Any = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": tuple(ns_coefficients),
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            "no_decay": no_decay,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for option in ("lr", "weight_decay", "momentum", "eps"):
            check_option("Muon", option, options[option])
        if len(options["ns_coefficients"]) != 3:
            raise ValueError(f"[Muon] got ns_coefficients = {options['ns_coefficients']}, expected three numbers")
        if not isinstance(options["ns_steps"], int) or not 0 <= options["ns_steps"] < 100:
            raise ValueError(f"[Muon] got ns_steps = {options['ns_steps']}, expected a whole number from 0 to 99")
        if options["adjust_lr_fn"] not in _RATES:
            raise ValueError(f"[Muon] got adjust_lr_fn = {options['adjust_lr_fn']!r}, expected one of {_RATES}")

    def _check_params(self, params: list[Any]) -> None:
        super()._check_params(params)
        for param in params:
            if param.ndim != 2:
                got = tuple(param.shape)
                raise ValueError(f"[Muon] got a parameter of shape {got}, expected matrices; give others to AdamW")

    def _step_group(self, group: dict[str, Any]) -> None:
        lr, momentum = float(group["lr"]), float(group["momentum"])
        undecayed = frozenset(group["no_decay"])
        with pydl.no_grad():
            for i, param in enumerate(group["params"]):
                grad = param.grad
                if grad is None:
                    continue
                entry = self.state.setdefault(param, {})
                if not entry:
                    entry["momentum_buffer"] = pydl.zeros_like(grad)
                moment = entry["momentum_buffer"]
                moment.copy_(pydl.lerp(moment, grad, 1.0 - momentum))
                update = pydl.lerp(grad, moment, momentum) if group["nesterov"] else moment
                update = _orthogonal(update, group["ns_coefficients"], group["ns_steps"], float(group["eps"]))
                kept = 1.0 if i in undecayed else 1.0 - lr * float(group["weight_decay"])
                rate = lr * _scale(group["adjust_lr_fn"], *param.shape)
                param.copy_(param * kept - _C.astype(update, param.dtype) * rate)


def _scale(how: str | None, rows: int, columns: int) -> float:
    if how == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns)) if columns else 1.0


def _orthogonal(update: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """A matrix with the update's singular vectors and singular values near 1, in bfloat16."""
    a, b, c = coefficients
    x = _C.astype(update, _C.bfloat16)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.mT
    x = x / max(float(_C.norm(x, 2.0, None, False)), eps)
    for _ in range(steps):
        gram = x @ x.mT
        factor = pydl.addmm(gram, gram, gram, beta=b, alpha=c)
        x = pydl.addmm(x, factor, x, beta=a)
    return x.mT if tall else x
