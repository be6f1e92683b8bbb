"""How contributions come together: one file each (:class:`hanse.kinds.Gather`)."""
