"""Settings: what a job may be, how slices are cut, and what is refused before anything is asked."""

import json

import pytest
import tpu
from cloud import prices, settings
from cloud.commands import LaunchError
from cloud.job import Job
from cloud.machines import slice_of

PLACE = {"name": "base", "backend": "qr", "project": "my-project", "zone": "us-west4-a"}


# By hand from Google's tables: the number counts chips (v5e, v6e) or cores (v4, v5p: two a chip).
@pytest.mark.parametrize(
    ("accelerator_type", "topology", "chips", "hosts", "machine_type"),
    [
        ("v5litepod-1", "1x1", 1, 1, "ct5lp-hightpu-1t"),
        ("v5litepod-8", "2x4", 8, 1, "ct5lp-hightpu-8t"),
        ("v5litepod-16", "4x4", 16, 4, "ct5lp-hightpu-4t"),
        ("v5litepod-256", "16x16", 256, 64, "ct5lp-hightpu-4t"),
        ("v6e-64", "8x8", 64, 16, "ct6e-standard-4t"),
        ("v4-8", "2x2x1", 4, 1, "ct4p-hightpu-4t"),
        ("v5p-16", "2x2x2", 8, 2, "ct5p-hightpu-4t"),
        ("v5p-64", "2x4x4", 32, 8, "ct5p-hightpu-4t"),
        ("v5p-128", "4x4x4", 64, 16, "ct5p-hightpu-4t"),
        ("v5p-256", "4x4x8", 128, 32, "ct5p-hightpu-4t"),
        ("v5p-1024", "8x8x8", 512, 128, "ct5p-hightpu-4t"),
        ("tpu7x-64", "4x4x4", 64, 16, "tpu7x-standard-4t"),
    ],
)
def test_a_slice_is_cut_into_hosts_as_google_cuts_it(
    accelerator_type, topology, chips, hosts, machine_type
):
    found = slice_of(accelerator_type)
    assert (found.topology, found.chips, found.hosts) == (topology, chips, hosts)
    assert found.machine_type == machine_type


@pytest.mark.parametrize(
    ("accelerator_type", "topology", "said"),
    [
        ("v9-8", "", "expected one of v4-N, v5litepod-N"),
        ("v5litepod-7", "", "7 chips in 2 dimensions"),
        ("v5p-9", "", "counts cores"),
        ("v6e-16", "2x4", "16 chips"),
        ("v5p-128", "8x8", "64 chips in 3 dimensions"),
    ],
)
def test_a_slice_that_is_none_is_refused(accelerator_type, topology, said):
    with pytest.raises(LaunchError, match=said):
        slice_of(accelerator_type, topology)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Base"},
        {"name": "base;rm -rf ~"},
        {"name": "--quiet"},
        {"name": "a" * 41},
        {"name": "base-"},
        {"project": "my project"},
        {"zone": "us-west4"},
        {"zone": "us-west4-a --quiet"},
        {"runtime_version": "v2 --metadata=startup-script=x"},
        {"network": "net,subnet=x"},
        {"service_account": "a@b.com --scopes=x"},
        {"workdir": "/home/me"},
        {"workdir": "gs://bucket/a\nb"},
        {"config": "-c.py"},
        {"config": "configs/base.sh"},
        {"wheel": "x.tar.gz"},
        {"backend": "ec2"},
        {"num_slices": 0},
        {"coordinator_port": 70000},
        {"flex_start": "8 hours"},
        {"env": {"A B": "c"}},
        {"env": {"A": "b\nc"}},
        {"arguments": ("--config.x=1\n--config.y=2",)},
        {"spot": True, "reservation": "ours"},
    ],
)
def test_what_cannot_be_or_would_say_more_than_one_thing_is_refused(wrong):
    with pytest.raises(LaunchError, match=f"{next(iter(wrong))}|arguments, env") as error:
        Job(**PLACE | wrong)
    assert error.value.code == 2


def test_the_command_is_the_same_words_that_were_given():
    job = Job(
        **PLACE,
        accelerator_type="v5litepod-16",
        config="configs/base.py:tiny",
        workdir="gs://bucket/a run; $(id)",
        arguments=('--config.x=it\'s "b" `c`',),
        coordinator_port=8476,
    )
    assert job.command == [
        *("python3", "-m", "rejepa_jax.main", "--config", "configs/base.py:tiny"),
        *("--workdir", "gs://bucket/a run; $(id)", "--distributed", "--coordinator_port=8476"),
        '--config.x=it\'s "b" `c`',
    ]


