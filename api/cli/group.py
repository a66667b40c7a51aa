"""A group of commands, as ``candlestep`` itself and ``candlestep data`` are."""

from difflib import get_close_matches

import click


class NoCommand(click.UsageError):
    """A group called without a command; the message is the help of the group."""

    def __init__(self, context: click.Context) -> None:
        super().__init__(context.get_help(), context)


class CommandGroup(click.Group):
    """A group that suggests the nearest command for a misspelt one, and needs one to be named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they were added."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options of the group; raise ``NoCommand`` if there is no argument at all."""
        if not args and not ctx.resilient_parsing:
            raise NoCommand(ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the name of the command, the command, and its arguments."""
        name, names = args[0], self.list_commands(ctx)
        if name in names or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        matches = get_close_matches(name, names, n=1)
        suggestion = f" Did you mean {matches[0]!r}?" if matches else ""
        raise click.UsageError(f"No such command {name!r}.{suggestion}", ctx)
