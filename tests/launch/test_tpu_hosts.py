"""What many hosts say is one state of the run."""

import pytest
from cloud.backend import State, Status
from cloud.commands import LaunchError, Result
from cloud.hosts import answers, is_passing, judge, require, without_others, worst


def heard(*lines):
    noise = "SSH: Attempting to connect to worker 0...\n"
    return answers([Result(0, noise + "".join(f"rejepa {line}\n" for line in lines), "")])


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (
            ["b running", 'a running {"step": 7, "loss": 0.5}'],
            Status(State.RUNNING, None, "step 7, loss 0.5000", 7),
        ),
        (["a idle", "b idle"], Status(State.READY, None, "2 hosts, nothing has run")),
        (['a done 0 {"step": 9}', "b done 0"], Status(State.DONE, 0, "step 9", 9)),
        (
            ["a done 75", "b done 75"],
            Status(State.DONE, 75, "no step logged yet; a: done 75, b: done 75", 0),
        ),
        (
            ["a done 2", "b done 134"],
            Status(State.DONE, 2, "no step logged yet; a: done 2, b: done 134", 0),
        ),
        (
            ["a lost", "b done 0"],
            Status(State.DONE, 137, "no step logged yet; a: lost, b: done 0", 0),
        ),
        (
            ["a running", "b done 1"],
            Status(State.RUNNING, 1, "no step logged yet; not running any more on b", 0),
        ),
        (
            ['a running {"step": 7, "lo', "b running"],
            Status(State.RUNNING, None, "no step logged yet", 0),
        ),
    ],
)
def test_the_state_of_the_run(lines, status):
    assert judge(heard(*lines), 2) == status


def test_a_silent_host_is_no_state():
    with pytest.raises(LaunchError, match="1 of 2 hosts are silent; heard: a") as error:
        judge(heard("a running"), 2)
    assert error.value.code == 75


def test_a_host_that_failed_is_named_beside_what_it_said():
    with pytest.raises(LaunchError, match="b: failed pip: no such wheel"):
        require(heard("a ready bundle 1", "b failed pip: no such wheel"), 2, "ready", [], "1")
    with pytest.raises(LaunchError, match="b: has another bundle 2"):
        require(heard("a ready bundle 1", "b ready bundle 2"), 2, "ready", [], "1")
    unlike = heard("a ready bundle 1 jax 1", "b ready bundle 1 jax 2", "c ready bundle 1 jax 1")
    with pytest.raises(LaunchError, match="b: unlike most: bundle 1 jax 2") as error:
        require(unlike, 3, "ready", [], "1")
    assert "a:" not in str(error.value)
    with pytest.raises(LaunchError, match="1 of 2 hosts did not answer: no route") as error:
        require(heard("a ready bundle 1"), 2, "ready", [Result(255, "", "no route")], "1")
    assert error.value.code == 75
    require(heard("a ready bundle 1", "b ready bundle 1"), 2, "ready", [], "1")


def test_what_someone_must_mend_comes_before_what_passes():
    assert [worst(codes) for codes in ([0, 0], [0, 75], [75, 139, 2], [134, 0], [1, 3])] == [
        0,
        75,
        2,
        134,
        3,
    ]
    assert [code for code in (0, 1, 2, 3, 75, 127, 134, 137, 143) if is_passing(code)] == [
        75,
        134,
        137,
        143,
    ]


def test_the_end_of_another_command_is_none_of_ours():
    found = heard("a done 0 task new", 'b done 0 task old {"step": 9}')
    status = without_others(judge(found, 2), found, "new")
    said = "step 9; another config or command than this on b has ended"
    assert status == Status(State.READY, None, said)
    ours = heard("a done 0 task new", "b lost task new")
    assert without_others(judge(ours, 2), ours, "new") == judge(ours, 2)
    running = heard("a running task old", "b idle")
    assert without_others(judge(running, 2), running, "new").state is State.RUNNING
