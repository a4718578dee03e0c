"""What the codes about QoS classes mean, and what the reader can do about it."""

OF_QOS: dict[str, tuple[str, str]] = {
    "HW-Q001": (
        "There is no such QoS class.",
        "hwbus qos class ls shows them; hwbus qos class create NAME makes one.",
    ),
    "HW-Q002": (
        "There is a QoS class of that name.",
        "Choose another name, or change its limits: hwbus qos class set NAME.",
    ),
    "HW-Q003": (
        "Volumes have the QoS class; without it nobody could say how fast they may be used.",
        "Give each other limits first: hwbus qos set VOLUME, or hwbus qos unset VOLUME.",
    ),
    "HW-Q004": (
        "A QoS class that limits nothing would be no class.",
        "Name at least one limit; to lift those of a volume: hwbus qos unset VOLUME.",
    ),
    "HW-Q005": (
        "A volume has a QoS class or limits of its own, never both.",
        "Name the class alone, or the limits alone; what is said last counts.",
    ),
}
