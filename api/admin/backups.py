"""Operations that keep a home: copy it, and delete journals that nobody needs."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from candlestep.api.admin.operation import EmptyInput, OpenHome, Operation, Report, progress_of
from candlestep.data.backups import Backup, back_up
from candlestep.data.journal.archive import archived_journals, journaled_sessions
from candlestep.data.journal.journal import DIRECTORY
from candlestep.data.records.sessions import origins


class BackUpTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The absolute path of the new directory of a backup."""

    directory: str


class PrunedJournals(msgspec.Struct, frozen=True):
    """The number of journals that were deleted, and their bytes."""

    journals: int
    size: int


def _back_up(home: OpenHome, request: BackUpTo, report: Report) -> Backup:
    directory = Path(request.directory)
    return back_up(home.store, directory, progress_of(directory.name, "files", report))


def _prune_journals(home: OpenHome, request: EmptyInput, report: Report) -> PrunedJournals:
    """Delete the archived journals, except those whose past a journal that stays shares."""
    directory = home.store.path.parent / DIRECTORY
    archived = archived_journals(directory)
    shared = origins(home.store)
    needed: set[str] = set()
    for fork in journaled_sessions(directory) - archived.keys():
        while (fork := shared.get(fork, "")) and fork not in needed:
            needed.add(fork)
    deleted = PrunedJournals(0, 0)
    for session_id in archived.keys() - needed:
        path = archived[session_id]
        # Another such command may have deleted it meanwhile, and counted it.
        with suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            deleted = PrunedJournals(deleted.journals + 1, deleted.size + size)
    return deleted


BACK_UP = Operation("/admin/backup", "Copy the home", BackUpTo, Backup, _back_up)
PRUNE_JOURNALS = Operation(
    "/admin/data/prune-journals",
    "Delete archived journals",
    EmptyInput,
    PrunedJournals,
    _prune_journals,
)

OPERATIONS: tuple[Operation[Any, Any], ...] = (BACK_UP, PRUNE_JOURNALS)
