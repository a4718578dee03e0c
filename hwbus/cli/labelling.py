"""Labels of volumes: how they are written, set and removed."""

from collections.abc import Iterable
from typing import Annotated

from cyclopts import Parameter

from hwbus.cli.changing import change
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import VolumeName
from hwbus.cli.options import CHANGE, OPTIONS, Change, Options
from schemas.labels import LabelVolume

NewLabels = Annotated[
    list[str] | None,
    Parameter(name="--label", negative=(), help="Give it this label: team=shop. May be repeated."),
]
KeepLabels = Annotated[
    bool,
    Parameter(name="--keep-labels", negative=(), help="Give it the labels of its source, too."),
]
Selector = Annotated[
    str | None,
    Parameter(name=["--selector", "-l"], help="With all of these labels: team=shop,tier=gold."),
]


def label(
    name: VolumeName,
    /,
    *changes: Annotated[str, Parameter(help="KEY=VALUE to set a label, KEY- to remove it.")],
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Set and remove labels of a volume, all at once; docs/usage.md says what they are good for."""
    if not changes:
        raise FailureError(
            Exit.USAGE,
            "no label was named",
            fix=f"hwbus volume label {name[:80]} team=shop tier- sets one and removes one.",
        )
    gone = [one.removesuffix("-") for one in changes if "=" not in one and one.endswith("-")]
    pairs = [one for one in changes if "=" in one or not one.endswith("-")]
    return change(LabelVolume(volume=name, set=written(pairs), remove=tuple(gone)), options, how)


def written(pairs: Iterable[str] | None) -> dict[str, str]:
    """Return the labels that *pairs* of ``KEY=VALUE`` mean. Raises ``FailureError``."""
    labels: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise FailureError(
                Exit.USAGE, f"{pair[:80]!r} is no label", fix="Write KEY=VALUE, such as team=shop."
            )
        if labels.setdefault(key, value) != value:
            raise FailureError(
                Exit.USAGE,
                f"the label {key[:80]!r} is given two values",
                fix="A volume has one value for a key: say which.",
            )
    return labels
