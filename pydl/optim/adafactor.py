"""Adafactor: second moments of matrices kept as those of their rows and columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.optim.optimizer import Optimizer, check_option, numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor

__all__ = ["Adafactor"]


class Adafactor(Optimizer):
    """Adafactor, for a parameter W of two axes or more (leading axes count matrices) at step t:

        β = 1 - t^beta2_decay,   α = max(eps2, rms(W))·min(lr, 1/√t),   W ← W - lr·weight_decay·W
        r ← β·r + (1 - β)·mean over columns of G²,   c ← β·c + (1 - β)·mean over rows of G²
        U = G/√max(r·c/max(mean(r), eps1), eps1²),   W ← W - α·U/max(1, rms(U)/d)

    Vectors keep G² itself. Shazeer and Stern, arXiv:1804.04235 (2018), algorithms 4 and 5.

    Args:
        params: tensors, pairs (name, tensor), dicts with ``"params"`` and options of their own, or a module.
        lr: the largest relative step; default 0.01.
        beta2_decay: 0 or less; default -0.8.
        eps: (eps1, eps2); eps1 None is the dtype's epsilon; default (None, 0.001).
        d: the largest root mean square of an update, 1 or more; default 1.
        weight_decay: decoupled; default 0.
        foreach: accepted and ignored.
        maximize: climb instead of descend; default False.
        no_decay: see :class:`Optimizer`.

    >>> import pydl
    >>> w = pydl.ones((3, 2), requires_grad=True)
    >>> optimizer = Adafactor([w])
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> [tuple(optimizer.state[w][name].shape) for name in ("row_var", "col_var")]
    [(3, 1), (1, 2)]
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        no_decay: Any = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": numbers(type(self).__name__, "eps", eps),
            "d": d,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "no_decay": no_decay,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for option in ("lr", "weight_decay"):
            check_option("Adafactor", option, options[option])
        if len(options["eps"]) != 2:
            raise ValueError(f"[Adafactor] got eps = {options['eps']}, expected two numbers")
        for eps in options["eps"]:
            check_option("Adafactor", "eps", 0.0 if eps is None else eps)
        if not options["beta2_decay"] <= 0:
            raise ValueError(f"[Adafactor] got beta2_decay = {options['beta2_decay']}, expected 0 or less")
        if not options["d"] >= 1:
            raise ValueError(f"[Adafactor] got d = {options['d']}, expected 1 or more")

    def _state_shape(self, what: str, param: Tensor) -> tuple[int, ...]:
        shape = tuple(param.shape)
        if what == "row_var":
            return (*shape[:-1], 1)
        return (*shape[:-2], 1, shape[-1]) if what == "col_var" else shape

    def _step_group(self, group: dict[str, Any]) -> None:
        undecayed = frozenset(group["no_decay"])
        calls: dict[tuple[int, bool], tuple[list[Tensor], ...]] = {}
        for i, param in enumerate(group["params"]):
            if param.grad is None:
                continue
            names = ("row_var", "col_var") if param.ndim > 1 else ("variance",)
            entry = self.state.get(param)
            if not entry:
                moments = {
                    name: pydl.zeros(self._state_shape(name, param), dtype=param.dtype, device=param.device)
                    for name in names
                }
                entry = self.state[param] = {"step": 0, **moments}
            entry["step"] += 1
            lists = calls.setdefault((entry["step"], i in undecayed), ([], [], [], [], []))
            lists[0].append(param)
            lists[1].append(param.grad)
            for name in names:
                lists[2 + ("row_var", "col_var", "variance").index(name)].append(entry[name])
        lr, (eps1, eps2) = float(group["lr"]), group["eps"]
        for (step, skip), lists in calls.items():
            params, grads, row_vars, col_vars, variances = lists
            _C.adafactor_step(
                params,
                grads,
                row_vars,
                col_vars,
                variances,
                eps1=eps1,
                eps2=float(eps2),
                weight=step ** float(group["beta2_decay"]),
                rate=min(lr, step**-0.5),
                d=float(group["d"]),
                kept=1.0 if skip else 1.0 - lr * float(group["weight_decay"]),
                maximize=group["maximize"],
            )
