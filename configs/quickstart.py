"""placeholder."""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.data.layout = "synthetic"
    config.data.sensor = "s2"
    config.data.image_size = 60
    config.synthetic.train = 1200
    config.synthetic.validation = 300
    config.synthetic.test = 600
    config.prepare.shard_records = 100
    config.model.patch_size = 10
    config.model.embed_dim = 128
    config.model.depth = 4
    config.model.num_heads = 4
    config.model.predictor_dim = 64
    config.model.predictor_depth = 2
    config.train.batch_size = 128
    config.train.steps = 200
    config.train.log_every = 20
    config.optim.warmup_steps = 20
    config.augment.crop_scale = (0.5, 1.0)
    config.augment.rotate = True
    config.augment.gain = 0.2
    config.augment.offset = 0.3
    config.vicreg.invariance = "two_view"
    config.vicreg.weight = 0.04
    config.ema.start = 0.98
    return config.lock()
