"""Adam and its kin: AdamW, Adamax, NAdam, RAdam, SparseAdam."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydl.optim.optimizer import ElementwiseOptimizer, check_betas, check_option, numbers, refuse

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from pydl import Tensor

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam"]


class _AdamBase(ElementwiseOptimizer):
    _states: tuple[str, ...] = ("exp_avg", "exp_avg_sq")

    def _check_options(self, options: Mapping[str, Any]) -> None:
        name = type(self).__name__
        for option in ("lr", "eps", "weight_decay", "momentum_decay"):
            if option in options:
                check_option(name, option, options[option])
        check_betas(name, options["betas"])

    def _moments(self, group: Mapping[str, Any]) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {"beta1": float(beta1), "beta2": float(beta2), "eps": float(group["eps"])}


class Adam(_AdamBase):
    """Adam, for a gradient g and a parameter w at step t:

        g ← g + weight_decay·w                       (decoupled: w ← w - lr·weight_decay·w instead)
        m ← β1·m + (1 - β1)·g,   v ← β2·v + (1 - β2)·g²
        w ← w - lr·m̂/(√v̂ + eps),   m̂ = m/(1 - β1ᵗ),   v̂ = v/(1 - β2ᵗ)   (AMSGrad: the largest v so far)

    Kingma and Ba, arXiv:1412.6980 (2014); AMSGrad: Reddi et al., "On the convergence of Adam and beyond" (2018).

    Args:
        params: tensors, pairs (name, tensor), dicts with ``"params"`` and options of their own, or a module.
        lr: learning rate; default 0.001.
        betas: β1 and β2; default (0.9, 0.999).
        eps: default 1e-8.
        weight_decay: L2 penalty; default 0.
        amsgrad: default False.
        maximize: climb instead of descend; default False.
        decoupled_weight_decay: as in :class:`AdamW`; default False.
        foreach, fused, capturable: accepted and ignored; the step is one fused call anyway.
        no_decay, lazy_rows: see :class:`Optimizer`.

    Raises:
        ValueError: an option out of its range, or no parameters.

    >>> import pydl
    >>> w = pydl.ones((2,), requires_grad=True)
    >>> optimizer = Adam([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4).tolist()
    [0.75, 0.75]
    """

    _rule = "adam"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        refuse(type(self).__name__, differentiable)
        defaults = {
            "lr": lr,
            "betas": numbers(type(self).__name__, "betas", betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
            "no_decay": no_decay,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)

    def _state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return (*self._states, "max_exp_avg_sq") if group["amsgrad"] else self._states

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        scalars = self._moments(group)
        scalars["lr"] = float(group["lr"]) / (1.0 - scalars["beta1"] ** key)
        scalars["root_scale"] = 1.0 / math.sqrt(1.0 - scalars["beta2"] ** key)
        return scalars


class AdamW(Adam):
    """Adam with decoupled weight decay: w ← w - lr·weight_decay·w, outside of the moments.

    Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv:1711.05101 (2017).

    Args:
        params, lr, betas, eps, amsgrad, maximize, foreach, capturable, fused: as in :class:`Adam`.
        weight_decay: default 0.01.
        no_decay, lazy_rows: see :class:`Optimizer`.

    >>> from pydl import nn
    >>> AdamW(nn.Linear(3, 2), no_decay="bias_and_norm").param_groups[0]["no_decay"]
    [1]
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            differentiable=differentiable,
            decoupled_weight_decay=True,
            no_decay=no_decay,
            lazy_rows=lazy_rows,
        )


