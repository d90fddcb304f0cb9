"""REJEPA (Retrieval with Joint-Embedding Predictive Architecture), the paper on one page.

A context encoder sees some tokens of an image; a predictor guesses the features of the others; the
target encoder, a slow average of the context encoder, supplies them, behind a stop-gradient. VICReg
terms keep the features from collapsing. I-JEPA, C-JEPA and V-JEPA's image form are settings of it.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from rejepa_jax.config import Loss, Mask, Target, Vicreg
from rejepa_jax.methods import losses, masking
from rejepa_jax.methods.vicreg import feature_width, vicreg_flops, vicreg_terms
from rejepa_jax.models import flops
from rejepa_jax.models.expander import Expander
from rejepa_jax.models.predictor import Predictor, PredictorSpec
from rejepa_jax.models.vit import Encoder, EncoderSpec, gather_tokens
from rejepa_jax.types import Masks, Metrics, Views

Encode = Callable[..., Float[Array, "b k d"]]  # an encoder's call, on one device or on many


@dataclasses.dataclass(frozen=True)
class Rejepa:
    """The method's settings, and its answer to each question that the trainer asks."""

    sensor: str
    encoder: EncoderSpec
    predictor: PredictorSpec
    mask: Mask
    target: Target
    distance: Loss
    vicreg: Vicreg

    @property
    def views(self) -> int:
        """How many differently augmented views of each image the loss takes."""
        return 2 if self.vicreg.invariance == "two_view" else 1

    def init(self, key: Key[Array, ""]) -> dict[str, Any]:
        """Returns the trained parameters."""
        context_key, predictor_key = jax.random.split(key)
        params: dict[str, Any] = {
            "context_encoder": Encoder(self.encoder, rngs=nnx.Rngs(context_key)),
            "predictor": Predictor(self.predictor, self.encoder, rngs=nnx.Rngs(predictor_key)),
        }
        if self.vicreg.expander:
            rngs = nnx.Rngs(jax.random.fold_in(key, 2))
            width = feature_width(self.vicreg, self.encoder.embed_dim)
            params["expander"] = Expander(width, self.vicreg.expander, rngs=rngs)
        return params

    def start_from(self, params: dict[str, Any], encoder: Encoder) -> dict[str, Any]:
        """Returns the parameters with a given encoder instead of the random one."""
        return params | {"context_encoder": encoder}

    def averaged(self, params: dict[str, Any]) -> Encoder:
        """Returns what the exponential moving average follows."""
        return params["context_encoder"]

    def encoders(self, params: dict[str, Any], average: Encoder) -> dict[str, Encoder]:
        """Returns what can embed an image: eq. 3 names the context encoder, 4.2 the target's."""
        return {"target": average, "context": params["context_encoder"]}

    def loss(
        self, params: dict[str, Any], average: Encode, views: Views, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Returns the objective (eq. 13, with α on the regularisation) and its parts.

        Where a step draws several pairs of masks, all of it is averaged over them.
        """
        image = jnp.concatenate([view[self.sensor] for view in views])
        drawn = masking.sample_masks(key, len(image), self.encoder.grid_size, self.mask)
        full = average(image) if self.target.input == "full" else None
        parts = [self._masked_loss(params, average, image, masks, full) for masks in drawn]
        metrics = jax.tree.map(lambda *values: sum(values) / len(values), *parts)
        return metrics["loss"], metrics

    def _masked_loss(
        self,
        params: dict[str, Any],
        average: Encode,
        image: Float[Array, "b h w c"],
        masks: Masks,
        full: Float[Array, "b n d"] | None,
    ) -> Metrics:
        context = params["context_encoder"](image, masks["context"], masks["context_valid"])
        predicted = params["predictor"](context, masks)
        target = self._targets(average, image, masks, full)

        valid = masks["target_valid"]
        prediction = losses.prediction_loss(predicted, target, self.distance, valid)
        terms = vicreg_terms(
            self.vicreg, self.distance, params.get("expander"), context, predicted, target, masks
        )
        loss = prediction + self.vicreg.weight * terms["vicreg_loss"]
        return {"loss": loss, "prediction_loss": prediction, **terms}

    def _targets(
        self,
        average: Encode,
        image: Float[Array, "b h w c"],
        masks: Masks,
        full: Float[Array, "b n d"] | None,
    ) -> Float[Array, "b m t d"]:
        """Features of the hidden patches.

        They are seen in the full image (eq. 5), or each group by itself (`target_patches`; paper
        3.3: "processes the masked regions independently").
        """
        b, m, t = masks["target"].shape
        if full is not None:
            tokens = losses.normalise_targets(full, self.target.norm)
            chosen = gather_tokens(tokens, masks["target"].reshape(b, m * t))
        else:
            groups, valid = (
                part if part is None else part.reshape(b * m, t)
                for part in (masks["target"], masks["target_valid"])
            )
            tokens = average(jnp.repeat(image, m, axis=0), groups, valid)
            chosen = losses.normalise_targets(tokens, self.target.norm, valid)
        return jax.lax.stop_gradient(chosen.reshape(b, m, t, -1))

    @property
    def flops(self) -> dict[str, float]:
        """FLOPs an image of one training step, by part."""
        encoder, seen, out = self.encoder, 0, defaultdict[str, float](float)
        for context, groups, targets in masking.mask_sizes(encoder.grid_size, self.mask):
            seen += context
            out["context_encoder"] += 3 * flops.encoder_flops(encoder, context)
            out["predictor"] += 3 * flops.predictor_flops(
                self.predictor, encoder, context, targets, groups
            )
            if self.target.input == "target_patches":
                out["target_encoder"] += groups * flops.encoder_flops(encoder, targets)
        if self.target.input == "full":
            out["target_encoder"] += flops.encoder_flops(encoder, encoder.num_tokens)
        out["regularisation"] += 3 * vicreg_flops(self.vicreg, encoder.embed_dim, seen)
        return {part: self.views * count for part, count in out.items()}
