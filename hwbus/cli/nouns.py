"""Names on the command line: what they mean, and where their completion comes from."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli import names

NodeName = Annotated[str, Parameter(completer=names.nodes, help="Name of a node.")]
DiskId = Annotated[str, Parameter(completer=names.disks, help="Id of a disk.")]
PoolName = Annotated[str, Parameter(completer=names.pools, help="Name of a pool, or NODE/POOL.")]
VolumeName = Annotated[str, Parameter(completer=names.volumes, help="Name of a volume.")]
OperationId = Annotated[str, Parameter(completer=names.operations, help="Id of an operation.")]
AtNode = Annotated[
    str | None,
    Parameter(name="--node", completer=names.nodes, help="The node, by name."),
]
AtPool = Annotated[
    str | None,
    Parameter(name="--pool", completer=names.pools, help="The pool, by name."),
]
DiskIds = Annotated[
    list[str],
    Parameter(
        name="--disk",
        completer=names.disks,
        negative=(),
        consume_multiple=True,
        help="Ids of blank disks of the node: hwbus disk ls --free.",
    ),
]
Why = Annotated[str, Parameter(name="--because", help="Why; it is kept in the record.")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative=(), help="Do not ask.")]
