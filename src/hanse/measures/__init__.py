"""What else is measured of a model, when it has been learned: one file each.

A run that names one in ``measures`` has one more stage, which follows the training and leaves the model as it is. A
file has ``MEASURE``, made by :func:`hanse.learning.measuring.measuring` of inquiries at the nodes, and may have

- ``SETTINGS``, what a run may set for it (:class:`hanse.settings.Setting`);
- ``unfit(config)``, a sentence why a configuration, with all its settings, cannot be measured so ("" where it can);
- ``unfit_columns(config, schemas)``, the same by the columns and kinds of the datasets of all nodes.

What a measure tells stands in the record of the run's result (``measured``), in that of its last step, and on the page.
"""
