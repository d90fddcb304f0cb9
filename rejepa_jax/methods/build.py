"""From settings to a method."""

import jax

from rejepa_jax.config import Config
from rejepa_jax.methods.contract import Method
from rejepa_jax.methods.rejepa import Rejepa
from rejepa_jax.models.predictor import PredictorSpec
from rejepa_jax.models.vit import EncoderSpec


def encoder_spec(config: Config, bands: int) -> EncoderSpec:
    """Returns the encoder's shape for images of this many bands."""
    model = config.model
    if model.embed_dim is None or model.depth is None or model.num_heads is None:
        raise TypeError("expected a config from `resolve.resolve`, which fills in the model's size")
    automatic = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return EncoderSpec(
        image_size=config.data.image_size,
        patch_size=model.patch_size,
        bands=bands,
        embed_dim=model.embed_dim,
        depth=model.depth,
        num_heads=model.num_heads,
        mlp_ratio=model.mlp_ratio,
        dtype=automatic if model.dtype == "auto" else model.dtype,
    )


def rejepa(config: Config, bands: int) -> Method:
    """REJEPA with the config's sizes, masks and regularisation."""
    model = config.model
    return Rejepa(
        sensor=config.data.sensor,
        encoder=encoder_spec(config, bands),
        predictor=PredictorSpec(model.predictor_dim, model.predictor_depth),
        target_ratio=config.mask.target_ratio,
        vicreg=config.vicreg,
    )


METHODS = {"rejepa": rejepa}


def build_method(config: Config, bands: int) -> Method:
    """Returns the method that `config.method` names, for images of this many bands."""
    return METHODS[config.method](config, bands)
