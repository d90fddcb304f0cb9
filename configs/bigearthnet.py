r"""REJEPA on all of BigEarthNet: half a million pairs of Sentinel-1 and Sentinel-2 patches.

    python -m rejepa_jax.main --config configs/bigearthnet.py --config.data.archive=PATH
        [--config.data.split_file=LISTS] [--config.data.selection=all]
        [--config.data.sensor=s1] [--workdir runs/bigearthnet]

PATH is version 1 or 2, a directory, .tar or .zip (.tar.gz and .tar.zst: unpacked), which lie on
disk as configs/ben14k.py shows. Labels are 19 kinds of land cover, splits the official ones:

    v2   549,488 pairs. `clean`, of metadata.parquet: 237,871 train, 122,342 validation, 119,825
         test. `all` takes those with snow, cloud or shadow too, of the second table.
    v1   590,326 pairs. The lists say which: `pip download bigearthnet-common==2.8.0 --no-deps`
         leaves a file with the official ones, LISTS: 269,695 train, 123,723 validation, 125,866
         test. They leave out patches with snow, cloud or shadow, and 57 of none of the 19 classes.

Size: a record of a pair is 461 kB: 480,038 clean ones of v2 are 221 GB, all 253 GB, the listed ones
of v1 240 GB (s2 alone: three quarters of that; s1 alone: a quarter). The archive itself, by the
size of v1's files: 167 GB, and 193 GB on a disk with blocks of 4 KiB. Time: 10 s and 0.7 GB of
memory for the list, and 3.4 ms of one core for a pair, measured on real ones, so 27 core-minutes
for v2 and 29 for v1 where the disk keeps up with 14 small files a pair (five times as long where
the images are compressed).

Validation queries test. The model is ViT-B/16 at 224 px as for BEN-14K, batch 1,024, 50 epochs of
v2 (on v1: `--config.train.steps=13169`). Cost: 142.5 GFLOP an image, 1.7e18 in all by count: 1.7
hours of one H200 if it reached 36 % of its measured 790 TFLOP/s. Expected score and true duration:
not yet run. Another method: `--config configs/bigearthnet.py:PRESET`, such as `mae`
(docs/method.md).

Planned with `rejepa plan configs/bigearthnet.py --topology v5e:2x4`: on eight TPU v5e the batch,
128 images a chip, needs 11.3 of 15.75 GiB and runs at no more than 7,800 images/s, bound by memory,
4,500 if nothing overlaps; compiled, not measured (docs/scaling.md).
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config, epochs_to_steps

TRAIN_IMAGES = 237_871  # of version 2, clean


def get_config(preset: str = "rejepa") -> ConfigDict:
    config = base_config(preset)
    config.data.layout = "bigearthnet"
    config.data.selection = "clean"
    config.data.sensor = "s2"

    config.train.batch_size = 1024
    config.train.steps = epochs_to_steps(50, TRAIN_IMAGES, config.train.batch_size)
    config.optim.warmup_steps = epochs_to_steps(3, TRAIN_IMAGES, config.train.batch_size)
    return config.lock()
