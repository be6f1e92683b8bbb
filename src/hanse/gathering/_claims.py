"""What a coordinator believes of nodes that say which steps they have told before.

A coordinator that was killed does not know how far it had come. So a node that can make a sum no more says the last
step of which it told one (:mod:`hanse.gathering._bound`), all steps up to it are left behind, and what grows begins
anew. A node that lies would end a run so: every step is one of those that owners have consented to. But what an honest
one can say is known:

- Steps are asked in their order, and the next one when the sum of one is there. So once a sum was made of a step that
  nobody had told of before this coordinator asked it, none has been asked that comes after.
- Until then, two nodes that grow one tree have told of the same steps, but for the last one. Who makes a sum again that
  it had told says how far it has come as well.
- A node may say some steps more than it told of, as it writes down several at once.
- It says so once after each restart, and then there are sums again.

Who says another thing is in no sum any more, of this coordinator's, and the run goes on with the others where they are
enough. Who says it while nobody else is heard, and the coordinator has made no sum yet, is neither believed nor left
out: the step is asked again, when others are there. Two that say the same lie are believed as long as the coordinator
has made no sum of its own. What a lie costs is the run and never a secret: nodes decide what they tell by what they
have written down themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from hanse.gathering._bound import told_until

AHEAD = 16  # steps that a node may have written down at once
_IN_A_ROW = 2  # times that a node may say it with no sum in between
_IN_ALL = 4  # times that it may say it in all,
_SUMS = 50  # and one more for so many sums: of a worker that is killed again and again, as each time takes steps


class Claims:
    """What was said to one coordinator in one run. ``out``: nodes that are not asked any more, and why."""

    def __init__(self) -> None:
        self.out: dict[str, str] = {}
        self._fresh = False  # whether a sum was made of a step of which nothing was told before
        self._sums = 0
        self._row, self._all = Counter[str](), Counter[str]()

    def summed(self, nodes: Iterable[str], fresh: bool) -> None:
        """A sum of these was made; ``fresh``: none of them had told of its step before."""
        self._fresh, self._sums = self._fresh or fresh, self._sums + 1
        for node in nodes:
            self._row.pop(node, None)

    def last(self, failures: dict[str, str], answered: Mapping[str, int], step: int) -> int | None:
        """The last step of which a sum was told, as far as that is believed; None where nobody says so.

        Args:
            failures: node to what it said; whoever is not believed has the reason there.
            answered: who has contributed to this step, and the last one of which it has told a sum: this one, or a
                later one, where it contributes to this one again.
            step: that is asked.
        """
        said = {node: last for node, why in failures.items() if (last := told_until([why])) is not None}
        if not self._fresh and len(said) + len(answered) == 1 and any(last > step + AHEAD for last in said.values()):
            return None
        ordered = sorted([*said.values(), *answered.values()], reverse=True)
        most = (step if self._fresh or len(ordered) < 2 else ordered[1]) + AHEAD
        for node, last in sorted(said.items()):
            self._row[node] += 1
            self._all[node] += 1
            why = ""
            if last > most:
                why = f"of step {last}, where none after step {most} can have been asked of it"
            elif self._row[node] > _IN_A_ROW or self._all[node] > _IN_ALL + self._sums // _SUMS:
                why = f"{self._all[node]} times, {self._row[node]} of them with no sum in between"
            if why:
                failures[node] = self.out[node] = (
                    f"it says that it may have told of secure sums before, {why}; it is left out of them from here on"
                )
        believed = [last for node, last in said.items() if node not in self.out]
        return max([*believed, *(last for last in answered.values() if last <= most)]) if believed else None
