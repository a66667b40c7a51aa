"""Views as HTML: the templates here, and the static files that pages load."""

import gzip
from functools import cache
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from candlestep.api.views.view import View, duration_text, fraction_digits, minute_text
from candlestep.sandbox import format_time

_FOLDER = resources.files("candlestep.api.views")
_FILES: dict[str, Traversable] = {
    "pages.css": _FOLDER / "static" / "pages.css",
    "pages.js": _FOLDER / "static" / "pages.js",
    "favicon.svg": _FOLDER / "static" / "favicon.svg",
}
_CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_LIBRARY = "plotly.js"
_HASH_LENGTH = 12


class StaticFile(NamedTuple):
    """A file that pages load: its content, plain and compressed."""

    content_type: str
    content: bytes
    gzipped: bytes


def render(template: str, **context: Any) -> str:
    """Return a page; every text in ``context`` is escaped."""
    return _environment().get_template(template).render(**context)


_LIBRARY_PLACE = "/* plotly.js */"


def with_library(page: str) -> str:
    """Return a page of ``render_file`` with the library that draws its chart inside."""
    return page.replace(_LIBRARY_PLACE, _read(_LIBRARY).decode(), 1)


def render_file(view: View) -> str:
    """Return the view as one HTML file that loads nothing, but for the library: see above."""
    chart = None if view.make_chart is None else view.make_chart()
    text = "null" if chart is None else msgspec.json.encode(chart).decode()
    return render(
        "file.html",
        view=view,
        css=stylesheet(),
        plotly=Markup(_LIBRARY_PLACE),
        script=Markup(_read("pages.js").decode()),
        # No text in the chart may end the element that it is in.
        chart=Markup(text.replace("<", "\\u003c")),
    )


def stylesheet() -> Markup:
    """Return the style of all pages, for one that loads nothing."""
    return Markup(_read("pages.css").decode())


def static_name(name: str) -> str:
    """Return the name under which a file is served: it has a digest of the content."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{_digest(name)}.{suffix}"


def static_file(served_name: str) -> StaticFile | None:
    """Return the file served under a name; None if there is none. The first call compresses it."""
    stem, _, suffix = served_name.rpartition(".")
    name = f"{stem.rpartition('.')[0]}.{suffix}"
    if name not in (*_FILES, _LIBRARY) or served_name != static_name(name):
        return None
    return _static_file(name)


def prepare_files() -> None:
    """Read and compress all files, so that no page waits for it. Takes a third of a second."""
    for name in (*_FILES, _LIBRARY):
        _static_file(name)


@cache
def _static_file(name: str) -> StaticFile:
    content = _read(name)
    kind = _CONTENT_TYPES[name.rpartition(".")[2]]
    return StaticFile(kind, content, gzip.compress(content, 6, mtime=0))


@cache
def _digest(name: str) -> str:
    return sha256(_read(name)).hexdigest()[:_HASH_LENGTH]


@cache
def _read(name: str) -> bytes:
    if name == _LIBRARY:
        # Imported when it is read: the package takes longer to load than all of this.
        return (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return _FILES[name].read_bytes()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(str(_FOLDER / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = static_name
    environment.filters |= {
        "time": format_time,
        "minute": minute_text,
        "duration": duration_text,
        "fraction_digits": fraction_digits,
        "thousands": lambda number: f"{number:,}",
    }
    return environment
