"""L-BFGS: a quasi-Newton method for full-batch problems, with an optional line search."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import pydl
from pydl.optim.optimizer import Optimizer, check_option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydl import Tensor

__all__ = ["LBFGS"]


class LBFGS(Optimizer):
    """Limited-memory BFGS: directions from the last changes of gradients and parameters.

    Nocedal and Wright, "Numerical optimization" (2006), algorithms 7.4 (the direction), 3.5 and 3.6 (the line search
    for the strong Wolfe conditions, c1 = 1e-4 and c2 = 0.9).

    Args:
        params: tensors, pairs (name, tensor), one dict with ``"params"``, or a module; there is one group only.
        lr: factor of the step, or the first step that the line search tries; default 1.
        max_iter: iterations a step; default 20.
        max_eval: evaluations of the closure a step; default 1.25·max_iter.
        tolerance_grad: stop where the largest magnitude of the gradient is not above it; default 1e-7.
        tolerance_change: stop where the parameters or the loss change by less; default 1e-9.
        history_size: changes remembered, each two vectors as large as all parameters; default 100.
        line_search_fn: None or ``"strong_wolfe"``; default None.

    ``step`` needs a closure that computes the loss and its gradients, and calls it several times.

    >>> import pydl
    >>> w = pydl.asarray([3.0, -1.0]).requires_grad_()
    >>> optimizer = LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (w * w * pydl.asarray([1.0, 10.0])).sum()
    ...     loss.backward()
    ...     return loss
    >>> loss = optimizer.step(closure)
    >>> w.detach().abs().max().item() < 1e-4
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)

    needs_closure = True

    def _check_options(self, options: Mapping[str, Any]) -> None:
        check_option("LBFGS", "lr", options["lr"])
        if options["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(
                f"[LBFGS] got line_search_fn = {options['line_search_fn']!r}, expected None or 'strong_wolfe'"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Takes the first group; there can't be another."""
        if self.param_groups:
            raise ValueError("[LBFGS] got a second parameter group, expected one: the direction is that of all of them")
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take up to ``max_iter`` steps. Returns the closure's first loss.

        Raises:
            ValueError: there is no closure.
        """
        if closure is None:
            raise ValueError("[LBFGS] step() needs a closure that computes the loss and its gradients")
        for hook in tuple(self._pre_hooks.values()):
            hook(self, (closure,), {})
        self._stepped = True
        with pydl.no_grad():
            loss = self._minimize(closure)
        for hook in tuple(self._post_hooks.values()):
            hook(self, (closure,), {})
        return loss

    def _minimize(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        lr, max_iter, max_eval = float(group["lr"]), group["max_iter"], group["max_eval"]
        tolerance_grad, tolerance_change = group["tolerance_grad"], group["tolerance_change"]

        def evaluate() -> Any:
            with pydl.enable_grad():
                return closure()

        state = self.state.setdefault(self._params()[0], {"func_evals": 0, "n_iter": 0})
        first_loss = evaluate()
        loss, grad = float(first_loss), self._flat_grad()
        evals = 1
        state["func_evals"] += 1
        if _largest(grad) <= tolerance_grad:
            return first_loss
        for iteration in range(1, max_iter + 1):
            state["n_iter"] += 1
            first = state["n_iter"] == 1
            if first:
                state.update(d=-grad, old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            else:
                self._remember(grad, state, group["history_size"])
                state["d"] = _direction(grad, state)
            d = state["d"]
            state["prev_flat_grad"], state["prev_loss"] = grad, loss
            state["t"] = t = min(1.0, 1.0 / float(grad.abs().sum())) * lr if first else lr
            slope = _dot(grad, d)
            if slope > -tolerance_change:
                break
            new_evals = 0
            if group["line_search_fn"] is not None:
                found, new_evals = self._search(evaluate, _Point(t, loss, grad, slope), d, max_eval - evals, group)
                loss, grad = found.loss, found.grad
                state["t"] = t = found.t
                self._move(t, d)
            else:
                self._move(t, d)
                if iteration != max_iter:  # nobody reads what the last one would give
                    loss, grad = float(evaluate()), self._flat_grad()
                    new_evals = 1
            evals += new_evals
            state["func_evals"] += new_evals
            if iteration == max_iter or evals >= max_eval or _largest(grad) <= tolerance_grad:
                break
            if _largest(d * t) <= tolerance_change or abs(loss - state["prev_loss"]) < tolerance_change:
                break
        return first_loss

    def _remember(self, grad: Tensor, state: dict[str, Any], history_size: int) -> None:
        """Note the last change of the gradient and of the parameters, where they show positive curvature."""
        y, s = grad - state["prev_flat_grad"], state["d"] * state["t"]
        curvature = _dot(y, s)
        if curvature > 1e-10:
            if len(state["old_dirs"]) == history_size:
                for name in ("old_dirs", "old_stps", "ro"):
                    state[name].pop(0)
            state["old_dirs"].append(y)
            state["old_stps"].append(s)
            state["ro"].append(1.0 / curvature)
            state["H_diag"] = curvature / _dot(y, y)

    def _search(self, evaluate: Callable[[], Any], start: _Point, d: Tensor, max_evals: int,
                group: Mapping[str, Any]) -> tuple[_Point, int]:  # fmt: skip
        before = [param.detach().clone() for param in self._params()]

        def at(t: float) -> _Point:
            self._move(t, d)
            loss, grad = float(evaluate()), self._flat_grad()
            for param, value in zip(self._params(), before, strict=True):
                param.copy_(value)
            return _Point(t, loss, grad, _dot(grad, d))

        return _strong_wolfe(at, start, _largest(d), max_evals, group["tolerance_change"])

    def _flat_grad(self) -> Tensor:
        parts = []
        for param in self._params():
            grad = pydl.zeros_like(param) if param.grad is None else param.grad.detach()
            parts.append(grad.reshape((-1,)))
        return parts[0].clone() if len(parts) == 1 else pydl.concat(parts, axis=0)

    def _move(self, t: float, d: Tensor) -> None:
        start = 0
        for param in self._params():
            count = math.prod(param.shape)
            param.copy_(param + t * d[start : start + count].reshape(tuple(param.shape)))
            start += count

    def _load_entry(self, what: str, value: Any, param: Tensor) -> Any:
        if what in ("func_evals", "n_iter"):
            return int(value)
        if what in ("t", "H_diag", "prev_loss"):
            return None if value is None else float(value)
        if what == "ro":
            return [float(item) for item in value or ()]
        if what == "al":  # PyTorch's scratch
            return None
        if isinstance(value, (list, tuple)):
            return [self._load_vector(item, param) for item in value]
        return None if value is None else self._load_vector(value, param)

    def _load_vector(self, value: Any, param: Tensor) -> Tensor:
        value = value if isinstance(value, pydl.Tensor) else pydl.asarray(value)
        return value.detach().clone().astype(param.dtype)


class _Point(NamedTuple):
    """A place on the line: the step, the loss there, its gradient, and its slope along the line."""

    t: float
    loss: float
    grad: Tensor
    slope: float


def _strong_wolfe(
    at: Callable[[float], _Point], start: _Point, largest: float, max_evals: int, tolerance_change: float
) -> tuple[_Point, int]:
    """A point that has both strong Wolfe conditions, or the best found, and how many evaluations it took.

    ``start`` is the line's beginning but for its t, which is the first step to try.
    """
    enough_decrease, curvature = 1e-4, -0.9 * start.slope
    origin = start._replace(t=0.0)

    def too_high(point: _Point) -> bool:
        return point.loss > origin.loss + enough_decrease * point.t * origin.slope

    # Go on until an interval must hold such a point.
    previous, current, tries = origin, at(start.t), 0
    bracket = None
    while tries < max_evals:
        if too_high(current) or (tries > 1 and current.loss >= previous.loss):
            bracket = [previous, current]
            break
        if abs(current.slope) <= curvature:
            return current, tries + 1
        if current.slope >= 0:
            bracket = [previous, current]
            break
        bounds = current.t + 0.01 * (current.t - previous.t), current.t * 10
        previous, current = current, at(_cubic_minimum(previous, current, bounds))
        tries += 1
    bracket = bracket or [origin, current]

    # Narrow it.
    stuck = False
    low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
    while tries < max_evals:
        left, right = sorted(point.t for point in bracket)
        if (right - left) * largest < tolerance_change:
            break
        t = _cubic_minimum(bracket[0], bracket[1], (left, right))
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            if stuck or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        point = at(t)
        tries += 1
        if too_high(point) or point.loss >= bracket[low].loss:
            bracket[high] = point
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
            continue
        done = abs(point.slope) <= curvature
        if not done and point.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = point
        if done:
            break
    return bracket[low], tries + 1


def _cubic_minimum(a: _Point, b: _Point, bounds: tuple[float, float]) -> float:
    """Where the cubic through two points with their slopes is least, within bounds; their middle if there is none."""
    if a.t > b.t:
        a, b = b, a
    if a.t != b.t:
        d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
        square = d1 * d1 - a.slope * b.slope
        if square >= 0:
            d2 = math.sqrt(square)
            divisor = b.slope - a.slope + 2 * d2
            if divisor != 0:
                return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / divisor), bounds[0]), bounds[1])
    return (bounds[0] + bounds[1]) / 2


def _direction(grad: Tensor, state: Mapping[str, Any]) -> Tensor:
    """The inverse Hessian's approximation times the negative gradient, by two loops over the history."""
    changes = list(zip(state["old_dirs"], state["old_stps"], state["ro"], strict=True))
    q, alphas = -grad, []
    for y, s, ro in reversed(changes):
        alpha = _dot(s, q) * ro
        alphas.append(alpha)
        q = q - alpha * y
    q = q * state["H_diag"]
    for (y, s, ro), alpha in zip(changes, reversed(alphas), strict=True):
        q = q + (alpha - _dot(y, q) * ro) * s
    return q


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum())


def _largest(x: Tensor) -> float:
    return float(x.abs().max())
