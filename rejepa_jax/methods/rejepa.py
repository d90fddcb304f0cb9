"""REJEPA (Retrieval with Joint-Embedding Predictive Architecture), the paper on one page.

A context encoder sees some tokens of an image; a predictor guesses the features of the others; the
target encoder, a slow average of the context encoder, supplies them from the full image, behind a
stop-gradient. VICReg terms on the pooled context keep the features from collapsing.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from rejepa_jax.config import Vicreg
from rejepa_jax.methods import losses, masking
from rejepa_jax.models.predictor import Predictor, PredictorSpec
from rejepa_jax.models.vit import Encoder, EncoderSpec, gather_tokens
from rejepa_jax.types import Metrics, Views


@dataclasses.dataclass(frozen=True)
class Rejepa:
    """The method's settings, and its answer to each question that the trainer asks."""

    sensor: str
    encoder: EncoderSpec
    predictor: PredictorSpec
    target_ratio: float
    vicreg: Vicreg

    @property
    def views(self) -> int:
        """How many differently augmented views of each image the loss takes."""
        return 2 if self.vicreg.invariance == "two_view" else 1

    def init(self, key: Key[Array, ""]) -> dict[str, Any]:
        """Returns the trained parameters."""
        context_key, predictor_key = jax.random.split(key)
        return {
            "context_encoder": Encoder(self.encoder, rngs=nnx.Rngs(context_key)),
            "predictor": Predictor(self.predictor, self.encoder, rngs=nnx.Rngs(predictor_key)),
        }

    def averaged(self, params: dict[str, Any]) -> Encoder:
        """Returns what the exponential moving average follows."""
        return params["context_encoder"]

    def encoders(self, params: dict[str, Any], average: Encoder) -> dict[str, Encoder]:
        """Returns what can embed an image: eq. 3 names the context encoder, 4.2 the target's."""
        return {"target": average, "context": params["context_encoder"]}

    def loss(
        self, params: dict[str, Any], average: Encoder, views: Views, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Returns the objective (eq. 13, with α on the regularisation) and its parts."""
        image = jnp.concatenate([view[self.sensor] for view in views])
        masks = masking.sample_masks(key, len(image), self.encoder.num_tokens, self.target_ratio)
        context = params["context_encoder"](image, masks["context"])
        predicted = params["predictor"](context, masks)
        target = self._target(average, image, masks["target"])

        prediction = losses.prediction_loss(predicted, target)
        pairs = (predicted.mean((1, 2)), target.mean((1, 2)))
        metrics = {"prediction_loss": prediction} | self._regularisation(context.mean(1), pairs)
        loss = prediction + self.vicreg.weight * metrics["vicreg_loss"]
        return loss, {"loss": loss, **metrics}

    def _target(
        self, average: Encoder, image: Float[Array, "b h w c"], indices: Array
    ) -> Float[Array, "b m t d"]:
        """Features of the hidden patches, seen by the target encoder in the full image (eq. 5)."""
        b, m, t = indices.shape
        tokens = losses.normalise_targets(jax.lax.stop_gradient(average(image)))
        return gather_tokens(tokens, indices.reshape(b, m * t)).reshape(b, m, t, -1)

    def _regularisation(
        self, context: Float[Array, "b d"], pairs: tuple[Float[Array, "b d"], Float[Array, "b d"]]
    ) -> Metrics:
        """Variance and covariance of each view's pooled context, and invariance (eqs. 8-10, 12)."""
        vicreg = self.vicreg
        parts = jnp.split(context.astype(jnp.float32), self.views)
        variance = [losses.variance_loss(p, vicreg.std_target, vicreg.eps) for p in parts]
        covariance = [losses.covariance_loss(part) for part in parts]
        invariance = {
            "none": lambda: jnp.zeros(()),
            "pred_target": lambda: losses.invariance_loss(*pairs),
            "two_view": lambda: losses.invariance_loss(parts[0], parts[-1]),
        }[vicreg.invariance]()
        metrics = {
            "variance_loss": sum(variance, jnp.zeros(())) / self.views,
            "covariance_loss": sum(covariance, jnp.zeros(())) / self.views,
            "invariance_loss": invariance,
            "context_std": jnp.mean(losses.feature_std(parts[0], 0.0)),
        }
        metrics["vicreg_loss"] = (
            vicreg.variance_weight * metrics["variance_loss"]
            + vicreg.covariance_weight * metrics["covariance_loss"]
            + vicreg.invariance_weight * metrics["invariance_loss"]
        )
        return metrics
