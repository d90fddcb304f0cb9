"""What each preset costs at ViT-B/16, 224 px, three bands: FLOPs by hand and by XLA, parameters.

    python benchmarks/compute.py [--check]

Prints the two tables of docs/compute.md. Nothing is run: XLA counts the lowered step, blocks laid
out one after the other. Target of `--check`: both counts of every step within 5 % of each other.
"""

import argparse
import dataclasses
import sys

import jax

from rejepa_jax.config import Config, base_config
from rejepa_jax.methods.build import build_method
from rejepa_jax.methods.mae import Mae
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.models.flops import blocks_flops, encoder_flops, linear_flops
from rejepa_jax.presets import PRESETS
from rejepa_jax.resolve import resolve
from rejepa_jax.training.compute import xla_embedding_flops, xla_step_flops

TARGET = 0.05
BANDS = 3
READINGS = {  # of "masking ratio 0.25" and of what the target encoder sees
    "a quarter hidden; target encoder on the image": {},
    "a quarter hidden; on the hidden patches": {"target.input": "target_patches"},
    "a quarter visible; on the image": {"mask.target_ratio": 0.75},
    "a quarter visible; on the hidden patches": {
        "mask.target_ratio": 0.75,
        "target.input": "target_patches",
    },
    "a quarter visible, a quarter predicted; on those": PRESETS["rejepa_light"],
}


def config_of(preset: str, changes: dict | None = None) -> Config:
    """A preset at the sizes that all rows share."""
    config = base_config(preset)
    config.update_from_flattened_dict(changes or {})
    config.data.sensor, config.data.image_size = "rgb", 224
    config.model.size, config.model.patch_size = "base", 16
    return resolve(config)


@dataclasses.dataclass(frozen=True)
class Row:
    """What a preset costs: FLOPs of an image, parameters without fixed positions."""

    step: float
    step_by_xla: float
    embedding: float
    embedding_by_xla: float
    trained: int
    resident: int
    retrieval: int


def measure(config: Config) -> Row:
    """Counts everything twice but the parameters."""
    method = build_method(config, BANDS)
    params = jax.eval_shape(method.init, jax.random.key(0))
    average = method.averaged(params)
    encoder = next(iter(method.encoders(params, average).values()))
    trained = count_parameters(params)
    return Row(
        step=sum(method.flops.values()),
        step_by_xla=xla_step_flops(config, BANDS),
        embedding=encoder_flops(encoder.spec),
        embedding_by_xla=xla_embedding_flops(config, BANDS),
        trained=trained,
        resident=trained + count_parameters(average),
        retrieval=count_parameters(encoder),
    )


def cells(name: str, row: Row, reference: float) -> list[str]:
    """A preset's line of the first table."""
    flops = (row.step, row.step_by_xla, row.embedding, row.embedding_by_xla)
    step, step_by_xla, embedding, embedding_by_xla = (f"{count / 1e9:.1f}" for count in flops)
    parameters = (row.trained, row.resident, row.retrieval)
    counts = [f"{count / 1e6:.2f}" for count in parameters]
    share = f"{row.step / reference:.2f}"
    return [f"`{name}`", step, step_by_xla, share, embedding, embedding_by_xla, *counts]


def dense_autoencoder(method: Mae) -> float:
    """FLOPs of a step of an autoencoder whose encoder sees every token, hidden ones as mask tokens.

    The decoder is the MAE's.
    """
    encoder, decoder = method.encoder, method.decoder
    patches = encoder.num_tokens
    tokens = patches + encoder.class_token
    embed = linear_flops(encoder.embed_dim, decoder.dim, tokens)
    blocks = blocks_flops(decoder.dim, decoder.depth, tokens, encoder.mlp_ratio)
    project = linear_flops(decoder.dim, decoder.outputs, patches)
    return 3 * (encoder_flops(encoder) + embed + blocks + project)


def readings() -> list[list[str]]:
    """The second table: what may have been meant, beside three autoencoders."""
    published = build_method(config_of("mae"), BANDS)
    assert isinstance(published, Mae)
    same = build_method(config_of("mae", {"mae.mask_ratio": 0.25}), BANDS)
    rivals = [sum(published.flops.values()), sum(same.flops.values()), dense_autoencoder(published)]
    rows = [["autoencoder itself", "", *(f"{rival / 1e9:.1f}" for rival in rivals)]]
    for name, changes in READINGS.items():
        step = sum(build_method(config_of("rejepa", changes), BANDS).flops.values())
        savings = [f"{100 * (step / rival - 1):+.0f} %" for rival in rivals]
        rows.append([name, f"{step / 1e9:.1f}", *savings])
    return rows


def markdown(heading: list[str], rows: list[list[str]]) -> str:
    """A table whose first column is text."""
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [heading, rule, *rows])


def main() -> int:
    """Prints both tables; with --check, compares the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()

    rows = {name: measure(config_of(name)) for name in PRESETS}
    heading = ["preset", "step, by hand", "by XLA", "/ MAE's", "embedding, by hand", "by XLA"]
    heading += ["trained", "resident", "for retrieval"]
    lines = [cells(name, row, rows["mae"].step) for name, row in rows.items()]
    print(markdown(heading, lines))
    print()
    heading = ["reading", "REJEPA", "MAE 75 %", "MAE 25 %", "all tokens"]
    print(markdown(heading, readings()))

    ratios = {name: row.step_by_xla / row.step for name, row in rows.items()}
    far = {name: ratio for name, ratio in ratios.items() if abs(ratio - 1) > TARGET}
    for name, ratio in far.items() if arguments.check else ():
        print(f"{name}: XLA counts {ratio:.3f} of the count by hand", file=sys.stderr)
    return 1 if arguments.check and far else 0


if __name__ == "__main__":
    sys.exit(main())
