"""Storage, as the wires see it: the pure rooms put behind the ports of desk and driver."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache

import msgspec

from aggregates import guarding
from aggregates.decision import Facts
from aggregates.processes import registry, settlements
from aggregates.processes.process import Process
from aggregates.world import World
from hwbus.asking import Asked
from hwbus.driver import Step
from hwbus.subjects import Address
from schemas.answers import Refused, refuse
from schemas.approval import ClaimApproval
from schemas.disk import ReportDiskReleased
from schemas.grammar import Event, Message, Request, kind_and_verb, type_name
from schemas.operation import OPERATIONS, ReportExpired, ReportStepRefused
from schemas.place import CLUSTER, place_of
from schemas.policy import SetPolicy
from schemas.protection import SetProtection
from schemas.qos import CreateQosClass
from schemas.refusals import Refusal
from schemas.replication import ReportReplication
from schemas.schedule import CreateSchedule
from schemas.snapshot import PrepareSnapshot
from schemas.words import command_for

_DEADLINE = "deadline_s"
NAMES = frozenset(
    {"node", "disk", "disks", "pool", "volume", "volumes", "snapshot", "policy", "target"}
    | {"group", "schedule", "qos", "protection"}
)
# They begin nothing that has a deadline of its own, but make something that has an identity.
_MAKE = (CreateSchedule, PrepareSnapshot, SetPolicy, CreateQosClass, SetProtection)
# Reports of what the control plane itself has found or brought to its end. What follows from them
# passes by every protection, and nobody else has reason to say them. What somebody observes, a node
# or whoever listens to it, is not among them: it is never refused.
OWN_REPORTS: dict[str, frozenset[str]] = {
    "disk": frozenset({"report-forgotten", "report-released"}),
    "group": frozenset({"report-concluded", "report-volume-left"}),
    "node": frozenset(
        {"report-concluded", "report-drained", "report-link-returned", "report-pool-detached"}
        | {"report-settling-concluded"}
    ),
    "policy": frozenset({"report-alarm", "report-answered", "report-calm", "report-due"}),
    "pool": frozenset(
        {"report-abandoned", "report-concluded", "report-forgotten", "report-released"}
        | {"report-settled", "report-unreserved"}
    ),
    "replica": frozenset({"report-epoch"}),
    "schedule": frozenset({"report-run", "report-run-ended"}),
    "snapshot": frozenset({"report-concluded", "report-leg-removed", "report-read"}),
    "target": frozenset({"report-concluded"}),
    "volume": frozenset(
        {"report-concluded", "report-leg-removed", "report-peer-back", "report-replicas"}
        | {"report-snapshot-gone", "report-verified"}
    ),
}
# Fields of a wish that are filled in where it is a part of something larger.
OWN_FIELDS = ("operation", "by", "made_on", "made_in")
_FORGET_AT_ONCE = 1000


class StorageDomain:
    """Every aggregate of hwbus, in memory, behind the desk's port."""

    def __init__(self, world: World | None = None) -> None:
        self.world = World() if world is None else world
        self._forgotten: set[str] = set()
        self._look_at = _FORGET_AT_ONCE

    def word(self, kind: str, verb: str) -> type[Message] | None:
        """Return the command that is asked for under that name, or None."""
        return command_for(kind, verb)

    def address(self, command: Message) -> Address:
        """Return which aggregate *command* is about; its fields were checked when it was read."""
        return Address(*place_of(command))

    def decide(
        self, command: Message, *, actor: str, at: datetime, mint: Callable[[], str]
    ) -> tuple[Event, ...] | Refused:
        """Decide; identities are made for what has a deadline, or begins a life without one."""
        fresh = _DEADLINE in command.__struct_fields__ or isinstance(command, _MAKE)
        facts = Facts(
            at=at,
            operation=mint() if fresh else "",
            uid=mint() if fresh else "",
            world=self.world,
            actor=actor,
        )
        return self.world.decide(command, facts)

    def forbids(self, wish: Asked, command: Message) -> Refused | None:
        """Return why the control plane alone may say *command*, or None."""
        if wish.within:
            return None
        because = _kept_to_itself(type(command)) or _filled_in(command)
        return refuse(Refusal.STEP_FROM_OUTSIDE, because) if because else None

    def condition(
        self, wish: Asked, command: Message, request: bytes, *, at: datetime
    ) -> Message | None:
        """Return how an approval is asked for or used, if *command* needs one that it has not."""
        if wish.within:
            return None
        facts = Facts(at=at, operation="", uid="", world=self.world, actor=wish.actor)
        return guarding.condition(command, request, wish.id, facts)

    def unmet(self, condition: Message) -> Refused:
        """Return how whoever asks is told that somebody else is needed."""
        if not isinstance(condition, ClaimApproval):
            raise TypeError(f"{condition!r} is no condition of storage")
        return guarding.unmet(condition)

    def evolve(self, address: Address, events: Sequence[Event]) -> None:
        """Apply what was decided."""
        if self._forgotten and address.kind == OPERATIONS and address.id in self._forgotten:
            # It is read again from its beginning.
            self._forgotten.discard(address.id)
            self.world.forget(address.kind, address.place, address.id)
        self.world.evolve(address.kind, address.place, address.id, events)

    def is_over(self, address: Address) -> bool:
        """Return whether the object is gone, or the operation has ended."""
        return self.world.is_over(address.kind, address.place, address.id)

    def forget(self, address: Address) -> None:
        """Drop what is over; of operations many at a time, and none that something is busy with.

        That such an operation has ended is to be known until what it holds is let go.
        """
        if address.kind != OPERATIONS:
            self.world.forget(address.kind, address.place, address.id)
            return
        self._forgotten.add(address.id)
        if len(self._forgotten) < self._look_at:
            return
        held = settlements.busy_with(self.world)
        for id_ in self._forgotten - held:
            self.world.forget(OPERATIONS, CLUSTER, id_)
        self._forgotten &= held
        self._look_at = len(self._forgotten) + _FORGET_AT_ONCE

    def operation(self, events: Sequence[Event]) -> str:
        """Return the operation that *events* begin, or an empty string."""
        for event in events:
            begun = registry.begin(event)
            if begun is not None:
                return begun.operation
        return ""

    def belongs_to(self, command: Message) -> str:
        """Return the operation that *command* is a step of, or an empty string."""
        if isinstance(command, ReportReplication):
            # A node sees such a change by itself; whoever works on the volume may wait for it.
            volume = self.world.volumes.get(command.volume)
            return "" if volume is None or volume.uid != command.uid else volume.operation
        return getattr(command, "operation", "") or ""

    def is_name(self, field: str) -> bool:
        """Return whether the field of that name holds the name of something."""
        return field in NAMES


