"""Every reason to say no: codes are permanent; add, never renumber."""

from enum import StrEnum

from schemas.policy_advice import POLICY_ADVICE
from schemas.refusals_of_approvals import OF_APPROVALS
from schemas.refusals_of_backups import OF_BACKUPS
from schemas.refusals_of_drift import OF_DRIFT
from schemas.refusals_of_groups import GROUPS_AND_SCHEDULES
from schemas.refusals_of_keys import OF_KEYS
from schemas.refusals_of_pools import OF_POOLS
from schemas.refusals_of_qos import OF_QOS
from schemas.refusals_of_raw_disks import OF_RAW_DISKS
from schemas.refusals_of_replicas import OF_REPLICAS
from schemas.refusals_of_the_audit import OF_THE_AUDIT
from schemas.refusals_of_the_past import OF_THE_PAST
from schemas.refusals_of_volumes import OF_VOLUMES


class Refusal(StrEnum):
    """A permanent code. ``hwbus explain CODE`` prints its meaning and what to do."""

    MALFORMED = "HW-G001"
    UNKNOWN_COMMAND = "HW-G002"
    BAD_NAME = "HW-G003"
    STALE_VERSION = "HW-G004"
    CONTENDED = "HW-G005"
    TOO_LARGE = "HW-G006"
    COMMAND_ID_REUSED = "HW-G008"
    BAD_HEADER = "HW-G009"

    UNKNOWN_NODE = "HW-N001"
    NODE_REMOVED = "HW-N002"
    NODE_HAS_POOLS = "HW-N003"
    NODE_CORDONED = "HW-N004"
    NODE_SILENT = "HW-N005"
    NODE_BUSY = "HW-N006"
    NODE_KNOWN = "HW-N007"
    NO_STORAGE_ADDRESS = "HW-N008"
    NODE_NOT_SILENT = "HW-N009"
    NODE_NEEDED = "HW-N010"
    NOT_DRAINED = "HW-N011"

    UNKNOWN_DISK = "HW-D001"
    DISK_CLAIMED = "HW-D002"
    DISK_RESERVED = "HW-D003"
    DISK_NOT_BLANK = "HW-D004"
    DISK_GONE = "HW-D005"
    DISK_SEEN_TWICE = "HW-D006"
    DISK_NOT_RESERVED = "HW-D007"
    DISK_ELSEWHERE = "HW-D008"
    DISK_FAILING = "HW-D009"
    DISK_NOT_IN_POOL = "HW-D010"
    NO_FREE_DISK = "HW-D011"
    DISK_TOO_SMALL = "HW-D012"
    NODE_HAS_RAW_DISKS = "HW-D013"

    UNKNOWN_POOL = "HW-P001"
    POOL_EXISTS = "HW-P002"
    CAPACITY = "HW-P003"
    METADATA = "HW-P004"
    VOLUME_LIMIT = "HW-P005"
    THIN_RATIO = "HW-P006"
    NO_THIN_POOL = "HW-P007"
    POOL_IN_USE = "HW-P008"
    POOL_BUSY = "HW-P009"
    POOL_NOT_READY = "HW-P010"
    TOO_FEW_DISKS = "HW-P011"
    NO_DISKS_NAMED = "HW-P012"
    POOL_DISK_FAILING = "HW-P013"
    LAST_DISK = "HW-P014"
    THIN_NOT_LARGER = "HW-P015"
    POOL_DISK_MISSING = "HW-P016"

    UNKNOWN_VOLUME = "HW-V001"
    VOLUME_EXISTS = "HW-V002"
    NOT_LARGER = "HW-V003"
    VOLUME_BUSY = "HW-V004"
    NO_PLACE = "HW-V005"
    VOLUME_NOT_READY = "HW-V006"
    BAD_LAYOUT = "HW-V007"
    VOLUME_HELD = "HW-V008"
    VOLUME_NOT_HELD = "HW-V009"
    VOLUME_ATTACHED = "HW-V010"
    STILL_ATTACHED = "HW-V011"
    NO_FILESYSTEM = "HW-V012"
    NO_CGROUP = "HW-V013"
    NO_IO_CONTROLLER = "HW-V014"
    HAS_SNAPSHOTS = "HW-V015"
    SMALLER_THAN_SOURCE = "HW-V020"
    SOURCE_ELSEWHERE = "HW-V021"
    COPY_DIFFERS = "HW-V022"
    ENCRYPTED_SOURCE = "HW-V023"
    SOURCE_SILENT = "HW-V027"
    SOURCE_UNREACHABLE = "HW-V028"
    SOURCE_NOT_LENT = "HW-V029"
    NOT_ENCRYPTED = "HW-V016"
    CANNOT_ENCRYPT = "HW-V017"
    HEADER_LOST = "HW-V018"
    NO_KEY_SLOT = "HW-V019"
    IS_RAW_DISK = "HW-V024"
    UNCLEAR_DISK = "HW-V025"
    NOT_RAW_DISK = "HW-V026"
    IS_REPLICATED = "HW-V030"
    NOT_REPLICATED = "HW-V031"
    CANNOT_REPLICATE = "HW-V032"
    NOT_PRIMARY = "HW-V033"
    NOT_UP_TO_DATE = "HW-V034"
    STILL_CONNECTED = "HW-V035"
    NO_SUCH_REPLICA = "HW-V036"
    REPLICA_IN_CHARGE = "HW-V037"
    SPLIT_BRAIN = "HW-V038"
    TOO_MANY_REPLICAS = "HW-V039"
    PEER_UNREACHABLE = "HW-V040"
    METADATA_LOST = "HW-V041"
    NO_SPLIT_BRAIN = "HW-V042"
    BAD_LABEL = "HW-V043"
    TOO_MANY_LABELS = "HW-V044"
    REPLICAS_DIFFER = "HW-V060"
    VERIFY_BROKEN = "HW-V061"

    BAD_KEY_REFERENCE = "HW-K001"
    KEY_MISSING = "HW-K002"
    KEY_SOURCE_UNSET = "HW-K003"
    KEY_SOURCE_SILENT = "HW-K004"
    KEY_DENIED = "HW-K005"
    KEY_UNFIT = "HW-K006"
    WRONG_KEY = "HW-K007"
    SAME_KEY = "HW-K008"
    KEY_EXPOSED = "HW-K009"

    UNKNOWN_REPLICA = "HW-R001"
    REPLICA_BUSY = "HW-R002"

    UNKNOWN_SNAPSHOT = "HW-S001"
    SNAPSHOT_EXISTS = "HW-S002"
    SNAPSHOT_BUSY = "HW-S003"
    SNAPSHOT_LOST = "HW-S004"
    GROWN_SINCE = "HW-S005"
    SNAPSHOT_MISSING = "HW-S006"
    NO_RESERVE = "HW-S007"
    RESERVE_ENOUGH = "HW-S008"

    UNKNOWN_POLICY = "HW-Y001"
    BAD_THRESHOLD = "HW-Y002"
    BAD_STEP = "HW-Y003"
    BAD_CEILING = "HW-Y004"
    UNFIT_FIELD = "HW-Y005"
    OTHER_KIND = "HW-Y006"
    SAME_SELECTION = "HW-Y007"
    CEILING_REACHED = "HW-Y008"
    ACTION_FAILED = "HW-Y009"
    NOT_STILL = "HW-S009"
    UNKNOWN_GROUP = "HW-T001"
    GROUP_EXISTS = "HW-T002"
    GROUP_BUSY = "HW-T003"
    IN_OTHER_GROUP = "HW-T004"
    NOT_IN_GROUP = "HW-T005"
    GROUP_EMPTY = "HW-T006"
    GROUP_SPREAD = "HW-T007"
    GROUP_FULL = "HW-T008"
    USED_BESIDE = "HW-T009"
    GROUP_APART = "HW-T010"
    GROUP_NOT_MOVED = "HW-T011"
    UNKNOWN_SCHEDULE = "HW-C001"
    SCHEDULE_EXISTS = "HW-C002"
    SCHEDULE_UNCLEAR = "HW-C003"
    KEEPS_NOTHING = "HW-C004"

    UNKNOWN_QOS = "HW-Q001"
    QOS_EXISTS = "HW-Q002"
    QOS_IN_USE = "HW-Q003"
    QOS_LIMITS_NOTHING = "HW-Q004"
    QOS_UNCLEAR = "HW-Q005"

    UNKNOWN_TARGET = "HW-B001"
    TARGET_EXISTS = "HW-B002"
    TARGET_BUSY = "HW-B003"
    BACKUP_EXISTS = "HW-B004"
    UNKNOWN_BACKUP = "HW-B005"
    BACKUP_DAMAGED = "HW-B006"
    BACKUP_FOREIGN = "HW-B007"
    BACKUP_CHANGED = "HW-B008"
    NO_CREDENTIALS = "HW-B009"
    TARGET_DENIED = "HW-B010"
    NO_BUCKET = "HW-B011"
    TARGET_UNFIT = "HW-B012"
    NO_NODE_HEARD = "HW-B013"
    KEEP_IS_THIN = "HW-B014"

    NEEDS_APPROVAL = "HW-E001"
    UNKNOWN_APPROVAL = "HW-E002"
    SAME_ACTOR = "HW-E003"
    APPROVER_UNNAMED = "HW-E004"
    APPROVAL_OVER = "HW-E005"
    UNKNOWN_PROTECTION = "HW-E006"
    PROTECTS_NOTHING = "HW-E007"
    STEP_FROM_OUTSIDE = "HW-E008"

    UNKNOWN_FINDING = "HW-F001"
    FINDING_CHANGED = "HW-F002"
    WRONG_WAY = "HW-F003"
    FINDING_BUSY = "HW-F004"
    CANNOT_TAKE_OVER = "HW-F005"
    NOT_CONFIRMED = "HW-F006"
    NOT_AS_SEEN = "HW-F007"
    CUT_OFF = "HW-F008"

    NOT_YET = "HW-H001"
    BEFORE_THE_LOG = "HW-H002"
    NO_POINT = "HW-H003"
    PAST_IS_GONE = "HW-H004"
    NO_PAST = "HW-H005"
    VIEWS_BUSY = "HW-H006"

    TRAIL_STAYS = "HW-A001"
    NOT_OLD_YET = "HW-A002"
    ANOTHER_TRAIL = "HW-A003"
    NOT_ARCHIVED = "HW-A004"
    NOTHING_MAY_GO = "HW-A005"

    UNKNOWN_OPERATION = "HW-O001"
    OPERATION_ENDED = "HW-O002"
    DEADLINE = "HW-O003"
    CANCELLED = "HW-O004"
    NOT_YOURS = "HW-O005"

    TOOL_FAILED = "HW-W001"
    REFUSED_TO_TOUCH = "HW-W002"
    IN_USE = "HW-W003"
    NO_SPACE_ON_NODE = "HW-W004"
    TOOL_TIMED_OUT = "HW-W005"

    @property
    def meaning(self) -> str:
        """What the code says, in one sentence."""
        return _explained(self)[0]

    @property
    def advice(self) -> str:
        """What the reader can do about it."""
        return _explained(self)[1]


