r"""REJEPA on fMoW-RGB: pictures of 62 kinds of places, most of them at several dates.

    python -m rejepa_jax.main --config configs/fmow_rgb.py --config.data.archive=PATH
        [--workdir runs/fmow_rgb]

PATH is fMoW-rgb as downloaded (a directory, .tar or .zip), with `groundtruth/` unpacked beside the
splits if footprints are wanted:

    train/airport/airport_0/airport_0_0_rgb.jpg, airport_0_0_rgb.json, ...
    val/airport/airport_0/airport_0_0_rgb.jpg, airport_0_0_rgb.json, ...

or SatMAE's form, pictures already cropped and `train_62classes.csv`, `val_62classes.csv` beside
them (or one of these as `data.split_file`). A record is a bounding box with ground around it, at
224 px; `data.selection=full` takes whole pictures. Pictures `_msrgb` are not read.

Training sees train; val queries train. The official splits share no place, so that no query finds
its own place at another date. With one split alone on disk, deal its places out instead:
`--config.data.split_by=location --config.eval.query_split=validation
--config.eval.gallery_split=test`. One label an image: F1@10 is precision@10.

Size: 416,612 records (363,572 train, 53,040 val) of 151 kB are 63 GB. Time by count: listing reads
every JSON, 0.1 s for 1,000 and so 45 s in all; a record of a picture of 1.3 million pixels takes
15 ms of one core, so 1.7 core-hours in all. Training (ViT-B/16, 100 epochs) costs 140.2 GFLOP an
image, 5.1e18 in all: 5 hours of one H200 if it reached 36 % of its measured 790 TFLOP/s. Expected
score and true duration: not yet run. Another method: `--config configs/fmow_rgb.py:PRESET`, such as
`mae` (docs/method.md).

A try on a few pictures, with a toy model on a CPU:

    python -m rejepa_jax.main --config configs/fmow_rgb.py --config.data.archive=PATH \
        --workdir runs/try_fmow --config.model.size=tiny --config.model.depth=2 \
        --config.model.predictor_dim=96 --config.model.predictor_depth=2 \
        --config.data.image_size=64 --config.train.steps=20 --config.optim.warmup_steps=5 \
        --config.train.batch_size=16 --config.eval.k=3
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config, epochs_to_steps

TRAIN_IMAGES = 363_572


def get_config(preset: str = "rejepa") -> ConfigDict:
    config = base_config(preset)
    config.data.layout = "fmow_rgb"
    config.data.record_size = 224
    config.data.sensor = "rgb"
    config.data.statistics = "fmow_rgb"
    config.eval.query_split = "val"
    config.eval.gallery_split = "train"
    config.augment.crop_scale = (0.3, 1.0)

    config.train.batch_size = 1024
    config.train.steps = epochs_to_steps(100, TRAIN_IMAGES, config.train.batch_size)
    config.optim.warmup_steps = epochs_to_steps(5, TRAIN_IMAGES, config.train.batch_size)
    return config.lock()
