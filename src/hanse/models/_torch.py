"""What models in PyTorch have in common: a module that a text of Python builds, its training, and its parameters.

The text has a function ``build(task, options)`` that returns the module, and may have ``loss(output, y)`` and
``optimizer(module, learning_rate)``; it is a researcher's training plan (:mod:`hanse.models.torch_module`), or names a
function of Hanse. Where it is executed, and what is told of its errors, :mod:`hanse.models._plan_text` says.

Parameters and buffers (running means, counters) are the arrays of the module's ``state_dict``; all are
averaged, whole-number ones are rounded. A plan may say which of them travel, ``sent(module)``, such as those of an
adapter (LoRA): the others stay as ``build`` makes them, which then draws the same random numbers everywhere, and what
they are is compared with those of the other sites by a hash that travels. A module with ``training_step`` and
``configure_optimizers``, as Lightning's, is trained by these; an output with ``logits``, as Hugging Face's, is these.

How rows become the batches of a pass a plan may say itself, ``training_data(X, y, batch_size)``: it draws PyTorch's
random numbers, which are seeded by run, site and round. A plan may name a ``device`` to compute on
(:mod:`hanse.models._torch_device`).

A term of the objective is added to the gradients of the parameters before
each step, whatever the optimiser; the gradient that is told is the mean over the steps. Regression learns on a target
of mean 0 and scale 1.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

import numpy as np
import xxhash

from hanse.errors import ConfigError, NodeFailed
from hanse.learning.fitting import task_fits
from hanse.learning.results import parameters_of, seed_of, target_scale, task_of
from hanse.messages import Array, Json, Record, dumps
from hanse.models import _plan_text, _torch_device, _torch_images
from hanse.models._torch_many import Given, mapped, multiplied, stackable, trained
from hanse.models._torch_rows import clipped_gradients
from hanse.models._torch_written_out import Descent, written_out
from hanse.researcher_code import kind
from hanse.task import NUMBER, PROBABILITIES, Task
from hanse.training import Learned, ProximalTerm, Training

Found = TypeVar("Found")
_PREDICT_ROWS = 4096
_SMALL = 1_000_000  # parameters
_STAYS = "stays.xxh3"  # beside what travels of a module: a hash of what does not
_KEPT = 8  # of the latest plans; such modules are small


class _Network(NamedTuple):
    """A module, its layers where it is computed by pixel, and of one that is kept its parameters and buffers, where
    they lie."""

    module: Any
    layers: list[Any] | None
    state: dict[str, Array] | None = None


_Key = tuple[str, Task, str]  # text, task and options of a plan
_WRITTEN_OUT: dict[_Key, tuple[Any, Descent]] = {}
_NETWORKS: dict[_Key, _Network] = {}  # small ones for images
_RANDOM = threading.RLock()  # whoever holds it draws PyTorch's random numbers, of which a process has one sequence


class TorchModule:
    """A :class:`hanse.model.Model`. The plan runs at the first call that needs it."""

    @property
    def takes(self) -> tuple[type[np.generic], type[np.generic]]:
        """The types of a design matrix and of its targets."""
        return np.float32, np.int64 if self.task.outputs > 1 else np.float32

    def __init__(self, task: Task, source: str, options: Mapping[str, Json], called: str = "the training plan") -> None:
        self.task, self.source, self.options, self._called = task, source, options, called

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        with self._plan() as plan, _seeded(rng):
            return self._sent(plan, self._build(plan))

    def train(
        self,
        parameters: Mapping[str, Array],
        X: Array,
        y: Array,
        rng: np.random.Generator,
        training: Training,
    ) -> Learned:
        torch = library()
        targets = torch.from_numpy(np.array(y, np.int64 if self.task.outputs > 1 else np.float32))
        with self._plan() as plan, _threads(parameters, X), _seeded(rng):
            device = self._device(plan)
            _torch_device.seeded(torch, device)
            network = self._network(plan, parameters, X, device, training)
            module, layers = network.module, network.layers
            inputs, targets = device.brought(_inputs(X, layers is not None)), device.brought(targets)
            for name, parameter in module.named_parameters():
                parameter.requires_grad_(parameter.requires_grad and name not in training.frozen)
            forward = module if layers is None else functools.partial(_in_turn, layers)
            loss_of, optimizer = self._loss_of(plan, module, forward), _optimizer(plan, module, training.learning_rate)
            added = _Added(module, training)
            losses: list[float] = []
            module.train()
            for _ in range(training.epochs):
                total, seen, single = 0.0, 0, False
                for place, (x, t) in enumerate(self._batches(plan, inputs, targets, training.batch_size, rng)):
                    if not len(t):
                        continue
                    if len(t) == 1 and len(y) > 1 and _normalises(module):
                        single = True
                        continue  # a batch of one has no variance to normalise by
                    seen += len(t)
                    optimizer.zero_grad()
                    loss = loss_of(device.brought(x), device.brought(t), place)
                    loss.backward()
                    added.to_gradients()
                    optimizer.step()
                    total += float(loss.detach()) * len(t)
                    training.progress()
                if single and not seen:
                    raise ConfigError(
                        f"{self._called} normalises by batches, and each had one row, of which nothing is learned; use "
                        "a larger batch_size"
                    )
                if not seen:
                    raise ConfigError(f"training_data of {self._called} gave no batch of a pass; expected at least one")
                losses.append(total / seen)
            still = {name: np.array(parameters[name]) for name in training.frozen}  # also what an epoch counts
            sent = self._sent(plan, module) if network.state is None else _copied(network.state)
            found = {**sent, **still}
            return Learned(found, losses, added.mean(parameters), added.steps, elsewhere=device.missing)

    @functools.cached_property
    def _key(self) -> _Key:
        return self.source, self.task, dumps(self.options)

    def train_many(self, given: Sequence[Given]) -> list[Learned]:
        """What :meth:`train` gives for each of these arguments, which start from the same parameters; stacked, where
        the module can be (:mod:`hanse.models._torch_many`)."""
        torch, kind = library(), np.int64 if self.task.outputs > 1 else np.float32
        start, X, _, _, how = given[0]
        found: dict[int, Learned] = {}
        key = self._key
        known = _WRITTEN_OUT.get(key) if _small(start, X) and not how.frozen else None
        run: AbstractContextManager[dict[str, Any]] = self._plan() if known is None else nullcontext({})
        with run as plan, _threads(start, X):
            module = self._build(plan).train() if known is None else known[0]
            if known is not None or (_small(start, X) and stackable(module, plan, given[0])):
                own, descent = plan.get("loss"), None if known is None else known[1]
                if descent is None and own is None:
                    descent = written_out(torch, module, self.task)
                    if descent is not None:
                        _kept(_WRITTEN_OUT, key, (module, descent))
                    descent = descent or multiplied(torch, module, self.task.outputs, _loss(self.task, "none"))
                divided = descent is not None
                if descent is None:
                    loss_of = own or _loss(self.task)
                    descent = mapped(
                        torch, lambda: self._build(plan).train(), lambda output, y: loss_of(self._shaped(output), y)
                    )
                alike: dict[tuple[float, ...], list[int]] = {}
                same, key_of = None, tuple[float, ...]()
                for place, (_, _, y, _, how) in enumerate(given):
                    if how is not same:
                        same, key_of = how, (how.epochs, how.batch_size, how.learning_rate)
                    alike.setdefault((len(y), *key_of), []).append(place)
                for places in alike.values():
                    if len(places) == 1:
                        continue  # by itself, to its own last digit
                    typed = [
                        (w, np.asarray(X, np.float32), np.asarray(y, kind), rng, how)
                        for w, X, y, rng, how in ([given[i] for i in places] if len(alike) > 1 else given)
                    ]
                    learned = trained(torch, module, descent, typed, divided)
                    if len(alike) == 1:
                        return learned
                    found |= dict(zip(places, learned, strict=True))
        return [found[i] if i in found else self.train(*given[i]) for i in range(len(given))]

    def clipped(self, parameters: Mapping[str, Array], X: Array, y: Array, bound: float) -> dict[str, Array]:
        """See ``row_gradients`` of :mod:`hanse.models`: each row's gradient by ``torch.func``."""
        torch = library()
        with self._plan() as plan, _threads(parameters, X), _RANDOM:
            if "training_data" in plan:
                raise ConfigError(
                    f"noise hides rows as they are, so {self._called} cannot load them otherwise; leave training_data "
                    "out"
                )
            module = self._module(plan, parameters).train()
            loss_of = plan.get("loss") or _loss(self.task)
            return clipped_gradients(
                torch,
                module,
                lambda output, target: loss_of(self._shaped(output), target),
                _inputs(X),
                torch.from_numpy(np.array(y, np.int64 if self.task.outputs > 1 else np.float32)),
                bound,
            )

    def penalty_gradient(self, parameters: Mapping[str, Array], rows: float) -> dict[str, Array]:
        """There is none."""
        return {}

    def buffers(self, parameters: Mapping[str, Array]) -> tuple[str, ...]:
        """Names of the arrays that are kept, not learned: running means, counters."""
        with self._plan() as plan:
            learned = {name for name, p in self._build(plan).named_parameters() if p.requires_grad}
        return tuple(name for name in parameters if name not in learned)

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        with self._plan() as plan, _threads(parameters, X):
            device = self._device(plan)
            module = device.brought(self._module(plan, parameters)).eval()
            return self._predict(module, _layers(plan, module, X, device), X, device)

    def native(self, parameters: Mapping[str, Array]) -> Any:
        with self._plan() as plan:
            return self._module(plan, parameters).eval()

    def _device(self, plan: Mapping[str, Any]) -> _torch_device.Device:
        return _torch_device.chosen(library(), plan, self._called)

    def _predict(self, module: Any, layers: Sequence[Any] | None, X: Array, device: _torch_device.Device) -> Array:
        torch, parts = library(), []
        forward = module if layers is None else functools.partial(_in_turn, layers)
        with torch.inference_mode():
            for start in range(0, len(X), _PREDICT_ROWS):
                batch = device.brought(_inputs(X[start : start + _PREDICT_ROWS], layers is not None))
                score = self._shaped(forward(batch)).cpu().double()
                if self.task.predicts == PROBABILITIES:
                    score = torch.softmax(score, 1) if self.task.outputs > 1 else torch.sigmoid(score)
                parts.append(score.numpy())
        return np.concatenate(parts)

    def _batches(
        self, plan: Mapping[str, Any], X: Any, y: Any, size: int, rng: np.random.Generator
    ) -> Iterator[tuple[Any, Any]]:
        """One pass over the training rows: as the plan loads them, or in an order that is drawn anew."""
        if "training_data" not in plan:
            order = library().from_numpy(rng.permutation(len(y)))
            for start in range(0, len(y), size):
                rows = order[start : start + size]
                yield X[rows], y[rows]
            return
        for batch in plan["training_data"](X, y, size):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2 or len(batch[0]) != len(batch[1]):
                raise ConfigError(
                    f"training_data of {self._called} gave a {kind(type(batch))}; expected batches (x, y) of as "
                    "many rows in both"
                )
            yield batch[0], batch[1]

    def _loss_of(self, plan: Mapping[str, Any], module: Any, forward: Any) -> Callable[[Any, Any, int], Any]:
        """The loss of a batch, from its inputs, its targets and its place; ``forward`` computes as the module does."""
        step = getattr(module, "training_step", None)
        if "loss" in plan or step is None:
            loss = plan.get("loss") or _loss(self.task)
            return lambda x, y, place: loss(self._shaped(forward(x)), y)

        def stepped(x: Any, y: Any, place: int) -> Any:
            found = step((x, y), place)
            return found["loss"] if isinstance(found, Mapping) else found

        return stepped

    def _shaped(self, output: Any) -> Any:
        output = getattr(output, "logits", output)
        expected = self.task.shape(len(output))
        if self.task.outputs == 1 and output.ndim == 2 and output.shape[1] == 1:
            output = output[:, 0]
        if tuple(output.shape) != expected:
            raise ConfigError(f"the module of {self._called} gives shape {tuple(output.shape)}; expected {expected}")
        return output

    def _build(self, plan: Mapping[str, Any]) -> Any:
        with _RANDOM, _seeded(np.random.default_rng(0)) if "sent" in plan else nullcontext():
            module = plan["build"](self.task, dict(self.options))
        if not isinstance(module, library().nn.Module):
            raise ConfigError(f"build of {self._called} returned {kind(type(module))}; expected an nn.Module")
        return module

    def _module(self, plan: Mapping[str, Any], parameters: Mapping[str, Array]) -> Any:
        """The module with these parameters. Raises ``NodeFailed`` where what does not travel is another one here."""
        module, given = self._build(plan), dict(parameters)
        if "sent" in plan:
            said = given.pop(_STAYS, None)
            stays = self._sent(plan, module)[_STAYS]
            if said is None or not np.array_equal(said, stays):
                raise NodeFailed(
                    f"what does not travel of {self._called} is another model here than where the run began; its build "
                    "must make the same one everywhere, of the same file or the same release of its libraries"
                )
        return _loaded(module, given, "sent" not in plan)

    def _network(
        self,
        plan: Mapping[str, Any],
        parameters: Mapping[str, Array],
        X: Array,
        device: _torch_device.Device,
        training: Training,
    ) -> _Network:
        """The module with these parameters: the last one, where that does. Nobody else trains meanwhile
        (:func:`_seeded`)."""
        known = _NETWORKS.get(self._key) if X.ndim > 2 and device.processor and not training.frozen else None
        if known is not None and known.state is not None and _fits(known.state, parameters):
            for name, there in known.state.items():
                there[...] = parameters[name]
            return known
        module = device.brought(self._module(plan, parameters))
        found = _Network(module, _layers(plan, module, X, device))
        few = sum(a.size for a in parameters.values()) < _SMALL and not training.frozen
        if found.layers is not None and few and _torch_images.lasting(library(), module, plan):
            found = found._replace(state={n: t.detach().numpy() for n, t in module.state_dict().items()})
            _kept(_NETWORKS, self._key, found)
        return found

    def _sent(self, plan: Mapping[str, Any], module: Any) -> dict[str, Array]:
        """The arrays that travel: all, or those that the plan names and a hash of the others."""
        if "sent" not in plan:
            return _arrays(module)
        tensors, names = module.state_dict(), set(plan["sent"](module))
        unknown = sorted(names - set(tensors))
        if unknown or not names:
            found = ", ".join(unknown[:5]) or "nothing"
            raise ConfigError(f"sent of {self._called} names {found}; expected some of {', '.join([*tensors][:20])}")
        learned = {name for name, p in module.named_parameters() if p.requires_grad}
        left = sorted(learned - names)
        if left:
            raise ConfigError(
                f"{self._called} trains {', '.join(left[:5])}, which it does not send: freeze what stays, or let "
                "fedper keep it at each site"
            )
        state = xxhash.xxh3_128()
        for name in sorted(set(tensors) - names):
            tensor = tensors[name].detach().cpu().contiguous()
            state.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1e".encode())
            state.update(tensor.reshape(-1).view(library().uint8).numpy().data)
        stays = np.frombuffer(state.digest(), np.uint8).astype(np.int64)
        return {**_arrays(module, names), _STAYS: stays}

    @contextmanager
    def _plan(self) -> Iterator[dict[str, Any]]:
        """The plan's names (:mod:`hanse.models._plan_text`)."""
        library()
        with _plan_text.names(self.source, self._called) as names:
            yield names


