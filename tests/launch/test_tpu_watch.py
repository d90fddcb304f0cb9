"""resume goes on over what passes, ends at what does not, and never goes on for ever."""

import io

import pytest
from cloud.backend import State, Status
from cloud.commands import LaunchError, Shell
from cloud.job import Job
from cloud.watching import Watch

JOB = Job("base", "qr", "my-project", "us-west4-a", "v5litepod-16", "gs://bucket", "configs/a.py")
READY, RUNNING = Status(State.READY), Status(State.RUNNING, step=1)
WAITING, ABSENT, GONE = Status(State.WAITING), Status(State.ABSENT), Status(State.PREEMPTED)


def done(code, step=None):
    return Status(State.DONE, code, step=step)


class Played:
    """A back end that says one state after another, and keeps what it was told to do."""

    def __init__(self, *states):
        self.states, self.did = list(states), []

    def status(self):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state

    def __getattr__(self, verb):
        return lambda: self.did.append(verb)


def watch(*states, **settings):
    slept, backend = [], Played(*states)
    shell = Shell(out=io.StringIO(), sleep=slept.append)
    code = Watch(backend, JOB, shell, **settings).run()
    return code, backend.did, slept


def test_from_nothing_to_done():
    code, did, slept = watch(ABSENT, WAITING, WAITING, READY, RUNNING, done(0))
    assert (code, did) == (0, ["create", "setup", "run"])
    assert slept == [60, 60, 60]


def test_what_was_taken_back_is_deleted_and_made_anew():
    code, did, _ = watch(RUNNING, GONE, WAITING, READY, RUNNING, done(0))
    assert (code, did) == (0, ["delete", "create", "setup", "run"])


@pytest.mark.parametrize("code", [75, 137, 134, 143])
def test_what_was_interrupted_runs_again(code):
    assert watch(RUNNING, done(code), RUNNING, done(0))[:2] == (0, ["run"])


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_mistake_ends_it_at_once(code):
    assert watch(RUNNING, done(code)) == (code, [], [60])


def test_a_mistake_of_before_is_tried_once_more_since_someone_asked():
    assert watch(done(2), done(2))[:2] == (2, ["run"])


def test_tries_without_a_step_more_are_counted_with_growing_pauses():
    code, did, slept = watch(RUNNING, done(75), tries=4)
    assert (code, did, slept) == (75, ["run"] * 3, [60, 15, 30, 60])
    assert max(watch(RUNNING, done(75), tries=12)[2]) == 900


def test_a_step_more_starts_the_count_anew():
    rounds = [
        state for step in range(1, 9) for state in (Status(State.RUNNING, step=step), done(75))
    ]
    code, did, _ = watch(*rounds, RUNNING, done(0), tries=2)
    assert (code, len(did)) == (0, 8)


def test_machines_that_vanish_again_and_again_end_it():
    code, did, _ = watch(ABSENT, tries=3)
    assert (code, did) == (75, ["create"] * 3)


def test_a_quota_is_for_people_and_a_lack_of_machines_is_not():
    with pytest.raises(LaunchError, match="asking again would not help: Quota"):
        watch(Status(State.FAILED, detail="Quota limit TPUV5s exceeded"))
    lack = Status(State.FAILED, detail="no more capacity in the zone")
    assert watch(lack, READY, done(0))[:2] == (0, ["delete", "create", "setup", "run"])


def test_a_cloud_that_does_not_answer_is_asked_again_only_so_often():
    silent = LaunchError("1 of 4 hosts are silent", 75)
    assert watch(RUNNING, silent, RUNNING, done(0))[0] == 0
    assert watch(silent, tries=3) == (75, [], [15, 30])
    for failed in ("TLS handshake timeout", "Unauthorized", "Quota of reads exceeded"):
        assert watch(RUNNING, LaunchError(failed), RUNNING, done(0))[:2] == (0, [])
    for final in (LaunchError("PERMISSION_DENIED: no"), LaunchError("no such topology", 2)):
        with pytest.raises(LaunchError, match=str(final)):
            watch(final)


@pytest.mark.parametrize(
    ("states", "ended"),
    [
        ([RUNNING, done(0)], 0),
        ([RUNNING, done(3)], 3),
        ([RUNNING, done(75)], 75),
        ([done(75), LaunchError("no answer", 75)], None),
        ([GONE], None),
    ],
)
def test_whether_the_run_has_ended_is_known_only_from_its_own_code(states, ended):
    shell = Shell(out=io.StringIO(), sleep=lambda _: None)
    seen = Watch(Played(*states), JOB, shell, tries=2)
    seen.run()
    assert seen.ended == ended


def test_machines_that_never_come_whole_are_asked_for_anew():
    partly = Status(State.PROVISIONING, detail="3 of 4 hosts run")
    code, did, slept = watch(*[partly] * 31, READY, done(0))
    assert (code, did) == (0, ["delete", "create", "setup", "run"])
    assert sum(slept) == 1800 + 15
    assert watch(partly, tries=2)[:2] == (75, ["delete", "create", "delete"])
    assert watch(*[WAITING] * 100, READY, done(0))[:2] == (0, ["setup", "run"])


def test_a_run_without_a_step_more_is_stopped():
    still = Status(State.RUNNING, step=7)
    code, did, _ = watch(*[still] * 61, done(75), done(0), stall=3600)
    assert (code, did) == (0, ["stop", "run"])
    assert watch(*[still] * 500, done(0), stall=0)[:2] == (0, [])
    untold = Status(State.RUNNING)  # GKE says no step
    assert watch(*[untold] * 500, done(0))[:2] == (0, [])


def test_a_run_that_hangs_on_some_hosts_is_stopped():
    partly = Status(State.RUNNING, 1, "not running any more on b")
    code, did, _ = watch(*[partly] * 10, done(1))
    assert (code, did) == (1, ["stop"])
