r"""REJEPA on EuroSAT: 27,000 Sentinel-2 patches of 64 px in 10 classes, in 13 bands or in colour.

    python -m rejepa_jax.main --config configs/eurosat.py --config.data.archive=PATH
        [--config.data.sensor=rgb] [--workdir runs/eurosat]

PATH is a directory, .zip or .tar of a copy as published; a folder may hold both kinds:

    EuroSATallBands/Forest/Forest_1.tif, ...   or EuroSAT_MS/, ds/images/.../tif/: 13 bands
    2750/Forest/Forest_1.jpg, ...              or EuroSAT_RGB/, EuroSAT/: colour, data.sensor=rgb

Records hold B8A after B08, where the files have it last. Every fifth image of a class is a query,
training sees all others and is the gallery. With the published lists in one folder:

    --config.data.split_file=LISTS/eurosat-spatial-train.txt --config.data.train_split=train
    --config.eval.query_split=val --config.eval.gallery_split=test

The lists `eurosat-spatial-` part by longitude; `eurosat-` and every fifth part at random, so that
neighbours of a query can be in the gallery.

Size: 27,000 records of 106 kB are 2.9 GB (in colour 12 kB and 0.3 GB). Time by count: 1.5 ms of one
core for a record, so 40 core-seconds in all. Training (ViT-S/8, 200 epochs) costs 10.3 GFLOP an
image, 4.4e16 in all: 2.6 minutes of one H200 if it reached 36 % of its measured 790 TFLOP/s.
Expected score and true duration: not yet run. Another method: `--config configs/eurosat.py:PRESET`,
such as `mae` (docs/method.md).

Planned with `rejepa plan configs/eurosat.py --topology v5e:2x4`: on eight TPU v5e the batch, 64
images a chip, needs 1.0 of 15.75 GiB and runs at no more than 143,000 images/s, bound by memory,
66,000 if nothing overlaps; compiled, not measured (docs/scaling.md).
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config, epochs_to_steps

TRAIN_IMAGES = 21_600


def get_config(preset: str = "rejepa") -> ConfigDict:
    config = base_config(preset)
    config.data.layout = "eurosat"
    config.data.sensor = "s2_l1c"
    config.data.image_size = 64
    config.data.train_split = "gallery"
    config.eval.query_split = "query"
    config.eval.gallery_split = "gallery"

    config.model.size = "small"
    config.model.patch_size = 8
    config.model.predictor_dim = 192
    config.model.predictor_depth = 6
    config.train.batch_size = 512
    config.train.steps = epochs_to_steps(200, TRAIN_IMAGES, config.train.batch_size)
    config.optim.warmup_steps = epochs_to_steps(10, TRAIN_IMAGES, config.train.batch_size)
    return config.lock()
