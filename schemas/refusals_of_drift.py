"""What the codes about settling drift mean, and what the reader can do about it."""

OF_DRIFT: dict[str, tuple[str, str]] = {
    "HW-F001": (
        "There is no such finding: it was settled, or went away by itself.",
        "hwbus drift ls shows those that are open, hwbus drift ls --past those that were.",
    ),
    "HW-F002": (
        "The finding is not what you saw: its object has changed since. Nothing was done.",
        "Look again (hwbus drift show OBJECT) and decide on what you then see.",
    ),
    "HW-F003": (
        "A finding of that kind is not settled so.",
        "hwbus drift show OBJECT lists the commands that would settle it.",
    ),
    "HW-F004": (
        "The finding is just being settled.",
        "Wait for that operation, or cancel it: hwbus op ls.",
    ),
    "HW-F005": (
        "Another tool made it in a way that no volume of hwbus can be, or be counted.",
        "Copy what is on it into a new volume, or leave it where it is.",
    ),
    "HW-F006": (
        "A volume is made anew, empty, only for somebody who has said its name once more.",
        "Add --volume NAME, or answer with the name when you are asked.",
    ),
    "HW-F007": (
        "The node looked again before it touched anything, and found it other than was seen.",
        "Wait for the next look (hwbus drift ls) and decide on what you then see.",
    ),
    "HW-F008": (
        "The volume was made smaller by hand: what lay beyond is cut off, which is not accepted.",
        "Try vgcfgrestore on the node; else hwbus drift undo gives it its size back, not its data.",
    ),
}
