"""Fault 45: what a cloud answers, and what becomes of it (the cloud is played: fake/gcloud)."""

import datetime
import io
import json
import os
import pathlib
import sys

import pytest
from cloud.commands import LaunchError, Result, Shell

LOST = {"code": 1, "err": "ERROR: NOT_FOUND: Resource 'projects/p/x/base' was not found"}
OURS = {"out": json.dumps({"description": "rejepa-job=base", "state": {"state": "ACTIVE"}})}
SLICE = ["--accelerator_type=v6e-16", "--project=my-project", "--zone=us-east5-a"]


def state(name, **more):
    return {"out": json.dumps({"description": "rejepa-job=base", "state": {"state": name} | more})}


def verbs(cloud):
    """The commands that change something, without their flags."""
    changing = {"create", "delete", "ssh", "scp", "cp", "rm"}
    return [
        " ".join(w for w in words if w[0] != "-") for words in cloud.asked if changing & {*words}
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("WAITING_FOR_RESOURCES", "waiting WAITING_FOR_RESOURCES"),
        ("ACCEPTED", "waiting ACCEPTED"),
        ("PROVISIONING", "provisioning"),
        ("FAILED", "failed FAILED Quota limit"),
        ("SUSPENDING", "preempted"),
        ("SUSPENDED", "preempted"),
    ],
)
def test_each_state_is_told_and_nothing_is_set_up_in_it(cloud, name, said):
    error = {"failedData": {"error": {"message": "Quota limit TPUV5s has been exceeded"}}}
    cloud.answers(["describe base", [state(name, **(error if name == "FAILED" else {}))]])
    assert f"base: {said}" in cloud.launch("status")[1]
    code, _, wrong = cloud.launch("setup")
    assert code == (75 if "waiting" in said or "provisioning" in said else 1)
    assert "expected ready" in wrong
    assert verbs(cloud) == []


def test_an_unknown_state_and_a_wrong_zone_are_said_and_not_taken_for_absence(cloud):
    cloud.answers(["describe base", [state("MELTING")]])
    assert "got state MELTING, expected CREATING" in cloud.launch("status")[2]
    wrong_zone = {
        "code": 1,
        "err": "PERMISSION_DENIED: Permission denied on 'locations/us-west4-a'",
    }
    cloud.answers(["describe base", [wrong_zone]])
    assert "Permission denied" in cloud.launch("status")[2]
    assert "Permission denied" in cloud.launch("delete", "--yes")[2]
    assert verbs(cloud) == []


def test_create_asks_once_and_says_the_cost(cloud):
    cloud.answers(["describe base", [LOST, state("ACCEPTED")]])
    code, said, _ = cloud.launch("create")
    assert code == 0
    assert "about $9.60 an hour" in said
    assert "launch/tpu.py delete base --backend=qr --project=my-project --zone=us-west4-a" in said
    code, said, _ = cloud.launch("create")
    assert code == 0
    assert "exists already: ACCEPTED\nbase costs until it is deleted" in said
    assert len(verbs(cloud)) == 1


def test_a_quota_is_said_and_what_fails_in_passing_is_asked_again(cloud):
    quota = {"code": 1, "err": "RESOURCE_EXHAUSTED: Quota limit 'TPUV5sLitepod' has been exceeded"}
    cloud.answers(["describe base", [LOST]], ["create base", [quota]])
    code, _, wrong = cloud.launch("create")
    assert (code, len(verbs(cloud))) == (1, 1)
    assert "Quota limit 'TPUV5sLitepod'" in wrong
    busy = {"code": 1, "err": "HTTP Error 503: Service Unavailable"}
    exists = {"code": 1, "err": "ALREADY_EXISTS: Resource base"}
    cloud.answers(["describe base", [LOST]], ["create base", [busy, busy, exists]])
    assert cloud.launch("create")[0] == 0
    assert cloud.slept == [2, 5]


def test_what_takes_too_long_is_given_up_and_what_is_not_there_is_named():
    shell = Shell(out=io.StringIO(), pauses=())
    assert shell.capture(["sleep", "9"], timeout=0.1) == Result(124, "", "no answer within 0.1 s")
    with pytest.raises(LaunchError, match="no answer") as error:
        shell.read(["sleep", "9"], timeout=0.1)
    assert error.value.code == 75
    with pytest.raises(LaunchError, match="TLS handshake timeout") as error:
        shell.read(["sh", "-c", "echo net/http: TLS handshake timeout >&2; exit 1"])
    assert error.value.code == 75
    with pytest.raises(LaunchError, match="no-such-gcloud: not found on PATH") as error:
        shell.run(["no-such-gcloud", "version"])
    assert error.value.code == 2
    with pytest.raises(LaunchError, match="exit code 3 of: sh -c 'echo hm >&2; exit 3'\nhm"):
        shell.run(["sh", "-c", "echo hm >&2; exit 3"])


