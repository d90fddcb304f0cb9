"""A run on two hosts, which are folders here; host.sh and what it is given are the real ones."""

import json
import os
import pathlib
import signal
import time

import pytest

ACTIVE = {"out": json.dumps({"description": "rejepa-job=base", "state": {"state": "ACTIVE"}})}
TWO = [
    *("--project=my-project", "--zone=us-west4-a", "--accelerator_type=v5p-16"),
    *("--workdir=gs://b-1/a run; $(id)", "--config=configs/base.py", "--env=NOTE=it's; $(x)"),
    "--wheel=dist/rejepa_jax-1.0-py3-none-any.whl",
]
NEW = [word for word in TWO if not word.startswith("--workdir")]
NASTY = "--config.x=a 'b' \"c\"; `d` $(e) \\"


@pytest.fixture
def hosts(cloud, monkeypatch):
    """Two hosts that are there; a run logs a step, and goes on until it is asked to stop."""
    cloud.answers(["describe base", [ACTIVE]])
    cloud.hosts("w-0", "w-1")
    monkeypatch.setenv("GRACE", "10")
    program(monkeypatch, "trap 'exit 75' TERM; for i in {1..400}; do sleep 0.05; done")
    return cloud


def program(monkeypatch, then):
    """What runs in place of rejepa_jax.main: keeps its words and environment, logs, then this."""
    log = 'mkdir -p $REJEPA_CACHE/b/checkpoints; echo \'{"step": 4, "loss": 0.25}\''
    keep = 'printf "%s\\0" "$@" >words; printenv NOTE JAX_PLATFORMS >note; '
    only = f"[ $FAKE_HOST != w-0 ] || {{ {log} >$REJEPA_CACHE/b/checkpoints/metrics.jsonl; }}; "
    monkeypatch.setenv("FAKE_RUN", keep + only + then)


def wait(cloud, sign):
    """Asks for the status until it has the sign."""
    for _ in range(50):
        code, said, wrong = cloud.launch("status", words=TWO)
        if sign in said:
            return code, said
        time.sleep(0.1)
    raise AssertionError(f"no {sign!r} in {said} {wrong}")


def test_from_setup_to_stop_and_on(hosts):
    code, said, wrong = hosts.launch("setup", words=TWO)
    assert code == 0, wrong
    assert said.count("jax 0.10.2 libtpu 0.0.42") == 2
    code, _, wrong = hosts.launch("run", words=[*TWO, "--", NASTY])
    assert code == 0, wrong
    code, said = wait(hosts, "running step 4, loss 0.2500")
    assert code == 0
    assert "costs until it is deleted" in said
    for name in ("w-0", "w-1"):  # each has just the words that were given
        home = hosts.folder / "hosts" / name / "rejepa-base"
        words = (home / "words").read_text().split("\0")[:-1]
        assert words == [
            *("-m", "rejepa_jax.main", "--config", "configs/base.py"),
            *("--workdir", "gs://b-1/a run; $(id)", "--distributed", NASTY),
        ]
        assert (home / "note").read_text() == "it's; $(x)\ntpu,cpu\n"
    code, said, _ = hosts.launch("run", words=[*TWO, "--", NASTY])
    assert code == 0
    assert said.count("already") == 2
    code, _, wrong = hosts.launch("run", words=[*TWO, "--", "--config.seed=4"])
    assert code == 1
    assert "w-0: has another bundle" in wrong
    code, said, _ = hosts.launch("stop", words=TWO)
    assert code == 0
    assert "done step 4, loss 0.2500; w-0: done 75, w-1: done 75" in said
    assert "the machines of base stay; it costs until it is deleted" in said
    assert hosts.launch("status", words=TWO)[0] == 75


def test_resume_goes_on_after_75_and_ends_with_the_runs_own_code(hosts, monkeypatch):
    program(monkeypatch, "[ -e again ] && exit 3; touch again; exit 75")
    code, said, wrong = hosts.launch("resume", "--period=0.2", words=TWO)
    assert code == 3, said + wrong
    assert "it ended with exit code 3, which stays" in said
    assert said.count("w-1: running bundle") == 2
    assert "costs until it is deleted" in said


def test_the_run_outlives_the_connection_and_a_killed_one_is_lost(hosts):
    hosts.launch("setup", words=TWO)
    hosts.launch("run", words=TWO)  # the shells that started it have ended by now
    wait(hosts, "running step 4")
    for name in ("w-0", "w-1"):
        home = hosts.folder / "hosts" / name / "rejepa-base"
        os.kill(int((home / "pid").read_text()), signal.SIGKILL)
    assert wait(hosts, "exit code 137")[0] == 75


