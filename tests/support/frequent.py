"""Cases that are drawn until what they are to show is frequent in them."""

from collections import Counter
from collections.abc import Callable, Mapping

from hypothesis import seed, settings

MOST_ROUNDS = 6


def require_frequent(
    draw: Callable[[], object], total: Counter[str], least: Mapping[str, int]
) -> None:
    """Draw cases, which count in ``total`` what happens, until each count is at least ``least``.

    That is so after one round nearly always, and has to be after ``MOST_ROUNDS``: chance alone
    fails no test. Where examples are the same in each run, those of a further round are others.
    """
    for number in range(MOST_ROUNDS):
        if number and settings().derandomize:
            seed(number)(draw)
        draw()
        if all(total[name] >= count for name, count in least.items()):
            break
    print("\n" + ", ".join(f"{name}: {count}" for name, count in sorted(total.items())))
    assert {name: total[name] for name, count in least.items() if total[name] < count} == {}
