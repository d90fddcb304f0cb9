"""Fault 45 on GKE: what its verbs do when the cloud says no, says nothing, or has other things."""

import pytest
from cloud import prices
from cloud.backend import State
from cloud.commands import LaunchError, Shell
from cloud.gke import Gke
from fake_gke import World, job, jobset, pool, world

__all__ = ["world"]
POOLS = "gcloud container node-pools list*"
JOBSET = "kubectl * get jobsets*"
QUOTA = "Insufficient regional quota to satisfy request: resource TPU_V5_LITEPOD"


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (pool("ben-0", owner=""), "not this job's"),
        (pool("ben-0", owner="other"), "not this job's"),
        (pool("ben-0", "ERROR", message="GCE_STOCKOUT"), "in ERROR: GCE_STOCKOUT; delete it"),
    ],
)
def test_create_refuses_a_pool_of_that_name_that_it_cannot_use(world: World, there, said):
    world.answer(POOLS, 0, [there])
    with pytest.raises(LaunchError, match=said):
        world.gke().create()
    assert not world.calls("gcloud container node-pools create")


def test_quota_is_said_in_googles_words_and_not_asked_for_again(world: World):
    world.answer("*node-pools create ben-1 *", 1, f"ERROR: code=403, message={QUOTA}")
    with pytest.raises(LaunchError, match=f"(?s)ben-1: .*{QUOTA}.*before it stay, and cost"):
        world.gke().create()
    assert len(world.calls("gcloud container node-pools create")) == 2
    assert not world.waits


def test_what_fails_in_passing_is_asked_again(world: World):
    world.answer(JOBSET, 1, "Unable to connect: HTTP Error 503", once=True)
    world.answer(POOLS, 0, [pool("ben-0"), pool("ben-1")])
    assert world.gke().status().state is State.READY
    assert world.waits == [0]


def test_delete_takes_only_pools_with_our_name_and_our_label(world: World):
    strangers = [
        pool("ben-1", owner=""),
        pool("ben-2", owner="other"),
        pool("ben-extra-0", owner="ben-extra"),
        pool("ben-0-old"),  # our label, but no name that we give
        pool("my-ben-0"),
        pool("default-pool", owner=""),
    ]
    world.answer(JOBSET, 0, jobset())
    world.answer(POOLS, 0, [pool("ben-0"), pool("ben-7"), *strangers], once=True)
    world.answer(POOLS, 0, [pool("ben-0", "STOPPING"), *strangers], once=True)
    world.answer(POOLS, 0, strangers)
    world.gke().delete()
    deleted = [words[4] for words in world.calls("gcloud container node-pools delete")]
    assert deleted == ["ben-0", "ben-7"]  # also the one of a time with more slices
    [deletion] = [words for words in world.calls("kubectl") if "delete" in words]
    assert deletion[4:6] == ["jobsets.jobset.x-k8s.io", "ben"]
    assert world.waits == [30]
    assert "left alone: node pool ben-1" in world.out.getvalue()
    assert "nothing of it costs any more" in world.out.getvalue()


def test_delete_deletes_what_costs_even_if_the_cluster_does_not_answer(world: World):
    world.answer(JOBSET, 1, "Unable to connect to the server: no such host")
    world.answer(POOLS, 0, [pool("ben-0")], once=True)
    with pytest.raises(LaunchError, match="no such host"):
        world.gke().delete()
    assert len(world.calls("gcloud container node-pools delete")) == 1


def test_delete_does_not_say_that_all_is_gone_before_it_is(world: World):
    world.answer(POOLS, 0, [pool("ben-0", "STOPPING")])
    with pytest.raises(LaunchError, match=r"still there: ben-0; delete again\n.*costs until"):
        world.gke().delete()
    assert sum(world.waits) == 1800  # half an hour, then it ends by itself


def test_stop_leaves_the_machines_and_says_so(world: World):
    world.answer(JOBSET, 0, jobset())
    world.gke().stop()
    assert len([words for words in world.calls("kubectl") if "delete" in words]) == 1
    assert not world.calls("gcloud container node-pools")
    assert f"the machines stay: ben {prices.warn(job())}" in world.out.getvalue()


