"""Who waits for whose reply, and the rings in it."""

from __future__ import annotations


class Waits:
    """The wait-for graph. One edge for each open request; a ring is looked for when one is added."""

    def __init__(self) -> None:
        self._edges: dict[str, dict[str, set[int]]] = {}

    def add(self, request: int, asker: str, asked: str) -> list[str]:
        """Note that ``asker`` waits; returns the ring this closes, in order from ``asker``, or nothing.

        ``[a, b, c]`` means a waits for b, b for c, and c for a.
        """
        known = asked in self._edges.get(asker, ())
        self._edges.setdefault(asker, {}).setdefault(asked, set()).add(request)
        return [] if known else self.ring(asker, asked)

    def remove(self, request: int, asker: str, asked: str) -> None:
        """The request has ended."""
        mine = self._edges.get(asker)
        if mine is None or asked not in mine:
            return
        mine[asked].discard(request)
        if not mine[asked]:
            del mine[asked]
        if not mine:
            del self._edges[asker]

    def ring(self, asker: str, asked: str) -> list[str]:
        """The shortest way from ``asked`` back to ``asker``, with ``asker`` in front; or nothing."""
        if asker == asked:
            return [asker]
        came: dict[str, str] = {asked: asker}
        edge = [asked]
        while edge:
            following = []
            for name in edge:
                for other in self._edges.get(name, ()):
                    if other == asker:
                        return self._way(came, asker, name)
                    if other not in came:
                        came[other] = name
                        following.append(other)
            edge = following
        return []

    @staticmethod
    def _way(came: dict[str, str], asker: str, last: str) -> list[str]:
        way = [last]
        while way[-1] != asker:
            way.append(came[way[-1]])
        way.reverse()
        return way

    def requests(self, ring: list[str]) -> list[int]:
        """The open requests along a ring."""
        pairs = zip(ring, [*ring[1:], *ring[:1]], strict=True)
        return [request for asker, asked in pairs for request in self._edges.get(asker, {}).get(asked, ())]

    def of(self, asker: str) -> dict[str, set[int]]:
        """For whose replies one waits, each with the requests; not to be changed."""
        return self._edges.get(asker, {})

    def askers(self) -> frozenset[str]:
        """Everybody who waits."""
        return frozenset(self._edges)

    def waiting(self) -> dict[str, list[str]]:
        """For everybody who waits: for whom, sorted."""
        return {asker: sorted(asked) for asker, asked in self._edges.items()}