class Adamax(_AdamBase):
    """Adam with the largest magnitude of the gradients in place of their second moment:

        m ← β1·m + (1 - β1)·g,   u ← max(β2·u, |g| + eps),   w ← w - lr/(1 - β1ᵗ)·m/u

    Kingma and Ba, arXiv:1412.6980 (2014), section 7.1.

    Args:
        lr: learning rate; default 0.002.
        params, betas, eps, weight_decay, maximize, foreach, capturable: as in :class:`Adam`.
        no_decay, lazy_rows: see :class:`Optimizer`.

    >>> import pydl
    >>> Adamax([pydl.ones((2,), requires_grad=True)]).defaults["lr"]
    0.002
    """

    _rule = "adamax"
    _states = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        refuse("Adamax", differentiable)
        defaults = {
            "lr": lr,
            "betas": numbers(type(self).__name__, "betas", betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "no_decay": no_decay,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        scalars = self._moments(group)
        scalars["lr"] = float(group["lr"]) / (1.0 - scalars["beta1"] ** key)
        return scalars


class NAdam(_AdamBase):
    """Adam with Nesterov's momentum, whose β1 is warmed up:

        μ_t = β1·(1 - 0.96^(t·momentum_decay)/2),   m and v as in Adam
        w ← w - lr·(μ_{t+1}·m/(1 - μ_1⋯μ_{t+1}) + (1 - μ_t)·g/(1 - μ_1⋯μ_t))/(√v̂ + eps)

    Dozat, "Incorporating Nesterov momentum into Adam" (2016).

    Args:
        lr: learning rate; default 0.002.
        momentum_decay: how fast β1 is warmed up; default 0.004.
        decoupled_weight_decay: as in :class:`AdamW`; default False.
        params, betas, eps, weight_decay, maximize, foreach, capturable: as in :class:`Adam`.
        no_decay, lazy_rows: see :class:`Optimizer`.

    >>> import pydl
    >>> NAdam([pydl.ones((2,), requires_grad=True)]).defaults["momentum_decay"]
    0.004
    """

    _rule = "nadam"
    _scalar_states = ("mu_product",)

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        refuse("NAdam", differentiable)
        defaults = {
            "lr": lr,
            "betas": numbers(type(self).__name__, "betas", betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "no_decay": no_decay,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)

    def _new_state(self, param: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        state = super()._new_state(param, group)
        return {"step": 0, "mu_product": 1.0, **state}

    def _mu(self, step: int, group: Mapping[str, Any]) -> float:
        return float(group["betas"][0] * (1.0 - 0.5 * 0.96 ** (step * group["momentum_decay"])))

    def _advance(self, entry: dict[str, Any], group: Mapping[str, Any]) -> Hashable:
        entry["step"] = step = entry["step"] + 1
        entry["mu_product"] = product = entry["mu_product"] * self._mu(step, group)
        return step, product

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        step, product = key
        scalars, lr = self._moments(group), float(group["lr"])
        following = self._mu(step + 1, group)
        scalars["grad_lr"] = lr * (1.0 - self._mu(step, group)) / (1.0 - product)
        scalars["lr"] = lr * following / (1.0 - product * following)
        scalars["root_scale"] = 1.0 / math.sqrt(1.0 - scalars["beta2"] ** step)
        return scalars


class RAdam(_AdamBase):
    """Adam that adapts its step only once the variance of v̂ can be told, and rectifies it:

        ρ∞ = 2/(1 - β2) - 1,   ρ = ρ∞ - 2t·β2ᵗ/(1 - β2ᵗ),   m and v as in Adam
        ρ > 5:  w ← w - lr·m̂·r·√(1 - β2ᵗ)/(√v + eps),   r² = (ρ - 4)(ρ - 2)ρ∞/((ρ∞ - 4)(ρ∞ - 2)ρ)
        else:   w ← w - lr·m̂

    Liu et al., "On the variance of the adaptive learning rate and beyond", arXiv:1908.03265 (2019).

    Args:
        lr: learning rate; default 0.001.
        decoupled_weight_decay: as in :class:`AdamW`; default False.
        params, betas, eps, weight_decay, maximize, foreach, capturable: as in :class:`Adam`.
        no_decay, lazy_rows: see :class:`Optimizer`.

    >>> import pydl
    >>> RAdam([pydl.ones((2,), requires_grad=True)]).defaults["lr"]
    0.001
    """

    _rule = "adam"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        no_decay: Any = None,
        lazy_rows: bool = False,
    ) -> None:
        refuse("RAdam", differentiable)
        defaults = {
            "lr": lr,
            "betas": numbers(type(self).__name__, "betas", betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "no_decay": no_decay,
            "lazy_rows": lazy_rows,
        }
        super().__init__(params, defaults)

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        scalars = self._moments(group)
        beta2 = scalars["beta2"]
        scalars["lr"] = float(group["lr"]) / (1.0 - scalars["beta1"] ** key)
        correction2 = 1.0 - beta2**key
        longest = 2.0 / (1.0 - beta2) - 1.0
        rho = longest - 2.0 * key * beta2**key / correction2
        if rho > 5.0:
            rectified = (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho)
            scalars["lr"] *= math.sqrt(rectified * correction2)
        else:
            scalars["rule"] = "unadapted_adam"
        return scalars

    def is_settled(self) -> bool:
        """Whether the variance can be told from here on."""
        steps = [(self.state[p]["step"], g) for g in self.param_groups for p in g["params"] if p in self.state]
        return all("rule" not in self._scalars(step + 1, group) for step, group in steps)


class SparseAdam(_AdamBase):
    """Adam for embeddings: rows whose gradient is 0 throughout stay as they are, and so do their moments.

    As :class:`Adam` with ``lazy_rows=True``, but w ← w - lr·√(1 - β2ᵗ)/(1 - β1ᵗ)·m/(√v + eps). Gradients are plain
    tensors; parameters of fewer than two axes take Adam's whole step.

    Args:
        params, lr, betas, eps, maximize: as in :class:`Adam`.

    >>> import pydl
    >>> from pydl import nn
    >>> words = nn.Embedding(5, 2)
    >>> optimizer = SparseAdam(words.parameters())
    >>> words(pydl.asarray([3])).sum().backward()
    >>> optimizer.step()
    >>> (optimizer.state[words.weight]["exp_avg"] != 0).astype(pydl.int64).sum(axis=1).numpy().tolist()
    [0, 0, 0, 2, 0]
    """

    _rule = "adam"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": numbers(type(self).__name__, "betas", betas),
            "eps": eps,
            "maximize": maximize,
            "lazy_rows": True,
        }
        super().__init__(params, defaults)

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        scalars = self._moments(group)
        scalars["lr"] = float(group["lr"]) * math.sqrt(1.0 - scalars["beta2"] ** key) / (1.0 - scalars["beta1"] ** key)
        return scalars
