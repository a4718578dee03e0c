"""Storage, as the wires see it: the pure rooms put behind the ports of desk and driver."""

from collections.abc import Callable, Sequence
from datetime import datetime

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
from schemas.grammar import Event, Message, type_name
from schemas.operation import ReportExpired, ReportStepRefused
from schemas.place import place_of
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


class StorageDomain:
    """Every aggregate of hwbus, in memory, behind the desk's port."""

    def __init__(self, world: World | None = None) -> None:
        self.world = World() if world is None else world

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
        if wish.within or not guarding.is_step(type(command)):
            return None
        return refuse(
            Refusal.STEP_FROM_OUTSIDE, f"{type_name(command)} is a step of something larger"
        )

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
        self.world.evolve(address.kind, address.place, address.id, events)

    def is_over(self, address: Address) -> bool:
        """Return whether the object is gone, or the operation has ended."""
        return self.world.is_over(address.kind, address.place, address.id)

    def forget(self, address: Address) -> None:
        """Drop what is over."""
        self.world.forget(address.kind, address.place, address.id)

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
