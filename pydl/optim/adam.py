"""Adam, and AdamW with decoupled weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.optim.optimizer import Optimizer, check_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam, for a gradient g and a parameter w at step t:

        g ← g + weight_decay·w                       (decoupled: w ← w - lr·weight_decay·w instead)
        m ← β1·m + (1 - β1)·g,   v ← β2·v + (1 - β2)·g²
        w ← w - lr·m̂/(√v̂ + eps),   m̂ = m/(1 - β1ᵗ),   v̂ = v/(1 - β2ᵗ)   (AMSGrad: the largest v so far)

    Kingma and Ba, arXiv:1412.6980 (2014); AMSGrad: Reddi et al., "On the convergence of Adam and beyond" (2018).

    Args:
        params: tensors, pairs (name, tensor), or dicts with ``"params"`` and options of their own.
        lr: learning rate; default 0.001.
        betas: β1 and β2; default (0.9, 0.999).
        eps: default 1e-8.
        weight_decay: L2 penalty; default 0.
        amsgrad: default False.
        maximize: climb instead of descend; default False.
        decoupled_weight_decay: as in :class:`AdamW`; default False.
        foreach, fused, capturable: accepted and ignored; the step is one fused call anyway.

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

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        name = type(self).__name__
        for option in ("lr", "eps", "weight_decay"):
            check_option(name, option, options[option])
        if len(options["betas"]) != 2:
            raise ValueError(f"[{name}] got betas = {options['betas']}, expected two numbers")
        for beta in options["betas"]:
            check_option(name, "betas", beta, below=1.0)

    def _step_group(self, group: dict[str, Any]) -> None:
        amsgrad = group["amsgrad"]
        state = self.state
        by_step: dict[int, tuple[list[Any], ...]] = {}  # parameters that joined later are at another step
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            entry = state.get(param)
            if entry is None:
                entry = state[param] = {
                    "step": 0,
                    "exp_avg": pydl.zeros_like(param),
                    "exp_avg_sq": pydl.zeros_like(param),
                }
            if amsgrad and "max_exp_avg_sq" not in entry:
                entry["max_exp_avg_sq"] = pydl.zeros_like(param)
            step = entry["step"] = entry["step"] + 1
            lists = by_step.get(step)
            if lists is None:
                lists = by_step[step] = ([], [], [], [], [])
            lists[0].append(param)
            lists[1].append(grad)
            lists[2].append(entry["exp_avg"])
            lists[3].append(entry["exp_avg_sq"])
            if amsgrad:
                lists[4].append(entry["max_exp_avg_sq"])
        beta1, beta2 = group["betas"]
        for step, (params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs) in by_step.items():
            _C.adam_step(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                max_exp_avg_sqs or None,
                step,
                float(group["lr"]),
                float(beta1),
                float(beta2),
                float(group["eps"]),
                float(group["weight_decay"]),
                amsgrad,
                group["decoupled_weight_decay"],
                group["maximize"],
            )


class AdamW(Adam):
    """Adam with decoupled weight decay: w ← w - lr·weight_decay·w, outside of the moments.

    Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv:1711.05101 (2017).

    Args:
        params, lr, betas, eps, amsgrad, maximize, foreach, capturable, fused: as in :class:`Adam`.
        weight_decay: default 0.01.

    >>> import pydl
    >>> AdamW([pydl.ones((2,), requires_grad=True)]).defaults["weight_decay"]
    0.01
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)
