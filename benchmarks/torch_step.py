"""Training steps of torch_model.py, as a worker of turns.py: step.py's rival.

    python benchmarks/torch_step.py '{"depth": 2}'     # takes one step for each line of input

The same work as a step of ours: from uint8 images, mirrored at random and standardised, to updated
weights and average, and the norm of the gradient. AdamW is fused; the average is one call.
"""

import json
import sys

import torch
import turns
from torch_model import Encoder, Linear, Predictor, Sizes, step_loss

MEAN, STD = 100.0, 50.0
RATE, DECAY, MOMENTUM = 1e-4, 0.04, 0.996


class Training:
    """Modules, optimizer and average, and what takes a step."""

    def __init__(self, sizes: Sizes):
        Linear.by_onednn = sizes.products == "onednn"
        self.sizes = sizes
        self.context, self.target = Encoder(sizes), Encoder(sizes).requires_grad_(False)
        self.target.load_state_dict(self.context.state_dict())
        self.predictor = Predictor(sizes)
        modules = (self.context, self.predictor)
        self.params = [param for module in modules for param in module.parameters()]
        groups = [
            {"params": [p for p in self.params if (p.ndim > 1) == decayed], "weight_decay": decay}
            for decayed, decay in ((True, DECAY), (False, 0.0))
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)

    def step(self, images):
        """One update."""
        image, (seen, hidden) = view(images), masks(self.sizes)
        loss = step_loss(self.context, self.target, self.predictor, image, seen, hidden)
        loss.backward()
        norm = torch.nn.utils.get_total_norm([param.grad for param in self.params], foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            averages, followed = list(self.target.parameters()), list(self.context.parameters())
            torch._foreach_lerp_(averages, followed, 1 - MOMENTUM)
        return loss.item(), norm.item()


def view(images):
    """Standardised images, each mirrored or not along either axis."""
    value = (images.float() - MEAN) / STD
    for axis in (1, 2):
        flip = torch.rand(len(value), 1, 1, 1) < 0.5
        value = torch.where(flip, value.flip(axis), value)
    return value


def masks(sizes):
    """A random permutation of each image's patches: the last are targets, the others context."""
    patches = (sizes.image_size // sizes.patch_size) ** 2
    order = torch.rand(sizes.batch_size, patches).argsort(1)
    return order[:, : -sizes.targets], order[:, -sizes.targets :]


def prepare():
    """Makes the state and takes the first step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = Sizes(**json.loads(sys.argv[1]))
    training = Training(sizes)
    shape = (sizes.batch_size, sizes.image_size, sizes.image_size, sizes.bands)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    training.step(images)
    return lambda: training.step(images), {"version": torch.__version__, "matmul": matmul_rate()}


def matmul_rate(side: int = 2048) -> float:
    """GFLOP per CPU-second of a plain float32 product, by what the step uses."""
    layer, rows = Linear(side, side).requires_grad_(False), torch.ones(side, side)
    layer(rows)
    return turns.best_rate(lambda: layer(rows), 2 * side**3 / 1e9)


if __name__ == "__main__":
    turns.serve(prepare)
