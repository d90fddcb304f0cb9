r"""REJEPA on BEN-14K: Sentinel-1 or Sentinel-2 patches of Serbia in summer, 19 land-cover labels.

    python -m rejepa_jax.main --config configs/ben14k.py --config.data.archive=PATH
        [--config.data.sensor=s1] [--workdir runs/ben14k_s1]

PATH is BigEarthNet v2 as downloaded and unpacked (a directory, .tar or .zip with `BigEarthNet-S1/`,
`BigEarthNet-S2/` and `metadata.parquet`). `data.selection`: `ben14k` takes CSMAE's rule, country
Serbia and months June to August, over v2's own splits (the published 14,832 pairs are the same rule
over v1's splits); `clean` takes all of `metadata.parquet`, `all` also the patches with snow, cloud
or shadow. Validation queries test, as in CSMAE.

The model is the paper's: ViT-B/16 at 224 px, 147 context and 49 target tokens, predictor of 12
layers of 384, batch 128; 400 epochs, which the paper leaves open (`rejepa inspect` prints its
parameters and FLOPs). Cost: 142.5 GFLOP an image, 4.4e17 in all by count: 26 minutes of one H200
if it reached 36 % of its measured 790 TFLOP/s. Expected score and true duration: not yet run.
Another method: `--config configs/ben14k.py:PRESET`, such as `mae` or `rejepa_light`
(docs/method.md).

A try on a few patches, with a toy model on a CPU:

    python -m rejepa_jax.main --config configs/ben14k.py --config.data.archive=PATH \
        --config.data.selection=all --config.data.sensor=s1 --workdir runs/try_s1 \
        --config.model.size=tiny --config.model.depth=2 --config.model.predictor_dim=96 \
        --config.model.predictor_depth=2 --config.data.image_size=64 --config.train.steps=20 \
        --config.optim.warmup_steps=5 --config.train.batch_size=16 \
        --config.eval.k=3
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config, epochs_to_steps

TRAIN_IMAGES = 7_761  # of BEN-14K


def get_config(preset: str = "rejepa") -> ConfigDict:
    config = base_config(preset)
    config.data.layout = "bigearthnet"
    config.data.selection = "ben14k"
    config.data.sensor = "s2"

    config.train.batch_size = 128
    config.train.steps = epochs_to_steps(400, TRAIN_IMAGES, config.train.batch_size)
    config.optim.warmup_steps = epochs_to_steps(15, TRAIN_IMAGES, config.train.batch_size)
    return config.lock()
