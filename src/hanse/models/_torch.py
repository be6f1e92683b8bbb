"""What models in PyTorch have in common: a module that a text of Python builds, its training, and its parameters.

The text has a function ``build(task, options)`` that returns the module, and may have ``loss(output, y)`` and
``optimizer(module, learning_rate)``; it is a researcher's training plan (:mod:`hanse.models.torch_module`), or names a
function of Hanse. It is executed where it trains, in a node's worker, and where the result is loaded, never at the
coordinator. What it raises crosses the wire as the kind of error and the line, never as text that it could have filled
with data.

Parameters and buffers (running means, counters) are the arrays of the module's ``state_dict``; all are
averaged, whole-number ones are rounded. A term of the objective is added to the gradients of the parameters before
each step, whatever the optimiser; the gradient that is told is the mean over the steps. Regression learns on a target
of mean 0 and scale 1.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Any

import numpy as np

from hanse.errors import ConfigError, HanseError, NodeFailed
from hanse.learning.results import parameters_of, seed_of, target_scale, task_of
from hanse.messages import Array, Json, Record
from hanse.models._torch_many import Given, mapped, multiplied, stackable, trained
from hanse.task import NUMBER, PROBABILITIES, Task
from hanse.training import Learned, ProximalTerm, Training

_FILE = "<training plan>"
_PREDICT_ROWS = 4096
_SMALL = 1_000_000  # parameters
_RANDOM = threading.RLock()  # whoever holds it draws PyTorch's random numbers, of which a process has one sequence


class TorchModule:
    """A :class:`hanse.model.Model`. The plan runs at the first call that needs it."""

    def __init__(self, task: Task, source: str, options: Mapping[str, Json], called: str = "the training plan") -> None:
        self.task, self.source, self.options, self._called = task, source, options, called

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        with self._plan() as plan, _seeded(rng):
            return _arrays(self._build(plan))

    def train(
        self,
        parameters: Mapping[str, Array],
        X: Array,
        y: Array,
        rng: np.random.Generator,
        training: Training,
    ) -> Learned:
        torch = library()
        inputs = _inputs(X)
        targets = torch.from_numpy(np.array(y, np.int64 if self.task.outputs > 1 else np.float32))
        with self._plan() as plan, _threads(parameters, X), _seeded(rng):
            module = _loaded(self._build(plan), parameters)
            for name, parameter in module.named_parameters():
                parameter.requires_grad_(parameter.requires_grad and name not in training.frozen)
            loss_of = plan.get("loss") or _loss(self.task)
            trainable = [p for p in module.parameters() if p.requires_grad]
            optimizer = (
                plan["optimizer"](module, training.learning_rate)
                if "optimizer" in plan
                else torch.optim.SGD(trainable, lr=training.learning_rate)
            )
            added = _Added(module, training)
            losses: list[float] = []
            module.train()
            for _ in range(training.epochs):
                order = torch.from_numpy(rng.permutation(len(y)))
                total = 0.0
                for start in range(0, len(y), training.batch_size):
                    rows = order[start : start + training.batch_size]
                    if len(rows) == 1 and len(y) > 1 and _normalises(module):
                        continue  # a batch of one has no variance to normalise by
                    optimizer.zero_grad()
                    loss = loss_of(self._shaped(module(inputs[rows])), targets[rows])
                    loss.backward()
                    added.to_gradients()
                    optimizer.step()
                    total += float(loss.detach()) * len(rows)
                    training.progress()
                losses.append(total / len(y))
            still = {name: np.array(parameters[name]) for name in training.frozen}  # also what an epoch counts
            return Learned({**_arrays(module), **still}, losses, added.mean(parameters), added.steps)

    def train_many(self, given: Sequence[Given]) -> list[Learned]:
        """What :meth:`train` gives for each of these arguments, which start from the same parameters; stacked, where
        the module can be (:mod:`hanse.models._torch_many`)."""
        torch, kind = library(), np.int64 if self.task.outputs > 1 else np.float32
        start, X, *_ = given[0]
        found: dict[int, Learned] = {}
        with self._plan() as plan, _threads(start, X):
            module = self._build(plan)
            if _small(start, X) and stackable(module, plan, given[0]):
                own = plan.get("loss")
                losses = None if own else multiplied(torch, module, self.task.outputs, _loss(self.task, "none"))
                if losses is None:
                    loss_of = own or _loss(self.task)
                    losses = mapped(torch, module, lambda output, y: loss_of(self._shaped(output), y))
                by_rows: dict[int, list[int]] = {}
                for place, (_, _, y, _, _) in enumerate(given):
                    by_rows.setdefault(len(y), []).append(place)
                for places in by_rows.values():
                    stack = [given[i] for i in places]
                    typed = [(w, X, np.asarray(y, kind), rng, how) for w, X, y, rng, how in stack]
                    found |= dict(zip(places, trained(torch, module, losses, typed), strict=True))
        return [found[i] if i in found else self.train(*given[i]) for i in range(len(given))]

    def buffers(self, parameters: Mapping[str, Array]) -> tuple[str, ...]:
        """Names of the arrays that are kept, not learned: running means, counters."""
        with self._plan() as plan:
            learned = {name for name, p in self._build(plan).named_parameters() if p.requires_grad}
        return tuple(name for name in parameters if name not in learned)

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        with self._plan() as plan, _threads(parameters, X):
            return self._predict(_loaded(self._build(plan), parameters), X)

    def native(self, parameters: Mapping[str, Array]) -> Any:
        with self._plan() as plan:
            return _loaded(self._build(plan), parameters).eval()

    def _predict(self, module: Any, X: Array) -> Array:
        torch = library()
        module.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(X), _PREDICT_ROWS):
                score = self._shaped(module(_inputs(X[start : start + _PREDICT_ROWS]))).double()
                if self.task.predicts == PROBABILITIES:
                    score = torch.softmax(score, 1) if self.task.outputs > 1 else torch.sigmoid(score)
                parts.append(score.numpy())
        return np.concatenate(parts)

    def _shaped(self, output: Any) -> Any:
        expected = self.task.shape(len(output))
        if self.task.outputs == 1 and output.ndim == 2 and output.shape[1] == 1:
            output = output[:, 0]
        if tuple(output.shape) != expected:
            raise ConfigError(f"the module of {self._called} gives shape {tuple(output.shape)}; expected {expected}")
        return output

    def _build(self, plan: Mapping[str, Any]) -> Any:
        with _RANDOM:
            module = plan["build"](self.task, dict(self.options))
        if not isinstance(module, library().nn.Module):
            raise ConfigError(f"build of {self._called} returned {type(module).__name__}; expected an nn.Module")
        return module

    @contextmanager
    def _plan(self) -> Iterator[dict[str, Any]]:
        """The plan's names. Whatever it raises while they are in use is told without its text."""
        library()
        try:
            names: dict[str, Any] = {"__name__": "training_plan"}
            exec(_compiled(self.source), names)
            if not callable(names.get("build")):
                raise ConfigError(f"{self._called} has no function build(task, options)")
            yield names
        except HanseError:
            raise
        except Exception as error:
            raise NodeFailed(f"{self._called} failed: {type(error).__name__}{_line(error)}") from None


