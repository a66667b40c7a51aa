"""What watchers of a session share."""

from functools import partial
from typing import Any, cast

from candlestep.api.sessions.watching import WatchedSession


def test_a_watched_session_keeps_the_latest_that_was_made_of_it() -> None:
    watched = WatchedSession(cast("Any", None), cast("Any", None), 0.0)
    for number in range(100):
        assert watched.keep(number, partial(str, number)) == str(number)
    assert watched.keep(99, lambda: "made anew") == "99"
    assert watched.keep(0, lambda: "made anew") == "made anew", "so that zooms do not fill memory"
