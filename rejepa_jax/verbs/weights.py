"""`rejepa import` and `export`: encoders from elsewhere, and for elsewhere."""

import argparse
import dataclasses
import pathlib

from rejepa_jax.console import say
from rejepa_jax.retrieval.pooling import POOLS
from rejepa_jax.retrieval.weights.exporting import export_weights
from rejepa_jax.retrieval.weights.importing import Import, import_weights
from rejepa_jax.verbs.arguments import Verb, names, numbers


def bring_in(arguments: argparse.Namespace) -> int:
    """Makes an encoder bundle from a file of another ViT's weights, running no code in it."""
    wanted = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Import)}
    for note in import_weights(arguments.file, arguments.out, Import(**wanted)):
        say(note)
    say(f"{arguments.out}: a bundle; train from it with --config.model.weights={arguments.out}")
    return 0


def hand_out(arguments: argparse.Namespace) -> int:
    """Writes an encoder for use elsewhere: StableHLO module, safetensors, model card."""
    files = export_weights(arguments.source, arguments.out, arguments.encoder)
    say(f"{arguments.out}: {', '.join(files)}; README.md says how to use them")
    return 0


def add_verbs(verb: Verb) -> None:
    """Adds these verbs to the command line."""
    _add_import(verb("import", bring_in))
    exporting = verb("export", hand_out)
    exporting.add_argument("source", help="run directory or its URL, or a bundle")
    exporting.add_argument("out", type=pathlib.Path, help="directory to make")
    exporting.add_argument("--encoder", help="of the run; default: the one that fills its index")


def _add_import(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=pathlib.Path, help=".safetensors, or a torch checkpoint (.pth, .pt, .pth.tar)")
    add("out", type=pathlib.Path, help="bundle directory to make")
    add("--encoder", help="of several in the file (default target_encoder)")
    add("--heads", type=int, help="attention heads (default: one for 64 features)")
    add("--file_bands", type=names, default=(), help="that it knows: a,b,c (default for 3: rgb)")
    add("--sensor", default="rgb", help="whose images it shall take (default rgb)")
    add("--bands", type=names, default=(), help="of the sensor: a,b,c (default all)")
    add("--image_size", type=int, help="px that the encoder sees (default: the file's)")
    add("--record_size", type=int, help="px of the images given to it (default: image_size)")
    add("--mean", type=numbers, default=(), help="of the bands, in the images' unit: 1,2,3")
    add("--std", type=numbers, default=(), help="default: ImageNet's for rgb, else published")
    add("--pool", choices=tuple(POOLS), default="mean", help="tokens to descriptor (default mean)")