@functools.lru_cache(8)
def _compiled(source: str) -> CodeType:
    return compile(source, _FILE, "exec")


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """PyTorch's random numbers are those of ``rng``, whatever other threads draw: sites of a simulation are threads."""
    torch = library()
    with _RANDOM, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(rng))  # torch's own formats the stack thrice
        yield


@contextmanager
def _threads(parameters: Mapping[str, Array], X: Array) -> Iterator[None]:
    """One thread where the arithmetic is small: several would spend the time waiting for each other
    (measured: a hundred times as long on a busy machine), and their sums would depend on the cores."""
    torch, before = library(), library().get_num_threads()
    try:
        torch.set_num_threads(1 if _small(parameters, X) else before)
        yield
    finally:
        torch.set_num_threads(before)


def _small(parameters: Mapping[str, Array], X: Array) -> bool:
    return X.ndim == 2 and sum(a.size for a in parameters.values()) < _SMALL


class _Added:
    """What a term adds to the gradients of a module before each step, and the sum of its own gradients."""

    def __init__(self, module: Any, training: Training) -> None:
        torch, self._term = library(), training.term
        learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._learned = learned if training.term is not None or training.gradient else {}
        self._sums = {name: torch.zeros_like(p) for name, p in learned.items()} if training.gradient else {}
        self.steps = 0

        def like(arrays: Mapping[str, Array]) -> dict[str, Any]:
            return {name: torch.from_numpy(np.array(arrays[name])).to(p) for name, p in learned.items() if arrays}

        term = training.term or ProximalTerm()
        self._anchor, self._linear = like(term.anchor), like(term.linear)

    def to_gradients(self) -> None:
        self.steps += 1
        for name, p in self._learned.items():
            if p.grad is None:
                continue
            if name in self._sums:
                self._sums[name] += p.grad
            if self._term is not None and self._term.mu:
                p.grad.add_(p.detach() - self._anchor[name], alpha=self._term.mu)
            if name in self._linear:
                p.grad.add_(self._linear[name])

    def mean(self, parameters: Mapping[str, Array]) -> dict[str, Array] | None:
        """Of the gradients over the steps; zeros for what is not learned."""
        if not self._sums:
            return None
        found = {name: (g / max(1, self.steps)).numpy() for name, g in self._sums.items()}
        return {name: found.get(name, np.zeros_like(a)) for name, a in parameters.items()}