def _kept(what: dict[_Key, Found], key: _Key, found: Found) -> None:
    """A module of which something is kept has plain layers of PyTorch and nothing of the plan, so the plan need not
    build it again in each round."""
    while len(what) >= _KEPT:
        what.pop(next(iter(what), key), None)  # another thread may do so too
    what[key] = found


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
        found = {name: (g / max(1, self.steps)).cpu().numpy() for name, g in self._sums.items()}
        return {name: found.get(name, np.zeros_like(a)) for name, a in parameters.items()}


def _loss(task: Task, reduction: str = "mean") -> Callable[[Any, Any], Any]:
    functional = library().nn.functional
    if task.predicts == NUMBER:
        found = functional.mse_loss
    else:
        found = functional.cross_entropy if task.outputs > 1 else functional.binary_cross_entropy_with_logits
    return functools.partial(found, reduction=reduction)


class _Descent:
    """Plain SGD, to the bit that of PyTorch, whose optimisers load its compiler when the first of them is made: a
    second and 67 MB, which each worker and each process of a simulation spent before it trained."""

    def __init__(self, module: Any, learning_rate: float) -> None:
        self._learned, self._rate = [p for p in module.parameters() if p.requires_grad], learning_rate

    def zero_grad(self) -> None:
        for p in self._learned:
            p.grad = None

    def step(self) -> None:
        with library().no_grad():
            for p in self._learned:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-self._rate)


