"""In which state a job on GKE is, from what JobSet, pods and node pools say (fault 45)."""

import datetime

import pytest
import tpu
from cloud.backend import State, Status
from cloud.commands import LaunchError, Shell
from cloud.gke_status import status_of
from fake_gke import IMAGE, ROOT, World, jobset, pod, pool, world

__all__ = ["world"]
POOLS = "gcloud container node-pools list*"
NOW = datetime.datetime(2026, 11, 22, 12, 16, tzinfo=datetime.UTC)
QUOTA = "Insufficient regional quota to satisfy request: resource TPU_V5_LITEPOD"


@pytest.mark.parametrize(
    ("found", "pods", "state", "code", "said"),
    [
        (jobset("Completed"), [], State.DONE, 0, ""),
        (
            jobset("Failed", "FailJobSetFailurePolicyAction"),
            [pod("ben-slice-0-0", "Failed", 2), pod("ben-slice-0-1", "Failed", 137)],
            State.DONE,
            2,
            "exit code 2 of ben-slice-0-0",
        ),
        (
            jobset("Failed", "ReachedMaxRestarts", restarts=20),
            [pod("ben-slice-0-0", "Failed", 75)],
            State.DONE,
            75,
            "interrupted 20 times",
        ),
        (jobset("Failed", "FailedJobs"), [], State.DONE, 1, "said so"),
        (jobset("Suspended", suspend=True), [], State.WAITING, None, "queue"),
        (jobset(), [pod("a", "Running"), pod("b", "Succeeded")], State.RUNNING, None, "2 pods"),
        (
            jobset(restarts=3),  # evicted, and the machines are gone
            [pod("a", "Running"), pod("b", "Pending", why="0/9 nodes are available")],
            State.PROVISIONING,
            None,
            "waits for machines: 0/9 nodes are available; restart 3 of at most 20",
        ),
        (jobset(), [], State.PROVISIONING, None, "pods are being started"),
        (
            jobset(),
            [pod("a", "Pending", waiting="ImagePullBackOff")],
            State.DONE,
            2,
            "a: ImagePullBackOff; mend the image",
        ),
        (
            jobset(),  # for a minute: the kubelet pulls again
            [pod("a", "Pending", waiting="ImagePullBackOff", since="2026-11-22T12:15:00Z")],
            State.PROVISIONING,
            None,
            "pods are being started; a: ImagePullBackOff",
        ),
        (
            jobset(),
            [pod("a", "Pending", waiting="ErrImagePull")],
            State.PROVISIONING,
            None,
            "a: ErrImagePull",
        ),
        (
            jobset(),
            [pod("a", "Pending", waiting="InvalidImageName", since="2026-11-22T12:15:59Z")],
            State.DONE,
            2,
            "a: InvalidImageName; mend the image",
        ),
    ],
)
def test_what_a_jobset_and_its_pods_say(found, pods, state, code, said):
    status = status_of(found, pods, NOW)
    assert (status.state, status.code) == (state, code)
    assert said in status.detail


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ([], Status(State.ABSENT)),
        ([pool("ben-0"), pool("ben-1")], Status(State.READY)),
        (
            [pool("ben-0"), pool("ben-1", "PROVISIONING")],
            Status(State.PROVISIONING, detail="node pools are being made"),
        ),
        (
            [pool("ben-0", "STOPPING")],
            Status(State.PROVISIONING, detail="node pools are being deleted"),
        ),
        ([pool("ben-0")], Status(State.FAILED, detail="no node pool ben-1; create again")),
        (
            [pool("ben-0"), pool("ben-1", "ERROR", message="GCE_STOCKOUT")],
            Status(State.FAILED, detail="ben-1 ERROR: GCE_STOCKOUT"),
        ),
        ([pool("ben-0", owner="other"), pool("ben-1", owner="")], Status(State.ABSENT)),
    ],
)
def test_what_node_pools_say(world: World, pools, expected):
    world.answer(POOLS, 0, pools)
    assert world.gke().status() == expected


