"""The data owner's side: the catalogue of datasets, the gate, the worker, the owner's own pages."""
