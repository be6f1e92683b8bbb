"""How messages travel between the coordinator and the nodes; each way keeps ``kinds.Transport``."""

REQUEST_HEADER = 4 << 20  # bytes of a request to a coordinator: reading JSON holds up all that the process does
