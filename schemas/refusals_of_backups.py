"""What the codes about backups mean, and what to do about each."""

OF_BACKUPS: dict[str, tuple[str, str]] = {
    "HW-B001": (
        "There is no such backup target.",
        "hwbus backup target ls shows them; hwbus backup target add makes one known.",
    ),
    "HW-B002": (
        "There is a backup target of that name already.",
        "Take another name, or remove that one first: hwbus backup target rm NAME.",
    ),
    "HW-B003": (
        "An operation runs on the backup target, or under that name of a backup.",
        "Wait for it or cancel it: hwbus op ls; hwbus op cancel ID.",
    ),
    "HW-B004": (
        "There is a backup of that name in the target already; it was left as it is.",
        "Take another --name, or remove that one first: hwbus backup rm TARGET NAME.",
    ),
    "HW-B005": (
        "There is no such backup in the target.",
        "hwbus backup ls TARGET shows what lies there.",
    ),
    "HW-B006": (
        "The backup cannot be restored whole: what it is made of is damaged or missing.",
        "hwbus backup verify TARGET NAME names them. A new backup puts again what is lost.",
    ),
    "HW-B007": (
        "The backup was written in a format that this version cannot read.",
        "Restore it with the version that made it, or a newer one.",
    ),
    "HW-B008": (
        "There is another backup under that name than the one that was asked for.",
        "Look again: hwbus backup ls TARGET.",
    ),
    "HW-B009": (
        "The node has no credentials under the reference of the target.",
        "Put them there on the node, as docs/backup.md tells, then try again.",
    ),
    "HW-B010": (
        "The object store does not let us in, or does not let us do that.",
        "Look after the credentials and their rights; hwbus backup target test NAME tries them.",
    ),
    "HW-B011": (
        "There is no such bucket.",
        "Make it with the tools of the object store, then try again.",
    ),
    "HW-B012": (
        "The object store overwrites what it was asked to leave, so names are not safe there.",
        "Use a store that knows conditional puts (If-None-Match): docs/backup.md names some.",
    ),
    "HW-B013": (
        "No node is heard that could do it.",
        "hwbus node ls shows which are silent; name one with --node.",
    ),
    "HW-B014": (
        "Only a thin snapshot can be kept for the next backup: a thick one costs room for ever.",
        "Leave --keep out; only what changed is uploaded all the same.",
    ),
}
