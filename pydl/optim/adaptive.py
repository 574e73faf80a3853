"""Optimizers that scale each element by the gradients it has seen: Adagrad, Adadelta, RMSprop, and Rprop and Lion,
which take their signs alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl.optim.optimizer import ElementwiseOptimizer, check_betas, check_option, numbers, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor

__all__ = ["Adadelta", "Adagrad", "Lion", "RMSprop", "Rprop"]


class Adagrad(ElementwiseOptimizer):
    """Adagrad: s ← s + g²,   w ← w - lr/(1 + (t - 1)·lr_decay)·g/(√s + eps).

    Duchi et al., "Adaptive subgradient methods for online learning and stochastic optimization" (2011).

    Args:
        params: tensors, pairs (name, tensor), dicts with ``"params"`` and options of their own, or a module.
        lr: learning rate; default 0.01.
        lr_decay: default 0.
        weight_decay: L2 penalty; default 0.
        initial_accumulator_value: what s starts with; default 0.
        eps: default 1e-10.
        foreach, fused: accepted and ignored.
        maximize: climb instead of descend; default False.
        no_decay, lazy_rows: see :class:`Optimizer`.

    >>> import pydl
    >>> w = pydl.ones((2,), requires_grad=True)
    >>> optimizer = Adagrad([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().tolist()
    [0.5, 0.5]
    """

    _rule = "adagrad"
    _states = ("sum",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        refuse("Adagrad", differentiable)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
            "no_decay": no_decay,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for param in group["params"]:
                if hasattr(param, "materialize"):
                    raise ValueError("[Adagrad] got a parameter without a shape yet; run the lazy model once first")
                self.state[param] = self._new_state(param, group)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for option in ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
            check_option("Adagrad", option, options[option])

    def _new_state(self, param: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        return {"step": 0, "sum": pydl.full_like(param.detach(), float(group["initial_accumulator_value"]))}

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        return {"lr": float(group["lr"]) / (1.0 + (key - 1) * group["lr_decay"]), "eps": float(group["eps"])}


class Adadelta(ElementwiseOptimizer):
    """Adadelta: steps as large as the past ones were.

        s ← ρ·s + (1 - ρ)·g²,   δ = √(d + eps)/√(s + eps)·g,   d ← ρ·d + (1 - ρ)·δ²,   w ← w - lr·δ

    Zeiler, arXiv:1212.5701 (2012).

    Args:
        params: tensors, pairs (name, tensor), dicts with ``"params"`` and options of their own, or a module.
        lr: factor of the step; default 1.
        rho: ρ; default 0.9.
        eps: default 1e-6.
        weight_decay: L2 penalty; default 0.
        foreach, capturable: accepted and ignored.
        maximize: climb instead of descend; default False.
        no_decay, lazy_rows: see :class:`Optimizer`.

    >>> import pydl
    >>> Adadelta([pydl.ones((2,), requires_grad=True)]).defaults["rho"]
    0.9
    """

    _rule = "adadelta"
    _states = ("square_avg", "acc_delta")

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        refuse("Adadelta", differentiable)
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "no_decay": no_decay,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for option in ("lr", "eps", "weight_decay"):
            check_option("Adadelta", option, options[option])
        if not 0.0 <= options["rho"] <= 1.0:
            raise ValueError(f"[Adadelta] got rho = {options['rho']}, expected 0 to 1")

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        return {"lr": float(group["lr"]), "beta2": float(group["rho"]), "eps": float(group["eps"])}

    def _advance(self, entry: dict[str, Any], group: Mapping[str, Any]) -> None:
        entry["step"] += 1


class RMSprop(ElementwiseOptimizer):
    """RMSprop: s ← α·s + (1 - α)·g²,   w ← w - lr·g/(√s + eps).

    Centered, the running mean of g is taken out of s (Graves, arXiv:1308.0850, 2013); with momentum the step is
    b ← momentum·b + g/(√s + eps),   w ← w - lr·b. Tieleman and Hinton, "Lecture 6.5 - RMSProp" (2012).

    Args:
        params: tensors, pairs (name, tensor), dicts with ``"params"`` and options of their own, or a module.
        lr: learning rate; default 0.01.
        alpha: α; default 0.99.
        eps: default 1e-8.
        weight_decay: L2 penalty; default 0.
        momentum: default 0.
        centered: default False.
        capturable, foreach: accepted and ignored.
        maximize: climb instead of descend; default False.
        no_decay, lazy_rows: see :class:`Optimizer`.

    >>> import pydl
    >>> RMSprop([pydl.ones((2,), requires_grad=True)]).defaults["alpha"]
    0.99
    """

    _rule = "rmsprop"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        refuse("RMSprop", differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "no_decay": no_decay,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for option in ("lr", "alpha", "eps", "weight_decay", "momentum"):
            check_option("RMSprop", option, options[option])

    def _state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        names = ["square_avg"]
        if group["centered"]:
            names.append("grad_avg")
        if group["momentum"] > 0:
            names.append("momentum_buffer")
        return tuple(names)

    def _advance(self, entry: dict[str, Any], group: Mapping[str, Any]) -> None:
        entry["step"] += 1

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "rule": "centered_rmsprop" if group["centered"] else "rmsprop",
            "lr": float(group["lr"]),
            "beta1": float(group["momentum"]),
            "beta2": float(group["alpha"]),
            "eps": float(group["eps"]),
        }


class Rprop(ElementwiseOptimizer):
    """Resilient backpropagation: the gradient's sign alone, each element with a step size of its own.

    Where the sign is as before the step size grows by η₊, where it turned it shrinks by η₋ and that step is left out.
    Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm" (1993).
    For gradients of the whole data set, not of batches.

    Args:
        params: tensors, pairs (name, tensor), dicts with ``"params"`` and options of their own, or a module.
        lr: the first step size; default 0.01.
        etas: (η₋, η₊); default (0.5, 1.2).
        step_sizes: the smallest and the largest; default (1e-6, 50).
        capturable, foreach: accepted and ignored.
        maximize: climb instead of descend; default False.
        lazy_rows: see :class:`Optimizer`.

    >>> import pydl
    >>> w = pydl.ones((2,), requires_grad=True)
    >>> optimizer = Rprop([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().tolist()
    [0.5, 0.5]
    """

    _rule = "rprop"
    _states = ("prev", "step_size")

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        lazy_rows: bool = False,
    ) -> None:
        refuse("Rprop", differentiable)
        defaults = {
            "lr": lr,
            "etas": numbers(type(self).__name__, "etas", etas),
            "step_sizes": numbers(type(self).__name__, "step_sizes", step_sizes),
            "maximize": maximize,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        check_option("Rprop", "lr", options["lr"])
        if len(options["etas"]) != 2 or not 0.0 < options["etas"][0] < 1.0 < options["etas"][1]:
            raise ValueError(f"[Rprop] got etas = {options['etas']}, expected one in (0, 1) and one above 1")
        if len(options["step_sizes"]) != 2:
            raise ValueError(f"[Rprop] got step_sizes = {options['step_sizes']}, expected two numbers")

    def _new_state(self, param: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        step_size = pydl.full_like(param.detach(), float(group["lr"]))
        return {"step": 0, "prev": pydl.zeros_like(param), "step_size": step_size}

    def _advance(self, entry: dict[str, Any], group: Mapping[str, Any]) -> None:
        entry["step"] += 1

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        (eta_minus, eta_plus), (shortest, longest) = group["etas"], group["step_sizes"]
        return {
            "eta_minus": float(eta_minus),
            "eta_plus": float(eta_plus),
            "shortest": float(shortest),
            "longest": float(longest),
        }


class Lion(ElementwiseOptimizer):
    """Lion: the sign of an interpolation between gradient and momentum, with decoupled weight decay.

        w ← (1 - lr·weight_decay)·w - lr·sign(β1·m + (1 - β1)·g),   m ← β2·m + (1 - β2)·g

    Chen et al., "Symbolic discovery of optimization algorithms", arXiv:2302.06675 (2023). Its lr wants to be 3 to 10
    times smaller than Adam's, its weight decay as many times larger.

    Args:
        params: tensors, pairs (name, tensor), dicts with ``"params"`` and options of their own, or a module.
        lr: learning rate; default 1e-4.
        betas: β1 and β2; default (0.9, 0.99).
        weight_decay: default 0.
        maximize: climb instead of descend; default False.
        no_decay, lazy_rows: see :class:`Optimizer`.

    >>> import pydl
    >>> w = pydl.ones((2,), requires_grad=True)
    >>> optimizer = Lion([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().tolist()
    [0.75, 0.75]
    """

    _rule = "lion"
    _states = ("exp_avg",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": numbers(type(self).__name__, "betas", betas),
            "weight_decay": weight_decay,
            "maximize": maximize,
            "decoupled_weight_decay": True,
            "no_decay": no_decay,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for option in ("lr", "weight_decay"):
            check_option("Lion", option, options[option])
        check_betas("Lion", options["betas"])

    def _advance(self, entry: dict[str, Any], group: Mapping[str, Any]) -> None:
        entry["step"] += 1

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {"lr": float(group["lr"]), "beta1": float(beta1), "beta2": float(beta2)}
