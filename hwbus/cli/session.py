"""One conversation with the control plane: connect, ask or change, and say plainly what failed."""

import asyncio
import contextvars
import shlex
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from hwbus.addresses import without_login
from hwbus.cli import contexts, recall
from hwbus.cli.exits import Exit, FailureError, for_refusal
from hwbus.cli.options import Options, Point, Viewing
from hwbus.cli.world import Link, World, enter, world
from hwbus.client import Call, Client, RefusedQueryError
from hwbus.ports import ForbiddenError, NobodyThereError, OutcomeUnknownError

T = TypeVar("T")


def server_of(options: Options) -> str:
    """Return the address of the server that is meant."""
    return contexts.resolve(world(), options.server).server


def actor_of(options: Options) -> str:
    """Return in whose name is spoken: ``--actor``, ``HWBUS_ACTOR``, or the user."""
    here = world()
    return options.actor or here.env.get("HWBUS_ACTOR") or here.user


@asynccontextmanager
async def conversation(options: Options) -> AsyncIterator[Client]:
    """Open a connection. Raises ``FailureError``, also for what goes wrong while it is used."""
    async with linked(options) as link:
        at = point_of(options)
        yield Client(link.bus, link.log, actor=actor_of(options), mint=world().mint, at=at)


@asynccontextmanager
async def linked(options: Options) -> AsyncIterator[Link]:
    """As ``conversation``, for whoever reads the streams themselves."""
    here, server = world(), without_login(server_of(options))
    try:
        async with here.connect(server_of(options)) as link:
            yield link
    except NobodyThereError as error:
        raise FailureError(
            Exit.UNREACHABLE,
            f"the broker at {server} answers, but no control plane does",
            fix="Start it: python -m hwbus.controller, or hwbus up for one machine; "
            "hwbus doctor looks closer.",
        ) from error
    except OutcomeUnknownError as error:
        raise FailureError(
            Exit.TIMED_OUT,
            f"no answer came in time: {error}",
            fix="Ask again; hwbus doctor looks closer.",
        ) from error
    except msgspec.MsgspecError as error:
        raise FailureError(
            Exit.FAILED,
            f"what answers at {server} says something this version cannot read: {error}",
            fix="Compare versions: hwbus version here, and hwbus status or the server's package.",
        ) from error
    except RefusedQueryError as error:
        refused = error.refused
        raise FailureError(
            for_refusal(refused.code), f"{refused.code} {refused.because}", fix=refused.fix
        ) from error
    except ForbiddenError as error:
        raise FailureError(
            Exit.FORBIDDEN,
            f"not permitted: {error}",
            fix="Ask for an account that may do this.",
        ) from error
    except BrokenPipeError:
        raise  # of whoever reads us, and not of the broker
    except (ConnectionError, OSError) as error:
        raise _unreachable(here, server, error) from error


def _unreachable(here: World, server: str, error: Exception) -> FailureError:
    context = contexts.current_name(here)
    where = f" (context {context!r})" if context else ""
    return FailureError(
        Exit.UNREACHABLE,
        f"nothing answers at {server}{where} ({error})",
        fix="hwbus up starts one on this machine; hwbus context ls shows others; "
        "--server names one.",
    )


def point_of(options: Options) -> Point | None:
    """Return the point in the past that is asked for, or None: the present."""
    return options.at if isinstance(options, Viewing) else None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* to its end; if it went back into the past, so does what is printed after it."""
    context = contextvars.copy_context()
    with asyncio.Runner() as runner:
        result = runner.run(work, context=context)
    enter(context.run(world))
    return result


def own_writes(options: Options) -> int:
    """Return the sequence that reads have to wait for."""
    return recall.own_writes(world(), server_of(options))


def print_call(call: Call, options: Options) -> int:
    """Print *call* as a line for the nats tool, and do nothing."""
    data, at = call.data, point_of(options)
    if at is not None:
        data = msgspec.json.encode(msgspec.json.decode(data) | {"at": at})
    argv = ["nats", "--server", server_of(options), "request", call.subject, data.decode()]
    for name, value in call.headers.items():
        argv += ["--header", f"{name}:{value}"]
    world().out.write(shlex.join(argv) + "\n")
    return Exit.OK
