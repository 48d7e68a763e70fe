"""One mailbox: what waits in it, in which order it is handed out, and what died in it.

Mail of one sender and one priority is a *lane*. A lane is handed out from its front only, and what is
in flight holds back all behind it, so that a receiver sees it in order whatever is redelivered. Pure:
no clock, no disk.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence

from .message import pack

Lane = tuple[str, int]


class Letter:
    """A message in one mailbox.

    Attributes:
        order: Its place among all mail; the message's number, or that of the mark which revived it.
        attempts: Times it was handed out.
        taken: When it was handed out last, wall clock seconds.
        until: Monotonic seconds at which it becomes visible again; 0 while it is visible.
        leaving: Its acknowledgement is on the way to the disk.
        reason: Why it is a dead letter; empty while it is none.
    """

    # On the class, and on a letter once they differ: one is made for every message of every mailbox.
    attempts = 0
    taken = 0.0
    until = 0.0
    leaving = False
    reason = ""

    def __init__(self, seq: int, lane: Lane) -> None:
        self.seq = seq
        self.order = seq
        self.lane = lane


class Mailbox:
    """The mail of one agent. ``reserved`` counts accepted messages that are not durable yet."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        #: How a message to nobody else is addressed in the store.
        self.address = pack([number])
        self.reserved = 0
        #: Letters whose death is on the way to the disk, and dead ones that are on their way out.
        self.dying = self.dropping = 0
        self.letters: dict[int, Letter] = {}
        self.dead: dict[int, Letter] = {}
        self._lanes: dict[Lane, deque[Letter]] = {}
        self._ready: list[tuple[int, int, Lane]] = []

    @property
    def depth(self) -> int:
        """Messages that count against the bound."""
        return len(self.letters) + self.reserved

    @property
    def oldest(self) -> int | None:
        """The number of the oldest message that waits."""
        return next(iter(self.letters), None)

    def push(self, seq: int, lane: Lane) -> None:
        """A message has arrived."""
        letter = Letter(seq, lane)
        self.letters[seq] = letter
        queue = self._lanes.get(lane)
        if queue is None:
            self._lanes[lane] = deque((letter,))
            heapq.heappush(self._ready, (-lane[1], seq, lane))
        else:
            queue.append(letter)

    def take(self, limit: int, run: int, now: float, until: float) -> list[Letter]:
        """Hand out up to ``limit`` letters, best priority and oldest first, ``run`` of a lane at most.

        ``now`` is wall clock, ``until`` monotonic.
        """
        taken: list[Letter] = []
        while self._ready and len(taken) < limit:
            queue = self._front(heapq.heappop(self._ready))
            if queue is None:
                continue
            for place in range(min(run, limit - len(taken), len(queue))):
                letter = queue[place]
                if letter.leaving:
                    continue
                letter.attempts += 1
                letter.taken, letter.until = now, until
                taken.append(letter)
        return taken

    def put_back(self, letters: Sequence[Letter]) -> None:
        """These were taken, and nobody has seen them."""
        for letter in letters:
            letter.attempts -= 1
            letter.until = 0.0
        for lane in {letter.lane for letter in letters}:
            self._offer(lane)

    def _front(self, entry: tuple[int, int, Lane]) -> deque[Letter] | None:
        """The lane of an entry, unless the entry is out of date."""
        queue = self._lanes.get(entry[2])
        if not queue or queue[0].order != entry[1] or queue[0].until or queue[0].leaving:
            return None
        return queue

    def before(self, letter: Letter, rests: dict[Lane, Iterator[Letter]] | None = None) -> Letter | None:
        """The first letter in front of it in its lane whose acknowledgement is not on its way.

        ``rests``, empty at first, makes asking for many, each marked ``leaving`` behind its question, one
        walk through each lane and not one for each letter.
        """
        lane = letter.lane
        rest = rests.get(lane) if rests is not None else None
        if rest is None:
            rest = iter(self._lanes.get(lane, ()))
            if rests is not None:
                rests[lane] = rest
        for other in rest:
            if other is letter:
                return None
            if not other.leaving:
                return other
        return None

    def release(self, seq: int) -> None:
        """Make a letter visible again, and with it what was handed out behind it.

        Only its own attempt counts: nobody got as far as those behind it.
        """
        letter = self.letters.get(seq)
        if letter is None:
            return
        queue = self._lanes[letter.lane]
        behind = False
        for other in queue:
            behind = behind or other is letter
            if behind:
                if other is not letter:
                    if not other.until:
                        break
                    other.attempts -= 1
                other.until = 0.0
        self._offer(letter.lane)

    def remove(self, seq: int) -> Letter | None:
        """Take a letter out of its lane for good; None if it is not here."""
        letter = self.letters.pop(seq, None)
        if letter is None:
            return None
        queue = self._lanes[letter.lane]
        if queue[0] is letter:
            queue.popleft()
            if queue:
                self._offer(letter.lane)
            else:
                del self._lanes[letter.lane]
        else:
            queue.remove(letter)
        return letter

    def _offer(self, lane: Lane) -> None:
        head = self._lanes[lane][0]
        if not head.until and not head.leaving:
            heapq.heappush(self._ready, (-lane[1], head.order, lane))

    def bury(self, seq: int, reason: str) -> bool:
        """Make a letter a dead one; false if it is not waiting here."""
        letter = self.remove(seq)
        if letter is None:
            return False
        letter.reason, letter.until, letter.leaving = reason, 0.0, False
        self.dead[seq] = letter
        return True

    def drop(self, seq: int) -> bool:
        """A dead letter is gone; false if it was not dead here."""
        letter = self.dead.pop(seq, None)
        if letter is not None and letter.leaving:
            self.dropping -= 1
        return letter is not None

    def revive(self, seq: int, order: int) -> bool:
        """Put a dead letter back, behind what waits; false if it is not dead here."""
        letter = self.dead.get(seq)
        if letter is None:
            return False
        self.drop(seq)
        self.push(seq, letter.lane)
        self.letters[seq].order = order
        if self._lanes[letter.lane][0].seq == seq:
            self._offer(letter.lane)
        return True

    @property
    def in_flight(self) -> Iterator[Letter]:
        """What was handed out and is neither acknowledged nor visible again."""
        return (letter for letter in self.letters.values() if letter.until)
