"""The whole road on a small archive of invented scenes that it writes itself: no download.

    python -m rejepa_jax.main --config configs/quickstart.py

Writes paired Sentinel-1 and Sentinel-2 patches with 19 land-cover labels in the BigEarthNet v2
layout, then learns from the Sentinel-1 half and searches it. `--config.data.sensor=s2` does the
same with the twelve optical bands. The scenes are drawn, not measured: the figures say that every
stage works and that the encoder learns, nothing about real images.

Cost and score on two CPU cores: docs/results.md.

Planned with `rejepa plan configs/quickstart.py --topology cpu:1`: a batch of 128 images needs 407
MiB, of which 340 live within a step, and 0.77 GFLOP an image (docs/scaling.md).
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config


def get_config(preset: str = "rejepa") -> ConfigDict:
    config = base_config(preset)
    config.data.layout = "synthetic"
    config.data.sensor = "s1"
    config.data.image_size = 60
    config.synthetic.train = 1200
    config.synthetic.validation = 600
    config.synthetic.test = 600
    config.prepare.shard_records = 100

    config.model.patch_size = 10
    config.model.embed_dim = 192
    config.model.depth = 3
    config.model.num_heads = 3
    config.model.predictor_dim = 96
    config.model.predictor_depth = 2
    config.mae.decoder_dim = 96
    config.mae.decoder_depth = 2
    config.mae.decoder_heads = 3

    if preset == "rejepa":  # any other preset trains by its own settings
        config.augment.crop_scale = (0.3, 1.0)
        config.augment.rotate = True
        config.augment.offset = 0.5
        config.augment.band_offset = 0.15
        config.vicreg.invariance = "two_view"
        config.vicreg.weight = 0.3
        config.vicreg.std_target = 0.4
        config.vicreg.covariance_weight = 5.0
        config.ema.start = 0.98

    config.train.batch_size = 128
    config.train.steps = 200
    config.train.log_every = 10
    config.train.save_every = 50
    config.health.every = 50
    config.optim.warmup_steps = 20
    return config.lock()
