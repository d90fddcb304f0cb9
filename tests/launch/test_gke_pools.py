"""Fault 45 on GKE: node pools that do not fit, that stay, or whose cluster is busy."""

import pytest
from cloud import prices
from cloud.commands import LaunchError
from fake_gke import World, job, pool, world

__all__ = ["world"]
POOLS = "gcloud container node-pools list*"


def test_create_makes_what_is_missing_and_says_what_it_costs(world: World):
    world.answer(POOLS, 0, [pool("ben-0")])
    world.gke().create()
    made = world.calls("gcloud container node-pools create")
    assert [words[4] for words in made] == ["ben-1"]
    assert "ben-0 is there already (RUNNING)" in world.out.getvalue()
    assert prices.warn(job()) in world.out.getvalue()


def test_create_refuses_other_machines_under_its_name(world: World):
    world.answer(POOLS, 0, [pool("ben-0")])
    with pytest.raises(LaunchError, match="got machines ct5lp-hightpu-4t, expected ct6e-standard"):
        world.gke(accelerator_type="v6e-16").create()


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (pool("ben-0", topology="2x4"), "got topology 2x4, expected 4x4"),
        (pool("ben-0", topology=""), "got topology none, expected 4x4"),  # one host, same machines
        (pool("ben-0", spot=False), "got spot none, expected True"),
        (pool("ben-0", flexStart=True), "got flex_start True, expected False"),
    ],
)
def test_a_pool_on_which_no_pod_would_ever_come_to_run_is_refused(world: World, there, said):
    world.answer(POOLS, 0, [there])
    for verb in (world.gke().create, world.gke().run):
        with pytest.raises(LaunchError, match=f"ben-0: {said}; .* wait for ever") as caught:
            verb()
        assert caught.value.code == 2
    assert not world.calls("gcloud container node-pools create")
    assert not [words for words in world.calls("kubectl") if "apply" in words]


def test_delete_tries_all_pools_and_names_those_that_stay(world: World):
    world.answer(POOLS, 0, [pool("ben-0"), pool("ben-1"), pool("ben-2")], once=True)
    world.answer("*node-pools delete ben-0 *", 1, "ERROR: code=403, message=Permission denied")
    world.answer("*node-pools delete ben-2 *", 1, "ERROR: code=500, message=oh no")
    world.answer(POOLS, 0, [pool("ben-0"), pool("ben-1", "STOPPING"), pool("ben-2")], once=True)
    world.answer(POOLS, 0, [pool("ben-0"), pool("ben-2")])
    said = "(?s)still there: ben-0, ben-2; .*ben-0: .*denied.*ben-2: .*oh no.*38.40 an hour"
    with pytest.raises(LaunchError, match=said) as caught:
        world.gke().delete()
    assert caught.value.code == 1
    assert len(world.calls("gcloud container node-pools delete")) == 3
    assert world.waits == [30]  # for ben-1, not for what is not being deleted


BUSY = "ERROR: code=400, message=Cluster is running incompatible operation operation-17."


def test_a_cluster_that_is_busy_with_another_pool_is_asked_again(world: World):
    world.answer("*node-pools create ben-0 *", 1, BUSY, once=True)
    world.gke().create()
    made = world.calls("gcloud container node-pools create")
    assert [words[4] for words in made] == ["ben-0", "ben-0", "ben-1"]
    world.answer(POOLS, 0, [pool("ben-0")], once=True)
    world.answer("*node-pools delete ben-0 *", 1, BUSY, once=True)
    world.gke().delete()
    assert len(world.calls("gcloud container node-pools delete")) == 2
    assert world.waits == [30, 30]


def test_a_cluster_that_stays_busy_is_named_with_what_costs(world: World):
    world.answer(POOLS, 0, [pool("ben-0"), pool("ben-1")])
    world.answer("*node-pools delete *", 1, BUSY)
    with pytest.raises(LaunchError, match=r"(?s)ben-0, ben-1; .*operation-17") as caught:
        world.gke().delete()
    assert caught.value.code == 75


def test_how_old_the_machines_are_is_asked_of_the_first_pool(world: World):
    assert world.gke().created() == ""
    world.answer(POOLS, 0, [pool("ben-0")])
    world.answer("gcloud compute instance-groups*", 0, "2026-11-22T06:00:00.000-08:00")
    assert world.gke().created() == "2026-11-22T06:00:00.000-08:00"
