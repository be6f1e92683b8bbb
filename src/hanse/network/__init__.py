"""What makes a network prefer traffic of a federation: one file for each kind of network.

Each has ``SETTINGS`` and ``driver(settings)``, which makes a :class:`hanse.network_driver.Driver` that is not started.
Raises ``ConfigError`` where the settings do not fit together, or a library is not installed.
"""
