"""How messages travel between the coordinator and the nodes; each way keeps ``kinds.Transport``."""
