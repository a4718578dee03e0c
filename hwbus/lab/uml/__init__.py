"""Machines for tests: each node is a User Mode Linux process with disks and cables of its own."""

from hwbus.lab.uml.cluster import CONTROL, STORAGE, Cluster
from hwbus.lab.uml.command import Command, Result
from hwbus.lab.uml.disks import Disk, DiskSpec, parse_size
from hwbus.lab.uml.errors import CommandFailedError, ConsoleError, LabError, NodeDownError
from hwbus.lab.uml.node import HARNESS, Node

__all__ = [
    "CONTROL",
    "HARNESS",
    "STORAGE",
    "Cluster",
    "Command",
    "CommandFailedError",
    "ConsoleError",
    "Disk",
    "DiskSpec",
    "LabError",
    "Node",
    "NodeDownError",
    "Result",
    "parse_size",
]
