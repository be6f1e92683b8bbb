"""Exact boosting: the trees that gradient boosting on pooled rows would grow, whatever site the rows lie at.

:mod:`~hanse.boosting.trees` is what is learned, and what it predicts.

Nothing here can be chosen by a run; what can is a file of :mod:`hanse.algorithms`. What of it runs at a node stands in
what its owner consents to, as the algorithm itself (:func:`hanse.bundle.node_code`).
"""
