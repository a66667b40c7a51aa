"""Spans of time, and what they make together."""

from collections.abc import Sequence

Span = tuple[int, int]
"""From a time to another, which is not included, in milliseconds since the epoch."""


def subtract_spans(start: int, end: int, taken: Sequence[Span]) -> list[Span]:
    """What the spans ``taken``, which are sorted, leave of a time."""
    free = []
    for a, b in taken:
        if start < a:
            free.append((start, min(a, end)))
        start = max(start, b)
    if start < end:
        free.append((start, end))
    return free


def union_spans(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for a, b in sorted(spans):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return merged


def intersect_spans(left: list[Span], right: list[Span]) -> list[Span]:
    common = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            common.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return common
