"""What the trainer, the exporter and the evaluator ask of a method; none knows one by name."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Key

from rejepa_jax.models.vit import Encoder
from rejepa_jax.types import Metrics, Views


@runtime_checkable
class Method(Protocol):
    """A way to train encoders from unlabelled images."""

    @property
    def views(self) -> int:
        """How many differently augmented views of each image the loss takes."""
        ...

    @property
    def flops(self) -> dict[str, float]:
        """FLOPs an image of one training step, by part: two a multiply-add, all views included.

        Trained parts cost three times their forward pass, parts behind a stop-gradient once.
        """
        ...

    def init(self, key: Key[Array, ""]) -> Any:
        """Returns the trained parameters."""
        ...

    def start_from(self, params: Any, encoder: Encoder) -> Any:
        """Returns the parameters with a given encoder instead of the random one."""
        ...

    def averaged(self, params: Any) -> Any:
        """Returns the part of the parameters that a slow average follows, or None."""
        ...

    def loss(
        self, params: Any, average: Any, views: Views, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Returns the objective and its parts."""
        ...

    def encoders(self, params: Any, average: Any) -> dict[str, Encoder]:
        """Returns what can embed an image, by name."""
        ...
