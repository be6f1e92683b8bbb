"""What algorithms that learn a model have in common, for those of Hanse and for one's own.

Rows: :mod:`~hanse.learning.rows`, a site's rows as a model sees them; :mod:`~hanse.learning.evaluation`, measuring a
model by sums; :mod:`~hanse.learning.schedule`, who trains and who measures when;
:mod:`~hanse.learning.measuring`, what else is measured of a model when it has been learned.

Averaging: :mod:`~hanse.learning.averaging` makes a strategy of a local step (:mod:`~hanse.learning.local`), an
aggregation (:mod:`~hanse.learning.aggregation`) and a server's step (:mod:`~hanse.learning.server`, and
:mod:`~hanse.learning.adaptive` for those with moments). Trees: :mod:`~hanse.learning.ensembles`, many of them as plain
arrays, and :mod:`~hanse.learning.pooling`.

Adapters of models: :mod:`~hanse.learning.fitting`, whether one learns a task; :mod:`~hanse.learning.results`, what the
result of a run says of it.

Nothing here can be chosen by a run; what can is a file of :mod:`hanse.algorithms`. What of it runs at a node stands in
what its owner consents to, as the algorithm itself (:func:`hanse.bundle.node_code`).
"""
