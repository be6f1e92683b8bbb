"""The coordinator: registry of nodes, life of runs, REST, audit. It never sees a row of data."""