def test_one_host_is_not_taken_for_many():
    one = Job(**PLACE, accelerator_type="v6e-8", config="a.py", workdir="gs://bucket")
    assert "--distributed" not in one.command
    two = Job(**PLACE, accelerator_type="v6e-8", config="a.py", workdir="gs://bucket", num_slices=2)
    assert "--distributed" in two.command


def test_a_job_file_is_read_and_flags_and_arguments_have_the_last_word(tmp_path):
    file = tmp_path / "job.toml"
    file.write_text(
        'backend = "mig"\nproject = "my-project"\nzone = "us-east5-a"\nspot = true\n'
        'chip_hour_price = 2\narguments = ["--config.seed=1"]\n[env]\nA = "1"\nB = "2"\n'
    )
    said = ["status", "base", "--job", str(file), "--zone=us-east5-b", "--env=B=3=4", "--no-spot"]
    job = settings.read([*said, "--", "--config.seed=2", "--"]).job
    assert (job.backend, job.zone, job.spot, job.chip_hour_price) == ("mig", "us-east5-b", False, 2)
    assert job.env == {"A": "1", "B": "3=4"}
    assert job.arguments == ("--config.seed=2", "--")
    (tmp_path / "job.json").write_text(json.dumps(PLACE))
    assert settings.read(["status", "--job", str(tmp_path / "job.json")]).job == Job(**PLACE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('zones = "us-east5-a"', "no setting 'zones'; did you mean zone"),
        ('num_slices = "2"', 'num_slices: got "2", expected a whole number'),
        ("arguments = [1]", "expected a list of texts"),
        ("name = ", "expected TOML or JSON"),
        ("", "name: got nothing"),
    ],
)
def test_a_job_file_with_a_mistake_is_refused_by_name(tmp_path, text, said):
    (tmp_path / "job.toml").write_text(text)
    with pytest.raises(LaunchError, match=said):
        settings.read(["status", "--job", str(tmp_path / "job.toml")])


@pytest.mark.parametrize("text", ["[1]", "null", '"a"'])
def test_a_job_file_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(LaunchError, match="expected an object"):
        settings.read(["status", "--job", str(tmp_path / "job.json")])


@pytest.mark.parametrize("word", ["--period=-5", "--period=nan", "--tries=0", "--stall=-1"])
def test_a_number_that_cannot_be_is_refused(capsys, word):
    with pytest.raises(SystemExit) as end:
        settings.read(["resume", "base", word])
    assert end.value.code == 2
    assert "expected at least" in capsys.readouterr().err


def test_the_name_may_come_after_flags():
    words = ["--backend=qr", "--project=my-project", "base", "--zone=us-west4-a"]
    assert settings.read(["create", *words]).job == Job(**PLACE)


def test_the_price_is_worked_out_or_said_to_be_unknown():
    known = Job(**PLACE, accelerator_type="v5litepod-256", num_slices=2)
    assert "512 chips of v5e in us-west4 x $1.2 = about $614.40 an hour, $14,746" in prices.cost(
        known
    )
    unknown = Job(**PLACE, accelerator_type="tpu7x-64")
    assert "not known here; --chip_hour_price" in prices.cost(unknown)
    flex = Job(**PLACE, accelerator_type="v6e-8", flex_start="8h")
    assert prices.warn(flex).startswith("costs until it is deleted, at most 8h once it is there:")
    own = Job(**PLACE, accelerator_type="tpu7x-64", chip_hour_price=12.5)
    assert "$800.00 an hour, $19,200 a day (your price)" in prices.cost(own)


@pytest.mark.usefixtures("root")
def test_local_says_which_command_it_is(capsys):
    assert tpu.main(["local", "--config=configs/base.py", "--", "--config.x=a b"]) == 0
    said = capsys.readouterr().out
    assert "launch/local.sh --processes 2 -- --config configs/base.py '--config.x=a b'" in said


def test_it_runs_in_the_root_of_the_repository_only(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert tpu.main(["local"]) == 2
    assert "run it in the repository's root" in capsys.readouterr().err
