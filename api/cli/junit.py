"""The result of a replay as JUnit XML, which CI servers read."""

from pathlib import Path
from xml.etree import ElementTree

import msgspec

from candlestep.api.replay.difference import Divergence, ReplayResult


def write_junit(path: Path, name: str, replayed: ReplayResult | None, problem: str | None) -> None:
    """Write a suite with the tests ``candles`` and ``answers``.

    ``replayed`` is None if the recording could not be compared, and ``problem`` says why. Raises
    ``OSError``.
    """
    suite = ElementTree.Element("testsuite", name=name)
    tests = [ElementTree.SubElement(suite, "testcase", classname=name, name="candles")]
    tests.append(ElementTree.SubElement(suite, "testcase", classname=name, name="answers"))
    candles, answers = tests
    if replayed is None or not (replayed.is_different or replayed.is_same):
        message = problem or "some commands have neither answer nor digest to compare with"
        ElementTree.SubElement(answers, "error", message=message)
    else:
        if replayed.candles:
            listed = [
                f"{one.symbol} {', '.join(one.days or one.months)}" for one in replayed.candles
            ]
            _add_failure(candles, "the candles are not those that it was recorded on", listed)
        if replayed.divergences:
            first = replayed.divergences[0]
            message = f"line {first.line}: the answer is not the one recorded"
            _add_failure(answers, message, [_line(one) for one in replayed.divergences])
    for kind in ("failure", "error"):
        suite.set(f"{kind}s", str(sum(test.find(kind) is not None for test in tests)))
    suite.set("tests", str(len(tests)))
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def _add_failure(test: ElementTree.Element, message: str, lines: list[str]) -> None:
    ElementTree.SubElement(test, "failure", message=message).text = "\n".join(lines)


def _line(divergence: Divergence) -> str:
    """Return a difference as one line of JSON."""
    return msgspec.json.encode(divergence).decode()
