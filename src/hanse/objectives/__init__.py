"""What boosted trees make small: one objective a file, named as in XGBoost with ``_`` for the colon.

A file has

- ``NAME``, XGBoost's name of it (``binary:logistic``), and ``SETTINGS``, the options that it has beside those of the
  trees (:mod:`hanse.boosting.parameters`);
- ``DEFAULT_FOR``, the kinds of tasks (:mod:`hanse.tasks`) that are learned by it where a run names none;
- ``LEAVES_ARE_QUANTILES = True``, if what a leaf adds is a quantile of the residuals of its rows, which takes four
  exchanges more a tree;
- ``fits(task)``, whether it can learn a task;
- ``build(task, options)``, the objective (:class:`hanse.boosting.objective.Objective`), of checked options.

Gradients and Hessians are XGBoost's, in float32 as there, from operations that every processor rounds alike
(:mod:`hanse.boosting.exponential`): a row has the same two numbers at every site.
"""
