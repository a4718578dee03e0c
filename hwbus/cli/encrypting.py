"""Keys of volumes by reference: a key itself is never said on a command line."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli.changing import change
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import VolumeName
from hwbus.cli.options import CHANGE, OPTIONS, Change, Deadline, Options
from schemas.encrypting import RekeyVolume
from schemas.keys import locate
from schemas.refusals import Refusal

KeyReference = Annotated[
    str | None,
    Parameter(
        help="Encrypt it by the key that its node finds there: file:NAME, env:NAME or"
        " vault:PATH#FIELD."
    ),
]
NewKeyReference = Annotated[
    str, Parameter(help="Where its node finds the new key: file:NAME, env:NAME, vault:PATH#FIELD.")
]


def checked(reference: str | None) -> str | None:
    """Return *reference*. What is none is not even sent: it may be a key, and would be kept."""
    if reference is not None and locate(reference) is None:
        code = Refusal.BAD_KEY_REFERENCE
        raise FailureError(Exit.USAGE, f"{code}: {code.meaning}", fix=code.advice)
    return reference


def rekey(
    name: VolumeName,
    /,
    *,
    key_ref: NewKeyReference,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Let another key open an encrypted volume, and the one before no longer; it stays in use."""
    word = RekeyVolume(volume=name, key_ref=checked(key_ref) or "", deadline_s=deadline)
    return change(word, options, how)