def _line(error: Exception) -> str:
    found = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            found = f" in line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _loss(task: Task, reduction: str = "mean") -> Callable[[Any, Any], Any]:
    functional = library().nn.functional
    if task.predicts == NUMBER:
        found = functional.mse_loss
    else:
        found = functional.cross_entropy if task.outputs > 1 else functional.binary_cross_entropy_with_logits
    return functools.partial(found, reduction=reduction)


def _inputs(X: Array) -> Any:
    """float32; images from (n, height, width, channels) to PyTorch's (n, channels, height, width)."""
    array = np.array(X, np.float32)
    return library().from_numpy(array if array.ndim == 2 else np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def _arrays(module: Any) -> dict[str, Array]:
    found = {}
    for name, tensor in module.state_dict().items():
        try:
            found[name] = np.array(tensor.detach().cpu().numpy())
        except TypeError:
            raise ConfigError(f"parameter {name!r} is {tensor.dtype}, which does not travel; use float32") from None
    return found


def _loaded(module: Any, parameters: Mapping[str, Array]) -> Any:
    torch = library()
    module.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in parameters.items()}, strict=True)
    return module


def _normalises(module: Any) -> bool:
    batch_norm = library().nn.modules.batchnorm._BatchNorm
    return any(isinstance(part, batch_norm) for part in module.modules())


def library() -> Any:
    try:
        import torch
    except ImportError:
        raise ConfigError("PyTorch is not installed here; pip install 'hanse[torch]'") from None
    return torch


def native(result: Record, model: TorchModule) -> Any:
    """The module in evaluation mode, on float32 design matrices. **Executes the model's text.** A regression's output
    is in the target's own units."""
    module = model.native(parameters_of(result))
    if task_of(result).predicts != NUMBER:
        return module
    mean, scale = target_scale(result)
    nn = library().nn

    class InUnits(nn.Module):  # type: ignore[misc, name-defined]
        """The module's output times the target's scale plus its mean."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Any) -> Any:
            return self.module(x) * scale + mean

    return InUnits().eval()


def predict(result: Record, model: TorchModule, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`. **Executes the model's text.**"""
    found = model.predict(parameters_of(result), X)
    if task_of(result).predicts != NUMBER:
        return found
    mean, scale = target_scale(result)
    return found * scale + mean
