"""Captured steps: replays do what the steps would have done, to the bit, and what can't be captured says so."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from pydl.nn import functional as F
from pydl.optim import lr_scheduler

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

needs_cuda = pytest.mark.skipif(not pydl.cuda.is_available(), reason=f"no CUDA: {pydl.cuda.why_unavailable()}")


class TestOnTheCpu:
    def test_there_is_nothing_to_capture(self) -> None:
        with pytest.raises(ValueError, match=r"\[Trainer\] got capture=True for a model on the CPU.*leave capture out"):
            pydl.Trainer(nn.Linear(2, 1), "mse", capture=True)
        assert not pydl.cuda.is_current_stream_capturing()
        if not pydl.cuda.is_available():
            with pytest.raises(NotImplementedError, match="cuda"), pydl.cuda.graph(pydl.cuda.CUDAGraph()):
                pass


@needs_cuda
class TestGraphs:
    def test_replays_read_and_write_the_tensors_of_the_capture(self) -> None:
        x = pydl.asarray([1.0, 2.0]).to("cuda")
        g = pydl.cuda.CUDAGraph()
        with pydl.cuda.graph(g):
            assert pydl.cuda.is_current_stream_capturing()
            y = (x * 3 + 1).sum()
        for values in ([1.0, 2.0], [5.0, -1.0]):
            x.copy_(pydl.asarray(values))
            g.replay()
            assert y.item() == 3 * sum(values) + 2
        with pytest.raises(ValueError, match="captured before"):
            g.capture_begin()
        g.reset()
        with pytest.raises(ValueError, match="nothing to replay"):
            g.replay()

    def test_memory_is_the_graph_s_until_nothing_is_left_of_it(self) -> None:
        x = pydl.ones((1 << 18,), device="cuda")
        before = pydl.cuda.memory_allocated()
        g = pydl.cuda.CUDAGraph()
        with pydl.cuda.graph(g):
            y = (x * 2) * (x * 3)
            del x  # what a captured step reads stays
        others = [pydl.full((1 << 18,), 7.0, device="cuda") for _ in range(6)]
        g.replay()
        assert all(float(other.sum()) == 7.0 * (1 << 18) for other in others)
        del others
        assert float(y.sum()) == 6.0 * (1 << 18)
        del g
        gc.collect()
        assert float(y.sum()) == 6.0 * (1 << 18)
        del y
        assert pydl.cuda.memory_allocated() <= before

    def test_random_numbers_are_those_of_the_steps(self) -> None:
        own = pydl.Generator(7)

        def draw() -> tuple[pydl.Tensor, ...]:
            x = pydl.ones((50,), device="cuda")
            return (
                F.dropout(x, 0.4),
                pydl.rand(33, device="cuda"),
                pydl.randn(20, device="cuda", generator=own),
                pydl.randint(0, 9, (17,), device="cuda"),
            )

        def drawn(results: tuple[pydl.Tensor, ...]) -> list[Any]:
            return [r.tolist() for r in results]

        pydl.manual_seed(3)
        want = [drawn(draw()) for _ in range(4)]
        end = pydl.default_generator().get_state().tolist()
        pydl.manual_seed(3)
        own.manual_seed(7)
        g = pydl.cuda.CUDAGraph()
        found = [drawn(draw())]
        with pydl.cuda.graph(g):
            results = draw()
        for _ in range(3):
            g.replay()
            found.append(drawn(results))
        assert found == want
        assert pydl.default_generator().get_state().tolist() == end

    def test_what_cannot_be_captured_is_named_and_nothing_has_changed(self) -> None:
        x = pydl.asarray([[1.0, -2.0], [0.5, 3.0]]).to("cuda")
        steps: dict[str, tuple[Callable[[], Any], str]] = {
            "item": (lambda: x.sum().item(), r"\[item\] needs a number of the device"),
            "branch": (lambda: 1 if x.sum() > 0 else 2, r"\[item\] needs a number"),
            "list": (lambda: x.tolist(), r"\[to\] needs the CPU to wait"),
            "to the device": (lambda: x + pydl.asarray([1.0, 2.0]).to("cuda"), r"\[to\] copies from the CPU"),
            "mask": (lambda: x[x > 0], r"needs the CPU to wait"),
            "permutation": (lambda: pydl.randperm(5, device="cuda"), r"\[randperm\] gives another order"),
            "bernoulli": (lambda: pydl.bernoulli(pydl.sigmoid(x)), r"\[bernoulli\] looks at the prob"),
            "multinomial": (lambda: pydl.multinomial(pydl.sigmoid(x), 1), r"\[multinomial\] needs the CPU"),
            "synchronize": (pydl.cuda.synchronize, r"\[synchronize\] needs the CPU"),
        }
        for name, (step, message) in steps.items():
            state = pydl.default_generator().get_state().tolist()
            g = pydl.cuda.CUDAGraph()

            def both(step: Callable[[], Any] = step) -> None:
                F.dropout(x, 0.5)
                step()

            with pytest.raises(ValueError, match=message), pydl.cuda.graph(g):
                both()
            assert not pydl.cuda.is_current_stream_capturing(), name
            assert pydl.default_generator().get_state().tolist() == state
            assert (x + 1).tolist() == [[2.0, -1.0], [1.5, 4.0]]
            with pytest.raises(ValueError, match="nothing to replay"):
                g.replay()

    def test_an_error_of_one_s_own_ends_the_capture(self) -> None:
        g = pydl.cuda.CUDAGraph()
        x = pydl.ones(3, device="cuda")
        with pytest.raises(KeyError), pydl.cuda.graph(g):
            {}[(x * 2).shape]
        assert (pydl.ones(3, device="cuda") * 2).tolist() == [2.0] * 3

    def test_indices_out_of_range_are_found_later(self) -> None:
        table = pydl.asarray(np.arange(12, dtype=np.float32).reshape(4, 3)).to("cuda")
        index = pydl.asarray([0, 3]).to("cuda")
        target = pydl.asarray([1, 2]).to("cuda")
        g = pydl.cuda.CUDAGraph()
        with pydl.cuda.graph(g):
            rows = F.embedding(index, table)
            loss = F.cross_entropy(rows, target)
        g.replay()
        g.check()
        assert rows.tolist() == [[0, 1, 2], [9, 10, 11]]
        for bad in (4, -1):
            index.copy_(pydl.asarray([0, bad]))
            g.replay()
            index.copy_(pydl.asarray([0, 1]))
            g.replay()
            with pytest.raises(IndexError, match=r"\[embedding\] the index at position 1 is out of range for.* 4 rows"):
                g.check()
            g.check()  # told once
        target.copy_(pydl.asarray([3, 0]))
        g.replay()
        with pytest.raises(IndexError, match=r"\[cross_entropy\] the target at position 0 is out of range for 3"):
            g.check()
        assert np.isfinite(loss.item())

    def test_optimizers_count_on(self) -> None:
        made = []
        for captured in (False, True):
            w = pydl.asarray([1.0, -2.0]).to("cuda").requires_grad_()
            optimizer = optim.AdamW([w], lr=0.1, weight_decay=0.1)
            schedule = lr_scheduler.ExponentialLR(optimizer, 0.8)

            def step(w: pydl.Tensor = w, optimizer: Any = optimizer) -> None:
                optimizer.zero_grad()
                ((w - 3) ** 2).sum().backward()
                optimizer.step()

            g = pydl.cuda.CUDAGraph()
            if captured:
                early = pydl.cuda.graph(pydl.cuda.CUDAGraph())
                with pytest.raises(ValueError, match=r"AdamW made its state.*without capture first"), early:
                    step()
                assert w.tolist() == [1.0, -2.0]
                assert not optimizer.state
            step()
            schedule.step()
            if captured:
                with pydl.cuda.graph(g):
                    step()
                assert optimizer.state[w]["step"] == 1
            for _ in range(5):
                g.replay() if captured else step()
                schedule.step()
            assert optimizer.state[w]["step"] == 6
            made.append(w.tolist())
        assert made[0] == made[1]
        optimizer.load_state_dict(optimizer.state_dict())  # in other memory than was captured
        with pytest.raises(ValueError, match="capture anew"):
            g.replay()
        for other in (optim.Muon, optim.Adafactor):
            optimizer = other([pydl.ones((2, 2), device="cuda").requires_grad_()])
            scope = pydl.cuda.graph(pydl.cuda.CUDAGraph())
            with pytest.raises(ValueError, match=rf"\[{other.__name__}\] its step can't be captured"), scope:
                optimizer.step()


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))


class Text(nn.Module):
    """Embedding, LSTM with dropout between its layers, output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.lstm = nn.LSTM(3, 4, 2, batch_first=True, dropout=0.25)
        self.out = nn.Linear(4, 7)

    def forward(self, x: pydl.Tensor, state: Any = None) -> Any:
        y, state = self.lstm(self.embedding(x), state)
        return self.out(y), state


