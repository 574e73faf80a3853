"""Stochastic gradient descent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.optim.optimizer import Optimizer, check_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, for a gradient g and a parameter w:

        g ← g + weight_decay·w
        v ← momentum·v + (1 - dampening)·g         (v ← g at the first step)
        w ← w - lr·v                               (w ← w - lr·(g + momentum·v) for Nesterov's)

    Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013).

    Args:
        params: tensors, pairs (name, tensor), or dicts with ``"params"`` and options of their own.
        lr: learning rate; default 0.001.
        momentum: default 0.
        dampening: share of the gradient that momentum leaves out; default 0.
        weight_decay: L2 penalty; default 0.
        nesterov: look ahead; needs momentum and no dampening; default False.
        maximize: climb instead of descend; default False.
        foreach, fused: accepted and ignored; the step is one fused call anyway.

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

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for option in ("lr", "momentum", "weight_decay"):
            check_option("SGD", option, options[option])
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError("[SGD] got nesterov=True, which needs momentum above 0 and dampening = 0")

    def _step_group(self, group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        state = self.state
        params, grads, buffers = [], [], []
        new_params, new_grads, new_buffers = [], [], []
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            if momentum == 0:
                params.append(param)
                grads.append(grad)
                continue
            entry = state.get(param)
            if entry is None or entry.get("momentum_buffer") is None:
                buffer = pydl.empty_like(param)
                state[param] = {"momentum_buffer": buffer}
                new_params.append(param)
                new_grads.append(grad)
                new_buffers.append(buffer)
            else:
                params.append(param)
                grads.append(grad)
                buffers.append(entry["momentum_buffer"])
        options = (
            float(group["lr"]),
            float(momentum),
            float(group["dampening"]),
            float(group["weight_decay"]),
            group["nesterov"],
            group["maximize"],
        )
        if params:
            _C.sgd_step(params, grads, buffers or None, *options, False)
        if new_params:
            _C.sgd_step(new_params, new_grads, new_buffers, *options, True)
