"""The fields of a JobSet that we may write, by hand from the types of its API."""

import re

TEXT, NUMBER, YES_NO = str, int, bool


class Fields(dict):
    """Fields of an API object; those in `needs` must be there, others than these may not."""

    def __init__(self, fields: dict, needs: str = ""):
        super().__init__(fields)
        self.needs = needs.split()


# By hand from api/jobset/v1alpha2/jobset_types.go of kubernetes-sigs/jobset v0.8 and newer, and
# from batch/v1 and core/v1 of Kubernetes: what we may write. Other names are refused there too.
NAME = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
LABELS = {r"([a-z0-9.-]+/)?[A-Za-z0-9._-]{1,63}": r"[A-Za-z0-9._-]{0,63}"}
QUANTITIES = {"google[.]com/tpu": "[1-9][0-9]*"}
CONTAINER = Fields(
    {
        "name": NAME,
        "image": TEXT,
        "command": [TEXT],
        "env": [Fields({"name": "[A-Za-z_][A-Za-z0-9_]*", "value": TEXT}, "name value")],
        "ports": [Fields({"containerPort": range(1, 65536)}, "containerPort")],
        "resources": Fields({"requests": QUANTITIES, "limits": QUANTITIES}, "requests limits"),
        "securityContext": Fields({"privileged": YES_NO}),
    },
    "name image command",
)
POD = Fields(
    {
        "restartPolicy": "Never",  # podFailurePolicy demands it
        "terminationGracePeriodSeconds": NUMBER,
        "shareProcessNamespace": YES_NO,
        "hostNetwork": YES_NO,
        "dnsPolicy": "ClusterFirst|ClusterFirstWithHostNet|Default|None",
        "nodeSelector": LABELS,
        "tolerations": [
            Fields({"key": TEXT, "operator": "Exists|Equal", "effect": "NoSchedule|NoExecute"})
        ],
        "containers": [CONTAINER],
    },
    "restartPolicy containers",
)
POD_RULE = Fields(
    {
        "action": "FailJob|FailIndex|Ignore|Count",
        "onExitCodes": Fields(
            {"containerName": NAME, "operator": "In|NotIn", "values": [range(1, 256)]},
            "operator values",
        ),
        "onPodConditions": [Fields({"type": TEXT, "status": "True|False|Unknown"}, "type status")],
    },
    "action",
)
JOB = Fields(
    {
        "completions": NUMBER,
        "parallelism": NUMBER,
        "completionMode": "Indexed|NonIndexed",
        "backoffLimit": NUMBER,
        "podFailurePolicy": Fields({"rules": [POD_RULE]}, "rules"),
        "template": Fields({"metadata": Fields({"labels": LABELS}), "spec": POD}, "spec"),
    },
    "template",
)
JOBSET_RULE = Fields(
    {
        "name": "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        "action": "FailJobSet|RestartJobSet|RestartJobSetAndIgnoreMaxRestarts",
        "onJobFailureReasons": ["BackoffLimitExceeded|DeadlineExceeded|PodFailurePolicy"],
    },
    "name action",
)
JOBSET = Fields(
    {
        "apiVersion": "jobset[.]x-k8s[.]io/v1alpha2",
        "kind": "JobSet",
        "metadata": Fields(
            {"name": NAME, "namespace": NAME, "labels": LABELS, "annotations": {TEXT: TEXT}}, "name"
        ),
        "spec": Fields(
            {
                "failurePolicy": Fields(
                    {
                        "maxRestarts": NUMBER,
                        "restartStrategy": "Recreate|BlockingRecreate",
                        "rules": [JOBSET_RULE],
                    }
                ),
                "replicatedJobs": [
                    Fields(
                        {
                            "name": NAME,
                            "replicas": NUMBER,
                            "template": Fields({"spec": JOB}, "spec"),
                        },
                        "name template",
                    )
                ],
            },
            "replicatedJobs",
        ),
    },
    "apiVersion kind metadata spec",
)


def check(value, form, place="JobSet"):
    """Asserts that a value has a form of the table above."""
    if isinstance(form, Fields):
        assert isinstance(value, dict), place
        assert not set(value) - set(form), f"{place}: no field {set(value) - set(form)}"
        assert set(form.needs) <= set(value), f"{place}: needs {form.needs}"
        for key, part in value.items():
            check(part, form[key], f"{place}.{key}")
    elif isinstance(form, dict):
        [(key_form, part_form)] = form.items()
        for key, part in value.items():
            check(key, key_form, place)
            check(part, part_form, f"{place}.{key}")
    elif isinstance(form, list):
        assert isinstance(value, list), place
        for number, part in enumerate(value):
            check(part, form[0], f"{place}[{number}]")
    elif isinstance(form, range):
        assert type(value) is int, f"{place}: {value}"
        assert value in form, f"{place}: {value}"
    elif isinstance(form, str):
        assert isinstance(value, str), f"{place}: {value!r}"
        assert re.fullmatch(form, value), f"{place}: {value!r}"
    else:
        assert type(value) is form, f"{place}: {value!r}"