def schedule_of(optimizer: Any) -> Any:
    return lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=40)


def sgd(parameters: Any) -> Any:
    return optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True)


RUNS: dict[str, dict[str, Any]] = {
    "adam, a schedule": {"optimizer": "adam", "scheduler": schedule_of},
    "momentum, clipping": {"optimizer": sgd, "clip_norm": 0.3, "metrics": ["accuracy"]},
    "penalties, an average": {
        "optimizer": "radam",
        "clip_value": 0.1,
        "regularizers": pydl.regularizers.L1L2(1e-3, 1e-2),
        "ema": 0.9,
    },
    "weights of classes": {"optimizer": "rmsprop", "fit": {"class_weight": {0: 0.5, 2: 3.0}}},
    "windows": {"model": Text, "optimizer": "adam", "tbptt": 2, "clip_norm": 0.5, "epochs": 2},
    "windows, a state that is carried": {"model": Text, "optimizer": "adam", "tbptt": 2, "stateful": True, "epochs": 2},
}


def trained(capture: bool, **options: Any) -> tuple[Any, list[Any], Any]:
    rng = np.random.default_rng(5)
    options = dict(options)
    make, fit, stop = options.pop("model", dense), options.pop("fit", {}), options.pop("epochs", 3)
    pydl.manual_seed(1)
    model = make().to("cuda")
    if make is Text:
        x = rng.integers(0, 7, size=(6 if options.get("stateful") else 7, 6))
        y = np.roll(x, -1, axis=1)
    else:
        x = rng.normal(size=(70, 6)).astype(np.float32)
        y = rng.integers(0, 4, size=70)
    if isinstance(options.get("optimizer"), str):
        options["lr"] = 0.01
    trainer = pydl.Trainer(model, "cross_entropy", capture=capture, **options)
    size = 3 if make is Text else 16
    history = trainer.fit(x, y, batch_size=size, epochs=stop, verbose=0, **fit)
    return history.history, [t.tolist() for t in model.state_dict().values()], trainer


