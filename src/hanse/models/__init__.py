"""What is learned: one adapter to a library's models a file, and the only files that import those libraries.

A file without a leading underscore is a model that a run can choose; the others are parts of them. A file has

- ``build(task, options)``, the adapter for a task (:class:`hanse.task.Task`). It checks the options, hyper-parameters
  by the library's own names, and raises ``ConfigError`` naming what is wrong. It needs no library: the coordinator,
  which has none, builds adapters too;
- ``LEARNS_BY``, its capabilities, the preferred one first: what an algorithm may ask of the adapter (below);
- ``PREDICTS``, what it can predict, in words that tasks mean the same by (:mod:`hanse.tasks`), and ``SETTINGS``, the
  options that ``build`` takes; where options depend on each other also ``read(options)``, which gives all of them, or
  raises ``ConfigError``;
- ``NEEDS``: ``standardised`` rows (numbers of mean 0 and scale 1, without gaps), ``raw`` ones (NaN: missing, and a
  column for each category), or ``coded`` ones (the same with a number for each category);
- ``native(result)``, from the result of a run a normal, fitted model of the library, in the target's own units and
  with the original labels, and ``predict(result, X)``, its predictions;
- it may have ``importance(result)``, how much each column of the design matrix counts, where the native model has no
  ``feature_importances_`` or ``coef_`` that say so;
- a model of a researcher's own code may have ``try_out(task, options, training)``, which learns from made-up rows at
  its author's, before a proposal: it raises ``ConfigError`` for what cannot learn so at any site, and returns the names
  of those settings of training that have no effect;
- it may have ``IMAGES = True``, if it learns from images, and ``INITIALISED_BY = "nodes"``, if only a node can make the
  first parameters;
- one that learns by ``sums`` may have ``JOINTLY = True``, if its loss is no sum over rows, so that no noise hides one,
  and ``EQUALS``, what its exact fit equals, if that is not simply the fit of the pooled rows.

The capabilities, and what an adapter with one of them can do:

``parameters``
    Named arrays that can be averaged: ``init``, ``train``, ``predict`` (:class:`hanse.model.Model`).
``row_gradients``
    The same, learned by noised steps, whose rows have a bounded part: besides ``init`` and ``predict`` it has
    ``clipped(parameters, X, y, bound)``, by name the sum over rows of their gradients, each no longer than ``bound``
    over all parameters together, and ``penalty_gradient(parameters, rows)``, that of what the objective has besides
    rows, for one of so many of them, by the names where there is any.
``trees``
    Trees that count alike, grown independently of each other: ``empty``, ``grow(count, ...)``, ``merge``,
    ``importance``; ``too_many`` and ``fault`` prove that arrays from elsewhere are trees
    (:mod:`hanse.learning.ensembles`).
``boosted_trees``
    Trees that each correct those before: the same, but ``grow(trees, base, ...)`` goes on from an ensemble, and
    ``merge`` scales each part.

``sums``
    Convex losses of linear scores, which summed gradients and Hessians fit exactly: ``convex``, the loss
    (:class:`hanse.convex.Convex`), ``parameters(theta)``, its parameters as the model names them, and ``predict``.

``histograms``
    Trees that are grown over all sites at once, from sums of gradients and Hessians in bins: ``objective``
    (:class:`hanse.boosting.objective.Objective`), ``rules`` (:class:`hanse.boosting.growing.Rules`), ``subsample`` and
    ``max_bin``, how they grow, ``base``, the base score, and ``fault``.

A capability is a word between models and algorithms (``TAKES`` of :mod:`hanse.algorithms`) and nothing else has to
know it: a new one is a method of an adapter and a file in ``algorithms`` that calls it.
"""
