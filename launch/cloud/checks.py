"""What to look at before anything costs: tools, account, services, machines, bucket, firewall."""

from collections.abc import Mapping, Sequence

from cloud import prices, things
from cloud.commands import LaunchError, Shell
from cloud.job import Job

PORT = 8482  # JAX's coordinator on TPUs since 0.8.1; before, and in Google's rule for TPUs: 8476


def run(shell: Shell, job: Job, *, service: str, facts: Mapping[str, Sequence[str]]) -> None:
    """Says `ok` or `NOT ok` for each thing; `facts` are commands that fail where one is missing.

    Raises:
        LaunchError: something is not ok.
    """
    job.need("accelerator_type", "workdir")
    project, name = f"--project={job.project}", "--format=value(config.name)"
    account = ["gcloud", "auth", "list", "--filter=status:ACTIVE", "--format=value(account)"]
    enabled = ["gcloud", "services", "list", "--enabled", f"--filter=config.name={service}"]
    enable = f"gcloud services enable {service} {project}"
    bad = [
        *_answered(shell, "gcloud's account", account, "gcloud auth login"),
        *_answered(shell, f"{service} in {job.project}", [*enabled, project, name], enable),
        *(bad for what, argv in facts.items() for bad in _succeeded(shell, what, argv)),
        *_bucket(shell, job),
        *(_port(shell, job) if job.is_distributed else []),
    ]
    shell.say(f"hosts: {job.hosts} x {job.slice.machine_type}; {prices.cost(job)}")
    shell.say(
        "not looked at: quota (console.cloud.google.com/iam-admin/quotas: "
        f"{service}, {job.slice.generation.name}, {'preemptible, ' if job.spot else ''}{job.zone})"
    )
    if job.is_distributed and job.backend != "gke":
        shell.say(
            "SSH to many hosts needs the key in an agent: ssh-add ~/.ssh/google_compute_engine"
        )
    if bad:
        raise LaunchError("\n".join(["NOT ok:", *bad]), 2)


def _verdict(shell: Shell, what: str, is_ok: bool) -> None:
    shell.say(
        f"must be there: {what}" if shell.dry_run else f"{'ok' if is_ok else 'NOT ok'}  {what}"
    )


def _answered(shell: Shell, what: str, argv: Sequence[str], remedy: str) -> list[str]:
    result = shell.capture(argv, pretend="something")
    found = result.out.strip()
    _verdict(shell, what, bool(found))
    return [] if found else [f"{what}: got nothing {result.err.strip()}; do: {remedy}"]


def _succeeded(shell: Shell, what: str, argv: Sequence[str]) -> list[str]:
    result = shell.capture(argv)
    _verdict(shell, what, result.code == 0)
    return [f"{what}: {result.err.strip()}"] if result.code else []


def _bucket(shell: Shell, job: Job) -> list[str]:
    bucket = "/".join(job.workdir.split("/")[:3])
    location = ["gcloud", "storage", "buckets", "describe", bucket, "--format=value(location)"]
    result = shell.capture(location, pretend=job.region.upper())
    if result.code:
        return [f"{bucket}: {result.err.strip()}; it must exist, and the machines may write to it"]
    where = result.out.strip().lower()
    if where not in (job.region, job.region.split("-")[0]):
        shell.say(
            f"note: {bucket} is in {where}, the machines in {job.region}: slower, and traffic"
        )
    probe = f"{job.workdir.rstrip('/')}/launch-check"
    written = shell.attempt(["gcloud", "storage", "cp", "-", probe], stdin="ok\n")
    if not written.code:
        shell.attempt(["gcloud", "storage", "rm", "--quiet", probe])
    _verdict(shell, f"{bucket}, writable", written.code == 0)
    return [f"{probe} cannot be written: {written.err.strip()}"] if written.code else []


def _port(shell: Shell, job: Job) -> list[str]:
    network, port = job.network or "default", job.coordinator_port or PORT
    rules = ["gcloud", "compute", "firewall-rules", "list", f"--project={job.project}"]
    only = f"--filter=network~/{network}$ AND direction=INGRESS AND disabled=false"
    result = shell.capture([*rules, only, "--format=json"], pretend="[]")
    if shell.dry_run:
        shell.say(f"looks for a rule that opens tcp:{port}, at which the hosts meet")
        return []
    try:
        found = things.read_json(result, f"firewall rules of {network}")
    except LaunchError as error:
        return [f"{error}"]
    if any(_opens(rule, port) for rule in found):
        shell.say(f"ok  a firewall rule of {network} opens tcp:{port}, at which the hosts meet")
        return []
    return [
        f"no firewall rule of network {network} opens tcp:{port}: the hosts would wait for one"
        " another and end. Give --coordinator_port=8476 if the automatic rule for TPUs is there"
        " (github.com/jax-ml/jax/issues/35905), or do: gcloud compute firewall-rules create"
        f" {network}-jax --project={job.project} --network={network} --direction=INGRESS"
        f" --source-ranges=10.0.0.0/8 --allow=tcp:{port}"
    ]


def _opens(rule: Mapping, port: int) -> bool:
    for allowed in rule.get("allowed", []):
        if allowed.get("IPProtocol") == "all":
            return True
        if allowed.get("IPProtocol") == "tcp":
            ranges = allowed.get("ports", ["0-65535"])
            ends = [part.partition("-")[::2] for part in ranges]
            if any(int(low) <= port <= int(high or low) for low, high in ends):
                return True
    return False