@needs_cuda
class TestTrainer:
    @pytest.mark.parametrize("name", RUNS)
    def test_it_trains_to_the_same_bits(self, name: str) -> None:
        plain, captured = trained(False, **RUNS[name]), trained(True, **RUNS[name])
        assert captured[2].captured.replays > 0
        assert captured[0] == plain[0]
        assert captured[1] == plain[1]
        assert captured[2].step == plain[2].step
        if "clip_norm" in RUNS[name]:
            assert captured[2].gradient_norm == plain[2].gradient_norm

    def test_a_resumed_training_too(self, tmp_path: pathlib.Path) -> None:
        options = RUNS["adam, a schedule"]
        whole = trained(False, **options)
        trained(True, **options, epochs=2, fit={"checkpoint": tmp_path, "checkpoint_every": 3})
        again = trained(True, **options, epochs=3, fit={"checkpoint": tmp_path, "resume": "last"})
        assert again[0] == whole[0]
        assert again[1] == whole[1]

    def test_callbacks_see_each_batch_s_numbers(self) -> None:
        class Look(pydl.callbacks.Callback):
            def __init__(self) -> None:
                super().__init__()
                self.seen: list[float] = []

            def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
                if batch % 2:
                    self.seen.append(logs["loss"])

        looks = [Look(), Look()]
        for capture, look in zip((False, True), looks):
            trained(capture, optimizer="adam", metrics=["accuracy"], fit={"callbacks": [look]})
        assert looks[0].seen == looks[1].seen
        assert len(looks[0].seen) == 6

    def test_targets_are_ignored_as_without(self) -> None:
        rng = np.random.default_rng(2)
        data = [
            (pydl.asarray(rng.normal(size=(8, 6)).astype(np.float32)), pydl.asarray(y))
            for y in rng.integers(-1, 4, size=(5, 8))
        ]
        found = []
        for capture in (False, True):
            pydl.manual_seed(0)
            model = dense().to("cuda")
            trainer = pydl.Trainer(model, nn.CrossEntropyLoss(ignore_index=-1), "adam", capture=capture)
            history = trainer.fit(data, epochs=2, verbose=0)
            found.append((history.history, model[0].weight.tolist()))
        assert found[0] == found[1]

    def test_a_number_that_is_not_finite_is_found(self) -> None:
        rng = np.random.default_rng(2)
        x = rng.normal(size=(64, 6)).astype(np.float32)
        x[45] = 1e38
        y = rng.normal(size=(64, 1)).astype(np.float32)
        found = []
        for capture in (False, True):
            pydl.manual_seed(0)
            model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 1)).to("cuda")
            trainer = pydl.Trainer(model, "mse", "adam", capture=capture)
            with pytest.raises(pydl.train.NotFinite) as error:
                trainer.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
            found.append((str(error.value), model[0].weight.tolist(), trainer.step))
        assert found[0] == found[1]
        trainer = pydl.Trainer(model, "mse", "adam", capture=True)
        look = pydl.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: logs["loss"])
        with pytest.raises(pydl.train.NotFinite):
            trainer.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0, callbacks=[look])
        assert trainer.step == 5
        assert found[0][2] == 5

    def test_what_it_cannot_capture(self) -> None:
        model = dense().to("cuda")
        for message, options in (
            ("Muon", {"optimizer": lambda parameters: optim.Muon([p for p in parameters if p.ndim == 2])}),
            ("accumulate", {"accumulate": 2}),
            ("a step of its own", {"train_step": lambda trainer, batch: {"loss": 0.0}}),
        ):
            with pytest.raises(ValueError, match=message):
                pydl.Trainer(model, "cross_entropy", capture=True, **options)

        class Reads(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(6, 4)

            def forward(self, x: pydl.Tensor) -> pydl.Tensor:
                y = self.linear(x)
                return y * 2 if y.sum().item() > 0 else y

        x, y = np.ones((16, 6), np.float32), np.zeros(16, np.int64)
        reads = Reads().to("cuda")
        trainer = pydl.Trainer(reads, "cross_entropy", "adam", capture=True)
        with pytest.raises(ValueError, match=r"\[item\] needs a number of the device.*without capture"):
            trainer.fit(x, y, batch_size=4, verbose=0)
        assert trainer.optimizer.state[reads.linear.weight]["step"] == trainer.step == 1
        assert np.isfinite(trainer.evaluate(x, y, return_dict=True)["loss"])
        with pytest.raises(IndexError, match=r"target.* is out of range|label"):
            pydl.Trainer(model, "cross_entropy", capture=True).fit(
                [(pydl.asarray(x[:4]), pydl.asarray([0, 1, 2, 3 + 4 * (i == 3)])) for i in range(5)], verbose=0
            )
