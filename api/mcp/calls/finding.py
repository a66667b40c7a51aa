"""Finding the session that a tool is about: by its id, or the caller's only running one."""

from candlestep.api.mcp.caller import CALLER
from candlestep.api.services import Services
from candlestep.api.sessions.commands import SessionRef, StartCommand
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.data.errors import SessionNotFound
from candlestep.sandbox import InvalidParameter

_MOST_NAMED = 5


async def find_ref(
    services: Services, session_id: str | None, *, to_read: bool = False
) -> SessionRef:
    """Return the session of this id, or else the account's only one that runs.

    If none runs, the one that ended last can be read.

    A session of another account is found by nothing that follows, and the key of one session has no
    other. Raises ``InvalidParameter`` unless exactly one runs and none is named, and
    ``SessionNotFound`` for another than the key's.
    """
    caller = CALLER.get()
    if caller.session_id is not None:
        if session_id not in (None, caller.session_id):
            raise SessionNotFound(
                "this key is that of another session", key_session_id=caller.session_id
            )
        return SessionRef(caller.account_id, caller.session_id)
    if session_id is not None:
        return SessionRef(caller.account_id, session_id)
    records, total = await services.sessions.list(
        caller.account_id, status="running", limit=_MOST_NAMED
    )
    if total == 1:
        return SessionRef(caller.account_id, records[0].session_id)
    if not total and to_read:
        records, _ = await services.sessions.list(
            caller.account_id, sort_by="completed_at", limit=1
        )
        if records and records[0].completed_at is not None:
            return SessionRef(caller.account_id, records[0].session_id)
    if not total:
        raise InvalidParameter(
            "session_id",
            "you have no running session: create_session starts one, list_sessions shows those"
            " that have ended",
        )
    names = ", ".join(record.session_id for record in records)
    raise InvalidParameter("session_id", f"name one of your {total} running sessions: {names}")


async def find_session(
    services: Services, session_id: str | None, *, to_read: bool = False
) -> HostedSession:
    """Return the session of ``find_ref``, started if it was only created.

    Raises as ``find_ref``, ``SessionHost.apply`` and ``SessionPool.find`` do.
    """
    ref = await find_ref(services, session_id, to_read=to_read)
    if services.sessions.pool.get(ref) is None:
        record = await services.sessions.record(ref)
        if record.status == "created":
            await services.sessions.apply(ref, StartCommand())
    return await services.sessions.find(ref)


def ref_of(hosted: HostedSession) -> SessionRef:
    """Return the account and the id that name a session."""
    return SessionRef(hosted.record.account_id, hosted.record.session_id)


def sub_key(key: str | None, action: str, body: object) -> IdempotencyKey | None:
    """Return the key of one command of a call, or None if the call has no key."""
    if key is None:
        return None
    caller = CALLER.get()
    # What the owner has sent under this key is none of the business of a key of the session.
    scope = "" if caller.session_id is None else f"{caller.api_key_id}:"
    return IdempotencyKey.of(f"{scope}{key}/{action}", f"mcp/{action}", body)