def test_one_host_that_fails_is_named_and_nothing_runs(hosts, monkeypatch):
    monkeypatch.setenv("FAKE_BAD_HOST", "w-1")
    code, _, wrong = hosts.launch("setup", words=TWO)
    assert code == 1
    assert "w-1: failed pip: no such wheel" in wrong
    assert "w-0" not in wrong
    code, _, wrong = hosts.launch("run", words=TWO)
    assert code == 1
    assert "w-1: failed not set up with this wheel: setup first" in wrong
    assert "w-0: done 75" in hosts.launch("status", words=TWO)[1]  # it does not wait for the other


def test_one_host_with_other_versions_or_none_at_all_is_found(hosts):
    (hosts.folder / "hosts" / "w-1").rmdir()
    code, _, wrong = hosts.launch("setup", words=TWO)
    assert code == 75
    assert "1 of 2 hosts did not answer" in wrong


def test_run_before_setup_and_a_config_that_is_not_there(hosts):
    code, _, wrong = hosts.launch("run", words=TWO)
    assert code == 2
    assert "give the verb setup first" in wrong
    code, _, wrong = hosts.launch("setup", words=[*TWO, "--config=configs/none.py"])
    assert code == 2
    assert "config: configs/none.py: no such file here" in wrong


def test_resume_on_another_machine_and_with_another_workdir(hosts, monkeypatch):
    program(monkeypatch, "exit 0")
    assert hosts.launch("resume", "--period=0.2", words=TWO)[0] == 0
    for folder in pathlib.Path("build").rglob("*.whl"):
        folder.unlink()
    code, said, wrong = hosts.launch("resume", "--period=0.2", words=TWO)  # it is done already
    assert (code, said.count("running bundle")) == (0, 0), wrong
    code, said, wrong = hosts.launch("resume", "--period=0.2", "--workdir=gs://b-1/new", words=NEW)
    assert (code, said.count("w-1: running bundle")) == (0, 1), said + wrong
    assert "another config or command than this on w-0, w-1 has ended" in said
    program(monkeypatch, "[ -e again ] && exit 0; touch again; exit 75")
    hosts.launch("run", words=TWO)
    wait(hosts, "w-0: done 75, w-1: done 75")
    [wheel] = pathlib.Path("build").rglob("*.whl")
    wheel.unlink()
    code, said, wrong = hosts.launch("resume", "--period=0.2", words=TWO)
    assert code == 0, said + wrong
    assert "no wheel of this run here: `setup` takes the one of now" in said


def test_what_fails_on_a_host_is_not_taken_for_nothing_that_runs(hosts, monkeypatch):
    monkeypatch.setenv("FAKE_NO_ROOT", "w-1")
    hosts.launch("setup", words=TWO[:])
    code, _, wrong = hosts.launch("status", words=TWO)
    assert code == 0, wrong  # w-1 has no host.sh: nothing was ever there
    (hosts.folder / "hosts/w-1/rejepa-base").mkdir(exist_ok=True)
    (hosts.folder / "hosts/w-1/rejepa-base/host.sh").write_text("not the real one (")
    code, _, wrong = hosts.launch("status", words=TWO)
    assert code == 75
    assert "1 of 2 hosts are silent; heard: w-0" in wrong


def test_resume_deletes_nothing_while_the_run_may_be_well(hosts):
    expired = {"code": 1, "err": "ERROR: Unauthorized"}
    hosts.answers(["describe base", [expired]])
    code, said, _ = hosts.launch("resume", "--delete_at_end", "--tries=3", words=TWO)
    assert code == 75
    assert "whether the run has ended is not known: nothing is deleted" in said
    assert "costs until it is deleted" in said
    assert not any("delete" in words for words in hosts.asked)
    denied = {"code": 1, "err": "PERMISSION_DENIED: caller has no tpu.queuedResources.get"}
    hosts.answers(["describe base", [denied]])
    (hosts.folder / "log.jsonl").unlink()
    code, said, _ = hosts.launch("resume", "--delete_at_end", words=TWO)
    assert (code, len(hosts.asked)) == (1, 1)


def test_resume_deletes_at_its_end_and_not_when_it_is_interrupted(hosts, monkeypatch):
    program(monkeypatch, "exit 0")
    code, said, _ = hosts.launch("resume", "--delete_at_end", words=TWO)
    assert code == 0
    assert "request base: deleted" in said
    assert said.endswith("node base: deleted\n")
    (hosts.folder / "log.jsonl").unlink()
    monkeypatch.setattr("cloud.watching.Watch.run", interrupt)
    code, _, wrong = hosts.launch("resume", "--delete_at_end", words=TWO)
    assert (code, hosts.asked) == (130, [])
    assert "goes on, and costs" in wrong


def interrupt(_):
    raise KeyboardInterrupt
