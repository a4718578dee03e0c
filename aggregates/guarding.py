"""What stands between a command and its decision: a protection, and the approval it asks for."""

import base64
import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache

import msgspec

from aggregates.approval import Approval
from aggregates.decision import Facts, World
from aggregates.perils import Thing, held_s, peril
from aggregates.protection import Protection
from schemas.answers import Refused, refuse
from schemas.approval import OBJECTS_MAX, PROTECTIONS_MAX, ClaimApproval
from schemas.grammar import Message, Request, kind_and_verb, type_name
from schemas.operation import OPERATIONS
from schemas.protection import Act, ProtectionSpec, RemoveProtection, SetProtection
from schemas.refusals import Refusal

_ID_CHARACTERS = 26
_SHOWN = 3


@cache
def is_step(word: type[Message]) -> bool:
    """Return whether *word* is a step of something larger, for the control plane alone to say.

    A step names the operation that it belongs to; what may also be asked for by itself need not.
    """
    if not issubclass(word, Request):
        return False
    if word is ClaimApproval:
        return True
    needed = {field.name for field in msgspec.structs.fields(word) if field.required}
    return "operation" in needed and kind_and_verb(word)[0] != OPERATIONS


def condition(command: Message, request: bytes, id_: str, facts: Facts) -> ClaimApproval | None:
    """Return what has to be decided before *command*, whose id and text are given; None: nothing.

    It is not asked of the control plane's own steps, which follow from what was decided before.
    """
    found = _covered(command, facts.world)
    if found is None:
        return None
    things, covering = found
    objects = tuple(map(str, things))
    approval = _name(facts.actor, type_name(command), request, objects)
    if facts.world.approvals.get(approval, Approval()).lets(id_, facts.at):
        return None
    specs = tuple(covering.values())
    return ClaimApproval(
        approval=approval,
        command=id_,
        word=type_name(command),
        request=request.decode(),
        objects=objects[:OBJECTS_MAX],
        protections=tuple(sorted(covering))[:PROTECTIONS_MAX],
        waits_s=min(spec.waits_s for spec in specs),
        good_for_s=min(spec.good_for_s for spec in specs),
    )


def unmet(claim: ClaimApproval) -> Refused:
    """Return how whoever asks is told that somebody else is needed."""
    what = claim.word.rpartition(".v")[0]
    about = _shown([one.partition("@")[0] for one in claim.objects])
    covering = _shown(claim.protections)
    return refuse(
        Refusal.NEEDS_APPROVAL,
        f"{what} of {about} needs approval, says {covering}: request {claim.approval}",
        f"Somebody else: hwbus approval approve {claim.approval}; then repeat the same command.",
    )


def _shown(names: Sequence[str]) -> str:
    more = ["and others"] if len(names) > _SHOWN else []
    return ", ".join([*names[:_SHOWN], *more])


def _covered(
    command: Message, world: World
) -> tuple[tuple[Thing | str, ...], dict[str, ProtectionSpec]] | None:
    if isinstance(command, SetProtection | RemoveProtection):
        # Nobody alone weakens what takes two; to add one takes nobody else.
        there = world.protections.get(command.protection, Protection())
        if there.spec is None:
            return None
        return (f"protection/{command.protection}@{there.uid}",), {command.protection: there.spec}
    found = peril(command, world) if world.protections else None
    if found is None:
        return None
    act, things = found
    covering = {
        name: one.spec
        for name, one in world.protections.items()
        if one.spec is not None and _covers(one.spec, act, things, held_s(command))
    }
    return (things, covering) if covering else None


def _covers(spec: ProtectionSpec, act: Act, things: tuple[Thing, ...], kept_s: int) -> bool:
    if spec.acts and act not in spec.acts:
        return False
    if 0 < spec.hold_s <= kept_s:
        return False
    return any(
        fnmatchcase(name, pattern)
        for thing in things
        if not spec.kinds or thing.kind in spec.kinds
        for name in thing.names
        for pattern in spec.names
    )


def _name(actor: str, word: str, request: bytes, objects: tuple[str, ...]) -> str:
    """Return the id of an approval: whoever approves it approves just this, and nothing like it."""
    exact = msgspec.json.encode([actor, word, request.decode(), objects])
    digest = hashlib.sha256(exact).digest()
    return base64.b32encode(digest).decode().lower()[:_ID_CHARACTERS]