def test_pods_that_wait_for_a_pool_in_error_do_not_wait_for_ever(world: World):
    world.answer("kubectl * get jobsets*", 0, jobset())
    world.answer("kubectl * get pods*", 0, {"items": [pod("a", "Pending", why="0/9 nodes")]})
    world.answer(POOLS, 0, [pool("ben-0"), pool("ben-1", "ERROR", message=QUOTA)])
    status = world.gke().status()
    assert status == Status(State.FAILED, detail=f"ben-1 ERROR: {QUOTA}")


@pytest.mark.parametrize(
    "said",
    [
        "error: You must be logged in to the server (Unauthorized)",
        "Unable to connect to the server: net/http: TLS handshake timeout",
        "dial tcp 10.0.0.1:443: i/o timeout",
    ],
)
@pytest.mark.parametrize(
    "silent",
    ["kubectl * get jobsets*", "kubectl * get pods*", POOLS, "gcloud container clusters list*"],
)
def test_a_look_that_fails_says_nothing_of_the_run(world: World, silent, said):
    (world.path / "answers/001").unlink()
    world.answer(silent, 1, said)
    world.answer("gcloud container clusters list*", 0, "us-west4")
    world.answer("kubectl * get jobsets*", 0, jobset())
    with pytest.raises(LaunchError, match="exit code 1 of") as caught:
        world.gke().status()
    assert caught.value.code == 75
    assert said in str(caught.value)


def test_a_look_at_what_is_no_json_says_nothing_of_the_run(world: World):
    world.answer(POOLS, 0, "WARNING: see you later")
    with pytest.raises(LaunchError, match=r"got 'WARNING: see you later.*expected JSON") as caught:
        world.gke().status()
    assert caught.value.code == 75


def resume(monkeypatch, *more: str) -> int:
    monkeypatch.chdir(ROOT)
    flags = ["--backend=gke", "--project=my-project", "--zone=us-west4-a", "--cluster=tpus"]
    flags += ["--accelerator_type=v5litepod-16", "--workdir=gs://my-bucket/runs/ben"]
    flags += ["--config=configs/ben14k.py", f"--image={IMAGE}", "--period=0.1", "--spot", *more]
    return tpu.main(["resume", "ben", *flags])


def test_a_login_that_expired_does_not_delete_a_run_that_may_be_well(world: World, monkeypatch):
    monkeypatch.setattr(
        tpu, "Shell", lambda dry_run: Shell(dry_run, pauses=(), sleep=world.waits.append)
    )
    world.answer("kubectl * get jobsets*", 1, "error: You must be logged in (Unauthorized)")
    world.answer(POOLS, 0, [pool("ben-0")])
    assert resume(monkeypatch, "--delete_at_end", "--tries=2") == 75
    assert not [words for words in world.calls() if "delete" in words]


def test_resume_goes_from_nothing_to_a_finished_run(world: World, monkeypatch):
    gone = "kubectl * get jobsets*"
    for _ in range(3):  # before the machines, before the run, as it is started
        world.answer(gone, 0, "", once=True)
    for found in (jobset(), jobset(restarts=1), jobset("Completed")):
        world.answer(gone, 0, found, once=True)
    world.answer("kubectl * get pods*", 0, {"items": [pod("a", "Running")]})
    world.answer(POOLS, 0, [], once=True)
    world.answer(POOLS, 0, [], once=True)
    world.answer(POOLS, 0, [pool("ben-0")])
    assert resume(monkeypatch) == 0
    assert len(world.calls("gcloud container node-pools create")) == 1
    assert [words[3] for words in world.calls("kubectl --context") if "apply" in words] == ["apply"]


def test_resume_does_not_begin_again_what_its_settings_end(world: World, monkeypatch):
    world.answer("kubectl * get jobsets*", 0, jobset("Failed", "FailJobSetFailurePolicyAction"))
    world.answer("kubectl * get pods*", 0, {"items": [pod("a", "Failed", 2)]})
    assert resume(monkeypatch) == 2
    # Once, as somebody asked for it, but not again.
    assert len([words for words in world.calls("kubectl") if "apply" in words]) == 1


def test_resume_asks_a_person_where_a_quota_is_missing(world: World, monkeypatch, capsys):
    world.answer(POOLS, 0, [pool("ben-0", "ERROR", message=QUOTA)])
    assert resume(monkeypatch) == 1
    assert "asking again would not help" in capsys.readouterr().err
    assert not world.calls("gcloud container node-pools create")
