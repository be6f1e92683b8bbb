"""Local training of a PyTorch module at many sites at once: each step is one of all sites, stacked.

A small module spends its time in the library's calls, not in arithmetic, and the calls of fifty sites become one.
Layers that are products and functions of single numbers are computed as products of stacked matrices, their gradients
where possible too (:mod:`hanse.models._torch_written_out`), any other module through ``torch.func.vmap``. The order of
rows at each site is that of its own training; sums of stacked matrices differ in the last digits of their type. What
cannot be stacked is trained site by site: an optimiser of the plan's own, buffers, random layers, frozen parameters.
Sites are stacked with those that have as many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hanse import shared_threads
from hanse.learning.results import pass_seed
from hanse.messages import Array, Row, Stack
from hanse.models._torch_images import watched
from hanse.models._torch_written_out import Descent, Stacked, Step, Update
from hanse.training import Arrays, Learned, ProximalTerm, Training

# the arguments of a model's ``train``, the rows as it has them
Given = tuple[Arrays, Array, Array, np.random.Generator, Training]
_CACHED = 1 << 20  # bytes of parameters of those sites that take a step together; about half of a processor's cache

_SINGLE = ("ReLU", "Tanh", "Sigmoid", "Identity", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Softplus")


def stackable(module: Any, plan: Mapping[str, Any], given: Given) -> bool:
    """Whether the trainings of this module can be stacked."""
    random = any("Dropout" in type(part).__name__ for part in module.modules())
    hooked = any(watched(part) for part in module.modules())
    own = (
        "optimizer" in plan
        or "sent" in plan
        or "training_data" in plan
        or "device" in plan
        or hasattr(module, "training_step")
    )
    return not own and not random and not hooked and not list(module.buffers()) and not given[4].frozen


def mapped(torch: Any, build: Callable[[], Any], loss_of: Callable[[Any, Any], Any]) -> Descent:
    """The steps of any module, of which ``loss_of`` takes one site's output and targets. Meanwhile the parameters of
    these sites lie in the module itself: no two threads can compute with it. It is built anew for those who take their
    steps together, as for a site that trains by itself: it may count its steps."""

    def begun() -> Callable[[Stacked, Any, Any], Any]:
        module = build()

        def one(parameters: Stacked, x: Any, y: Any) -> Any:
            return loss_of(torch.func.functional_call(module, parameters, (x,)), y)

        return torch.func.vmap(one)  # type: ignore[no-any-return]

    return _differentiated(torch, build(), begun)


def multiplied(torch: Any, module: Any, outputs: int, each: Callable[[Any, Any], Any]) -> Descent | None:
    """The same for a module of layers that are products and functions of single numbers; None where it is another.

    Args:
        outputs: scores of a row.
        each: the losses of single rows.
    """
    nn = torch.nn
    layers = list(module) if type(module) is nn.Sequential else [module]
    single = {getattr(nn, name) for name in _SINGLE}
    plain = all(type(layer) is nn.Linear or type(layer) in single for layer in layers)
    linear = [layer for layer in layers if type(layer) is nn.Linear]
    if not plain or not linear or linear[-1].out_features != outputs:
        return None
    names = {id(parameter): name for name, parameter in module.named_parameters()}

    def losses(w: Stacked, x: Any, y: Any) -> Any:
        for layer in layers:
            if type(layer) is not nn.Linear:
                x = layer(x)
            elif layer.bias is None:
                x = torch.bmm(x, w[names[id(layer.weight)]].transpose(1, 2))
            else:
                bias = w[names[id(layer.bias)]].unsqueeze(1)
                x = torch.baddbmm(bias, x, w[names[id(layer.weight)]].transpose(1, 2))
        scores = x.flatten(0, 1) if outputs > 1 else x.flatten()
        return each(scores, y.flatten()).reshape(y.shape).mean(1)

    return _differentiated(torch, module, lambda: losses)


def _differentiated(torch: Any, module: Any, begun: Callable[[], Callable[[Stacked, Any, Any], Any]]) -> Descent:
    """By autograd, from what gives the (sites,) losses, made anew for those who begin together."""
    names = [name for name, p in module.named_parameters() if p.requires_grad]

    def begin(w: Stacked, update: Update) -> Step:
        losses = begun()

        def step(x: Any, y: Any) -> Any:
            with torch.enable_grad():
                leaves = {name: w[name].detach().requires_grad_() for name in names}
                values = losses({**w, **leaves}, x, y)
                gradients = torch.autograd.grad(values.sum(), [*leaves.values()], allow_unused=True)
            for name, gradient in zip(names, gradients, strict=True):
                if gradient is not None:
                    update(name, gradient, None, 1.0)
            return values.detach().unsqueeze(1).expand(y.shape[:2])  # each row's is the mean over them

        return step

    return Descent(begin, lambda means, y: means)


def trained(torch: Any, module: Any, descent: Descent, given: Sequence[Given], divided: bool = True) -> list[Learned]:
    """What each site learned; all have as many rows, and start from the same parameters. As many take their steps
    together as have their parameters in a processor's cache, and others in another thread, where there is one and
    ``descent`` may be ``divided``: it changes nothing that others of its calls need."""
    size = 4 * sum(p.numel() for p in module.parameters())
    block = max(1, _CACHED // max(1, size))

    def part(low: int) -> list[Learned]:
        torch.set_num_threads(1)  # of this one thread; how many sums are made in would change their last digits
        with torch.no_grad():
            return _trained(torch, module, descent, given[low : low + block], len(given))

    each, places = shared_threads.each, range(0, len(given), block)
    return [learned for found in (each(part, places) if divided else map(part, places)) for learned in found]


def _trained(torch: Any, module: Any, descent: Descent, given: Sequence[Given], together: int) -> list[Learned]:
    start, _, _, _, how = given[0]
    sites, rows = len(given), len(given[0][2])
    # PyTorch's own memory lies at multiples of 64 bytes, NumPy's wherever: sums of a product may round by that
    begun = {name: torch.tensor(start[name]) for name, _ in module.named_parameters()}
    w = {name: p.expand(sites, *p.shape).clone(memory_format=torch.contiguous_format) for name, p in begun.items()}
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    terms = [g[4].term for g in given]
    added = _Added(torch, terms, names) if any(term is not None for term in terms) else None
    sums = {name: torch.zeros_like(w[name]) for name in names} if how.gradient else {}
    learns, rate, plainly = frozenset(names), how.learning_rate, not sums and added is None

    def update(name: str, gradient: Any, times: Any, share: float) -> None:
        if name not in learns:
            return
        p = w[name]
        if plainly and times is not None:
            p.baddbmm_(gradient, times, alpha=-rate * share)
            return
        if plainly:
            p.sub_(gradient, alpha=rate * share)
            return
        g = (gradient if times is None else torch.bmm(gradient, times)) * share
        if sums:
            sums[name] += g
        p.sub_(g if added is None else added.to(name, g, p), alpha=rate)

    for _, _, _, rng, _ in given:
        pass_seed(rng)  # the library's, as where a site trains by itself
    looks = dict.fromkeys([training.progress for _, _, _, _, training in given])
    inputs = torch.empty((sites, *given[0][1].shape), dtype=torch.float32)
    targets = torch.empty((sites, rows), dtype=torch.from_numpy(given[0][2][:0]).dtype)
    X, y = inputs.numpy(), targets.numpy()
    step = descent.begin(w, update)
    batches = list(zip(inputs.split(how.batch_size, 1), targets.split(how.batch_size, 1), strict=True))
    in_turn, losses = np.arange(rows), []
    for _ in range(how.epochs):
        for (_, own, wanted, rng, _), its_x, its_y in zip(given, X, y, strict=True):
            order = in_turn.copy()
            rng.shuffle(order)  # as rng.permutation(rows), which looks at what it is given first
            own.take(order, 0, its_x, "clip")
            wanted.take(order, 0, its_y, "clip")
        seen = torch.cat([step(x, t) for x, t in batches], 1)
        losses.append(descent.losses(seen, targets).mean(1, dtype=torch.float64).tolist())
        for progress in looks:
            progress()
    steps = how.epochs * len(batches)
    moved = {name: p - begun[name] for name, p in w.items()}
    norms = [torch.linalg.vector_norm(m.unsqueeze(1).flatten(1), dim=1, dtype=torch.float64) for m in moved.values()]
    lengths = torch.stack(norms).square_().sum(0).sqrt_().tolist()
    ends, apart = _rows(start, w), _rows(start, moved)
    means = {name: (g / max(1, steps)).numpy() for name, g in sums.items()}
    each = [
        {n: means[n][i] if n in means else np.zeros_like(a) for n, a in start.items()} if how.gradient else None
        for i in range(sites)
    ]
    by_site = zip(ends, zip(*losses, strict=True), each, apart, lengths, strict=True)
    return [Learned(end, lost, g, steps, together, False, moved, length) for end, lost, g, moved, length in by_site]


def _rows(names: Iterable[str], parts: Stacked) -> list[Row]:
    """The arrays of each site, which stay stacked."""
    return Stack({name: parts[name].numpy() for name in names}).rows()


class _Added:
    """The terms of the sites, stacked."""

    def __init__(self, torch: Any, terms: Sequence[ProximalTerm | None], names: Sequence[str]) -> None:
        there = [term or ProximalTerm() for term in terms]

        def stacked(parts: Sequence[Arrays]) -> Stacked:
            if not any(parts):
                return {}
            some = next(part for part in parts if part)
            filled = [part or {n: np.zeros_like(a) for n, a in some.items()} for part in parts]
            return {n: torch.from_numpy(np.stack([part[n] for part in filled])) for n in names}

        self._mu = torch.tensor([term.mu for term in there], dtype=torch.float64)
        self._anchor = stacked([term.anchor for term in there]) if any(term.mu for term in there) else {}
        self._linear = stacked([term.linear for term in there])

    def to(self, name: str, gradient: Any, w: Any) -> Any:
        """The gradient of the objective with the term."""
        if self._anchor:
            mu = self._mu.to(w.dtype).reshape(-1, *[1] * (w.ndim - 1))
            gradient = gradient + mu * (w - self._anchor[name].to(w.dtype))
        return gradient + self._linear[name].to(w.dtype) if self._linear else gradient
