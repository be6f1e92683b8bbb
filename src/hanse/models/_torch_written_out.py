"""The gradients of a stack of plain layers at many sites, written out instead of found by autograd.

Layers are products and a few functions of single numbers, the loss is the task's own. With scores s of a batch of n
rows, the gradient of the mean loss with respect to s is d = (softmax(s) - onehot(y)) / n for classes, (sigmoid(s) - y)
/ n for two of them, and 2 (s - y) / n for numbers; a product x Wᵀ + b then has the gradients dᵀ x and Σ d, and hands on
d W. A step of plain descent adds -η dᵀ x to W in its place, so that the gradient, which is as large as the parameters
of all sites, is written nowhere: small models spend their time in calls, larger ones in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hanse.task import NUMBER, Task

Stacked = dict[str, Any]  # parameter name to (sites, ...) tensor
# a parameter's name, and three factors of its gradient; the second None: none
Update = Callable[[str, Any, Any, float], None]
Step = Callable[[Any, Any], Any]  # from (sites, n, ...) inputs and (sites, n) targets


class Descent(NamedTuple):
    """How a module goes down.

    Args:
        begin: from the parameters of the sites, which lie where they are, and what is told of their gradients: a step
            on a batch, which gives what its losses are found by, (sites, n, ...).
        losses: (sites, n) of single rows, from that and the targets; of all batches of a pass at once.
    """

    begin: Callable[[Stacked, Update], Step]
    losses: Callable[[Any, Any], Any]


def written_out(torch: Any, module: Any, task: Task) -> Descent | None:
    """What computes the steps of a module. It hands each parameter's gradient to the update when nothing is computed
    with the parameter any more, so it may be changed there. None where the module has anything else than such layers,
    or one parameter twice."""
    nn = torch.nn
    slope: dict[type, Callable[[Any, Any], Any]] = {  # from the gradient behind a function, and its value
        nn.ReLU: lambda d, out: d * (out > 0),
        nn.Tanh: lambda d, out: d * (1 - out * out),
        nn.Sigmoid: lambda d, out: d * (out * (1 - out)),
        nn.Identity: lambda d, out: d,
    }
    layers: Sequence[Any] = list(module) if type(module) is nn.Sequential else [module]
    linear = [layer for layer in layers if type(layer) is nn.Linear]
    known = all(type(layer) is nn.Linear or type(layer) in slope for layer in layers)
    in_place = any(getattr(layer, "inplace", False) for layer in layers)
    own = [p for layer in linear for p in (layer.weight, layer.bias) if p is not None]
    if not known or in_place or not linear or len({id(p) for p in own}) < len(own):
        return None
    if linear[-1].out_features != task.outputs or (task.predicts == NUMBER and task.outputs > 1):
        return None
    named, (slopes, losses) = {id(p): name for name, p in module.named_parameters()}, _loss(torch, task)
    names = [
        (named[id(layer.weight)], named.get(id(layer.bias))) if type(layer) is nn.Linear else None for layer in layers
    ]
    first = next(place for place, pair in enumerate(names) if pair is not None)

    def begin(w: Stacked, update: Update) -> Step:
        turned = [None if pair is None else w[pair[0]].transpose(1, 2) for pair in names]
        biases = [None if pair is None or pair[1] is None else w[pair[1]].unsqueeze(1) for pair in names]

        rows = {pair for pair in names if pair is not None and w[pair[0]].shape[1] == 1}

        def step(x: Any, y: Any) -> Any:
            seen = [x]
            for layer, pair, weight, bias in zip(layers, names, turned, biases, strict=True):
                if pair is None:
                    x = layer(x)
                elif pair in rows:  # as a row, which the library makes in half the time
                    row, across = w[pair[0]], x.transpose(1, 2)
                    x = torch.bmm(row, across) if bias is None else torch.baddbmm(bias, row, across)
                    x = x.transpose(1, 2)
                else:
                    x = torch.bmm(x, weight) if bias is None else torch.baddbmm(bias, x, weight)
                seen.append(x)
            told, d, share = slopes(x, y)
            for place in range(len(layers) - 1, first - 1, -1):
                pair = names[place]
                if pair is None:
                    d = slope[type(layers[place])](d, seen[place + 1])
                    continue
                further = torch.bmm(d, w[pair[0]]) if place > first else None
                update(pair[0], d.transpose(1, 2), seen[place], share)
                if pair[1] is not None:
                    update(pair[1], d.sum(1), None, share)
                d = further
            return told

        return step

    return Descent(begin, losses)


def _loss(torch: Any, task: Task) -> tuple[Callable[[Any, Any], tuple[Any, Any, float]], Callable[[Any, Any], Any]]:
    """Two functions. From (sites, n, outputs) scores and (sites, n) targets what the losses are found by, and two
    factors of the gradient of their mean at each site with respect to the scores; and :attr:`Descent.losses`."""
    functional = torch.nn.functional

    def classes(scores: Any, y: Any) -> tuple[Any, Any, float]:
        at = y.unsqueeze(2)
        logs = torch.log_softmax(scores, 2)
        own = logs.gather(2, at)
        d = logs.exp_()
        d.scatter_add_(2, at, d.new_full((), -1.0).expand(at.shape))
        return own, d, 1 / y.shape[1]

    def two(scores: Any, y: Any) -> tuple[Any, Any, float]:
        return scores, torch.sigmoid(scores).sub_(y.unsqueeze(2)), 1 / y.shape[1]

    def numbers(scores: Any, y: Any) -> tuple[Any, Any, float]:
        off = scores - y.unsqueeze(2)
        return off, off, 2 / y.shape[1]

    if task.predicts == NUMBER:
        return numbers, lambda off, y: off.squeeze(2).square()
    if task.outputs > 1:
        return classes, lambda own, y: -own.squeeze(2)
    return two, lambda scores, y: functional.binary_cross_entropy_with_logits(scores.squeeze(2), y, reduction="none")
