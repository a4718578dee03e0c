"""Taking over what somebody else made: as any volume is made, but with all that is on it."""

from msgspec.structs import replace

from aggregates.processes import provision
from aggregates.processes.parts import conclusion, evolved, over, step, under_way
from aggregates.processes.process import Due, GivingUp
from aggregates.processes.provision import Provision
from aggregates.processes.settling import Settle
from schemas.grammar import Event
from schemas.mending import SeenVolume
from schemas.operation import CancelWanted, OperationExpired, StepRefused
from schemas.settling import AdoptVolume
from schemas.volume import VolumeProvisioned, VolumeProvisioningBegan


class Adopt(Settle, frozen=True, kw_only=True):
    """The making of the volume is a part of it; what comes of that comes of this."""

    volume: str
    seen: SeenVolume
    making: Provision | None = None

    def do(self) -> Due | None:
        """Begin to make the volume out of what is there, and see it through."""
        if self.making is not None:
            return step("volume", self.making)
        adopt = AdoptVolume(
            volume=self.volume,
            node=self.wish.node,
            operation=self.operation,
            deadline=self.deadline,
            uid=self.wish.uid,
            seen=self.seen,
            filesystem=self.wish.filesystem,
        )
        return Due("adopt", adopt)

    def undo(self, why: GivingUp) -> Due | None:  # noqa: ARG002
        """Have it given back."""
        return step("volume", self.making) if self.making is not None and self.waits else None

    @property
    def waits(self) -> bool:
        """Whether the making goes on, or back."""
        return self.making is not None and not over(self.making)

    def leftovers(self) -> tuple[str, ...]:
        """Return what the making has left."""
        ended = conclusion(self.making)
        return () if ended is None else ended.leftovers

    def refused(self, refusal: StepRefused) -> "Adopt":
        """Tell the making of the volume, if it was its step."""
        name, _, inner = refusal.step.partition(".")
        if name == "volume" and self.making is not None:
            return self._follow(evolved(self.making, replace(refusal, step=inner)))
        return self.give_up(refusal.code, refusal.because)

    def evolve(self, event: Event) -> "Adopt":
        """Apply what happened, also to the making of the volume."""
        after = super().evolve(event)
        told = isinstance(event, OperationExpired | CancelWanted)
        if told and after.making is not None:
            return after._follow(evolved(after.making, event))  # noqa: SLF001  (one of us)
        return after

    def noted(self, event: Event) -> "Adopt":
        """Note what volume, pool and node say."""
        if isinstance(event, VolumeProvisioningBegan):
            return replace(self, making=under_way(provision.begin(event)))
        if self.making is None:
            return self
        after = self._follow(evolved(self.making, event))
        return after.success() if isinstance(event, VolumeProvisioned) else after

    def _follow(self, making: Provision) -> "Adopt":
        after, why = replace(self, making=making), making.giving_up
        return after if why is None else after.give_up(why.code, why.because, why.outcome)
