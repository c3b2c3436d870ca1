"""The scale at which a deviation meets its target, from as few looks as possible."""

from __future__ import annotations

import math
from itertools import pairwise

Point = tuple[float, float]  # log scale, log(deviation / target): -inf where it is 0

DECADE = math.log(10.0)  # the longest step, but for the first:
NEAR = 3 * DECADE  # that comes at least so near, where a straight line would
# d log deviation / d log scale: 1 where the activation is homogeneous.
ORDERS = (0.1, 3.0)
# From so many points, each a decade below the last, nothing was seen to vary.
LOST = 4


class Search:
    """One target: a secant in logarithms, held between points that enclose it.

    While every deviation is too small it climbs: up, or back where the activation
    saturates.

    Args:
        target: The deviation to meet.
    """

    def __init__(self, target: float) -> None:
        self.target = target
        self.points: list[Point] = []
        self.silent = True  # nothing has been seen to vary
        self._outdated = 0

    def add(self, scale: float, deviation: float) -> None:
        """What was seen; a deviation that is not finite is too large."""
        ratio = deviation / self.target if math.isfinite(deviation) else math.inf
        x = math.log(scale)
        if self.points and self.points[-1][0] == x:  # a small shift: only this holds
            del self.points[-1]
            self._outdated = min(self._outdated, len(self.points))
        self.points.append((x, math.log(ratio) if ratio else -math.inf))
        self.silent = self.silent and not ratio

    def forget(self) -> None:
        """Another shift makes another function: the last point serves the secant."""
        del self.points[:-1]
        self._outdated = 1

    @property
    def closest(self) -> float:
        """The deviation nearest to the target."""
        return self.target * math.exp(min((y for _, y in self.points), key=abs))

    @property
    def lost(self) -> bool:
        """Whether it is of no use to go on."""
        return self.silent and len(self.points) >= LOST

    def next(self) -> float:
        """The scale to look at."""
        return math.exp(self._next())

    def _next(self) -> float:
        x, y = self.points[-1]
        if self.silent:
            return x if self.lost else x - DECADE
        known = sorted(self.points[self._outdated :])
        crossings = [(a, b) for a, b in pairwise(known) if (a[1] > 0) != (b[1] > 0)]
        if crossings:
            around = (pair for pair in crossings if (x, y) in pair)
            (low, _), (high, _) = next(around, crossings[0])
            proposed = x + self._step()
            return proposed if low < proposed < high else (low + high) / 2
        if y == -math.inf and len(known) == 1:  # it varied, before the shift moved
            return (x + self.points[0][0]) / 2
        return x + self._step() if y > 0 else self._climb(known)

    def _step(self) -> float:
        """To the target, as the last two points see it."""
        x, y = self.points[-1]
        order = 1.0
        if len(self.points) > 1:
            before = self.points[-2]
            if abs(x - before[0]) > 1e-9 and math.isfinite(y - before[1]):
                order = (y - before[1]) / (x - before[0])
        order = min(max(order, ORDERS[0]), ORDERS[1])
        first = len(self.points) == 1 and not self._outdated
        far = abs(y) - NEAR if first and math.isfinite(y) else 0.0
        longest = max(far, DECADE)
        return min(max(-y / order, -longest), longest)

    def _climb(self, known: list[Point]) -> float:
        """Every deviation is too small: away from where it falls."""
        best = max(known, key=lambda point: point[1])
        place = known.index(best)
        left, right = known[:place][-1:], known[place + 1 :][:1]
        if left and right:
            wider = max(*left, *right, key=lambda point: abs(point[0] - best[0]))
            return (best[0] + wider[0]) / 2
        if best == self.points[-1]:
            step = self._step()
        else:
            step = abs(self.points[-1][0] - best[0])
        return best[0] - step if right else best[0] + step
