"""From settings to a method."""

import jax

from rejepa_jax.config import Config
from rejepa_jax.methods.contract import Method
from rejepa_jax.methods.mae import Mae
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
        class_token=model.class_token,
        positions=model.positions,
        unroll=model.unroll,
        remat=model.remat,
    )


def rejepa(config: Config, encoder: EncoderSpec) -> Method:
    """REJEPA with the config's sizes, masks, targets and regularisation."""
    model = config.model
    predictor = PredictorSpec(
        dim=model.predictor_dim,
        depth=model.predictor_depth,
        num_heads=model.predictor_heads or encoder.num_heads,
        outputs=encoder.embed_dim,
        mode=model.predictor_mode,
        query_attention=model.query_attention,
    )
    return Rejepa(
        sensor=config.data.sensor,
        encoder=encoder,
        predictor=predictor,
        mask=config.mask,
        target=config.target,
        distance=config.loss,
        vicreg=config.vicreg,
    )


def mae(config: Config, encoder: EncoderSpec) -> Method:
    """MAE with the config's sizes and decoder."""
    settings = config.mae
    decoder = PredictorSpec(
        dim=settings.decoder_dim,
        depth=settings.decoder_depth,
        num_heads=settings.decoder_heads,
        outputs=encoder.patch_size**2 * encoder.bands,
    )
    return Mae(config.data.sensor, encoder, decoder, settings.mask_ratio, settings.norm_pix)


METHODS = {"rejepa": rejepa, "mae": mae}


def build_method(config: Config, bands: int) -> Method:
    """Returns the method that `config.method` names, for images of this many bands."""
    return METHODS[config.method](config, encoder_spec(config, bands))
