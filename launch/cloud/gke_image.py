"""The image that every pod runs: built once from this checkout by launch/Dockerfile, never changed.

A pod that is started again in the middle of a run must get the same program, so an image that is in
the registry is left as it is; another program is another tag.
"""

import pathlib
import re

from cloud.commands import LaunchError, Shell
from cloud.job import Job

# docs.cloud.google.com/artifact-registry/docs/docker/names
ARTIFACT_REGISTRY = re.compile(
    "(?P<host>(?P<location>[a-z0-9-]+)-docker[.]pkg[.]dev)/(?P<project>[^/]+)/(?P<repository>[^/]+)/.+"
)


def image_of(job: Job) -> str:
    """Returns the job's image.

    Raises:
        LaunchError: it has none, or one whose content may change under its name.
    """
    example = f"{job.region}-docker.pkg.dev/{job.project}/rejepa/rejepa-jax:1"
    job.need("image")
    tag = job.image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        raise LaunchError(
            f"image: got {job.image}, expected a tag of its own or a digest such as {example}:"
            " a run that is restarted must not get another program",
            2,
        )
    return job.image


def require_config(job: Job) -> None:
    """Raises a LaunchError if the image has no copy of the configuration, made of what is here."""
    if not job.config:
        return
    file = pathlib.Path(re.sub(r"(?<=\.py):.*", "", job.config))
    if file.parts[0] != "configs" or ".." in file.parts:
        raise LaunchError(
            f"config: got {job.config}, expected a file under configs/: the image has no other", 2
        )
    if not file.is_file():
        raise LaunchError(f"config: got {job.config}, expected a file that is there", 2)


def is_there(job: Job, shell: Shell) -> bool:
    """Whether the registry has the image; one outside Artifact Registry is taken at its word."""
    image = image_of(job)
    if not ARTIFACT_REGISTRY.fullmatch(image):
        shell.say(f"image {image}: not in Artifact Registry, so not looked for")
        return True
    asked = ["gcloud", "artifacts", "docker", "images", "describe", image, "--format=json"]
    found = shell.capture(asked)
    if found.code and "not found" not in found.err.lower():
        code = 1 if "denied" in found.err.lower() else 75
        raise LaunchError(f"image {image}: {found.err.strip()}", code)
    return not found.code and not shell.dry_run


def build(job: Job, shell: Shell) -> None:
    """Builds the image from the checkout in the working directory and pushes it."""
    image = image_of(job)
    parts = ARTIFACT_REGISTRY.fullmatch(image)
    if parts is None:
        raise LaunchError(f"image {image}: only what goes to Artifact Registry is built here", 2)
    place = [f"--location={parts['location']}", f"--project={parts['project']}"]
    repositories = ["gcloud", "artifacts", "repositories"]
    if (
        shell.dry_run
        or shell.capture([*repositories, "describe", parts["repository"], *place]).code
    ):
        shell.run(
            [*repositories, "create", parts["repository"], "--repository-format=docker", *place]
        )
    shell.run(["gcloud", "auth", "configure-docker", parts["host"], "--quiet"])
    built = ["docker", "build", "--platform=linux/amd64", "--file=launch/Dockerfile"]
    shell.run([*built, f"--tag={image}", "."], timeout=3600)
    shell.run(["docker", "push", image], timeout=3600)
