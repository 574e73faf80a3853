"""What a trainer makes of its arguments: the optimizer, schedules, penalties, and a trial of the model."""

from __future__ import annotations

import warnings
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.regularizers import L1L2, penalty
from pydl.train.structure import as_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydl import Tensor
    from pydl.nn import Module
    from pydl.train.trainer import Trainer

__all__ = ["Penalties", "make_optimizer", "make_schedulers", "trial"]


def make_optimizer(spec: Any, lr: float | None) -> Callable[[Module], Any]:
    """A function of the model that gives the optimizer.

    Raises:
        ValueError: an unknown name, or a rate for an optimizer that has one.
        TypeError: something else.
    """
    from pydl import optim

    if isinstance(spec, str):
        known = {name.lower(): getattr(optim, name) for name in optim.__all__ if _is_optimizer(getattr(optim, name))}
        cls = known.get(spec.lower())
        if cls is None:
            raise ValueError(f"[Trainer] got optimizer={spec!r}, expected one of {', '.join(sorted(known))}")
        options = {} if lr is None else {"lr": lr}

        def named(model: Module) -> Any:
            trained = [p for p in model.named_parameters() if p[1].requires_grad]
            if not trained:
                frozen = any(True for _ in model.parameters())
                way = "all are frozen; call requires_grad_() or unfreeze() on some" if frozen else "it has none at all"
                raise ValueError(f"[Trainer] the {type(model).__name__} has no parameters that are trained: {way}")
            return cls(trained, **options)

        return named
    if lr is not None:
        raise ValueError("[Trainer] got lr beside an optimizer that is no name; give the optimizer its lr")
    if isinstance(spec, optim.Optimizer):
        return lambda model: _of_this_model(spec, model)
    if isinstance(spec, type) and issubclass(spec, optim.Optimizer):
        made: Any = spec
        return lambda model: made(model)
    if not callable(spec):
        raise TypeError(
            f"[Trainer] got a {type(spec).__name__} as optimizer, expected a name, an optimizer, or a function of the "
            "parameters"
        )

    def make(model: Module) -> Any:
        made = spec(model.parameters())
        if not isinstance(made, optim.Optimizer):
            raise TypeError(f"[Trainer] the function for the optimizer gave a {type(made).__name__}")
        return made

    return make


def _of_this_model(optimizer: Any, model: Module) -> Any:
    own = {id(p) for p in model.parameters()}
    if own and not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            f"[Trainer] the optimizer, {type(optimizer).__name__}, has none of the model's parameters, so nothing "
            "would be trained; make it of this model's"
        )
    return optimizer


def _is_optimizer(thing: Any) -> bool:
    from pydl.optim import Optimizer

    return isinstance(thing, type) and issubclass(thing, Optimizer) and thing is not Optimizer


def make_schedulers(spec: Any) -> Callable[[Any], list[Any]]:
    """A function of the optimizer that gives the list of schedules."""
    from pydl.optim.lr_scheduler import LRScheduler

    def make(optimizer: Any) -> list[Any]:
        made = []
        for each in spec if isinstance(spec, (list, tuple)) else [] if spec is None else [spec]:
            try:
                schedule = each if isinstance(each, LRScheduler) else each(optimizer) if callable(each) else each
            except TypeError as error:
                if not isinstance(each, type):
                    raise
                raise TypeError(
                    f"[Trainer] scheduler={each.__name__} needs arguments ({error}); give a function: "
                    f"scheduler=lambda optimizer: {each.__name__}(optimizer, ...)"
                ) from None
            if not isinstance(schedule, LRScheduler):
                raise TypeError(
                    f"[Trainer] got a {type(schedule).__name__} as scheduler, expected a schedule of "
                    "pydl.optim.lr_scheduler or a function of the optimizer that makes one"
                )
            if schedule.optimizer is not optimizer:
                raise ValueError(
                    "[Trainer] the scheduler is for another optimizer; give both made, or a function: "
                    "scheduler=lambda optimizer: StepLR(optimizer, 10)"
                )
            made.append(schedule)
        return made

    return make


