r"""REJEPA on your own scenes: Sentinel-2 products, or any GeoTIFF, COG or JPEG 2000 files.

    python -m rejepa_jax.main --config configs/own_scenes.py --config.data.archive=PATH
        [--config.scenes.mask=_SCL_20m.jp2] [--workdir DIR]

PATH is one of
- a folder, at any depth, of `S2*.SAFE` products as downloaded and unpacked; of scenes with one file
  a band (`<scene>_B02.tif`, `<scene>_B03_10m.jp2`, or `<scene>/B02.tif`); or of scenes in one file,
  whose bands are named by the file, or by `--config.data.file_bands=B02,B03,...` in its order;
- a list of STAC items: a FeatureCollection as .json, items as lines of .ndjson, stac-geoparquet, or
  a folder in which they lie as .json. Assets may be local or at http, https, s3 or gs addresses
  (GDAL's environment variables, such as AWS_NO_SIGN_REQUEST=YES, say how to sign in).

Each scene is cut into patches on its own pixel grid; bands of 20 m and 60 m are brought to 10 m.
`scenes.mask` names what marks clouds: the ending of a file beside the bands, or a STAC asset (scl).
Masked and missing pixels become 0, which is unknown to all that follows; patches with more than a
tenth of them in any band are left out, and counted in the log. Values of Sentinel-2 products since
processing baseline 04.00 are lowered by 1,000, as their metadata say, to be reflectance x 10,000.
All scenes must have the bands that most have; others are listed in `records/quarantine.jsonl`.
Other sensors: `--config.data.sensor=s1` (VV, VH in dB), `rgb`, or `image` for anything else.

Train, validation and test are different ground: whole blocks of 10 km. Without labels there is
nothing to score: the run ends with its index, a page of what the encoder finds for `report.queries`
queries, and `rejepa search`. `--config.scenes.labels=folder` takes the folder of each scene as its
class.

Size and time: a Sentinel-2 tile gives 8,281 patches, 2.9 GB of records. Preparing, measured on one
core: 290 patches/s from COGs (29 s a tile), 37 from JPEG 2000 (4 minutes a tile); the pixels are
read twice, once to see which are known. Training: 15 GFLOP an image and step by count
(`rejepa inspect configs/own_scenes.py`), 4.7e16 for these 24,000 steps of 128; three minutes of one
H200 if it reached 36 % of its measured 790 TFLOP/s. Not yet run at this size.

Planned with `rejepa plan configs/own_scenes.py --topology v5e:2x4`: on eight TPU v5e the batch, 16
images a chip, needs 0.7 of 15.75 GiB and runs at no more than 56,000 images/s, bound by memory,
28,000 if nothing overlaps; compiled, not measured (docs/scaling.md).
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config


def get_config(preset: str = "rejepa_retrieval") -> ConfigDict:
    config = base_config(preset)
    config.data.layout = "scenes"
    config.data.split_by = "block"
    config.data.block_km = 10.0
    config.data.sensor = "s2"
    config.data.image_size = 120
    config.scenes.patch = 120

    config.model.size = "small"
    config.model.patch_size = 10
    config.model.predictor_dim = 192
    config.model.predictor_depth = 6
    config.mae.decoder_dim = 192
    config.mae.decoder_depth = 6
    config.mae.decoder_heads = 6

    config.train.batch_size = 128
    config.train.steps = 24_000
    config.train.log_every = 50
    config.train.save_every = 1000
    config.optim.warmup_steps = 1000
    config.health.every = 1000
    return config.lock()
