"""The log of the server: one line per event on standard error."""

import contextlib
import logging
import sys

import structlog

_log = structlog.get_logger()


def configure_logs() -> None:
    """Log one line per event to standard error, as JSON unless that is a terminal."""
    renderer = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(_UnfailingStderr()),  # type: ignore[arg-type]
        # Each line would otherwise make a logger of its own.
        cache_logger_on_first_use=True,
    )
    logging.getLogger("uvicorn").handlers = [_ForwardToStructlog(logging.WARNING)]


def release_logs() -> None:
    """Drop uvicorn's handlers: they would outlive DuckDB's module, which complains at exit."""
    logging.getLogger("uvicorn").handlers.clear()


class _UnfailingStderr:
    """Standard error, except that a failed write (to a full disk, say) does not fail its caller."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


class _ForwardToStructlog(logging.Handler):
    """Forwards uvicorn's messages to the server's log."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.log(record.levelno, "uvicorn", says=record.getMessage(), exc_info=record.exc_info)