@cache
def _kept_to_itself(word: type[Message]) -> str:
    """Return why the control plane alone says *word*, or an empty string."""
    if guarding.is_step(word):
        return f"{type_name(word)} is a step of something larger"
    kind, verb = kind_and_verb(word)
    own = verb in OWN_REPORTS.get(kind, ())
    return f"{type_name(word)} is for the control plane alone to say" if own else ""


def _filled_in(command: Message) -> str:
    """Return which field of *command* is the control plane's to set, or an empty string."""
    word = type(command)
    field = next((f for f in _own_fields(word) if getattr(command, f) is not None), "")
    return f"{field} of {type_name(word)} is set by the control plane alone" if field else ""


@cache
def _own_fields(word: type[Message]) -> tuple[str, ...]:
    """Return which fields of a wish the control plane alone sets; without them it is anybody's."""
    if not issubclass(word, Request):
        return ()
    optional = {field.name for field in msgspec.structs.fields(word) if not field.required}
    return tuple(field for field in OWN_FIELDS if field in optional)


class StorageScript:
    """Every operation of hwbus, behind the driver's port."""

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self, event: Event) -> Process | None:
        """Return the operation that *event* begins, or None."""
        return registry.begin(event)

    def follows(self, events: Sequence[Event]) -> Sequence[Message]:
        """Return the reports that follow from one commit."""
        return settlements.follows(events, self._world)

    def owed(self) -> Sequence[Message]:
        """Return the reports that commits of the past still owe."""
        return settlements.owed(self._world)

    def waiting_for(self, report: Message) -> str:
        """Return the operation on a pool that waits for one of its disks to be released."""
        if not isinstance(report, ReportDiskReleased):
            return ""
        pool = self._world.pools.get((report.node, report.pool))
        return "" if pool is None else pool.operation

    def refused(self, operation: str, step: Step, refused: Refused) -> Message:
        """Return how an operation is told that its step was refused."""
        return ReportStepRefused(
            operation=operation,
            step=step.step,
            code=refused.code,
            because=refused.because[:1000],
            attempt=step.attempt,
        )

    def expired(self, operation: str, at: datetime) -> Message:
        """Return how an operation is told the time."""
        return ReportExpired(operation=operation, at=at)
