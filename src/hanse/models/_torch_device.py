"""Where a PyTorch module is computed: on the processor, or on the graphics card that its training plan asks for.

A plan may say ``device = "cuda"`` (or ``mps``, ``xpu``, ``cuda:1``). A machine that has no such device computes on its
processor instead, and says so. What a graphics card computes differs from a processor in the last digits, and it draws
other random numbers (dropout); the order of rows is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hanse.errors import ConfigError

_NAME = "device"
_PROCESSOR = "cpu"


class Device(NamedTuple):
    """What was found: PyTorch's device, and whether it is not the one that was asked for."""

    place: Any
    missing: bool = False

    @property
    def processor(self) -> bool:
        """Whether nothing has to be brought anywhere."""
        return bool(self.place.type == _PROCESSOR)

    def brought(self, what: Any) -> Any:
        """A module or a tensor, there."""
        return what if self.processor else what.to(self.place)


def chosen(torch: Any, plan: Mapping[str, Any], called: str) -> Device:
    """The device of a plan. Raises ``ConfigError`` where what it names is none of PyTorch's."""
    wanted = plan.get(_NAME, _PROCESSOR)
    try:
        place = torch.device(wanted) if isinstance(wanted, str) else None
    except RuntimeError:
        place = None
    if place is None:
        raise ConfigError(f"device of {called} is none that PyTorch knows; expected a text such as 'cuda' or 'cpu'")
    if place.type == _PROCESSOR:
        return Device(place)
    there = _there(torch, place)
    return Device(place if there else torch.device(_PROCESSOR), not there)


def _there(torch: Any, place: Any) -> bool:
    of_this_kind = getattr(torch, place.type, None)
    available = getattr(of_this_kind, "is_available", None)
    if available is None or not available():
        return False
    count = getattr(of_this_kind, "device_count", None)
    return place.index is None or count is None or place.index < count()


def seeded(torch: Any, device: Device) -> None:
    """The device draws by the seed that the processor has."""
    if not device.processor:
        draws = getattr(getattr(torch, device.place.type, None), "manual_seed", None)
        if draws is not None:
            draws(torch.initial_seed() % (1 << 63))
