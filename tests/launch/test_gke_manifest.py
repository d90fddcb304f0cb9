"""The JobSet against the API's own types, and against what each line of it is for."""

import json
import re
import shlex

import pytest
import yaml
from cloud import xpk
from cloud.jobset import manifest, to_json
from fake_gke import IMAGE, job
from jobset_fields import JOBSET, check

VARIANTS = {
    "two spot slices": {},
    "one host": {"accelerator_type": "v5litepod-8", "num_slices": 1, "spot": False},
    "queue": {"queue": "team", "namespace": "research"},
    "flex": {"flex_start": "8h", "spot": False, "accelerator_type": "v6e-64"},
    "pod": {"accelerator_type": "v5p-128", "env": {"A": "x"}, "coordinator_port": 8476},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_every_field_is_one_of_the_api_and_of_its_type(settings):
    made = manifest(job(**settings), IMAGE)
    check(made, JOBSET)
    assert json.loads(to_json(made)) == yaml.safe_load(to_json(made)) == made


def test_the_check_finds_what_a_server_would_refuse():
    made = manifest(job(), IMAGE)
    made["spec"]["failurePolicy"]["maxRestart"] = 3
    with pytest.raises(AssertionError, match="maxRestart"):
        check(made, JOBSET)


def slice_job(**settings) -> dict:
    return manifest(job(**settings), IMAGE)["spec"]["replicatedJobs"][0]["template"]["spec"]


def pod_of(**settings) -> dict:
    return slice_job(**settings)["template"]["spec"]


def test_a_job_a_slice_and_a_pod_a_host():
    made = manifest(job(), IMAGE)
    assert made["spec"]["replicatedJobs"][0]["replicas"] == 2
    assert (slice_job()["completions"], slice_job()["parallelism"]) == (4, 4)  # 16 chips, 4 a host
    pod = pod_of()
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": "4"}
    annotations = made["metadata"]["annotations"]
    assert annotations == {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }


def ends(policy: dict, code: int, *, evicted: bool = False) -> str:
    """What Kubernetes' and JobSet's documented rules do with a pod that ended so."""
    for rule in policy["rules"]:
        codes = rule.get("onExitCodes", {}).get("values", [])
        if code in codes or (evicted and "onPodConditions" in rule):
            return "JobSet fails" if rule["action"] == "FailJob" else "JobSet restarts"
    return "JobSet restarts"  # backoffLimit 0: the Job fails, and without a rule all are restarted


@pytest.mark.parametrize(
    ("code", "evicted", "outcome"),
    [
        (1, False, "JobSet fails"),
        (2, False, "JobSet fails"),
        (3, False, "JobSet fails"),
        (75, False, "JobSet restarts"),
        (134, False, "JobSet restarts"),  # JAX's own end where a peer is gone
        (137, False, "JobSet restarts"),
        (143, True, "JobSet restarts"),
        (1, True, "JobSet restarts"),  # however a pod ends that is evicted
    ],
)
def test_what_is_restarted_and_what_is_not(code, evicted, outcome):
    assert slice_job()["backoffLimit"] == 0
    assert ends(slice_job()["podFailurePolicy"], code, evicted=evicted) == outcome
    failure = manifest(job(), IMAGE)["spec"]["failurePolicy"]
    assert [(rule["action"], rule["onJobFailureReasons"]) for rule in failure["rules"]] == [
        ("FailJobSet", ["PodFailurePolicy"])
    ]


def test_several_hosts_meet_and_one_host_does_not_look_for_others():
    assert "--distributed" in pod_of()["containers"][0]["command"]
    assert pod_of()["hostNetwork"]
    alone = pod_of(accelerator_type="v5litepod-8", num_slices=1)
    assert "--distributed" not in alone["containers"][0]["command"]
    assert "hostNetwork" not in alone
    assert alone["containers"][0]["resources"]["limits"] == {"google.com/tpu": "8"}


def test_ports_and_environment():
    container = pod_of(env={"JAX_PLATFORMS": "tpu"})["containers"][0]
    assert [port["containerPort"] for port in container["ports"]] == [8080, 8471, 8482]
    assert {"name": "JAX_PLATFORMS", "value": "tpu"} in container["env"]
    named = pod_of(coordinator_port=8476)["containers"][0]
    assert "--coordinator_port=8476" in named["command"]
    assert {"containerPort": 8476} in named["ports"]


HOSTILE = ["--config.a=$(HOME)", "--config.b=$$x", "--config.c=a b;'\"`id`", "--config.d="]


def test_no_word_is_changed_on_its_way_to_the_program():
    command = pod_of(arguments=tuple(HOSTILE))["containers"][0]["command"]
    # What Kubernetes does to a command: $$ is $, and $(NAME) the variable's value.
    assert "$(HOME)" not in re.sub(r"\$\$", "", command[-4])
    assert [re.sub(r"\$\$", "$", word) for word in command[-4:]] == HOSTILE


def test_xpk_is_given_the_same_run():
    words = xpk.create(job(arguments=tuple(HOSTILE), env={"A": "b c"}), IMAGE)
    assert words[:3] == ["xpk", "workload", "create"]
    flags = dict(word.split("=", 1) for word in words[3:])
    assert flags["--tpu-type"] == "v5litepod-4x4"
    assert flags["--num-slices"] == "2"
    assert flags["--restart-on-exit-codes"] == "75"
    assert [word for word in words if word.startswith("--env=")] == [
        "--env=A=b c",
        "--env=JAX_PLATFORMS=tpu,cpu",  # no silent training on processors
        "--env=PYTHONUNBUFFERED=1",
        "--env=REJEPA_JOB=ben",
    ]
    assert shlex.split(flags["--command"]) == job(arguments=tuple(HOSTILE)).command
