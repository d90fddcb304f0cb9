"""One job: which machines, which program, where to; checked before anything is asked for."""

import dataclasses
import pathlib
import re

from cloud.commands import LaunchError
from cloud.machines import Slice, slice_of

BACKENDS = ("qr", "mig", "gke")

# Google's rule for names, shorter: what we make is called NAME, NAME-0, NAME-1 ...
NAME = "[a-z]([-a-z0-9]{0,38}[a-z0-9])?"
RESERVATION = "[a-z][-a-z0-9]*|projects/[-a-z0-9.:]+/reservations/[a-z][-a-z0-9]*|"
FORMS = {
    "name": (NAME, "a small letter, then small letters, digits and '-', 40 at most"),
    "project": ("([a-z][-a-z0-9.]*:)?[a-z][-a-z0-9]{4,28}[a-z0-9]", "a project's id"),
    "zone": ("[a-z]+-[a-z]+[0-9]+-[a-z]", "a zone such as us-west4-a"),
    "accelerator_type": ("[a-z0-9]+-[0-9]+|", "a type such as v5litepod-16"),
    "topology": ("[0-9]+(x[0-9]+){1,2}|", "chips by dimension such as 16x16 or 4x4x8"),
    "runtime_version": ("[a-z0-9][-a-z0-9.]*|", "a runtime version such as v2-alpha-tpuv6e"),
    "image_family": ("[a-z][-a-z0-9]*|", "an image family of Compute Engine"),
    "reservation": (
        "[a-z][-a-z0-9]*|projects/[-a-z0-9.:]+/reservations/[a-z][-a-z0-9]*|",
        "a name",
    ),
    "flex_start": ("[1-9][0-9]{0,4}[smhd]|", "a time such as 8h"),
    "network": ("[a-z][-a-z0-9]*|", "the name of a network"),
    "subnetwork": ("[a-z][-a-z0-9]*|", "the name of a subnetwork"),
    "service_account": ("[a-z0-9][-a-z0-9.]*@[a-z0-9][-a-z0-9.]*|", "an address such as a@b.com"),
    "workdir": ("gs://[a-z0-9][-a-z0-9_.]+(/[^\x00-\x1f]*)?|", "a bucket's URL, gs://BUCKET/PATH"),
    "config": (r"[^-\x00-\x1f][^\x00-\x1f]*\.(json|py(:[^\x00-\x1f]*)?)|", "a .py or .json file"),
    "wheel": (r"[^-\x00-\x1f][^\x00-\x1f]*\.whl|", "a wheel"),
    "cluster": (f"{NAME}|", "the name of a GKE cluster"),
    "namespace": ("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "a namespace of Kubernetes"),
    "queue": ("[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?|", "a local queue of Kueue"),
    "image": (r"[a-z0-9][-a-z0-9._/:@]*|", "a container image"),
}
RANGES = {"num_slices": (1, 256), "coordinator_port": (0, 65535), "chip_hour_price": (0, 1000)}


@dataclasses.dataclass(frozen=True)
class Job:
    """The settings of a job; those that are empty are not needed by every verb.

    `arguments` are those of `python -m rejepa_jax.main` after --config and --workdir.
    `flex_start` is how long the machines are kept ("8h") once they are there; "" is not to.
    `chip_hour_price` in US dollars is put in place of the list price; 0 is the list price.
    """

    name: str
    backend: str
    project: str
    zone: str
    accelerator_type: str = ""
    workdir: str = ""
    config: str = ""
    topology: str = ""  # the usual one of the accelerator type
    num_slices: int = 1
    spot: bool = False
    reservation: str = ""
    flex_start: str = ""
    runtime_version: str = ""  # qr: the generation's
    image_family: str = ""  # mig: the generation's
    network: str = ""
    subnetwork: str = ""
    internal_ips: bool = False  # no addresses on the Internet; SSH goes through a tunnel
    service_account: str = ""
    arguments: tuple[str, ...] = ()
    env: dict[str, str] = dataclasses.field(default_factory=dict)
    wheel: str = ""  # of rejepa_jax; "" is made of the working tree
    coordinator_port: int = 0  # JAX's own
    chip_hour_price: float = 0.0
    cluster: str = ""  # gke, from here on
    namespace: str = "default"
    queue: str = ""
    image: str = ""

    def __post_init__(self):
        for key, (form, expected) in FORMS.items():
            if not re.fullmatch(form, getattr(self, key)):
                raise LaunchError(f"{key}: got {getattr(self, key)!r}, expected {expected}", 2)
        for key, (low, high) in RANGES.items():
            if not low <= getattr(self, key) <= high:
                got = getattr(self, key)
                raise LaunchError(f"{key}: got {got}, expected {low} to {high}", 2)
        if self.backend not in BACKENDS:
            known = ", ".join(BACKENDS)
            raise LaunchError(f"backend: got {self.backend!r}, expected one of {known}", 2)
        if sum([self.spot, bool(self.reservation), bool(self.flex_start)]) > 1:
            raise LaunchError("spot, reservation and flex_start exclude each other; give one", 2)
        _check_words(self)
        if self.accelerator_type:
            slice_of(self.accelerator_type, self.topology)

    def need(self, *keys: str) -> None:
        """Raises a LaunchError for the first setting that is empty."""
        for key in keys:
            if not getattr(self, key):
                raise LaunchError(f"{key}: got nothing; give --{key}, or set it in the job file", 2)

    def need_config(self) -> None:
        """Raises a LaunchError if a config is named that the run would not find."""
        file = self.config.partition(":")[0]
        if file and not pathlib.Path(file).is_file():
            raise LaunchError(f"config: {file}: no such file here", 2)
        if file and self.backend == "gke" and pathlib.PurePath(file).parts[0] != "configs":
            expected = "expected a file under configs/: a pod runs the image's copy of it"
            raise LaunchError(f"config: got {file}, {expected}", 2)

    @property
    def slice(self) -> Slice:
        """One of the job's slices."""
        self.need("accelerator_type")
        return slice_of(self.accelerator_type, self.topology)

    @property
    def region(self) -> str:
        return self.zone.rpartition("-")[0]

    @property
    def chips(self) -> int:
        """Of all slices."""
        return self.slice.chips * self.num_slices

    @property
    def hosts(self) -> int:
        """Of all slices; one process runs on each."""
        return self.slice.hosts * self.num_slices

    @property
    def is_distributed(self) -> bool:
        return self.hosts > 1

    @property
    def command(self) -> list[str]:
        """The run's command, the same on every host."""
        self.need("config", "workdir")
        python = ["python3", "-m", "rejepa_jax.main", "--config", self.config]
        several = ["--distributed"] if self.is_distributed else []
        port = [f"--coordinator_port={self.coordinator_port}"] if self.coordinator_port else []
        return [*python, "--workdir", self.workdir, *several, *port, *self.arguments]


def _check_words(job: Job) -> None:
    for key in job.env:
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", key):
            raise LaunchError(f"env: got {key!r}, expected the name of a variable", 2)
    for word in (*job.arguments, *job.env.values()):
        if re.search("[\x00-\x08\x0a-\x1f\x7f]", word):
            raise LaunchError(f"arguments, env: {word!r} has a control sign or a line break", 2)
