"""Methods as published, by name: what each changes of the defaults in `config.py`.

A config file takes one as `--config configs/ben14k.py:ijepa_b16`. They fix the method and its
schedules, not the data or the length of training; a config's own sizes win.
"""

from typing import Any

IJEPA_MASKS: dict[str, Any] = {  # Assran et al. 2023
    "mask.strategy": "multiblock",
    "mask.block_law": "faithful",
    "mask.num_target_groups": 4,
    "mask.context_ratio": 0.3,  # of the grid: what is left at batch 32 after I-JEPA's truncation
    "model.predictor_mode": "per_group",
    "loss.type": "smooth_l1",
    "augment.crop_scale": (0.3, 1.0),
    "augment.flip": False,
}
BASE_16 = {"model.size": "base", "model.patch_size": 16}
NO_VICREG = {"vicreg.weight": 0.0, "vicreg.invariance": "none"}

PRESETS: dict[str, dict[str, Any]] = {
    # The paper, its gaps closed as the comments in config.py say.
    "rejepa": {},
    # The paper to the letter: 3.3's target patches, eqs. 10 and 11 summed, weights as printed.
    "rejepa_paper_literal": {
        "target.input": "target_patches",
        "target.norm": "none",
        "loss.reduction": "sum_dim",
        "vicreg.invariance": "two_view",
        "vicreg.variance_weight": 25.0,
        "vicreg.covariance_weight": 25.0,
        "vicreg.invariance_weight": 1.0,
        "vicreg.weight": 1.0,
    },
    # The only reading that costs less than MAE: half of the tokens never enter.
    "rejepa_light": {"mask.context_ratio": 0.25, "target.input": "target_patches"},
    # What retrieved best in our runs (docs/results.md): views that differ in crop, turn and light,
    # of a quarter of the tokens each; VICReg on, and retrieval by, the tokens' mean and deviation.
    "rejepa_retrieval": {
        "mask.context_ratio": 0.25,
        "target.input": "target_patches",
        "vicreg.invariance": "two_view",
        "vicreg.pool": "mean_std",
        "vicreg.weight": 0.3,
        "vicreg.std_target": 0.4,
        "vicreg.covariance_weight": 5.0,
        "ema.start": 0.98,
        "augment.crop_scale": (0.3, 1.0),
        "augment.rotate": True,
        "augment.gain": 0.2,
        "augment.offset": 0.3,
        "augment.band_gain": 0.1,
        "augment.band_offset": 0.1,
        "eval.encoder": "context",
        "eval.pool": "mean_std",
    },
    "ijepa_b16": {**BASE_16, **IJEPA_MASKS, **NO_VICREG},
    # C-JEPA (Mo and Tong 2024): I-JEPA with VICReg.
    "cjepa_b16": {**BASE_16, **IJEPA_MASKS, "vicreg.weight": 0.001},
    # V-JEPA (Bardes et al. 2024) on still images.
    "vjepa_l1": {
        **NO_VICREG,
        "mask.strategy": "multimask",
        "loss.type": "l1",
        "augment.crop_scale": (0.3, 1.0),
        "ema.start": 0.998,
    },
    # He et al. 2022. The rate is 1.5e-4 x batch / 256, here for the default batch of 128.
    "mae": {
        "method": "mae",
        "model.class_token": True,
        "augment.crop_scale": (0.2, 1.0),
        "optim.peak_lr": 7.5e-5,
        "optim.start_lr": 0.0,
        "optim.end_lr": 0.0,
        "optim.weight_decay_start": 0.05,
        "optim.weight_decay_end": 0.05,
        "optim.beta2": 0.95,
    },
}
