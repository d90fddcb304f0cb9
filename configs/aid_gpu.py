"""REJEPA on 6,000 aerial images with one accelerator: what launch/aid_gpu.sh runs beside MAE.

    launch/aid_gpu.sh AID.tar SPLIT.csv OUT

ViT-S with 8 px patches at 128 px, the images resident on the device. Expected score and true
duration: not yet run. By count (`rejepa inspect configs/aid_gpu.py`) an image costs 27 GFLOP a
step, so that 6,000 steps of 512 would take six minutes of an H200 at 30 % of its measured 790
TFLOP/s, MAE's at equal FLOPs the same, and MAE's at equal epochs less.
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config


def get_config(preset: str = "rejepa_retrieval") -> ConfigDict:
    config = base_config(preset)
    config.data.layout = "image_folder"
    config.data.sensor = "rgb"
    config.data.image_size = 128
    config.data.resident = True
    config.data.train_split = "gallery"
    config.eval.query_split = "query"
    config.eval.gallery_split = "gallery"
    config.eval.batch_size = 500

    config.model.size = "small"
    config.model.patch_size = 8
    config.model.predictor_dim = 192
    config.model.predictor_depth = 6
    config.mae.decoder_dim = 192
    config.mae.decoder_depth = 6
    config.mae.decoder_heads = 6

    config.train.batch_size = 512
    config.train.steps = 6000
    config.train.log_every = 50
    config.train.save_every = 500
    config.optim.warmup_steps = 400
    config.health.every = 500
    return config.lock()
