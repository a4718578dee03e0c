"""Which commands there are, as data: help on all of them must cost next to nothing."""

_OBJECTS = "Objects"
_RECORD = "Record"
_HERE = "This machine"
HELP = """Storage on many machines, with a record of everything that was ever done to it.

Sizes are 50GiB, 1.5TiB, 500G (10^9) or bytes. Every list can be had with -o json.
"""
# Name, where it is, what it is for, under which heading.
COMMANDS = (
    ("node", "nodes:app", "The machines that carry the disks.", _OBJECTS),
    ("disk", "disks:app", "The disks that were found on the nodes.", _OBJECTS),
    ("pool", "pools:app", "The pools that volumes are made in.", _OBJECTS),
    ("volume", "volumes:app", "What is given to those who need room. Short: vol.", _OBJECTS),
    ("replica", "replicas:app", "The legs of volumes on the nodes.", _OBJECTS),
    ("snapshot", "snapshots:app", "Volumes as they were. Short: snap.", _OBJECTS),
    ("policy", "policies:app", "What is done by itself.", _OBJECTS),
    ("group", "groups:app", "Volumes that belong together, kept at one instant.", _OBJECTS),
    ("schedule", "schedules:app", "Snapshots by the clock. Short: sched.", _OBJECTS),
    ("qos", "qos:app", "How fast volumes may be used, by class or each by itself.", _OBJECTS),
    ("backup", "backups:app", "Volumes kept where this cluster is not.", _OBJECTS),
    ("protection", "approvals:protections", "What takes two people.", _OBJECTS),
    ("approval", "approvals:app", "What waits for somebody else's word.", _OBJECTS),
    ("op", "operations:app", "Work that is going on, or has ended.", _OBJECTS),
    ("usage", "room:app", "Who has how much room, had for how long, and when it is full.", _RECORD),
    ("drift", "drift:app", "Where nodes differ from what was decided.", _RECORD),
    (
        "audit",
        "audit:app",
        "Who did, asked or ran what; and proof that nobody changed it.",
        _RECORD,
    ),
    ("plan", "scenario:plan", "What would follow: nodes die, disks fail, volumes come.", _RECORD),
    ("diff", "difference:diff", "What is different between two points in time.", _RECORD),
    ("replay", "replaying:replay", "The log from a file, played again without a cluster.", _RECORD),
    (
        "support-bundle",
        "bundling:support_bundle",
        "What others need to see what happened, without who and where.",
        _RECORD,
    ),
    (
        "rehearse",
        "rehearsing:rehearse",
        "What this version makes of a log of another.",
        _RECORD,
    ),
    (
        "projector",
        "projector:app",
        "The views: how far they are, if they are right.",
        _RECORD,
    ),
    ("events", "events:app", "What happened, in the order in which it happened.", _RECORD),
    ("explain", "explain:explain", "What a refusal code means and what to do.", _RECORD),
    ("api", "api:app", "The contract for other programs.", _RECORD),
    ("up", "local:up", "Start everything on this machine; no root needed.", _HERE),
    ("down", "local:down", "Stop what runs on this machine.", _HERE),
    ("status", "local:status", "What runs on this machine, and how far it is.", _HERE),
    ("lab", "lab:app", "A cluster of real kernels on this machine.", _HERE),
    ("doctor", "doctor:doctor", "Look for what is missing or wrong, with fixes.", _HERE),
    ("context", "context:app", "Which control plane is meant.", _HERE),
    ("completion", "completion:app", "Completion for bash, zsh and fish.", _HERE),
    ("version", "version:version", "Which version this is.", _HERE),
)
HELP_WORDS: tuple[list[str], ...] = ([], ["--help"], ["-h"], ["help"])


def root_help() -> str:
    """Return the text of ``hwbus --help``."""
    lines = ["Usage: hwbus COMMAND", "", HELP.rstrip()]
    widest = max(len(name) for name, _, _, _ in COMMANDS)
    heading = ""
    for name, _, what, group in COMMANDS:
        if group != heading:
            heading = group
            lines += ["", f"{heading}:"]
        lines.append(f"  {name.ljust(widest)}  {what}")
    lines += ["", "hwbus COMMAND --help tells more of each; docs/cli.md has examples.", ""]
    return "\n".join(lines)
