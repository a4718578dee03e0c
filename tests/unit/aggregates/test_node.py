from schemas.disk import DiskGone
from schemas.node import (
    AdmitNode,
    AttachPool,
    ConcludeNode,
    CordonNode,
    DetachPool,
    Drift,
    DriftFound,
    DriftSettled,
    Finding,
    NodeAdmitted,
    NodeCordoned,
    NodeFellSilent,
    NodeHeard,
    NodeJoined,
    NodeRemovalBegan,
    NodeRemoved,
    NodeUncordoned,
    PoolAttached,
    PoolDetached,
    RemoveNode,
    ReportDrift,
    ReportNodeHeard,
    ReportNodeJoined,
    ReportNodeSilent,
    UncordonNode,
)
from schemas.refusals import Refusal
from tests.support.given import NOON, OPERATION, given
from tests.support.words import DEADLINE, node_with_disks

JOINED = NodeJoined(node="n1")
SILENT = NodeFellSilent(node="n1", last_heard=NOON)
REMOVAL = NodeRemovalBegan(node="n1", operation=OPERATION, deadline=DEADLINE)
REMOVED = NodeRemoved(node="n1", operation=OPERATION)
MISSING = Finding(drift=Drift.VOLUME_MISSING, object="replica/n1/pg", wanted="1 GiB")


def test_a_new_node_joins_without_being_asked() -> None:
    given().when(ReportNodeJoined(node="n1", zone="a")).then(NodeJoined(node="n1", zone="a"))


def test_a_worker_that_starts_again_with_nothing_new_is_no_news() -> None:
    given(JOINED).when(ReportNodeJoined(node="n1")).nothing()


def test_a_silent_node_that_joins_is_heard() -> None:
    given(JOINED, SILENT).when(ReportNodeJoined(node="n1")).then(NodeHeard(node="n1"))


def test_a_node_falls_silent_once() -> None:
    report = ReportNodeSilent(node="n1", last_heard=NOON)
    given(JOINED).when(report).then(SILENT)
    given(JOINED, SILENT).when(report).nothing()


def test_a_node_that_was_not_silent_is_not_heard_again() -> None:
    given(JOINED).when(ReportNodeHeard(node="n1")).nothing()


def test_a_removed_node_does_not_come_back_by_itself() -> None:
    given(JOINED, REMOVAL, REMOVED).when(ReportNodeJoined(node="n1")).nothing()


def test_a_removed_node_is_let_in_again_by_an_operator() -> None:
    past = (JOINED, REMOVAL, REMOVED)
    given(*past).when(AdmitNode(node="n1")).then(NodeAdmitted(node="n1"))
    given(*past, NodeAdmitted(node="n1")).when(ReportNodeJoined(node="n1")).then(JOINED)


def test_only_a_removed_node_can_be_admitted() -> None:
    given().when(AdmitNode(node="n1")).refused(Refusal.UNKNOWN_NODE, "n1")
    given(JOINED).when(AdmitNode(node="n1")).refused(Refusal.NODE_KNOWN)


def test_cordoning_twice_is_cordoning_once() -> None:
    cordoned = NodeCordoned(node="n1", because="maintenance")
    given(JOINED).when(CordonNode(node="n1", because="maintenance")).then(cordoned)
    given(JOINED, cordoned).when(CordonNode(node="n1")).nothing()


def test_a_cordoned_node_carries_no_new_pool_until_uncordoned() -> None:
    past = (JOINED, NodeCordoned(node="n1"))
    attach = AttachPool(node="n1", pool="fast", operation=OPERATION)
    given(*past).when(attach).refused(Refusal.NODE_CORDONED, "n1")
    given(*past, NodeUncordoned(node="n1")).when(attach).then(PoolAttached(node="n1", pool="fast"))
    given(*past).when(UncordonNode(node="n1")).then(NodeUncordoned(node="n1"))


def test_a_silent_node_carries_no_new_pool() -> None:
    attach = AttachPool(node="n1", pool="fast", operation=OPERATION)
    given(JOINED, SILENT).when(attach).refused(Refusal.NODE_SILENT)


def test_attaching_a_pool_again_is_no_news() -> None:
    attach = AttachPool(node="n1", pool="fast", operation=OPERATION)
    given(JOINED, PoolAttached(node="n1", pool="fast")).when(attach).nothing()


def test_detaching_what_is_not_carried_is_no_news() -> None:
    detach = DetachPool(node="n1", pool="fast")
    given(JOINED).when(detach).nothing()
    given(JOINED, PoolAttached(node="n1", pool="fast")).when(detach).then(
        PoolDetached(node="n1", pool="fast")
    )


def test_a_node_with_pools_cannot_be_removed() -> None:
    past = (JOINED, PoolAttached(node="n1", pool="fast"))
    given(*past).when(RemoveNode(node="n1")).refused(Refusal.NODE_HAS_POOLS, "fast")


def test_removing_a_node_names_the_disks_it_sees() -> None:
    began = NodeRemovalBegan(
        node="n1", operation=OPERATION, deadline=DEADLINE, disks=("n1-d0", "n1-d1")
    )
    given(*node_with_disks("n1")).when(RemoveNode(node="n1")).then(began)


def test_removing_a_node_names_the_disks_too_that_were_there_last() -> None:
    began = NodeRemovalBegan(
        node="n1", operation=OPERATION, deadline=DEADLINE, disks=("n1-d0", "n1-d1")
    )
    past = (*node_with_disks("n1"), DiskGone(disk="n1-d0", node="n1"))
    given(*past).when(RemoveNode(node="n1")).then(began)


def test_a_node_is_removed_by_one_operation_at_a_time() -> None:
    given(JOINED, REMOVAL).when(RemoveNode(node="n1")).refused(Refusal.NODE_BUSY, OPERATION)


def test_a_node_being_removed_takes_nothing_new() -> None:
    attach = AttachPool(node="n1", pool="fast", operation=OPERATION)
    given(JOINED, REMOVAL).when(attach).refused(Refusal.NODE_CORDONED)


def test_only_its_own_operation_ends_a_removal() -> None:
    mine = ConcludeNode(node="n1", operation=OPERATION, removed=True)
    given(JOINED, REMOVAL).when(mine).then(REMOVED)
    given(JOINED).when(mine).nothing()


def test_nobody_talks_to_a_removed_node() -> None:
    past = (JOINED, REMOVAL, REMOVED)
    given(*past).when(CordonNode(node="n1")).refused(Refusal.NODE_REMOVED)
    given(*past).when(ReportDrift(node="n1", findings=(MISSING,))).nothing()


def test_drift_is_news_once_and_again_when_it_is_settled() -> None:
    report = ReportDrift(node="n1", findings=(MISSING,))
    found = DriftFound(node="n1", finding=MISSING)
    given(JOINED).when(report).then(found)
    given(JOINED, found).when(report).nothing()
    given(JOINED, found).when(ReportDrift(node="n1")).then(DriftSettled(node="n1", finding=MISSING))