def _explained(code: Refusal) -> tuple[str, str]:
    return _EXPLANATIONS[code]


_EXPLANATIONS: dict[str, tuple[str, str]] = {
    **GROUPS_AND_SCHEDULES,
    **OF_VOLUMES,
    **OF_POOLS,
    **OF_RAW_DISKS,
    **OF_REPLICAS,
    **OF_KEYS,
    **OF_BACKUPS,
    **OF_QOS,
    **OF_THE_PAST,
    **OF_DRIFT,
    **OF_APPROVALS,
    **OF_THE_AUDIT,
    Refusal.MALFORMED: (
        "The message is not JSON, or a field is missing, unknown or out of its bounds.",
        "Compare it with the schema: hwbus api asyncapi.",
    ),
    Refusal.UNKNOWN_COMMAND: (
        "No aggregate understands a command of that name.",
        "List the commands: hwbus api asyncapi, or nats micro info hwbus.",
    ),
    Refusal.BAD_NAME: (
        "A name is not an RFC 1123 label: a-z, 0-9 and '-', 1 to 63 characters.",
        "Choose a name such as pg-orders-1.",
    ),
    Refusal.STALE_VERSION: (
        "The object has changed since you looked: it is not at the version you expect.",
        "Look again, and repeat with the version you then see.",
    ),
    Refusal.CONTENDED: (
        "Others changed the object every time the desk was about to; nothing was changed.",
        "Repeat the command with the same id.",
    ),
    Refusal.TOO_LARGE: (
        "The message is larger than a command may be (64 KiB).",
        "Name fewer objects in one command.",
    ),
    Refusal.COMMAND_ID_REUSED: (
        "That command id was used before, for something else.",
        "Use a new id for each new wish, and the old one only to repeat the same.",
    ),
    Refusal.BAD_HEADER: (
        "A header of the command is not of its form.",
        (
            "Hwbus-Command-Id and Hwbus-Actor are at most 128 printable characters without spaces; "
            "Hwbus-Expected-Version is a whole number."
        ),
    ),
    Refusal.UNKNOWN_NODE: ("There is no such node.", "hwbus node ls shows the nodes."),
    Refusal.NODE_REMOVED: (
        "The node was removed from the cluster.",
        "Let it in again with hwbus node admit NAME.",
    ),
    Refusal.NODE_HAS_POOLS: (
        "The node still carries pools, and with them perhaps data.",
        "Remove its volumes and pools first: hwbus pool ls --node NAME.",
    ),
    Refusal.NODE_CORDONED: (
        "The node takes nothing new: it is cordoned or being removed.",
        "hwbus node uncordon NAME, or choose another node.",
    ),
    Refusal.NODE_SILENT: (
        "The node's worker has not been heard from; nothing can be done there now.",
        "Start its worker, or look at the machine: hwbus node show NAME.",
    ),
    Refusal.NODE_BUSY: (
        "Another operation is running on the node.",
        "Wait for it or cancel it: hwbus op ls.",
    ),
    Refusal.NODE_KNOWN: ("The node is a member already.", "Nothing needs to be done."),
    Refusal.UNKNOWN_DISK: ("There is no such disk.", "hwbus disk ls shows the disks."),
    Refusal.DISK_CLAIMED: (
        "The disk belongs to a pool, or is a volume.",
        "Choose another disk, or remove that pool or volume first.",
    ),
    Refusal.DISK_RESERVED: (
        "The disk is reserved: somebody asked that hwbus leave it alone.",
        "hwbus disk unreserve ID, if that is no longer so.",
    ),
    Refusal.DISK_NOT_BLANK: (
        (
            "The disk carries something: a partition table, a filesystem, RAID or foreign LVM. "
            "hwbus never takes such a disk."
        ),
        "If nobody needs it, wipe it by hand (wipefs -a DEVICE) and look again.",
    ),
    Refusal.DISK_GONE: (
        "The disk is not there now.",
        "Plug it in again; it is recognised when it returns.",
    ),
    Refusal.DISK_SEEN_TWICE: (
        "The same disk identity is seen at two places, so it is not certain which disk it is.",
        "Unplug one of them, or give them distinct identities.",
    ),
    Refusal.DISK_NOT_RESERVED: ("The disk is not reserved.", "Nothing needs to be done."),
    Refusal.DISK_ELSEWHERE: (
        "The disk is on another node than the pool.",
        "A pool takes disks of its own node only: hwbus disk ls --node NAME.",
    ),
    Refusal.DISK_FAILING: (
        "The disk says by SMART that it is failing; it is put in no pool.",
        "hwbus disk show ID tells why. Use another disk, and replace this one.",
    ),
    Refusal.DISK_NOT_IN_POOL: (
        "The disk does not belong to that pool.",
        "hwbus pool show NAME lists its disks.",
    ),
    Refusal.UNKNOWN_OPERATION: (
        "There is no such operation.",
        "hwbus op ls shows them; --all shows ended ones.",
    ),
    Refusal.OPERATION_ENDED: ("The operation has ended.", "hwbus op show ID tells how."),
    Refusal.DEADLINE: (
        "The operation did not end in time; what it had begun was undone.",
        "See hwbus op show ID for the step it waited on, then try again.",
    ),
    Refusal.CANCELLED: (
        "Somebody cancelled the operation; what it had begun was undone.",
        "hwbus audit --object operation/ID tells who.",
    ),
    Refusal.NOT_YOURS: (
        "The step belongs to an operation that the object does not know.",
        "It ended in the meantime; nothing needs to be done.",
    ),
    Refusal.TOOL_FAILED: (
        "A tool on the node failed for good.",
        "hwbus op show ID prints its command line, exit status and what it wrote.",
    ),
    Refusal.REFUSED_TO_TOUCH: (
        "The node found something there that is not ours, and did not touch it.",
        "hwbus op show ID says what; settle it by hand, then try again.",
    ),
    Refusal.IN_USE: (
        "The volume is in use on its node: mounted, or held open.",
        "Unmount it there first.",
    ),
    Refusal.NO_SPACE_ON_NODE: (
        "LVM found less room than the ledger; drift findings say why.",
        "hwbus node show NAME lists the findings.",
    ),
    Refusal.TOOL_TIMED_OUT: (
        "A tool on the node did not end in time and was stopped.",
        "Look at the node: a disk may hang. hwbus op show ID names the tool.",
    ),
    **{Refusal(code): said for code, said in POLICY_ADVICE.items()},
}
