"""Optimizer: groups of parameters with their options, and what is remembered for each parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Optimizer", "check_option"]


class Optimizer:
    """Base of all optimizers; a subclass has its options as ``defaults`` and a method :meth:`_step_group`.

    Args:
        params: tensors, pairs (name, tensor), or dicts with ``"params"`` and options of their own (groups).
        defaults: the options, for groups that do not say otherwise.

    Attributes:
        param_groups: a list of dicts, ``"params"`` and the options. Options may be changed at any time.
        state: a dict for each parameter's position, counted over all groups.

    Raises:
        ValueError: there is no parameter, one of them comes twice, or an option is out of its range.
        TypeError: something that is no floating tensor.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        if isinstance(params, Tensor):
            raise TypeError(f"[{name}] got a single tensor, expected an iterable of them; use [tensor]")
        if isinstance(params, dict):
            raise TypeError(f"[{name}] got a dict, expected an iterable of tensors or a list of dicts")
        self.defaults = defaults
        self._check_options(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        groups = list(params)
        if not groups:
            raise ValueError(f"[{name}] got no parameters; was the iterator used up before?")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError where an option is out of its range."""

    def _step_group(self, group: dict[str, Any]) -> None:
        """Change the group's parameters by their gradients."""
        raise NotImplementedError(f"[{type(self).__name__}] has no _step_group method; define one")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, as for layers unfrozen later.

        Args:
            param_group: ``"params"`` (a tensor or an iterable) and any options; the others are the defaults.
        """
        name = type(self).__name__
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(f"[{name}] a parameter group must be a dict with 'params'")
        unknown = set(param_group) - {"params", "param_names", "initial_lr", *self.defaults}
        if unknown:
            known = ", ".join(self.defaults)
            raise ValueError(f"[{name}] a parameter group has the unknown options {sorted(unknown)}; known are {known}")
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        group = {**self.defaults, **param_group}
        if params and isinstance(params[0], tuple):
            group["param_names"] = [pair[0] for pair in params]
            params = [pair[1] for pair in params]
        self._check_options(group)
        used = {id(param) for other in self.param_groups for param in other["params"]}
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"[{name}] got a {type(param).__name__} among the parameters, expected Tensors")
            if param.dtype not in (pydl.float32, pydl.float64, pydl.float16, pydl.bfloat16):
                raise TypeError(f"[{name}] got a parameter of dtype {param.dtype}, expected a floating one")
            if not param.is_leaf:
                raise ValueError(f"[{name}] got a tensor computed from others, expected parameters; use detach()")
            if id(param) in used:
                raise ValueError(f"[{name}] a parameter of shape {tuple(param.shape)} comes twice; give each once")
            used.add(id(param))
        self.param_groups.append({**group, "params": params})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero with ``set_to_none=False``."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif param.grad is not None:
                    param.grad = pydl.zeros_like(param.grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change all parameters that have a gradient.

        Args:
            closure: computes the loss and its gradients once more; called first.

        Returns:
            What the closure returns, or None.
        """
        loss = None
        if closure is not None:
            with pydl.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from: numbers, texts, lists and tensors, as in PyTorch.

        ``"state"`` maps a parameter's position, counted over all groups, to what is remembered for it;
        ``"param_groups"`` has the options and the positions. Tensors are shared, not copied.
        """
        groups, start = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            groups.append({**group, "params": list(range(start, start + count))})
            start += count
        state = {i: dict(self.state[p]) for i, p in enumerate(self._params()) if p in self.state}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; tensors are copied and take their parameters' dtypes.

        Raises:
            ValueError: the groups or shapes are not this optimizer's; nothing is changed.
        """
        name = type(self).__name__
        groups, saved = self.param_groups, state_dict["param_groups"]
        sizes, saved_sizes = [len(g["params"]) for g in groups], [len(g["params"]) for g in saved]
        if sizes != saved_sizes:
            raise ValueError(f"[{name}] the state has groups of {saved_sizes} parameters, expected {sizes}")
        for group in saved:
            self._check_options({**self.defaults, **group})
        positions = [i for group in saved for i in group["params"]]
        params = dict(zip(positions, self._params(), strict=True))
        state: dict[Tensor, dict[str, Any]] = {}
        for key, entry in state_dict["state"].items():
            param = params.get(int(key))
            if param is None:
                raise ValueError(f"[{name}] the state remembers parameter {key!r}, which is in none of its groups")
            state[param] = {what: self._load_entry(what, value, param) for what, value in entry.items()}
        for i, group in enumerate(saved):
            options = {what: value for what, value in group.items() if what not in ("params", "param_names")}
            for what, default in self.defaults.items():
                if isinstance(default, tuple) and what in options:
                    options[what] = tuple(options[what])  # JSON knows lists only
            groups[i] = {**groups[i], **options}
        self.state = state

    def _load_entry(self, what: str, value: Any, param: Tensor) -> Any:
        if what == "step":
            return int(value.item() if hasattr(value, "item") else value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        value = value if isinstance(value, Tensor) else pydl.asarray(value)
        if value.shape != param.shape:
            name, got, expected = type(self).__name__, tuple(value.shape), tuple(param.shape)
            raise ValueError(f"[{name}] the state's {what} has shape {got}, expected the parameter's {expected}")
        value = value.detach()
        return value.clone() if value.dtype == param.dtype else value.astype(param.dtype)

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


def check_option(optimizer: str, name: str, value: Any, below: float | None = None) -> None:
    """Raise ValueError unless ``value`` is 0 or more, finite, and below ``below`` if that is given."""
    number = float(value)
    top = float("inf") if below is None else below
    if not 0.0 <= number < top:
        expected = "0 or more" if below is None else f"0 or more and below {below:g}"
        raise ValueError(f"[{optimizer}] got {name} = {value}, expected {expected}")
