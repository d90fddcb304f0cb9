r"""REJEPA on fMoW-Sentinel: Sentinel-2 images of 62 kinds of places, at several dates each.

    python -m rejepa_jax.main --config configs/fmow_sentinel.py --config.data.archive=PATH
        [--config.data.split_file=TABLES/train.csv] [--workdir runs/fmow_sentinel]

PATH is `fmow-sentinel.tar.gz` unpacked (a directory) or decompressed (`gzip -d`, a .tar), with
`train.csv`, `val.csv` and `test_gt.csv` in it or, if `data.split_file` names one, anywhere else:

    fmow-sentinel/train/airport/airport_0/airport_0_0.tif, ...
    train.csv, val.csv, test_gt.csv: category, location_id, image_id, timestamp

Files have 13 bands, in the order that they say or else in SatMAE's, and many sizes: records are
96 px. As in SatMAE the model sees ten bands (not B01, B09, B10), cut off at the published mean
plus and minus two standard deviations, in patches of 8 px.

Training sees train; val queries test_gt, as CSMAE has it on BigEarthNet. The official splits share
no place, so that no query finds its own place at another date. With one split alone on disk, deal
its places out instead: `--config.data.split_by=location --config.eval.query_split=validation
--config.eval.gallery_split=test`.

Size: 882,779 records (712,874 train, 84,939 val, 84,966 test_gt) of 240 kB are 212 GB. Time by
count: 2.3 ms of one core for a record, so 34 core-minutes in all. Training (ViT-B/8, 50 epochs)
costs 101.8 GFLOP an image, 3.6e18 in all: 3.5 hours of one H200 if it reached 36 % of its measured
790 TFLOP/s. Expected score and true duration: not yet run. Another method:
`--config configs/fmow_sentinel.py:PRESET`, such as `mae` (docs/method.md).
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config, epochs_to_steps

TRAIN_IMAGES = 712_874
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


def get_config(preset: str = "rejepa") -> ConfigDict:
    config = base_config(preset)
    config.data.layout = "fmow_sentinel"
    config.data.record_size = 96
    config.data.image_size = 96
    config.data.sensor = "s2_l1c"
    config.data.bands = BANDS
    config.data.statistics = "fmow_sentinel"
    config.data.normalise = "clip"
    config.eval.query_split = "val"
    config.eval.gallery_split = "test_gt"

    config.model.patch_size = 8
    config.train.batch_size = 1024
    config.train.steps = epochs_to_steps(50, TRAIN_IMAGES, config.train.batch_size)
    config.optim.warmup_steps = epochs_to_steps(3, TRAIN_IMAGES, config.train.batch_size)
    return config.lock()
