"""REJEPA on a folder of pictures, at a size that two CPU cores train in a few minutes.

    python -m rejepa_jax.main --config configs/image_folder.py --config.data.archive=PATH
        [--config.data.split_file=SPLIT.csv] [--workdir DIR]

PATH is a directory, .tar or .zip of `Class/name.jpg` (.png, .tif); any number of bands. All images
must have one size, or set `data.record_size`. SPLIT.csv has the columns name,label,split with the
splits `gallery` and `query`; without it every fifth image of a class is a query. Training sees the
gallery images, never their labels. For a sensor other than 8-bit colour give `data.sensor=image`.

Cost: see docs/results.md, which has a run over 6,000 aerial images of 150 px in 30 classes. With
an accelerator take a larger model: `--config.model.size=small --config.model.depth=12
--config.model.predictor_dim=384 --config.model.predictor_depth=6 --config.data.image_size=128
--config.train.steps=20000`.
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.data.layout = "image_folder"
    config.data.sensor = "rgb"
    config.data.image_size = 96
    config.data.train_split = "gallery"
    config.eval.query_split = "query"
    config.eval.gallery_split = "gallery"

    config.augment.crop_scale = (0.3, 1.0)
    config.augment.rotate = True
    config.augment.gain = 0.2
    config.augment.offset = 0.3
    config.augment.band_gain = 0.1
    config.augment.band_offset = 0.1

    config.model.patch_size = 16
    config.model.size = "tiny"
    config.model.depth = 4
    config.model.predictor_dim = 96
    config.model.predictor_depth = 2

    config.vicreg.invariance = "two_view"
    config.vicreg.weight = 0.3
    config.vicreg.std_target = 0.4
    config.vicreg.covariance_weight = 5.0
    config.ema.start = 0.98

    config.train.batch_size = 128
    config.train.steps = 400
    config.train.log_every = 10
    config.train.save_every = 100
    config.optim.warmup_steps = 30
    return config.lock()