def _optimizer(plan: Mapping[str, Any], module: Any, learning_rate: float) -> Any:
    """The plan's, that of a Lightning module (its schedulers are not stepped), or plain SGD."""
    if "optimizer" in plan:
        return plan["optimizer"](module, learning_rate)
    if not hasattr(module, "configure_optimizers"):
        return _Descent(module, learning_rate)
    optim, found = library().optim, module.configure_optimizers()
    while not isinstance(found, optim.Optimizer):
        if isinstance(found, Mapping) and "optimizer" in found:
            found = found["optimizer"]
        elif isinstance(found, (list, tuple)) and found and len(found[0] if isinstance(found[0], list) else found) == 1:
            found = found[0]
        else:
            raise ConfigError(f"configure_optimizers gives {kind(type(found))}; expected one optimizer")
    return found


def _inputs(X: Array, by_pixel: bool = False) -> Any:
    """float32; images from (n, height, width, channels) to PyTorch's (n, channels, height, width)."""
    array = np.array(X, np.float32)
    if array.ndim > 2:
        array = _torch_images.by_pixel(array) if by_pixel else _torch_images.by_channel(array)
    return library().from_numpy(array)


def _layers(plan: Mapping[str, Any], module: Any, X: Array, device: _torch_device.Device) -> list[Any] | None:
    """See :func:`hanse.models._torch_images.layers`; of tables there are none."""
    return _torch_images.layers(library(), module, plan) if X.ndim > 2 and device.processor else None


