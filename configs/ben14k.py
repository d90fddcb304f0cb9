r"""REJEPA on BEN-14K: Sentinel-1 or Sentinel-2 patches of Serbia in summer, 19 land-cover labels.

    pip download bigearthnet-common==2.8.0 --no-deps
    python -m rejepa_jax.main --config configs/ben14k.py --config.data.archive=PATH
        --config.data.split_file=bigearthnet_common-2.8.0-py3-none-any.whl
        [--config.data.sensor=s1] [--workdir runs/ben14k_s1]

PATH is BigEarthNet in any of its forms, a directory, .tar or .zip (.tar.gz and .tar.zst: unpacked);
with only one sensor's folder there the records hold that sensor:

    v1       BigEarthNet-v1.0/S2A_.../S2A_..._B02.tif, ... and S2A_..._labels_metadata.json
             BigEarthNet-S1-v1.0/S1A_.../S1A_..._VV.tif, ... and S1A_..._labels_metadata.json
    v2       metadata.parquet, BigEarthNet-S2/<scene>/<patch>/..., BigEarthNet-S1/...
    stacked  metadata.parquet, BigEarthNet-S2/train/<patch>.tif, ..., BigEarthNet-S1/train/...

The downloaded file holds v1's official splits, partners and countries; CSMAE's rule, country Serbia
and months June to August, makes of them the published 7,761 training, 3,508 validation and 3,563
test pairs. CSMAE's own name lists do as well: `data.split_file` is then their folder. The log says
whether the lists are the published ones. On v1 that is BEN-14K to the patch. On v2, whose pixels
and labels were made anew, it is what is left of it, and the log counts what is not; without
`data.split_file` the rule is taken over v2's own splits.

The stacked copy goes round as BEN-14K with 13,683 pairs: v2's patches in v2's splits, without B01
and B09. Files that do not name their bands need `--config.data.file_bands`, the order of both
sensors one behind the other. It is not documented; loaders take it for
"('B02','B03','B04','B05','B06','B07','B08','B8A','B11','B12','VV','VH')".

Size: 14,832 records of 461 kB are 6.8 GB (s2 alone: 346 kB and 5.1 GB; s1 alone: 116 kB and 1.7 GB;
13,683 stacked ones of 404 kB: 5.5 GB); the same pairs as v1 has them are 4.2 GB. Time: 7 s for
the lists, and 3.4 ms of one core for a pair, measured on real ones, so 50 core-seconds in all where
the disk keeps up (17 ms where the images are compressed).

Validation queries test, as in CSMAE. The model is the paper's: ViT-B/16 at 224 px, 147 context and
49 target tokens, predictor of 12 layers of 384, batch 128; 400 epochs, which the paper leaves open
(`rejepa inspect` prints its parameters and FLOPs). Cost: 142.5 GFLOP an image, 4.4e17 in all by
count: 26 minutes of one H200 if it reached 36 % of its measured 790 TFLOP/s. Expected score and
true duration: not yet run. Another method: `--config configs/ben14k.py:PRESET`, such as `mae` or
`rejepa_light` (docs/method.md).

Planned with `rejepa plan configs/ben14k.py --topology v5e:2x4 --images_per_chip 128`: on eight TPU
v5e 128 images a chip need 11.3 of 15.75 GiB and run at no more than 7,800 images/s, bound by
memory, 4,500 if nothing overlaps; compiled, not measured (docs/scaling.md).

A try on a few patches of v2, with a toy model on a CPU:

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
