"""Four hospitals learn together on this machine: ``python -m demo`` (``make demo``)."""
