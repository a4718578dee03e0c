"""Completion of live names: ask the control plane, and if it is slow, remember the last answer."""

import asyncio
from typing import TYPE_CHECKING

from hwbus.cli import contexts, recall
from hwbus.cli.exits import FailureError
from hwbus.cli.world import World, world

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

_PATIENCE_S = 0.3
_NAMES_MAX = 500


def _names(view: str, context: "CompletionContext") -> list[str]:
    here = world()
    chosen = context.get("server")
    try:
        server = contexts.resolve(here, chosen.raw if chosen is not None else None).server
    except FailureError:
        return []
    try:
        return asyncio.run(_ask(here, server, view))
    except (TimeoutError, ConnectionError, OSError):
        return recall.recall(here, server).names.get(view, [])


async def _ask(here: World, server: str, view: str) -> list[str]:
    from hwbus.cli.reading import NAME_FIELDS
    from hwbus.client import Client
    from hwbus.ports import ForbiddenError, NobodyThereError, OutcomeUnknownError

    # Importing NATS is not what must be bounded; waiting for somebody far away is.
    connection = here.connect(server)
    try:
        async with asyncio.timeout(_PATIENCE_S), connection as link:
            client = Client(link.bus, link.log, actor=here.user, mint=here.mint)
            page = await client.query(view, limit=_NAMES_MAX)
    except (NobodyThereError, OutcomeUnknownError, ForbiddenError) as error:
        raise ConnectionError(str(error)) from error
    names = list(dict.fromkeys(str(row.get(NAME_FIELDS[view], "")) for row in page.items))
    recall.saw(here, server, view, names)
    return names


def nodes(context: "CompletionContext") -> list[str]:
    """Return the names of all nodes."""
    return _names("nodes", context)


def disks(context: "CompletionContext") -> list[str]:
    """Return the ids of all disks."""
    return _names("disks", context)


def pools(context: "CompletionContext") -> list[str]:
    """Return the names of all pools."""
    return _names("pools", context)


def volumes(context: "CompletionContext") -> list[str]:
    """Return the names of all volumes."""
    return _names("volumes", context)


def snapshots(context: "CompletionContext") -> list[str]:
    """Return the names of all snapshots."""
    return _names("snapshots", context)


def policies(context: "CompletionContext") -> list[str]:
    """Return the names of all policies."""
    return _names("policies", context)


def groups(context: "CompletionContext") -> list[str]:
    """Return the names of all volume groups."""
    return _names("groups", context)


def schedules(context: "CompletionContext") -> list[str]:
    """Return the names of all schedules."""
    return _names("schedules", context)


def targets(context: "CompletionContext") -> list[str]:
    """Return the names of all backup targets."""
    return _names("targets", context)


def backups(context: "CompletionContext") -> list[str]:
    """Return the names of all backups that are known, in whatever target."""
    return _names("backups", context)


def qos_classes(context: "CompletionContext") -> list[str]:
    """Return the names of all QoS classes."""
    return _names("qos", context)


def protections(context: "CompletionContext") -> list[str]:
    """Return the names of all protections."""
    return _names("protections", context)


def approvals(context: "CompletionContext") -> list[str]:
    """Return the ids of requests for approval, those that are over too."""
    return _names("approvals", context)


def operations(context: "CompletionContext") -> list[str]:
    """Return the ids of operations, ended ones too."""
    return _names("operations", context)
