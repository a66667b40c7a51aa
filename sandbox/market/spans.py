"""Operations on spans of time."""

from collections.abc import Sequence

Span = tuple[int, int]
"""A start and an exclusive end, in milliseconds since the epoch."""


def subtract_spans(start: int, end: int, taken: Sequence[Span]) -> list[Span]:
    """Return the parts of a time that none of the sorted spans ``taken`` covers."""
    free = []
    for a, b in taken:
        if start < a:
            free.append((start, min(a, end)))
        start = max(start, b)
    if start < end:
        free.append((start, end))
    return free


def union_spans(spans: list[Span]) -> list[Span]:
    """Return spans merged where they overlap or touch, sorted."""
    merged: list[Span] = []
    for a, b in sorted(spans):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return merged


def intersect_spans(left: Sequence[Span], right: Sequence[Span]) -> list[Span]:
    """Return the spans that two sorted lists have in common."""
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
