"""The gradients of a stack of plain layers at many sites, written out instead of found by autograd.

Layers are products and a few functions of single numbers, the loss is the task's own. With scores s of a batch of n
rows, the gradient of the mean loss with respect to s is d = (softmax(s) - onehot(y)) / n for classes, (sigmoid(s) - y)
/ n for two of them, and 2 (s - y) / n for numbers; a product x Wᵀ + b then has the gradients dᵀ x and Σ d, and hands on
d W. A step of plain descent adds -η dᵀ x to W in its place, so that the gradient, which is as large as the parameters
of all sites, is written nowhere: small models spend their time in calls, larger ones in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hanse.task import NUMBER, Task

Stacked = dict[str, Any]  # parameter name to (sites, ...) tensor
Update = Callable[[str, Any, Any], None]  # a parameter's name, and two factors of its gradient; the second None: none
Descent = Callable[[Stacked, Any, Any, Update], Any]


def written_out(torch: Any, module: Any, task: Task) -> Descent | None:
    """What computes one step of a module: from parameters, (sites, n, f) inputs and (sites, n) targets the (sites,)
    losses. It hands each parameter's gradient to ``update`` when nothing is computed with the parameter any more, so it
    may be changed there. None where the module has anything else than such layers, or one parameter twice."""
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
    changed = any(p._forward_hooks or p._forward_pre_hooks or p._backward_hooks for p in module.modules())
    in_place = any(getattr(layer, "inplace", False) for layer in layers)
    own = [p for layer in linear for p in (layer.weight, layer.bias) if p is not None]
    if not known or changed or in_place or not linear or len({id(p) for p in own}) < len(own):
        return None
    if linear[-1].out_features != task.outputs or (task.predicts == NUMBER and task.outputs > 1):
        return None
    named, loss = {id(p): name for name, p in module.named_parameters()}, _loss(torch, task)
    names = [
        (named[id(layer.weight)], named.get(id(layer.bias))) if type(layer) is nn.Linear else None for layer in layers
    ]
    first = next(place for place, pair in enumerate(names) if pair is not None)

    def descent(w: Stacked, x: Any, y: Any, update: Update) -> Any:
        seen = [x]
        for layer, pair in zip(layers, names, strict=True):
            if pair is None:
                x = layer(x)
            else:
                weight, bias = w[pair[0]].transpose(1, 2), pair[1]
                x = torch.bmm(x, weight) if bias is None else torch.baddbmm(w[bias].unsqueeze(1), x, weight)
            seen.append(x)
        losses, d = loss(x, y)
        for place in range(len(layers) - 1, first - 1, -1):
            pair = names[place]
            if pair is None:
                d = slope[type(layers[place])](d, seen[place + 1])
                continue
            further = torch.bmm(d, w[pair[0]]) if place > first else None
            update(pair[0], d.transpose(1, 2), seen[place])
            if pair[1] is not None:
                update(pair[1], d.sum(1), None)
            d = further
        return losses.mean(1)

    return descent


def _loss(torch: Any, task: Task) -> Callable[[Any, Any], tuple[Any, Any]]:
    """From (sites, n, outputs) scores and (sites, n) targets the (sites, n) losses, and the gradient of their mean at
    each site with respect to the scores."""
    functional = torch.nn.functional

    def classes(scores: Any, y: Any) -> tuple[Any, Any]:
        at = y.unsqueeze(2)
        logs = torch.log_softmax(scores, 2)
        losses = -logs.gather(2, at).squeeze(2)
        d = logs.exp_()
        d.scatter_add_(2, at, d.new_full((), -1.0).expand(at.shape))
        return losses, d.div_(y.shape[1])

    def two(scores: Any, y: Any) -> tuple[Any, Any]:
        s = scores.squeeze(2)
        losses = functional.binary_cross_entropy_with_logits(s, y, reduction="none")
        return losses, torch.sigmoid(scores).sub_(y.unsqueeze(2)).div_(y.shape[1])

    def numbers(scores: Any, y: Any) -> tuple[Any, Any]:
        off = scores - y.unsqueeze(2)
        return off.square().squeeze(2), off.mul_(2 / y.shape[1])

    if task.predicts == NUMBER:
        return numbers
    return classes if task.outputs > 1 else two