def _in_turn(layers: Sequence[Any], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _arrays(module: Any, names: Collection[str] | None = None) -> dict[str, Array]:
    found = {}
    for name, tensor in module.state_dict().items():
        if names is not None and name not in names:
            continue
        try:
            found[name] = np.array(tensor.detach().cpu().numpy())
        except TypeError:
            raise ConfigError(f"parameter {name!r} is {tensor.dtype}, which does not travel; use float32") from None
    return found


def _copied(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}


def _fits(state: Mapping[str, Array], given: Mapping[str, Array]) -> bool:
    """Whether these are the arrays of a module, which may be written over its own."""
    return state.keys() == given.keys() and all(
        a.shape == given[n].shape and a.dtype == given[n].dtype for n, a in state.items()
    )


def _loaded(module: Any, parameters: Mapping[str, Array], all: bool = True) -> Any:
    torch = library()
    given = {n: torch.from_numpy(np.array(a)) for n, a in parameters.items()}
    module.load_state_dict(given if all else {**module.state_dict(), **given}, strict=True)
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


def planned(model: str, task: Task, options: Mapping[str, Json], predicts: tuple[str, ...]) -> TorchModule:
    """A model of a training plan: ``options["plan"]``; all other options are for the plan's own ``build``."""
    task_fits(model, task, predicts)
    return TorchModule(task, *_plan_text.given(model, options))


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
