"""The embedding of torch_model.py's encoder, as a worker of turns.py: embed.py's rival.

    python benchmarks/torch_embed.py '{"depth": 2}'     # embeds a batch for each line of input

From uint8 or uint16 images to unit vectors: standardised, embedded, averaged, brought to length 1.
"""

import json
import sys

import torch
import turns
from torch.nn import functional
from torch_model import Encoder, Linear, Sizes

MEAN, STD = 100.0, 50.0


def prepare():
    """Makes the encoder and embeds the first batch."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = Sizes(**json.loads(sys.argv[1]))
    Linear.by_onednn = sizes.products == "onednn"
    encoder = Encoder(sizes).eval()
    shape = (sizes.batch_size, sizes.image_size, sizes.image_size, sizes.bands)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)

    @torch.inference_mode()
    def embed():
        image = (images.float() - MEAN) / STD
        return functional.normalize(encoder(image).mean(1), dim=1)

    embed()
    return embed, {"version": torch.__version__}


if __name__ == "__main__":
    turns.serve(prepare)
