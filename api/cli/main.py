"""The entry point of ``candlestep``: its commands, and how their errors become exit codes.

Commands are imported when they are called, so that ``candlestep --version``, ``--help`` and tab
completion answer at once. A new command is a module with a ``command``, and a line in
``_SUMMARIES``.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click
from click.shell_completion import shell_complete

from candlestep import __version__
from candlestep.api.cli.group import CommandGroup
from candlestep.api.cli.messages import INTERRUPTED, MISUSED, NOT_COMPARED, REFUSED, print_error

_COMPLETION_VARIABLE = "_CANDLESTEP_COMPLETE"
_SUMMARIES = {
    "serve": "Start the server, and print the address of its first page.",
    "sessions": "List the latest sessions of all accounts, the newest first.",
    "show": "Show a session, job, run, backtest or recording.",
    "plot": "Write the page of a session into a file that needs no server.",
    "dialect": "Print the lines by which a client of Binance trades here.",
    "drive": "Run a bot in Python on the clock of a session.",
    "replay": "Run a recording again and show the first answer that differs.",
    "mcp": "Offer tools to a language model, over standard input and output.",
    "evaluate": "Run an agent over open and blind sessions, and report.",
    "data": "Import, list and export candles.",
    "keys": "Create, list and revoke API keys.",
    "backup": "Copy the home into a new directory.",
    "restore": "Make a new home of a backup.",
}
_ELSEWHERE = {
    "restore": ("backup", "restore_command"),
    "mcp": ("mcp.command", "command"),
    "dialect": ("dialects.dialect", "command"),
    "drive": ("dialects.drive", "command"),
    "evaluate": ("evaluate.command", "command"),
    "sessions": ("pictures.sessions", "command"),
    "show": ("pictures.show", "command"),
    "plot": ("pictures.plot", "command"),
}
"""The module and the name of commands that are not ``command`` in the module of their name."""
_FAILED = {"replay": NOT_COMPARED}
"""The exit codes of failed commands for which ``REFUSED`` means something else."""
_EPILOG = f"""\
Next: `candlestep data sample` loads a sample market, `candlestep serve` starts the server.

\b
Tab completion comes with one line in the startup file of the shell:
  bash  eval "$({_COMPLETION_VARIABLE}=bash_source candlestep)"
  zsh   eval "$({_COMPLETION_VARIABLE}=zsh_source candlestep)"
  fish  {_COMPLETION_VARIABLE}=fish_source candlestep | source
"""


class _LateCommand(click.Command):
    """A command that is imported when it is called."""

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        """Return the context of the command itself."""
        assert self.name is not None
        module, name = _ELSEWHERE.get(self.name, (self.name, "command"))
        command: click.Command = getattr(import_module(f"candlestep.api.cli.{module}"), name)
        return command.make_context(*arguments, **extra)


@click.group(
    cls=CommandGroup,
    commands=[_LateCommand(name, help=summary) for name, summary in _SUMMARIES.items()],
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(version)s")
def _candlestep() -> None:
    """A simulated exchange that an agent steps through candle by candle."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, by default those of the process.

    Returns the exit code: that which the command returns, or 0 if it returns None.
    """
    completion = os.environ.get(_COMPLETION_VARIABLE)
    if completion:
        return shell_complete(_candlestep, {}, "candlestep", _COMPLETION_VARIABLE, completion)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _candlestep.make_context("candlestep", words) as context:
            code: int | None = _candlestep.invoke(context)
        sys.stdout.flush()
        return code or 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        _print_usage_error(error)
        return MISUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe; Python's flush at exit must not fail on it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        subject = f"{error.filename}: " if error.filename else ""
        print_error(f"{subject}{error.strerror or error}")
    except Exception as error:  # noqa: BLE001 (what nobody foresaw is shown as Python does)
        # Imported late, because it takes longer than anything else here.
        from candlestep.sandbox import SandboxError

        if isinstance(error, SandboxError):
            print_error(error.message)
        else:
            sys.excepthook(*sys.exc_info())
    return _FAILED.get("".join(words[:1]), REFUSED)


def _print_usage_error(error: click.UsageError) -> None:
    message = error.format_message()
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(message, file=sys.stderr)
        return
    print_error(message[:1].lower() + message[1:])
    if error.ctx is not None:
        print(f"\nNext: `{error.ctx.command_path} --help` shows the usage.", file=sys.stderr)
