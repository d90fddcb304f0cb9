"""Fault 45 on GKE: what somebody else made, another run, or files that no pod would have."""

import pytest
from cloud.backend import State, Status
from cloud.commands import LaunchError
from fake_gke import World, foreign, jobset, pod, pool, world

__all__ = ["world"]
JOBSET = "kubectl * get jobsets*"
POOLS = "gcloud container node-pools list*"


@pytest.mark.parametrize("verb", ["status", "run", "stop", "delete"])
@pytest.mark.parametrize("kind", ["", "Completed"])
@pytest.mark.parametrize("via", ["kubectl", "xpk"])
def test_a_jobset_that_somebody_else_made_is_left_alone(world: World, verb, kind, via):
    world.answer(JOBSET, 0, foreign(kind))
    with pytest.raises(LaunchError, match="JobSet ben in namespace default was not") as caught:
        getattr(world.gke(via=via), verb)()
    assert caught.value.code == 2
    done = [words for words in world.calls("kubectl") if {"apply", "delete"} & {*words}]
    assert not done + world.calls("xpk")


def test_a_jobset_of_xpk_is_ours_by_its_mark(world: World):
    theirs = foreign()
    pods = theirs["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    pods["containers"][0]["env"].append({"name": "REJEPA_JOB", "value": "ben"})
    world.answer(JOBSET, 0, theirs)
    world.gke(via="xpk").stop()
    assert [words[1:3] for words in world.calls("xpk")] == [["workload", "delete"]]
    world.gke(workdir="gs://my-bucket/new").run()  # xpk wraps the command: it cannot be compared
    assert "has not ended: left as it is" in world.out.getvalue()


POLICY = "gcloud compute resource-policies describe*"
TPU7X = {"accelerator_type": "tpu7x-64", "num_slices": 1}


@pytest.mark.parametrize("mark", ["rejepa-job=ben", "rejepa-job=other", ""])
def test_a_workload_policy_is_used_and_deleted_only_if_it_is_ours(world: World, mark):
    exists = "The resource 'projects/p/regions/r/resourcePolicies/ben' already exists"
    world.answer("gcloud compute resource-policies create*", 1, exists)
    world.answer(POLICY, 0, {"name": "ben", "description": mark})
    verbs = [world.gke(**TPU7X).create, world.gke(**TPU7X).delete]
    if mark == "rejepa-job=ben":
        for verb in verbs:
            verb()
    else:
        for verb in verbs:
            with pytest.raises(LaunchError, match=r"workload policy ben .*not made here"):
                verb()
    is_ours = mark == "rejepa-job=ben"
    assert len(world.calls("gcloud compute resource-policies delete")) == is_ours
    assert len(world.calls("gcloud container node-pools create")) == is_ours
    [asked, *_] = world.calls("gcloud compute resource-policies create")
    assert "--description=rejepa-job=ben" in asked


def test_a_run_of_another_workdir_is_not_taken_for_this_one(world: World):
    world.answer(JOBSET, 0, jobset(workdir="gs://my-bucket/old"))
    with pytest.raises(LaunchError, match="runs with another workdir") as caught:
        world.gke().run()
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("configs/ben14.py", "expected a file that is there"),
        ("mine/ben14k.py", "expected a file under configs/"),
        ("/configs/ben14k.py", "expected a file under configs/"),
        ("configs/../setup.py", "expected a file under configs/"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "create", "setup", "run"])
def test_a_config_that_the_image_will_not_have_is_refused_first(world: World, verb, config, said):
    with pytest.raises(LaunchError, match=f"config: got {config}, {said}") as caught:
        getattr(world.gke(config=config), verb)()
    assert caught.value.code == 2
    assert not world.calls()


def test_a_config_with_a_variant_is_the_same_file(world: World):
    world.gke(config="configs/ben14k.py:small").run()
    assert "configs/ben14k.py:small" in world.stdin


def test_a_manifest_that_cannot_be_written_is_one_line(world: World, tmp_path):
    with pytest.raises(LaunchError, match=r"--manifest_out .*no/ben.json: No such file") as caught:
        world.gke(manifest_out=str(tmp_path / "no/ben.json")).run()
    assert caught.value.code == 2


def test_what_another_run_left_done_is_not_this_one(world: World):
    world.answer("kubectl * get jobsets*", 0, jobset("Completed", workdir="gs://my-bucket/old"))
    world.answer(POOLS, 0, [pool("ben-0"), pool("ben-1")])
    assert world.gke().status() == Status(State.READY)
    assert world.gke(workdir="gs://my-bucket/old").status() == Status(State.DONE, 0)


def test_a_run_that_goes_on_with_another_command_is_named(world: World):
    world.answer("kubectl * get jobsets*", 0, jobset(workdir="gs://my-bucket/old"))
    world.answer("kubectl * get pods*", 0, {"items": [pod("a", "Running")]})
    assert world.gke().status().detail == "1 pods run; with another workdir, config or arguments"
    assert world.gke(workdir="gs://my-bucket/old").status().detail == "1 pods run"