def test_no_command_can_ask():
    shell, read, write = Shell(out=io.StringIO(), pauses=()), *os.pipe()
    saved = os.dup(0)
    os.dup2(read, 0)  # a terminal at which nobody answers
    try:
        ask = "import os, sys; print(sys.stdin.read(), os.environ['CLOUDSDK_CORE_DISABLE_PROMPTS'])"
        assert shell.read([sys.executable, "-c", ask], timeout=20) == " 1\n"
    finally:
        os.dup2(saved, 0)
        for end in (saved, read, write):
            os.close(end)


def test_delete_asks_first_and_deletes_this_and_nothing_else(cloud, monkeypatch):
    cloud.answers(["describe base", [OURS]])
    monkeypatch.setattr("sys.stdin.readline", lambda: "bas\n", raising=False)
    assert cloud.launch("delete")[0] == 2
    assert verbs(cloud) == []
    monkeypatch.setattr("sys.stdin.readline", lambda: "base\n", raising=False)
    assert cloud.launch("delete")[0] == 0
    assert verbs(cloud) == [
        "compute tpus queued-resources delete base",
        "compute tpus tpu-vm delete base",
    ]


def test_someone_elses_of_the_same_name_is_neither_used_nor_deleted(cloud):
    theirs = {"out": json.dumps({"description": "a web server", "state": {"state": "ACTIVE"}})}
    cloud.answers(["describe", [theirs]], ["create", [{"code": 1, "err": "already exists"}]])
    for backend, words in (("qr", SLICE), ("mig", SLICE)):
        code, _, wrong = cloud.launch("create", backend=backend, words=words)
        assert code == 2
        assert "was not made here; take another name" in wrong
        code, _, wrong = cloud.launch("delete", "--yes", backend=backend, words=words)
        assert code == 1
        assert "left as it is" in wrong
    assert not any("delete" in words for words in cloud.asked)
    assert cloud.launch("delete", "--yes", "--unmarked", words=SLICE)[0] == 0


def test_delete_tries_all_and_names_all_that_may_be_left(cloud):
    busy = {"code": 1, "err": "the group is being changed"}
    cloud.answers(
        ["groups managed list", [{"out": "base-0\nbase-1\nbase-2\n"}]],
        ["delete base-[12]", [busy]],
        ["describe", [{"out": json.dumps({"description": "rejepa-job=base"})}]],
    )
    code, _, wrong = cloud.launch(
        "delete", "--yes", backend="mig", words=SLICE
    )  # and no --num_slices
    assert code == 1
    assert "group base-1 may NOT be deleted, and cost: the group is being changed" in wrong
    assert "group base-2 may NOT be deleted" in wrong
    assert "about $43.20 an hour" in wrong
    deleted = " ".join(line.split()[-1] for line in verbs(cloud))
    assert deleted == "base-2 base-1 base-0 base base base"
    cloud.answers(["describe", [LOST]])
    code, said, _ = cloud.launch("delete", "--yes", words=SLICE)
    assert code == 0
    assert "request base: was not there (--project=my-project --zone=us-east5-a)" in said


def test_older_than_looks_at_the_youngest(cloud):
    def made(hours):
        time = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours)
        found = {"description": "rejepa-job=base", "creationTimestamp": time.isoformat()}
        return [{"out": json.dumps(found)}]

    words = [*SLICE, "--num_slices=2", "--yes", "--older_than=12h"]
    cloud.answers(["describe base-0", made(20)], ["describe base-1", made(1)])
    assert "nothing is deleted" in cloud.launch("delete", backend="mig", words=words)[1]
    assert verbs(cloud) == []


@pytest.mark.parametrize("name", ["FAILED", "SUSPENDED"])
def test_create_says_that_nothing_comes_of_what_is_there(cloud, name):
    cloud.answers(["describe base", [state(name)]])
    code, _, wrong = cloud.launch("create")
    assert code == 1
    assert f"exists already: {name}; nothing comes of it: `delete` it first" in wrong


def test_what_is_said_before_json_and_instead_of_it(cloud):
    warned = {"out": "WARNING: an update is there\n" + state("ACCEPTED")["out"]}
    cloud.answers(["describe base", [warned, {"out": "Hello"}]])
    assert "waiting ACCEPTED" in cloud.launch("status")[1]
    code, _, wrong = cloud.launch("status")
    assert code == 75
    assert "got 'Hello', expected JSON" in wrong


@pytest.mark.parametrize("verb", ["check", "create"])
def test_a_config_that_is_not_there_is_found_before_anything_costs(cloud, verb):
    for backend, file in (("qr", "configs/typo.py"), ("gke", "constraints.json")):
        pathlib.Path("constraints.json").touch()
        code, _, wrong = cloud.launch(verb, f"--config={file}", backend=backend, words=SLICE)
        assert code == 2
        assert f"config: {'got ' if backend == 'gke' else ''}{file}" in wrong
    assert cloud.asked == []


@pytest.mark.parametrize(("age", "is_deleted"), [(11, False), (13, True)])
def test_older_than_spares_what_is_younger(cloud, age, is_deleted):
    made = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=age)
    created = made.strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    cloud.answers(
        ["describe", [{"out": json.dumps(json.loads(OURS["out"]) | {"createTime": created})}]]
    )
    assert cloud.launch("delete", "--yes", "--older_than=12h")[0] == 0
    assert bool(verbs(cloud)) == is_deleted
    assert cloud.launch("delete", "--older_than=soon")[0] == 2