class Penalties:
    """The sum of a model's own penalties and of those that the trainer was given; None where there are none."""

    def __init__(self, model: Module, regularizers: Any) -> None:
        self.model = model
        if regularizers is None:
            rules = {}
        elif isinstance(regularizers, dict):
            rules = dict(regularizers)
        else:
            rules = {"": regularizers}
        for pattern, rule in rules.items():
            if not callable(rule):
                raise TypeError(
                    f"[Trainer] got {rule!r} as regularizer of {pattern!r}, expected pydl.regularizers.L2(...)"
                )
        self.rules = rules
        self._found: list[tuple[Any, Tensor]] | None = None
        self._model_has: bool | None = None

    def _collect(self) -> list[tuple[Any, Tensor]]:
        found: list[tuple[Any, Tensor]] = []
        for pattern, rule in self.rules.items():
            hits = [
                p
                for name, p in self.model.named_parameters()
                if (fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") if pattern else p.ndim > 1)
            ]
            if not hits:
                names = ", ".join(name for name, _ in self.model.named_parameters())
                raise ValueError(f"[Trainer] regularizers: no parameter is called {pattern!r}; names are: {names}")
            found += [(rule, p) for p in hits]
        return found

    def __call__(self) -> Tensor | None:
        if self._model_has is None:
            self.refresh()
        total = penalty(self.model) if self._model_has else None
        if self.rules:
            if self._found is None:
                self._found = self._collect()
            fused = [(rule.rates(), p) for rule, p in self._found if isinstance(rule, L1L2)]
            own = [rule(p) for rule, p in self._found if not isinstance(rule, L1L2)]
            if fused:
                own.append(_C.penalty([p for _, p in fused], [r[0] for r, _ in fused], [r[1] for r, _ in fused]))
            for term in own:
                total = term if total is None else total + term
        return total

    def refresh(self) -> None:
        """Look again at what is regularized; a training does so at its beginning."""
        self._found = None
        marks = {"_regularizers", "_activity_regularizers"}
        self._model_has = any(module.__dict__.keys() & marks for module in self.model.modules())


def trial(trainer: Any, name: str, loader: Any) -> None:
    """Run the model on up to two samples of an array dataset, or on the first batch of an iterable: shapes of lazy
    layers, the range of labels, and whether loss and metrics fit what comes out.

    In evaluation mode, without gradients, and with the generator put back: nothing else of the model changes.
    """
    from pydl.train.inputs import Repeated, check_labels, in_memory

    dataset = getattr(loader, "dataset", None)
    first = loader.peek() if isinstance(loader, Repeated) else None
    if name == "evaluate" and trainer.optimizer is not None and first is not None:
        return  # the first batch comes next anyway
    ours = _trainer_class()
    custom = trainer._custom_step is not None or type(trainer).train_step is not ours.train_step
    custom = custom or (name != "fit" and type(trainer).test_step is not ours.test_step)
    lazy = trainer.optimizer is None
    if not lazy and (custom or trainer.objective is None or (first is None and not in_memory(dataset))):
        return
    if first is not None:
        where = f"in [{name}], tried on the first batch"
    elif dataset is not None and hasattr(dataset, "__getitem__"):
        from pydl.data.dataset import fetch

        rows = pydl.arange(min(2, len(dataset))).cpu().numpy()
        first, where = fetch(dataset, rows), f"in [{name}], tried on {len(rows)} samples"
    else:
        if lazy:
            _first_batch_trial(trainer, loader)
        return
    x, y, weight = as_batch(first)
    if (place := trainer._placing()) is not None:
        x, y, weight = place((x, y, weight))
    objective = trainer.objective
    if y is None and not custom and objective is not None and objective.needs_targets:
        raise ValueError(
            f"[{name}] got no y, expected the targets of the loss; where they are the inputs, give x twice"
        )
    try:
        prediction = _forward(trainer, x)
    except (ValueError, TypeError, IndexError) as error:
        arrays = getattr(dataset, "arrays", None)
        if arrays is not None and isinstance(arrays[0], pydl.Tensor) and arrays[0].ndim == 1:
            where = f"in [{name}], whose x has shape {arrays[0].shape}, a single number a row"
            where += "; expected (N, features), or were x and y exchanged?"
        if trainer.tbptt is not None and isinstance(error, TypeError) and "positional argument" in str(error):
            where += "\n  with tbptt the model is called as model(x, state), returning (y, state)"
        error.args = (f"{error}\n  {where}",)
        raise
    if objective is not None and not custom:
        weights = trainer.class_weights.weights if name == "fit" and trainer.class_weights is not None else None
        check_labels(name, "y", dataset, objective, prediction, weights)
        if name == "fit":
            _warn_of_outputs(objective, prediction)
        if trainer.tbptt is not None:  # loss and metrics see windows
            return
        try:
            with pydl.no_grad():
                if all(term.of_tensors for term in objective.terms.values()):
                    objective(prediction, y, weight)
                trainer.metrics.try_on(prediction, y, weight)
        except (ValueError, TypeError, IndexError) as error:
            error.args = (f"{error}\n  {where}{_one_hot_hint(prediction, y)}",)
            raise


def _warn_of_outputs(objective: Any, prediction: Any) -> None:
    """Probabilities where logits belong train, but badly, and nothing else would say so."""
    from pydl import nn

    if objective.many or not isinstance(prediction, pydl.Tensor) or prediction.ndim != 2 or prediction.shape[1] < 2:
        return
    loss, fault = objective.terms[None].loss, ""
    if type(loss) is nn.CrossEntropyLoss:
        sums = prediction.sum(axis=1)
        if bool((prediction >= 0).all()) and bool(((sums - 1.0).abs() < 1e-5).all()):
            fault = "look like probabilities (they add up to 1), but the loss takes logits; leave out the softmax"
    elif type(loss) is nn.NLLLoss and bool((prediction > 1e-5).any()):
        fault = "are no log-probabilities (some are above 0), which the loss takes; use 'cross_entropy' for logits"
    if fault:
        warnings.warn(f"[fit] the model's outputs {fault}", UserWarning, stacklevel=6)


def _one_hot_hint(prediction: Any, y: Any) -> str:
    same = isinstance(y, pydl.Tensor) and isinstance(prediction, pydl.Tensor) and y.shape == prediction.shape
    if not same or y.dtype.is_floating_point or y.ndim < 2:
        return ""
    return "; if the rows of y are one-hot, y.argmax(axis=1) has the class numbers"


def _first_batch_trial(trainer: Trainer, loader: Any) -> None:
    position = loader.state_dict()
    _forward(trainer, as_batch(next(iter(loader)))[0])
    loader.load_state_dict(position)


def _forward(trainer: Trainer, x: Any) -> Any:
    generator = pydl.default_generator()
    state = generator.get_state()
    modes = [(m, m.training) for m in trainer.model.modules()]
    trainer.model.eval()
    if (place := trainer._placing()) is not None:
        x = place(x)
    try:
        with pydl.no_grad():
            return trainer.predict_step(x)
    finally:
        generator.set_state(state)
        for module, training in modes:
            module.training = training


def _trainer_class() -> Any:
    from pydl.train.trainer import Trainer

    return Trainer
