"""What is to be learned: one file each, with ``TASK``, an object as of :class:`hanse.task.Learnable`.

A task says which columns it needs, how sites settle it from their reports, a node's targets, the sums that its
metrics follow from, what a prediction looks like and how it is scored. No other file knows one by name: models
say what they can predict (``PREDICTS``), a task what is predicted of it, and both mean the same words:

``probabilities``
    Of classes: (n,) of the second of two, (n, k) of more.
``number``
    Any real number. A gradient model learns it at mean 0 and scale 1, and what it predicts is scaled back.

``hazard``
    A number above 0: how many times as likely an event is, at any time, as for a row of hazard 1.

A target may stand in several columns (:func:`hanse.task.named`): ``target_column`` names them with commas between,
and all of them are aligned, checked and never features.

A file may bring a word of its own (a positive rate); the models that can predict it say so. ``task_type``
of a run is a name in this folder. Files with an underscore are parts of others.
"""