def test_a_group_that_is_half_made_is_gone_on_with_or_deleted(cloud):
    marked = {"out": json.dumps({"description": "rejepa-job=base"})}
    exists = {"code": 1, "err": "The resource 'projects/p/base' already exists"}
    nothing = {"code": 1, "err": "ZONE_RESOURCE_POOL_EXHAUSTED: try later"}
    cloud.answers(
        ["create (workload-policy )?base", [{}, {}, nothing, exists, exists, {}]],
        ["list-instances base", [LOST]],
        ["groups managed describe base", [LOST]],
        ["describe base", [marked]],
    )
    code, _, wrong = cloud.launch("create", backend="mig", words=SLICE)
    assert code == 1
    assert "could not make group base: ZONE_RESOURCE_POOL_EXHAUSTED" in wrong
    assert "`create` again goes on, `delete` removes it" in wrong
    assert "absent no group" in cloud.launch("status", backend="mig", words=SLICE)[1]
    code, said, _ = cloud.launch("create", backend="mig", words=SLICE)
    assert code == 0
    assert "policy base: exists already\n" in said
    code, said, _ = cloud.launch("delete", "--yes", backend="mig", words=SLICE)
    assert code == 0
    assert "group base: was not there" in said
    assert verbs(cloud)[-2:] == [
        "compute instance-templates delete base",
        "compute resource-policies delete base",
    ]


def instances(*states, error=""):
    attempt = {"errors": {"errors": [{"code": error, "message": "m"}]}} if error else {}
    return {
        "out": json.dumps(
            [
                {
                    "instance": f"zones/z/instances/base-{i}",
                    "lastAttempt": attempt,
                    "instanceStatus": s,
                }
                if s
                else {"instance": f"zones/z/instances/base-{i}", "lastAttempt": attempt}
                for i, s in enumerate(states)
            ]
        )
    }


def test_a_group_of_which_more_is_to_come_is_no_end(cloud):
    cloud.answers(
        ["list-instances", [instances("RUNNING")]], ["describe base", [{"out": '{"status": {}}'}]]
    )
    said = cloud.launch("status", backend="mig", words=SLICE)[1]
    assert "provisioning 1 of 4" in said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (instances("", "", "", ""), "waiting 0 of 4"),
        (instances("", "", "", "", error="ZONE_RESOURCE_POOL_EXHAUSTED"), "waiting 0 of 4"),
        (
            instances("", "", "", "", error="QUOTA_EXCEEDED"),
            "failed 0 of 4 hosts run; QUOTA_EXCEEDED",
        ),
        (instances("STAGING", "RUNNING", "PROVISIONING", "STAGING"), "provisioning 1 of 4"),
        (instances("RUNNING", "RUNNING", "RUNNING"), "preempted 3 of 4 hosts run; 3 left"),
        (instances(), "preempted 0 of 4 hosts run; 0 left, none is being made"),
        (instances("RUNNING", "RUNNING", "TERMINATED", "RUNNING"), "preempted 3 of 4"),
    ],
)
def test_the_states_of_a_group(cloud, answer, said):
    stable = {"out": json.dumps({"status": {"isStable": True}})}
    cloud.answers(["list-instances", [answer]], ["describe base", [stable]])
    assert f"base: {said}" in cloud.launch("status", backend="mig", words=SLICE)[1]


@pytest.mark.parametrize(
    ("ports", "given", "code"),
    [(["8476"], [], 2), (["8476"], ["--coordinator_port=8476"], 0), (["8000-9000"], [], 0)],
)
def test_check_looks_whether_the_hosts_can_meet(cloud, ports, given, code):
    rules = json.dumps([{"allowed": [{"IPProtocol": "tcp", "ports": ports}]}])
    cloud.answers(
        ["auth list", [{"out": "me@example.com\n"}]],
        ["services list", [{"out": "tpu.googleapis.com\n"}]],
        ["buckets describe", [{"out": "US-WEST4\n"}]],
        ["firewall-rules", [{"out": rules}]],
    )
    words = ["--accelerator_type=v5litepod-16", "--workdir=gs://b-1/r", "--project=my-project"]
    found, said, wrong = cloud.launch("check", words=[*words, "--zone=us-west4-a", *given])
    assert found == code, wrong
    assert ("Give --coordinator_port=8476" in wrong) == bool(code)
    assert "ok  gs://b-1, writable" in said


def test_check_names_all_that_is_missing(cloud):
    missing = {"code": 1, "err": "not there"}
    cloud.answers(["accelerator-types|buckets|storage cp", [missing]])
    code, _, wrong = cloud.launch("check")
    assert code == 2
    for what in (
        "gcloud auth login",
        "services enable tpu.googleapis.com",
        "v5litepod-8 in",
        "gs://my-bucket: not",
    ):
        assert what in wrong
