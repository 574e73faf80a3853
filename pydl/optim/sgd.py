"""Stochastic gradient descent, plain and averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl.optim.optimizer import ElementwiseOptimizer, check_option, refuse

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from pydl import Tensor

__all__ = ["ASGD", "SGD"]


class SGD(ElementwiseOptimizer):
    """Stochastic gradient descent with momentum, for a gradient g and a parameter w:

        g ← g + weight_decay·w
        v ← momentum·v + (1 - dampening)·g         (v ← g at the first step)
        w ← w - lr·v                               (w ← w - lr·(g + momentum·v) for Nesterov's)

    Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013).

    Args:
        params: tensors, pairs (name, tensor), dicts with ``"params"`` and options of their own, or a module.
        lr: learning rate; default 0.001.
        momentum: default 0.
        dampening: share of the gradient that momentum leaves out; default 0.
        weight_decay: L2 penalty; default 0.
        nesterov: look ahead; needs momentum and no dampening; default False.
        maximize: climb instead of descend; default False.
        foreach, fused: accepted and ignored; the step is one fused call anyway.
        decoupled_weight_decay: w ← w - lr·weight_decay·w instead of the penalty, which momentum then does not see
            (SGDW; Loshchilov and Hutter, arXiv:1711.05101); default False.
        no_decay, lazy_rows: see :class:`Optimizer`.

    Raises:
        ValueError: an option out of its range, or no parameters.

    >>> import pydl
    >>> w = pydl.ones((2,), requires_grad=True)
    >>> optimizer = SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().tolist()
    [0.0, 0.0]
    """

    _rule = "sgd"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        refuse("SGD", differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
            "no_decay": no_decay,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for option in ("lr", "momentum", "weight_decay"):
            check_option("SGD", option, options[option])
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError("[SGD] got nesterov=True, which needs momentum above 0 and dampening = 0")

    def _state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] != 0 else ()

    def _new_state(self, param: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def _advance(self, entry: dict[str, Any], group: Mapping[str, Any]) -> Hashable:
        return group["momentum"] != 0 and "momentum_buffer" not in entry  # a first step, which makes the buffer

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "lr": float(group["lr"]),
            "beta1": float(group["momentum"]),
            "undamped": 1.0 - float(group["dampening"]),
            "nesterov": group["nesterov"],
            "first": key,
        }


class ASGD(ElementwiseOptimizer):
    """Averaged stochastic gradient descent: the average of the weights is kept beside them, in the state's ``"ax"``.

        g ← g + weight_decay·w
        w ← (1 - lambd·η)·w - η·g
        a ← a + μ·(w - a),   η ← lr/(1 + lambd·lr·t)^alpha,   μ ← 1/max(1, t - t0)

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992).

    Args:
        params: tensors, pairs (name, tensor), dicts with ``"params"`` and options of their own, or a module.
        lr: learning rate; default 0.01.
        lambd: decay of the weights; default 1e-4.
        alpha: power of the decay of η; default 0.75.
        t0: the step where averaging starts; default 1e6.
        weight_decay: L2 penalty; default 0.
        foreach, capturable: accepted and ignored.
        maximize: climb instead of descend; default False.
        no_decay, lazy_rows: see :class:`Optimizer`.

    >>> import pydl
    >>> w = pydl.ones((2,), requires_grad=True)
    >>> optimizer = ASGD([w], lr=0.25, lambd=0.0, t0=0)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    >>> w.detach().numpy().tolist(), optimizer.state[w]["ax"].numpy().tolist()
    ([0.25, 0.25], [0.25, 0.25])
    """

    _rule = "asgd"
    _states = ("ax",)
    _scalar_states = ("eta", "mu")

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        *,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        refuse("ASGD", differentiable)
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "no_decay": no_decay,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for option in ("lr", "weight_decay"):
            check_option("ASGD", option, options[option])

    def _new_state(self, param: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        return {"step": 0, "eta": float(group["lr"]), "mu": 1.0, "ax": pydl.zeros_like(param)}

    def _advance(self, entry: dict[str, Any], group: Mapping[str, Any]) -> Hashable:
        step = entry["step"] + 1
        key = entry["eta"], entry["mu"]
        lr = float(group["lr"])
        entry["step"] = step
        entry["eta"] = lr / (1 + group["lambd"] * lr * step) ** group["alpha"]
        entry["mu"] = 1 / max(1.0, step - group["t0"])
        return key

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        eta, mu = key
        return {"lr": eta, "share": mu, "kept": 1.0 - float(group["lambd"]) * eta}
