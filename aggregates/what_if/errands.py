"""What would come of errands: as much as can be told without having done them."""

from typing import assert_never

from schemas.errand import (
    Compare,
    Compared,
    ErrandWanted,
    EvenedOut,
    EvenOut,
    Found,
    ListAll,
    Listed,
    Probe,
    Probed,
    Put,
    PutAside,
    PutBack,
    ReportErrandDone,
    Sweep,
    Swept,
    Upload,
    Uploaded,
    Verified,
    Verify,
)

_NO_DIGEST = "0" * 64


def done(event: ErrandWanted) -> ReportErrandDone:
    """Return that the errand is done."""
    return ReportErrandDone(operation=event.operation, node=event.node, found=_found(event))


def _found(event: ErrandWanted) -> Found:
    errand = event.errand
    match errand:
        case Probe():
            return Probed()
        case ListAll():
            # What a store holds is not known here: nothing is learnt, and nothing forgotten.
            return Listed(part=True)
        case Upload():
            return Uploaded(
                manifest=_NO_DIGEST,
                chunks=0,
                stored_chunks=0,
                read_bytes=errand.size_bytes,
                uploaded_bytes=errand.size_bytes,
            )
        case Verify():
            return Verified(chunks=0)
        case Sweep():
            return Swept()
        case PutAside() | PutBack():
            return Put()
        case Compare():
            return Compared(differing_bytes=0)
        case EvenOut():
            return EvenedOut()
        case _:
            assert_never(errand)
