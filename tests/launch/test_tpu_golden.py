"""What every verb of each back end would do, word for word.

Read a file as its operator before it is kept. REJEPA_WRITE_GOLDEN=1 writes them anew.
"""

import os
import pathlib

import pytest

GOLDEN = pathlib.Path(__file__).with_name("golden")
VERBS = ["check", "create", "setup", "run", "status", "logs", "ssh", "stop", "delete", "resume"]
PLACE = ["--project=my-project", "--workdir=gs://my-bucket/runs/base", "--config=configs/base.py"]
JOBS = {
    "qr": [*PLACE, "--zone=us-west4-a", "--accelerator_type=v5litepod-16", "--spot"],
    "qr_slices": [
        *PLACE,
        *(
            "--zone=europe-west4-b",
            "--accelerator_type=v5p-128",
            "--num_slices=2",
            "--internal_ips",
        ),
        *("--reservation=ours", "--network=net", "--subnetwork=sub", "--coordinator_port=8476"),
        "--service_account=runner@my-project.iam.gserviceaccount.com",
    ],
    "mig": [*PLACE, "--zone=us-east5-a", "--accelerator_type=v6e-8", "--topology=2x4", "--spot"],
    "mig_slices": [
        *PLACE,
        *("--zone=us-east5-a", "--accelerator_type=v6e-16", "--num_slices=2", "--flex_start=8h"),
        *("--internal_ips", "--network=net", "--subnetwork=sub", "--env=NOTE=it's; $(here)"),
    ],
}
EXTRA = {"delete": ["--older_than=12h"], "logs": ["--follow", "--everywhere"]}


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_dry_run_is_as_it_was_read_by_someone(cloud, job, verb):
    arguments = ["--", "--config.seed=3", "--config.data.records=gs://my-bucket/a b;c'\"$(id)"]
    words = [*JOBS[job], "--dry_run", *EXTRA.get(verb, []), *arguments]
    code, said, wrong = cloud.launch(verb, backend=job.partition("_")[0], words=words)
    assert (code, wrong, cloud.asked) == (0, "", [])
    golden = GOLDEN / f"{job}_{verb}.txt"
    if os.environ.get("REJEPA_WRITE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(said)
    assert said == golden.read_text()


def test_no_golden_file_is_left_over():
    kept = {f"{job}_{verb}" for job in JOBS for verb in VERBS}
    assert {
        path.stem for path in GOLDEN.glob("*.txt") if path.stem.startswith(("qr", "mig"))
    } == kept
