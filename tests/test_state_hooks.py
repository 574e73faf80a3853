"""Hooks around state_dict and load_state_dict: when they run, what they may change, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

import pydl
from pydl import nn


def model(library: Any) -> Any:
    return library.nn.Sequential(library.nn.Linear(2, 3), library.nn.Sequential(library.nn.Linear(3, 1)))


def trace_calls(library: Any) -> list[Any]:
    """What hooks on every module see, in the order in which they are called."""
    net, calls = model(library), []
    for path, module in net.named_modules():
        module.register_state_dict_pre_hook(
            lambda m, prefix, keep, path=path: calls.append(("pre", path, prefix, keep))
        )
        module.register_state_dict_post_hook(
            lambda m, state, prefix, meta, path=path: calls.append(("post", path, prefix, list(state)))
        )
        module.register_load_state_dict_pre_hook(
            lambda m, state, prefix, meta, strict, missing, unexpected, errors, path=path: calls.append(
                ("load", path, prefix, strict, missing, unexpected, errors)
            )
        )
        module.register_load_state_dict_post_hook(
            lambda m, keys, path=path: calls.append(("loaded", path, keys.missing_keys, keys.unexpected_keys))
        )
    net.load_state_dict(net.state_dict(prefix=""))
    return calls


def test_order_of_calls_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = trace_calls(pydl), trace_calls(torch)
    for kinds in (("pre", "post"), ("load",), ("loaded",)):
        assert [call for call in ours if call[0] in kinds] == [call for call in theirs if call[0] in kinds]


def test_a_hook_renames_an_older_models_names_and_leaves_the_given_state_alone() -> None:
    net = model(pydl)

    def rename(module: Any, state: Any, prefix: str, *rest: Any) -> None:
        if prefix + "kernel" in state:
            state[prefix + "weight"] = state.pop(prefix + "kernel")

    handle = net[0].register_load_state_dict_pre_hook(rename)
    old = {name.replace("0.weight", "0.kernel") if name == "0.weight" else name: t * 2 for name, t in
           model(pydl).state_dict().items()}  # fmt: skip
    names = list(old)
    assert net.load_state_dict(old) == ([], [])
    assert (net[0].weight == old["0.kernel"]).all()
    assert list(old) == names
    handle.remove()
    assert net[0]._hooks is None
    with pytest.raises(ValueError, match=r"missing: 0\.weight\n.*unexpected: 0\.kernel"):
        net.load_state_dict(old)


def test_hooks_change_the_state_in_place() -> None:
    net = model(pydl)
    net.register_state_dict_post_hook(lambda module, state, prefix, meta: state.__delitem__(prefix + "0.bias"))
    assert list(net.state_dict()) == ["0.weight", "1.0.weight", "1.0.bias"]
    assert list(net.state_dict(prefix="a.", destination={"b": 1})) == ["b", "a.0.weight", "a.1.0.weight", "a.1.0.bias"]
    net.register_state_dict_post_hook(lambda module, state, prefix, meta: dict(state))
    with pytest.raises(TypeError, match=r"\[state_dict\] a hook of Sequential returned something"):
        net.state_dict()


def test_a_hook_afterwards_forgives_names_or_not() -> None:
    net, other = model(pydl), model(pydl)
    state = other.state_dict()
    del state["0.bias"]
    handle = net.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())
    assert net.load_state_dict(state) == ([], [])
    assert (net[0].weight == other[0].weight).all()
    handle.remove()
    net.register_load_state_dict_post_hook(lambda module, keys: None)
    with pytest.raises(ValueError, match=r"missing: 0\.bias"):
        net.load_state_dict(state)


def test_a_hook_before_reports_errors_and_nothing_is_changed() -> None:
    net, before = model(pydl), model(pydl)
    before.load_state_dict(net.state_dict())
    net[0].register_load_state_dict_pre_hook(lambda *args: args[-1].append("0 is of another kind"))
    with pytest.raises(ValueError, match="0 is of another kind"):
        net.load_state_dict({name: t + 1 for name, t in net.state_dict().items()})
    assert (net[0].weight == before[0].weight).all()


def test_hooks_do_not_keep_a_layer_from_its_forward_pass() -> None:
    layer = nn.Linear(2, 3)
    x = pydl.ones((1, 2))
    expected = layer(x)
    layer.register_state_dict_pre_hook(lambda module, prefix, keep: None)
    assert (layer(x) == expected).all()


def optimizer_calls(library: Any) -> list[Any]:
    layer = library.nn.Linear(2, 1)
    optimizer, calls = library.optim.SGD(layer.parameters(), lr=0.5), []

    def note(name: str, result: Any = None) -> Any:
        return lambda *args: calls.append((name, len(args))) or (result and result(args[1]))

    optimizer.register_state_dict_pre_hook(note("saving"))
    handle = optimizer.register_state_dict_post_hook(note("saved", lambda state: {**state, "more": 1}))
    optimizer.register_load_state_dict_pre_hook(
        note("loading", lambda state: {**state, "param_groups": [{**state["param_groups"][0], "lr": 0.25}]})
    )
    optimizer.register_load_state_dict_post_hook(note("loaded"))
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    handle.remove()
    return [*calls, sorted(state), optimizer.param_groups[0]["lr"], sorted(optimizer.state_dict())]


def test_hooks_of_an_optimizers_state_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    calls = optimizer_calls(pydl)
    assert calls == optimizer_calls(torch)
    assert calls[:4] == [("saving", 1), ("saved", 2), ("loading", 2), ("loaded", 1)]
    assert calls[4:] == [["more", "param_groups", "state"], 0.25, ["param_groups", "state"]]


def counting(library: Any) -> Any:
    class Counting(library.nn.Linear):  # type: ignore[name-defined,misc]
        seen = 0

        def get_extra_state(self) -> Any:
            return {"seen": self.seen}

        def set_extra_state(self, state: Any) -> None:
            self.seen = state["seen"] + 1

    return library.nn.Sequential(library.nn.ReLU(), Counting(2, 3), library.nn.Linear(3, 1))


def test_extra_state_comes_and_goes_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch")
    nets = counting(pydl), counting(torch)
    for net in nets:
        net[1].seen = 4
    states = [net.state_dict() for net in nets]
    assert list(states[0]) == list(states[1]) == ["1.weight", "1.bias", "1._extra_state", "2.weight", "2.bias"]
    for net, state in zip(nets, states, strict=True):
        assert net.load_state_dict(state) == ([], [])
        assert net[1].seen == 5
        del state["1._extra_state"]
        assert net.load_state_dict(state, strict=False) == (["1._extra_state"], [])
        plain = model(pydl if net is nets[0] else torch)
        assert plain.load_state_dict({**plain.state_dict(), "0._extra_state": 3}, strict=False) == (
            [],
            ["0._extra_state"],
        )


def test_extra_state_is_saved(tmp_path: Any) -> None:
    net = counting(pydl)
    net[1].seen = 4
    pydl.save(net.state_dict(), tmp_path / "net")
    again = counting(pydl)
    again.load_state_dict(pydl.load(tmp_path / "net"))
    assert again[1].seen == 5
    assert (again[1].weight == net[1].weight).all()
    with pytest.raises(ValueError, match=r"missing: 1\._extra_state"):
        again.load_state_dict({name: value for name, value in net.state_dict().items() if "extra" not in name})
    with pytest.raises(NotImplementedError, match="get_extra_state"):
        net[0].get_extra_state()
