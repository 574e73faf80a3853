"""Optimizer: groups of parameters with their options, and what is remembered for each parameter."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl._cuda_graphs import note_step
from pydl._tensor import Tensor
from pydl.nn.arguments import explain_constructor

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

__all__ = ["ElementwiseOptimizer", "Optimizer", "check_betas", "check_option", "numbers", "refuse"]

# What schedules keep in a group, and what only says how PyTorch computes a step.
_SCHEDULE_OPTIONS = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"}
_IMPLEMENTATION_OPTIONS = {"foreach", "fused", "capturable", "differentiable"}


class Optimizer:
    """Base of all optimizers; a subclass has its options as ``defaults`` and a method :meth:`_step_group`.

    Args:
        params: tensors, pairs (name, tensor), dicts with ``"params"`` and options of their own (groups), or a module,
            which stands for its ``named_parameters()``.
        defaults: the options, for groups that do not say otherwise.

    Attributes:
        param_groups: a list of dicts, ``"params"`` and the options. Options may be changed at any time.
        state: a dict for each parameter's position, counted over all groups.

    **Parameters that are not decayed.** Where there is an option ``weight_decay`` there is ``no_decay``, which names
    the parameters that are left out of it:

    - ``"bias_and_norm"``: those of fewer than two axes (biases, scales of normalization layers) and those whose name
      ends in a part with ``bias`` in it;
    - patterns as in file names, one or a list, for parameters given with their names: ``["*.bias", "embedding.*"]``;
    - a function of the name ("" where there is none) and the parameter, true for those to leave out.

    The group keeps their places in its list under ``"no_decay"``; the numbering of ``state_dict`` does not change.

    **Rows without gradient.** The element-wise optimizers have the option ``lazy_rows``: rows (along the first axis)
    of parameters of two axes and more whose gradient is 0 throughout stay as they are, and so does their state, as in
    an embedding of which a batch picks few words. The default, False, is exact: momentum and decay go on.

    Raises:
        ValueError: there is no parameter, one of them comes twice, or an option is out of its range.
        TypeError: something that is no floating tensor.
    """

    _scalar_states: tuple[str, ...] = ()  # states that are plain numbers, beside "step"
    _stepped = False  # whether there was a step, which schedules ask

    needs_closure = False  # whether step() asks for the loss itself, as LBFGS does
    capturable = False  # whether a captured step's replays can be given the numbers that change, such as the rate

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("pydl.") and "__init__" in cls.__dict__:
            explain_constructor(cls, attachable=False)

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        if isinstance(params, Tensor):
            raise TypeError(f"[{name}] got a single tensor, expected an iterable of them; use [tensor]")
        if params is None or isinstance(params, (str, int, float)):
            raise TypeError(f"[{name}] got {params!r} as parameters, expected tensors: give model.parameters()")
        if isinstance(params, dict):
            raise TypeError(f"[{name}] got a dict, expected an iterable of tensors or a list of dicts")
        if callable(params) and not hasattr(params, "named_parameters"):
            called = getattr(params, "__name__", "it")
            raise TypeError(f"[{name}] got a {type(params).__name__}, expected tensors; call it: model.{called}()")
        if hasattr(params, "named_parameters"):
            params = params.named_parameters()
        self.defaults = defaults
        self._check_options(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._pre_hooks: dict[StepHook, Callable[..., Any]] = {}
        self._post_hooks: dict[StepHook, Callable[..., Any]] = {}
        self._state_hooks: dict[str, dict[StepHook, Callable[..., Any]]] = {}  # when -> hooks
        groups = list(params)
        if not groups:
            raise ValueError(f"[{name}] got no parameters; was the iterator used up before?")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        _check_patterns(name, defaults.get("no_decay"), self.param_groups)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError where an option is out of its range."""

    def _step_group(self, group: dict[str, Any]) -> None:
        """Change the group's parameters by their gradients."""
        raise NotImplementedError(f"[{type(self).__name__}] has no _step_group method; define one")

    def is_settled(self) -> bool:
        """Whether all steps from here on are of one kind, so that one that is captured stands for them."""
        return True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, as for layers unfrozen later.

        Args:
            param_group: ``"params"`` (a tensor or an iterable) and any options; the others are the defaults.
        """
        name = type(self).__name__
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(f"[{name}] a parameter group must be a dict with 'params'")
        known = {"params", "param_names", *_SCHEDULE_OPTIONS, *_IMPLEMENTATION_OPTIONS, *self.defaults}
        unknown = set(param_group) - known
        if unknown:
            known_options = ", ".join(self.defaults)
            raise ValueError(
                f"[{name}] a parameter group has the unknown options {sorted(unknown)}; known are {known_options}"
            )
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        group = {**self.defaults, **param_group}
        for option in _IMPLEMENTATION_OPTIONS:
            group.pop(option, None)
        if len({isinstance(param, tuple) for param in params}) > 1:
            raise ValueError(f"[{name}] got parameters with and without names in one group, expected all or none named")
        if params and isinstance(params[0], tuple):
            group["param_names"] = [pair[0] for pair in params]
            params = [pair[1] for pair in params]
        self._check_options(group)
        self._check_params(params)
        if "no_decay" in group:
            group["no_decay"] = _undecayed(name, group["no_decay"], params, group.get("param_names"))
        self.param_groups.append({**group, "params": params})

    def _check_params(self, params: list[Any]) -> None:
        name = type(self).__name__
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
        if closure is not None and not callable(closure):
            got = f"step() got a {type(closure).__name__}, expected a function that computes the loss, or nothing"
            raise TypeError(f"[{type(self).__name__}] {got}; call loss.backward() before it")
        if self._pre_hooks:
            _run_hooks(self._pre_hooks, self, closure)
        loss = None
        if _C.is_capturing():
            note_step(self, closure)
        if closure is not None:
            with pydl.enable_grad():
                loss = closure()
        self._stepped = True
        for group in self.param_groups:
            self._step_group(group)
        if self._post_hooks:
            _run_hooks(self._post_hooks, self, closure)
        return loss

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> StepHook:
        """Call ``hook(optimizer, args, kwargs)`` before each step; ``remove()`` of what is returned takes it off."""
        return StepHook(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> StepHook:
        """Call ``hook(optimizer, args, kwargs)`` after each step; ``remove()`` of what is returned takes it off."""
        return StepHook(self._post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> StepHook:
        """Call ``hook(optimizer)`` before :meth:`state_dict`."""
        return StepHook(self._state_hooks.setdefault("before saving", {}), hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> StepHook:
        """Call ``hook(optimizer, state_dict)`` with what :meth:`state_dict` found; a dict that it returns takes its
        place.
        """
        return StepHook(self._state_hooks.setdefault("after saving", {}), hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> StepHook:
        """Call ``hook(optimizer, state_dict)`` before :meth:`load_state_dict`; a dict that it returns is loaded."""
        return StepHook(self._state_hooks.setdefault("before loading", {}), hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> StepHook:
        """Call ``hook(optimizer)`` after :meth:`load_state_dict`."""
        return StepHook(self._state_hooks.setdefault("after loading", {}), hook)

    def _call_state_hooks(self, when: str, state: Any = None) -> Any:
        for hook in tuple(self._state_hooks.get(when, {}).values()):
            changed = hook(self) if state is None else hook(self, state)
            state = state if changed is None or state is None else changed
        return state

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from: numbers, texts, lists and tensors, as in PyTorch.

        ``"state"`` maps a parameter's position, counted over all groups, to what is remembered for it;
        ``"param_groups"`` has the options and the positions. Tensors are shared, not copied.
        """
        self._call_state_hooks("before saving")
        groups, start = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            groups.append({**group, "params": list(range(start, start + count))})
            start += count
        state = {i: dict(self.state[p]) for i, p in enumerate(self._params()) if self.state.get(p)}
        found: dict[str, Any] = self._call_state_hooks("after saving", {"state": state, "param_groups": groups})
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`, PyTorch's included; tensors are copied and take their parameters' dtypes.

        Raises:
            ValueError: the groups or shapes are not this optimizer's; nothing is changed.
        """
        name = type(self).__name__
        if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= set(state_dict):
            got = list(state_dict) if isinstance(state_dict, dict) else type(state_dict).__name__
            raise ValueError(f"[{name}] got {got!s:.200}, expected 'state' and 'param_groups', as state_dict() gives")
        state_dict = self._call_state_hooks("before loading", dict(state_dict))
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
            known = {what: value for what, value in entry.items() if value is not None}
            state[param] = {what: self._load_entry(what, value, param) for what, value in known.items()}
        dropped = {"params", "param_names", *_IMPLEMENTATION_OPTIONS}
        for i, group in enumerate(saved):
            options = {what: value for what, value in group.items() if what not in dropped}
            for what, default in self.defaults.items():
                if isinstance(default, tuple) and what in options:
                    options[what] = tuple(options[what])  # JSON knows lists only
            groups[i] = {**groups[i], **options}
        self.state = state
        self._call_state_hooks("after loading")

    def _load_entry(self, what: str, value: Any, param: Tensor) -> Any:
        if what == "step" or what in self._scalar_states:
            number = value.item() if hasattr(value, "item") else value
            return int(number) if what == "step" else float(number)
        if isinstance(value, (bool, int, float, str)):
            return value
        value = value if isinstance(value, Tensor) else pydl.asarray(value)
        expected = self._state_shape(what, param)
        if tuple(value.shape) != expected:
            name, got = type(self).__name__, tuple(value.shape)
            raise ValueError(f"[{name}] the state's {what} has shape {got}, expected the parameter's {expected}")
        value = value.detach().to(param.device)
        return value.clone() if value.dtype == param.dtype else value.astype(param.dtype)

    def _state_shape(self, what: str, param: Tensor) -> tuple[int, ...]:
        return tuple(param.shape)

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


class ElementwiseOptimizer(Optimizer):
    """Base of those whose step changes each element by itself: one fused call over all parameters of a group.

    A subclass names its rule and states, and turns the step number into the scalars of the formula.
    """

    _rule: str
    _states: tuple[str, ...] = ()

    capturable = True

    def _state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return self._states

    def _new_state(self, param: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        return {"step": 0, **{name: pydl.zeros_like(param) for name in self._state_names(group)}}

    def _advance(self, entry: dict[str, Any], group: Mapping[str, Any]) -> Hashable:
        """Count a step of one parameter; parameters of equal results share a call."""
        entry["step"] = step = entry["step"] + 1
        return step

    def _scalars(self, key: Any, group: Mapping[str, Any]) -> dict[str, Any]:
        """The scalars of the formula for what :meth:`_advance` gave; ``"rule"`` among them replaces the class's."""
        raise NotImplementedError

    def _step_group(self, group: dict[str, Any]) -> None:
        params = [param for param in group["params"] if param.grad is not None]
        if not params:
            return
        state, entries = self.state, []
        for param in params:
            entry = state.get(param)
            if not entry:
                entry = state[param] = self._new_state(param, group)
            entries.append(entry)
        advance = self._advance
        keys: list[Any] = [advance(entry, group) for entry in entries]
        undecayed = group.get("no_decay")
        if undecayed:
            skipped = {id(group["params"][i]) for i in undecayed}
            keys = [(key, id(param) in skipped) for key, param in zip(keys, params, strict=True)]
        if keys.count(keys[0]) == len(keys):
            calls = {keys[0]: (params, entries)}
        else:
            calls = {key: ([], []) for key in keys}
            for key, param, entry in zip(keys, params, entries, strict=True):
                calls[key][0].append(param)
                calls[key][1].append(entry)
        for key, (some, their_entries) in calls.items():
            key, skip = key if undecayed else (key, False)
            self._call(group, self._scalars(key, group), some, self._state_lists(group, some, their_entries), skip)

    def _state_lists(
        self, group: dict[str, Any], params: list[Tensor], entries: list[dict[str, Any]]
    ) -> list[list[Tensor]]:
        names = self._state_names(group)
        try:
            return [[entry[name] for entry in entries] for name in names]
        except KeyError:  # an option was switched on later
            for param, entry in zip(params, entries, strict=True):
                for name in names:
                    if name not in entry:
                        entry[name] = pydl.zeros_like(param)
            return [[entry[name] for entry in entries] for name in names]

    def _call(
        self,
        group: Mapping[str, Any],
        scalars: dict[str, Any],
        params: list[Tensor],
        states: list[list[Tensor]],
        undecayed: bool,
    ) -> None:
        weight_decay = 0.0 if undecayed else float(group.get("weight_decay", 0.0))
        if weight_decay != 0.0:
            if group.get("decoupled_weight_decay"):
                scalars["kept"] = scalars.get("kept", 1.0) * (1.0 - float(group["lr"]) * weight_decay)
            else:
                scalars["decay"] = weight_decay
        rule = scalars.pop("rule", self._rule)
        grads: list[Any] = [param.grad for param in params]
        _C.optimizer_step(rule, params, grads, states, scalars, group["maximize"], group["lazy_rows"])


class StepHook:
    """A function called with each step of an optimizer."""

    def __init__(self, hooks: dict[StepHook, Callable[..., Any]], hook: Callable[..., Any]) -> None:
        self._hooks = hooks
        hooks[self] = hook

    def remove(self) -> None:
        """Take the hook off; doing it twice is no error."""
        self._hooks.pop(self, None)


def _run_hooks(hooks: dict[StepHook, Callable[..., Any]], optimizer: Optimizer, closure: Any) -> None:
    for hook in tuple(hooks.values()):
        hook(optimizer, (closure,), {})


def check_option(optimizer: str, name: str, value: Any, below: float | None = None) -> None:
    """Raise ValueError unless ``value`` is 0 or more, finite, and below ``below`` if that is given."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"[{optimizer}] got {name} of shape {tuple(value.shape)}, expected one number")
    try:
        number = float("" if isinstance(value, str) else value)
    except (TypeError, ValueError):
        raise TypeError(f"[{optimizer}] got {name} = {value!r}, expected a number") from None
    top = float("inf") if below is None else below
    if not 0.0 <= number < top:
        expected = "0 or more" if below is None else f"0 or more and below {below:g}"
        raise ValueError(f"[{optimizer}] got {name} = {value}, expected {expected}")


def numbers(optimizer: str, name: str, value: Any) -> tuple[float, ...]:
    """The option's numbers, or a TypeError where it is one number alone."""
    if isinstance(value, (int, float)):
        raise TypeError(f"[{optimizer}] got {name} = {value}, expected two numbers")
    return tuple(value)


def check_betas(optimizer: str, betas: Any, name: str = "betas") -> None:
    """Raise ValueError unless ``betas`` are two numbers in [0, 1)."""
    if len(betas) != 2:
        raise ValueError(f"[{optimizer}] got {name} = {betas}, expected two numbers")
    for beta in betas:
        check_option(optimizer, name, beta, below=1.0)


def refuse(optimizer: str, differentiable: bool) -> None:
    """Raise ValueError for the one argument of PyTorch's that would change what a step is."""
    if differentiable:
        raise ValueError(
            f"[{optimizer}] got differentiable=True, which is not supported: steps are never recorded; "
            "write the update with tensor operations and autograd.grad(..., create_graph=True)"
        )


def _undecayed(optimizer: str, spec: Any, params: list[Tensor], names: list[str] | None) -> list[int]:
    """The places of the parameters that the option ``no_decay`` selects."""
    if spec is None:
        return []
    known = names if names is not None else [""] * len(params)
    if spec == "bias_and_norm":
        return [i for i, param in enumerate(params) if param.ndim < 2 or "bias" in known[i].rpartition(".")[2]]
    if callable(spec):
        return [i for i, param in enumerate(params) if spec(known[i], param)]
    patterns = [spec] if isinstance(spec, str) else list(spec)
    places = [pattern for pattern in patterns if isinstance(pattern, int)]
    if len(places) == len(patterns):
        return places
    if names is None:
        raise ValueError(
            f"[{optimizer}] no_decay={spec!r} selects by name, but the parameters came without; "
            "give model.named_parameters() instead of model.parameters()"
        )
    return [i for i, name in enumerate(names) if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _check_patterns(optimizer: str, spec: Any, groups: list[dict[str, Any]]) -> None:
    """Raise ValueError where a pattern of the option ``no_decay`` selects nothing in any group."""
    if spec is None or spec == "bias_and_norm" or callable(spec):
        return
    names = [name for group in groups for name in group.get("param_names", ())]
    for pattern in [spec] if isinstance(spec, str) else spec:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"[{optimizer}] no_decay: no parameter is called {pattern!r}; names are: {', '.join(names)}"
            )
