"""Volumes in use: give one to a consumer, take it back, say how fast it may be used."""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.token import Token

from hwbus.cli.changing import change
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import AtNode, VolumeName
from hwbus.cli.options import CHANGE, OPTIONS, Change, Deadline, Options
from hwbus.cli.sizes import parse_size
from schemas.attaching import AttachVolume, DetachVolume, LimitVolume
from schemas.attachment import Limits


def _rate(_type: Any, tokens: Sequence[Token]) -> int:
    return parse_size(tokens[0].value.removesuffix("/s"))


Rate = Annotated[
    int | None, Parameter(converter=_rate, n_tokens=1, accepts_keys=False, help="So much a second.")
]
Iops = Annotated[int | None, Parameter(help="So many operations a second.")]


def attach(
    name: VolumeName,
    consumer: Annotated[str, Parameter(help="Who uses it: pod/shop/pg-0, host/backup.")],
    /,
    *,
    mount: Annotated[
        str | None, Parameter(help="Mount it there on its node; else only the device is given.")
    ] = None,
    read_only: Annotated[
        bool, Parameter(negative=(), help="Nothing may be written to it.")
    ] = False,
    cgroup: Annotated[
        str | None, Parameter(help="The control group that limits hold for, below /sys/fs/cgroup.")
    ] = None,
    node: Annotated[
        AtNode,
        Parameter(help="On this one of its nodes. [default: where it was written to last]"),
    ] = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Give a volume to its one consumer on its node, as /dev/hwbus/NAME; it survives reboots."""
    word = AttachVolume(
        volume=name,
        consumer=consumer,
        mount_point=mount,
        read_only=read_only,
        cgroup=cgroup,
        deadline_s=deadline,
        node=node,
    )
    return change(word, options, how)


def detach(
    name: VolumeName,
    /,
    *,
    consumer: Annotated[
        str | None, Parameter(help="Only if it is this one that has the volume.")
    ] = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Take a volume back: unmount it, and remove its device. While it is busy it stays attached."""
    word = DetachVolume(volume=name, consumer=consumer, deadline_s=deadline)
    return change(word, options, how)


def limit(
    name: VolumeName,
    /,
    *,
    read_iops: Iops = None,
    write_iops: Iops = None,
    read_bytes: Rate = None,
    write_bytes: Rate = None,
    none: Annotated[bool, Parameter(negative=(), help="Lift all limits.")] = False,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Say how fast a volume may be used: what is not named is not limited any longer."""
    limits = Limits(
        read_iops=read_iops,
        write_iops=write_iops,
        read_bytes_per_s=read_bytes,
        write_bytes_per_s=write_bytes,
    )
    if limits.any is none:
        raise FailureError(
            Exit.USAGE,
            "limits and --none contradict one another" if none else "no limit was named",
            fix="Name at least one limit, such as --write-iops 200, or lift all with --none.",
        )
    return change(LimitVolume(volume=name, limits=limits, deadline_s=deadline), options, how)
