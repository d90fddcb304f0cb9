"""What the machines cost, so that nobody learns it from the bill."""

from cloud.commands import quote
from cloud.job import Job

# US dollars for a chip and an hour, on demand. Entered by hand on 22 November 2026 from
# github.com/skypilot-org/skypilot-catalog, catalogs/v9/gcp/vms.csv at 2c3d7ea, which is read from
# Google's own list, cloud.google.com/tpu/pricing. What is not here is not known here.
SOURCE = "list price on demand, entered 22 Nov 2026, without disks and network"
PRICES = {
    "v5e": {
        "us-central1": 1.20,
        "us-east1": 1.20,
        "us-east5": 1.20,
        "us-west1": 1.20,
        "us-west4": 1.20,
        "us-south1": 1.416,
        "europe-west1": 1.32132,
        "europe-west4": 1.56,
        "asia-southeast1": 1.56,
    },
    "v5p": {
        "us-central1": 4.20,
        "us-east1": 4.20,
        "us-east5": 4.20,
        "us-south1": 4.779,
        "europe-west4": 4.2525,
        "europe-west1": 4.459455,
    },
    "v6e": {
        "us-central1": 2.70,
        "us-east1": 2.70,
        "us-east4": 2.70,
        "us-east5": 2.70,
        "us-south1": 2.70,
        "us-west1": 2.70,
        "europe-west4": 2.97,
        "asia-southeast1": 2.97,
        "asia-northeast1": 3.24,
        "asia-south1": 3.24,
    },
}


def cost(job: Job) -> str:
    """Says what the job's machines cost an hour and a day, or that it is not known."""
    price = job.chip_hour_price or PRICES.get(job.slice.generation.name, {}).get(job.region)
    chips = f"{job.chips} chips of {job.slice.generation.name} in {job.region}"
    if price is None:
        return f"{chips}: the price is not known here; --chip_hour_price=DOLLARS states it"
    hour = job.chips * price
    source = "your price" if job.chip_hour_price else SOURCE
    less = "; spot and flex-start cost less" if job.spot or job.flex_start else ""
    return (
        f"{chips} x ${price:g} = about ${hour:,.2f} an hour, ${24 * hour:,.0f} a day"
        f" ({source}{less})"
    )


def warn(job: Job) -> str:
    """Says that it goes on costing, and the command that ends it."""
    words = ["launch/tpu.py", "delete", job.name, f"--backend={job.backend}"]
    words += [f"--project={job.project}", f"--zone={job.zone}"]
    words += [f"--num_slices={job.num_slices}"] if job.num_slices > 1 else []
    words += [f"--cluster={job.cluster}"] if job.cluster else []
    words += [f"--accelerator_type={job.accelerator_type}"]
    end = f", at most {job.flex_start} once it is there" if job.flex_start else ""
    return f"costs until it is deleted{end}: {cost(job)}\nto delete it: {quote(words)}"
