"""A stage for command lines: a control plane of canned answers, on the bus in memory."""

import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from hwbus.cli.app import run
from hwbus.cli.world import Link, World, enter
from hwbus.memory import MemoryBus, MemoryLog
from hwbus.ports import Call, Endpoint, ForbiddenError
from schemas.answers import Accepted, Answer
from schemas.commit import Commit
from schemas.grammar import Event
from schemas.queries import Behind, Page
from schemas.refusals import Refusal
from schemas.views import Row
from tests.support.clock import NOON, ManualClock
from tests.support.purged import PurgedLog

OPERATION = "01j00000000000000000000000"
UID = "01j0000000000000000000000a"
Reply = Answer | Behind | bytes | Callable[[Call, MemoryLog], Answer]
_FORGOTTEN: Mapping[str, str] = {}


class Terminal(io.TextIOWrapper):
    """A text stream that says it is a terminal, or that it is none."""

    def __init__(self, text: str = "", *, tty: bool = False) -> None:
        self.bytes = io.BytesIO(text.encode())
        super().__init__(self.bytes, encoding="utf-8", newline="\n", write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    def getvalue(self) -> str:
        return self.bytes.getvalue().decode()


class Done(msgspec.Struct, frozen=True):
    """What came of a command line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Stage:
    """Runs command lines against a control plane that answers as it was told."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = ManualClock(NOON)
        self.replies: dict[str, Reply] = {}
        self.rows: dict[str, tuple[Row, ...]] = {}
        self.rows_then: dict[int | str, dict[str, tuple[Row, ...]]] = {}
        self.past: list[tuple[str, bytes]] = []
        self.kept: list[tuple[str, bytes]] = []
        self.heard: list[Call] = []
        self.servers: list[str] = []
        self.unreachable = False
        self.forbidden = False
        self.empty_house = False
        self.seq = 7
        self.stored_at = NOON
        self.pruned = 0
        self._minted = 0

    def run(
        self,
        *argv: str,
        env: Mapping[str, str] = _FORGOTTEN,
        tty: bool = False,
        typed: str = "",
        typed_on_tty: bool = False,
    ) -> Done:
        """Run ``hwbus *argv``; *tty* is of the outputs, *typed_on_tty* of the input."""
        out, err = Terminal(tty=tty), Terminal(tty=tty)
        outside = self._outside(out, err, Terminal(typed, tty=typed_on_tty), env)
        code = run(argv, outside)
        return Done(int(code), out.getvalue(), err.getvalue())

    def enter(self) -> None:
        """Let what is only parsed find a world."""
        enter(self._outside(Terminal(), Terminal(), Terminal(), {}))

    def _outside(
        self, out: Terminal, err: Terminal, stdin: Terminal, env: Mapping[str, str]
    ) -> World:
        return World(
            connect=self._connect,
            out=out,
            err=err,
            stdin=stdin,
            env={"HOME": str(self.home), "COLUMNS": "120", "TERM": "xterm", **env},
            clock=self.clock,
            mint=self._mint,
            user="ada",
        )

    def when(self, subject: str, reply: Reply) -> None:
        """Answer what is asked there with *reply*."""
        self.replies[subject] = reply

    def write(self, subject: str, *events: Event, actor: str = "ada", correlation: str = "") -> int:
        """Put a commit into the log before anything is run; returns its sequence."""
        self.past.append((subject, commit(*events, actor=actor, correlation=correlation)))
        return len(self.past)

    def said(self, n: int = -1) -> Any:
        """Return the payload of a request that was heard."""
        return json.loads(self.heard[n].data)

    def _mint(self) -> str:
        self._minted += 1
        return f"minted-{self._minted}"

    @asynccontextmanager
    async def _connect(self, server: str) -> AsyncIterator[Link]:
        self.servers.append(server)
        if self.unreachable:
            raise ConnectionError("connection refused")
        if self.forbidden:
            raise ForbiddenError("the broker does not let 'hwbus-cli' in")
        stored_at = ManualClock(self.stored_at)
        bus, log, audit = MemoryBus(), MemoryLog(stored_at), PurgedLog(stored_at)
        for subject, data in self.past:
            await append(log, subject, data)
        for subject, data in self.kept:
            await append(audit, subject, data)
        audit.purge(self.pruned)

        async def answer(call: Call) -> bytes:
            self.heard.append(call)
            return self._reply(call, log)

        if self.empty_house:
            yield Link(bus, log, audit)
            return
        endpoints = [
            Endpoint("q", "hwbus.q.*", {}),
            Endpoint("cmd", "hwbus.cmd.*.*", {}),
            Endpoint("views", "hwbus.views.>", {}),
            Endpoint("js", "$JS.API.>", {}),
        ]
        async with bus.serve("stage", "0", endpoints, answer):
            yield Link(bus, log, audit)

    def _reply(self, call: Call, log: MemoryLog) -> bytes:
        reply = self.replies.get(call.subject)
        if callable(reply):
            reply = reply(call, log)
        if isinstance(reply, bytes):
            return reply
        if isinstance(reply, Behind) and not json.loads(call.data).get("min_seq"):
            reply = None
        if reply is not None:
            return msgspec.json.encode(reply)
        view = call.subject.rpartition(".")[2]
        asked = json.loads(call.data)
        where = asked["where"]
        at = asked.get("at")
        known = self.rows if at is None else self.rows_then.get(at, self.rows)
        rows = tuple(
            row
            for row in known.get(view, ())
            if all(getattr(row, key, value) == value for key, value in where.items())
        )
        page = Page(kind=f"{view}-page", seq=self.seq, items=rows)
        if at is not None:
            # The stage's log has a commit a minute, the last of them at noon.
            seq = at if isinstance(at, int) else self.seq - 1
            page = replace(page, seq=seq, at=NOON - timedelta(minutes=self.seq - seq))
        return msgspec.json.encode(page)


def commit(*events: Event, actor: str = "ada", correlation: str = "", word: str = "") -> bytes:
    """Return the bytes of a commit, as the desk would write it."""
    return msgspec.json.encode(
        Commit[Any](
            id=UID,
            at=datetime(2026, 1, 1, 12, tzinfo=UTC),
            actor=actor,
            command="minted-1",
            word=word,
            correlation=correlation,
            version=1,
            events=events,
        )
    )


async def append(log: MemoryLog, subject: str, data: bytes) -> int:
    last = await log.last(subject)
    return await log.append(
        subject, data, after=last.seq if last else 0, message_id=str(await log.head())
    )


def accepted(*, operation: str = OPERATION, seq: int = 1) -> Accepted:
    return Accepted(command="minted-1", seq=seq, version=1, operation=operation)


def ago(**units: float) -> datetime:
    return NOON - timedelta(**units)


__all__ = ["OPERATION", "UID", "Done", "Refusal", "Stage", "accepted", "ago", "append", "commit"]
