"""MAE, the masked autoencoder (He et al. 2022), on one page.

An encoder sees a quarter of an image's patches; a decoder reconstructs the pixels of the others.
No slow average, no second encoder. After training the decoder is thrown away.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from rejepa_jax.config import Loss, Mask
from rejepa_jax.methods import losses, masking
from rejepa_jax.models import flops
from rejepa_jax.models.predictor import Predictor, PredictorSpec
from rejepa_jax.models.vit import Encoder, EncoderSpec, gather_tokens, patchify
from rejepa_jax.types import Metrics, Views

PATCH_EPS = 1e-6  # on the variance of a patch


@dataclasses.dataclass(frozen=True)
class Mae:
    """The method's settings, and its answer to each question that the trainer asks."""

    sensor: str
    encoder: EncoderSpec
    decoder: PredictorSpec
    mask_ratio: float
    norm_pix: bool

    views = 1

    def init(self, key: Key[Array, ""]) -> dict[str, Any]:
        """Returns the trained parameters."""
        encoder_key, decoder_key = jax.random.split(key)
        return {
            "encoder": Encoder(self.encoder, rngs=nnx.Rngs(encoder_key)),
            "decoder": Predictor(self.decoder, self.encoder, rngs=nnx.Rngs(decoder_key)),
        }

    def start_from(self, params: dict[str, Any], encoder: Encoder) -> dict[str, Any]:
        """Returns the parameters with a given encoder instead of the random one."""
        return params | {"encoder": encoder}

    def averaged(self, params: dict[str, Any]) -> None:
        """Returns None: no average follows."""

    def encoders(self, params: dict[str, Any], average: None) -> dict[str, Encoder]:  # noqa: ARG002
        """Returns what can embed an image."""
        return {"encoder": params["encoder"]}

    def loss(
        self,
        params: dict[str, Any],
        average: None,  # noqa: ARG002
        views: Views,
        key: Key[Array, ""],
    ) -> tuple[Float[Array, ""], Metrics]:
        """Returns the mean squared error over the pixels of hidden patches (He et al. 3)."""
        image = views[0][self.sensor]
        masks = masking.random_masks(key, len(image), self.encoder.num_tokens, self.mask)
        visible = params["encoder"].encode(image, masks["context"])
        guess = params["decoder"](visible, masks)[:, 0]
        truth = gather_tokens(self._pixels(image), masks["target"][:, 0])
        loss = losses.prediction_loss(guess, truth, Loss())
        return loss, {"loss": loss}

    def _pixels(self, image: Float[Array, "b h w c"]) -> Float[Array, "b n p"]:
        """Patches as the decoder has to give them: with `norm_pix` each standardised by itself."""
        patches = losses.wide(patchify(image, self.encoder.patch_size))
        if not self.norm_pix:
            return patches
        variance = patches.var(-1, ddof=1, keepdims=True)
        return (patches - patches.mean(-1, keepdims=True)) / jnp.sqrt(variance + PATCH_EPS)

    @property
    def mask(self) -> Mask:
        """Hidden patches are targets, all others context."""
        return Mask(target_ratio=self.mask_ratio)

    @property
    def flops(self) -> dict[str, float]:
        """FLOPs an image of one training step, by part."""
        encoder = self.encoder
        visible, hidden = masking.token_counts(encoder.num_tokens, self.mask)
        given = visible + encoder.class_token
        decoder = flops.predictor_flops(self.decoder, encoder, given, groups=1, targets=hidden)
        return {"encoder": 3 * flops.encoder_flops(encoder, visible), "decoder": 3 * decoder}
