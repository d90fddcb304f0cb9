r"""REJEPA on any data set that TensorFlow Datasets has prepared, such as eurosat or resisc45.

    python -m rejepa_jax.main --config configs/tfds.py --config.data.archive=PATH
        [--config.data.features='("image", "label")'] [--workdir runs/tfds]

PATH is the folder of one version, such as `~/tensorflow_datasets/resisc45/3.0.0`, with shards in
TFRecord or ArrayRecord; TensorFlow is not needed:

    features.json, dataset_info.json, label.labels.txt
    resisc45-train.tfrecord-00000-of-..., ...

Image and label are found by their kinds, or named by `data.features`. Three bands of 8 bits are
`data.sensor=rgb`; else set `data.sensor=image`, or `s2`, `s2_l1c` or `s1` with the order of the
bands as `data.file_bands`. `data.record_size` brings images of mixed sizes to one.

Most data sets of remote sensing have the split train alone: here each fifth record is a query, and
training sees all others, which are the gallery. For a data set with splits of its own:

    --config.data.selection= --config.data.train_split=train
    --config.eval.query_split=test --config.eval.gallery_split=train

Size of a record: rows times columns times bands times bytes of a value, 196 kB for resisc45 at
256 px, whose 31,500 records are 6.2 GB. Time by count: 1 ms of one core for a JPEG of that size, so
half a core-minute in all. Training (ViT-S/16 at 128 px, 200 epochs) costs 10.3 GFLOP an image,
5.2e16 in all: 3 minutes of one H200 if it reached 36 % of its measured 790 TFLOP/s. Expected score
and true duration: not yet run. Another method: `--config configs/tfds.py:PRESET`, such as `mae`
(docs/method.md).

Planned with `rejepa plan configs/tfds.py --topology v5e:2x4`: on eight TPU v5e the batch, 64 images
a chip, needs 1.0 of 15.75 GiB and runs at no more than 143,000 images/s, bound by memory, 66,000 if
nothing overlaps; compiled, not measured (docs/scaling.md). The images are taken to have the model's
128 px.
"""

from ml_collections import ConfigDict

from rejepa_jax.config import base_config, epochs_to_steps

TRAIN_IMAGES = 25_200  # of resisc45


def get_config(preset: str = "rejepa") -> ConfigDict:
    config = base_config(preset)
    config.data.layout = "tfds"
    config.data.selection = "every_fifth"
    config.data.sensor = "rgb"
    config.data.image_size = 128
    config.data.train_split = "gallery"
    config.eval.query_split = "query"
    config.eval.gallery_split = "gallery"
    config.augment.crop_scale = (0.3, 1.0)

    config.model.size = "small"
    config.model.predictor_dim = 192
    config.model.predictor_depth = 6
    config.train.batch_size = 512
    config.train.steps = epochs_to_steps(200, TRAIN_IMAGES, config.train.batch_size)
    config.optim.warmup_steps = epochs_to_steps(10, TRAIN_IMAGES, config.train.batch_size)
    return config.lock()
