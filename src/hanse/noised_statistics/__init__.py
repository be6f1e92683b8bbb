"""Statistics that are told with noise: one file each.

A file has ``NOISED`` (:class:`hanse.noised.Noised`) and, where it takes any, ``SETTINGS``: what may be set for it in a
question. A ``range`` among them has to be named: it must not follow from rows. The functions of ``NOISED`` are
``observe``, ``size``, ``sensitivity`` and ``value``.
"""
