"""REJEPA on a folder of pictures, at a size that two CPU cores train in a few minutes.

    python -m rejepa_jax.main --config configs/image_folder.py --config.data.archive=PATH
        [--config.data.split_file=SPLIT.csv] [--workdir DIR]

PATH is a directory, .tar or .zip of `Class/name.jpg` (.png, .tif); any number of bands. All images
must have one size, or set `data.record_size`. SPLIT.csv has the columns name,label,split with the
splits `gallery` and `query`; without it every fifth image of a class is a query. Training sees the
gallery images, never their labels. For a sensor other than 8-bit colour give `data.sensor=image`.

Cost: see docs/results.md, which has a run over 6,000 aerial images of 150 px in 30 classes. With
an accelerator start from configs/aid_gpu.py. `configs/image_folder.py:mae` and the other presets
(docs/method.md) train another method at the same sizes.

Planned with `rejepa plan configs/image_folder.py --topology cpu:1`: a batch of 128 images of 64 px
needs 168 MiB, of which 153 live within a step, and 0.18 GFLOP an image (docs/scaling.md).
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config


def get_config(preset: str = "rejepa_retrieval") -> ConfigDict:
    config = base_config(preset)
    config.data.layout = "image_folder"
    config.data.sensor = "rgb"
    config.data.image_size = 64
    config.data.train_split = "gallery"
    config.eval.query_split = "query"
    config.eval.gallery_split = "gallery"

    config.model.patch_size = 8
    config.model.embed_dim = 128
    config.model.depth = 3
    config.model.num_heads = 4
    config.model.predictor_dim = 64
    config.model.predictor_depth = 1
    config.mae.decoder_dim = 64
    config.mae.decoder_depth = 1
    config.mae.decoder_heads = 4

    config.train.batch_size = 128
    config.train.steps = 1500
    config.train.log_every = 20
    config.train.save_every = 250
    if preset == "rejepa_retrieval":
        config.optim.peak_lr = 2e-3
    config.optim.warmup_steps = 60
    config.health.every = 250
    return config.lock()