def test_run_leaves_a_run_and_makes_one_that_has_ended_anew(world: World):
    world.answer(JOBSET, 0, jobset(), once=True)
    world.gke().run()
    assert "has not ended: left as it is" in world.out.getvalue()
    world.answer(JOBSET, 0, jobset("Failed", "ReachedMaxRestarts"))
    world.gke().run()
    verbs = [words[3] for words in world.calls("kubectl --context")]
    assert verbs == ["get", "get", "delete", "apply"]


def test_no_kubectl_call_goes_to_whatever_cluster_is_the_default(world: World):
    world.answer("kubectl config get-contexts*", 1, "error: context not found")
    gke = world.gke(namespace="research")
    gke.status(), gke.run(), gke.stop()
    gke.logs(follow=True, everywhere=True)
    asked = [words for words in world.calls("kubectl") if words[1] != "config"]
    assert len(asked) == 5  # no delete, as nothing is there
    for words in asked:
        assert words[1:3] == ["--context=gke_my-project_us-west4_tpus", "--namespace=research"]
    assert len(world.calls("gcloud container clusters get-credentials tpus")) == 1


@pytest.mark.parametrize(
    ("pattern", "code", "answer", "said"),
    [
        (
            "gcloud container clusters list*",
            0,
            "",
            "got none in my-project, expected it in us-west4",
        ),
        ("gcloud container clusters list*", 0, "us-east1", "got us-east1"),
        ("kubectl * get customresource*", 1, "Error: NotFound", "JobSet in tpus .*NotFound"),
        ("kubectl * auth can-i*", 1, "no", "right to make one in default: no"),
        ("gcloud auth list*", 0, "", "gcloud auth login"),
        ("gcloud storage cp*", 1, "403 denied", "cannot be written: 403 denied"),
    ],
)
def test_check_names_what_is_missing(world: World, pattern, code, answer, said):
    (world.path / "answers/001").unlink()
    world.answer(pattern, code, answer)
    world.answer("gcloud container clusters list*", 0, "us-west4")
    world.answer("gcloud storage buckets*", 0, "US-WEST4")
    rule = {"allowed": [{"IPProtocol": "all"}]}
    world.answer("gcloud compute firewall-rules*", 0, [rule])
    world.answer("gcloud auth list*", 0, "me@example.com")
    world.answer("gcloud services*", 0, "container.googleapis.com")
    with pytest.raises(LaunchError, match=said) as caught:
        world.gke().check()
    assert caught.value.code == 2


@pytest.mark.parametrize("tool", ["kubectl", "gcloud", "gke-gcloud-auth-plugin"])
def test_a_missing_tool_is_named(world: World, tool):
    (world.path / "bin" / tool).unlink()
    with pytest.raises(LaunchError, match=f"{tool}: not found on PATH") as caught:
        world.gke().check()
    assert caught.value.code == 2


def test_an_image_is_built_once_and_never_written_over(world: World):
    world.gke().setup()
    assert not world.calls("docker")
    world.answer("gcloud artifacts docker images describe*", 1, "ERROR: Image not found")
    world.answer("gcloud artifacts repositories describe*", 1, "ERROR: NOT_FOUND")
    world.gke().setup()
    assert [words[1] for words in world.calls("docker")] == ["build", "push"]
    assert len(world.calls("gcloud artifacts repositories create rejepa")) == 1


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("us-docker.pkg.dev/my-project/rejepa/rejepa-jax", "expected a tag of its own"),
        ("us-docker.pkg.dev/my-project/rejepa/rejepa-jax:latest", "expected a tag of its own"),
        ("", "image: got nothing"),
    ],
)
def test_an_image_that_may_change_under_its_name_is_refused(world: World, image, said):
    with pytest.raises(LaunchError, match=said):
        world.gke(image=image).run()


def test_a_cluster_is_needed():
    with pytest.raises(LaunchError, match="cluster: got nothing"):
        Gke(job(cluster=""), Shell())


def test_slices_of_one_host_are_not_joined():
    with pytest.raises(LaunchError, match="got 2 of v5litepod-8, which is one host"):
        Gke(job(accelerator_type="v5litepod-8"), Shell())
