"""What can go wrong in the lab, named after what the caller can do about it."""


class LabError(RuntimeError):
    """The lab could not do what it was asked; the message is a sentence for a person."""


class NodeDownError(LabError):
    """The node is not running, or stopped while somebody waited for it: boot it."""


class ConsoleError(LabError):
    """The node's management console refused a request, for example to remove an open disk."""


class CommandFailedError(LabError):
    """A command in a node ended with a status other than zero."""
