"""A group of commands, as ``candlestep`` itself and ``candlestep data`` are."""

import click


class CommandGroup(click.Group):
    """A group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in that order."""
        return list(self.commands)
