"""What drives a run. An engine is one file with

``async def drive(run: hanse.rounds.Loop, start: tuple[int, State] | None) -> State``

It gets the run (the algorithm and its configuration, the nodes that consented, the transport that reaches them, the
journal that makes each step durable, the event that pauses it) and where to go on: the step after the last checkpoint
and the state it left, None to begin. It gives the last state. What it must keep: every step goes into the journal
before the next one's answers count; ``run.resumed``, while it is cleared, lets no further step begin; it raises
``RunFailed`` or ``Refused`` with a reason, and can be cancelled.
"""
