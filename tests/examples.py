"""How many random examples a test tries: a few every day, the same each time, and many new ones in ``make search``."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine takes long for an example, or to draw it, without a fault
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


def examples(every_day: int, *suppressed: HealthCheck) -> settings:
    """Settings of so many examples, and four times as many where new ones are drawn."""
    many = every_day * (1 if settings.get_current_profile_name() == "same" else 4)
    return settings(max_examples=many, deadline=None, suppress_health_check=[HealthCheck.too_slow, *suppressed])
