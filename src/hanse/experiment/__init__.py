"""What a data scientist uses: ``hanse.simulate``, ``hanse.connect``, experiments, statistics and results."""
