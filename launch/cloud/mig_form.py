"""What is asked of Compute Engine for a slice: the flags of policy, template and group.

Docs: docs.cloud.google.com/compute/docs/tpus/create-tpu-mig-multi-host-slice, and for spot
docs.cloud.google.com/tpu/docs/spot-compute. Policy and template are regional, a group is zonal.
"""

from cloud.commands import LaunchError
from cloud.job import Job
from cloud.things import mark

COMPUTE = ["gcloud", "compute"]
GROUPS = [*COMPUTE, "instance-groups", "managed"]
IMAGES = "ubuntu-os-accelerator-images"
DISK = "200GB"  # the image comes with 10


def image_of(job: Job) -> str:
    """Returns the image family that hosts start from.

    Raises:
        LaunchError: Compute Engine does not offer this generation in groups.
    """
    image = job.image_family or job.slice.generation.image_family
    if not image:
        what = job.accelerator_type
        raise LaunchError(f"{what}: not in managed instance groups; try --backend qr", 2)
    return image


def policy(job: Job) -> list[str]:
    """Returns the command that makes the workload policy, which says the topology."""
    return [
        *(*COMPUTE, "resource-policies", "create", "workload-policy", job.name),
        *(f"--project={job.project}", f"--region={job.region}", "--type=HIGH_THROUGHPUT"),
        *(f"--accelerator-topology={job.slice.topology}", f"--description={mark(job.name)}"),
    ]


def template(job: Job) -> list[str]:
    """Returns the command that makes the instance template."""
    subnet = [f"--subnet={job.subnetwork}", f"--region={job.region}"]
    return [
        *(*COMPUTE, "instance-templates", "create", job.name),
        *(f"--project={job.project}", f"--instance-template-region={job.region}"),
        f"--machine-type={job.slice.machine_type}",
        *(f"--image-family={image_of(job)}", f"--image-project={IMAGES}"),
        *(f"--boot-disk-size={DISK}", "--maintenance-policy=TERMINATE", "--scopes=cloud-platform"),
        *(f"--labels={mark(job.name)}", f"--description={mark(job.name)}"),
        *([f"--service-account={job.service_account}"] if job.service_account else []),
        *([f"--network={job.network}"] if job.network else []),
        *(subnet if job.subnetwork else []),
        *(["--no-address"] if job.internal_ips else []),
        *_capacity(job),
    ]


def _capacity(job: Job) -> list[str]:
    if job.spot:
        return ["--provisioning-model=SPOT", "--instance-termination-action=STOP"]
    if job.flex_start:
        kept = [f"--max-run-duration={job.flex_start}", "--instance-termination-action=DELETE"]
        return ["--provisioning-model=FLEX_START", *kept]
    if job.reservation:
        specific = ["--reservation-affinity=specific", f"--reservation={job.reservation}"]
        return ["--provisioning-model=RESERVATION_BOUND", *specific]
    return []


def group(job: Job, name: str) -> list[str]:
    """Returns the command that makes the group of one slice: all of its hosts or none.

    Nothing is mended by itself: a slice that has lost a host is of no use, and is made anew.
    """
    home = f"projects/{job.project}/regions/{job.region}"  # a bare name is refused
    together = [
        "--target-size-policy-mode=bulk",
        f"--workload-policy={home}/resourcePolicies/{job.name}",
    ]
    return [
        *(*GROUPS, "create", name, f"--project={job.project}", f"--zone={job.zone}"),
        *(f"--template={home}/instanceTemplates/{job.name}", f"--size={job.slice.hosts}"),
        *("--default-action-on-vm-failure=do-nothing", f"--description={mark(job.name)}"),
        *(together if job.slice.hosts > 1 else []),
    ]
