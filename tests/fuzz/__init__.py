"""Fuzzing: what comes from outside, changed at random, must be an error in words: no crash, no hang, no status 500.

``make fuzz SECONDS=1200`` runs all of it for so long; a finding is printed with the bytes that make it, and becomes a
test.
"""
