"""Flower apps (a ClientApp and a ServerApp, as ``flwr new`` makes them) as runs of Hanse: their files are what owners
agree to, their messages travel as those of any run, and nothing of Flower's network is used.

``folder`` reads an app, ``parcels`` turns what its messages hold into bytes and back, ``client_side`` runs a ClientApp,
``server_side`` a ServerApp, and ``modules`` loads either. Flower itself is loaded when an app runs (``installed``).
"""
