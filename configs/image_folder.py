"""placeholder"""

from rejepa_jax.config import base_config


def get_config():
    config = base_config()
    config.data.layout = "image_folder"
    config.data.sensor = "rgb"
    config.data.image_size = 96
    config.data.train_split = "gallery"
    config.augment.crop_scale = (0.3, 1.0)
    config.augment.rotate = True
    config.model.size = "tiny"
    config.model.depth = 6
    config.model.patch_size = 16
    config.model.predictor_dim = 96
    config.model.predictor_depth = 2
    config.eval.query_split = "query"
    config.eval.gallery_split = "gallery"
    config.train.steps = 20
    config.optim.warmup_steps = 5
    config.train.log_every = 5
    return config.lock()
