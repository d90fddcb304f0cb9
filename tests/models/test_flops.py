import dataclasses

import pytest

from rejepa_jax.methods.build import build_method
from rejepa_jax.models.flops import blocks_flops, encoder_flops, linear_flops, predictor_flops
from rejepa_jax.models.predictor import PredictorSpec
from rejepa_jax.models.vit import EncoderSpec
from rejepa_jax.resolve import resolve

ENCODER = EncoderSpec(8, 4, 3, 2, 3, 1, 4.0, "float32")  # four patches of 48 numbers, 2 features
PREDICTOR = PredictorSpec(dim=4, depth=1, num_heads=1, outputs=7)


# --- by hand


def test_a_dense_layer():
    assert linear_flops(3, 5, 7) == 2 * 3 * 5 * 7


def test_blocks():
    projections = 4 * 2 * 2 * 2 * 5  # query, key, value, output: 2 x 2 weights, 5 tokens
    attention = 2 * 2 * 2 * 5 * 5  # each pair of tokens, 2 features: scores, then mixing
    mlp = 2 * 2 * (2 * 8) * 5
    assert blocks_flops(2, 3, 5, 4.0) == 3 * (projections + attention + mlp) == 2040


def test_an_encoder_embeds_the_patches_that_it_sees():
    assert encoder_flops(ENCODER, 3) == 2 * 48 * 2 * 3 + blocks_flops(2, 3, 3, 4.0)
    assert encoder_flops(ENCODER) == encoder_flops(ENCODER, 4)


def test_a_class_token_is_one_more_that_is_not_embedded():
    encoder = dataclasses.replace(ENCODER, class_token=True)
    assert encoder_flops(encoder, 3) == 2 * 48 * 2 * 3 + blocks_flops(2, 3, 4, 4.0)


@pytest.mark.parametrize(
    ("mode", "calls", "tokens"),
    [("joint", 1, 5 + 6), ("per_group", 2, 5 + 3), ("per_token", 6, 5 + 1)],
)
def test_a_predictor_makes_the_calls_of_its_mode(mode, calls, tokens):
    predictor = dataclasses.replace(PREDICTOR, mode=mode)
    expected = 2 * 2 * 4 * 5 + calls * blocks_flops(4, 1, tokens, 4.0) + 2 * 4 * 7 * 6
    assert predictor_flops(predictor, ENCODER, context=5, targets=3, groups=2) == expected


# --- an independent table of the published methods at ViT-B, GFLOPs an image of a training step.
# It embeds all patches, seen or not, and counts that twice (an image needs no gradient); its MAE
# reconstructs all patches, ours those that count.

LITERAL = {"target": {"input": "target_patches"}}
MOST = {"mask": {"target_ratio": 0.75}}
QUARTERS = {"mask": {"context_ratio": 0.25}, **LITERAL}
MAE = {"method": "mae", "model": {"class_token": True}}
TABLE = [
    ((224, 16, 3), {}, 140.2),
    ((224, 16, 3), LITERAL, 113.9),
    ((224, 16, 3), MOST, 88.1),
    ((224, 16, 3), MOST | LITERAL, 79.1),
    ((224, 16, 3), QUARTERS, 47.5),
    ((224, 16, 3), MAE, 58.5),
    ((224, 16, 3), MAE | {"mae": {"mask_ratio": 0.25}}, 110.8),
    ((120, 15, 10), {}, 44.9),
    ((120, 15, 10), LITERAL, 36.6),
    ((120, 15, 10), MOST, 28.4),
    ((120, 15, 10), MOST | LITERAL, 25.6),
    ((120, 15, 10), MAE, 19.6),
    ((120, 15, 2), {}, 44.4),
    ((120, 15, 2), MAE, 18.9),
    ((120, 8, 10), {}, 161.9),
    ((96, 8, 10), MOST | LITERAL, 57.4),
]


def method_at(shape, settings):
    size, patch, bands = shape
    model = {"patch_size": patch} | settings.get("model", {})
    return build_method(resolve(settings | {"data": {"image_size": size}, "model": model}), bands)


def done_beside(method, settings):
    """What the table counts beyond what our methods do."""
    spec = method.encoder
    n = spec.num_tokens
    embed = linear_flops(spec.patch_size**2 * spec.bands, spec.embed_dim, 1)
    if settings.get("method") == "mae":
        seen = n - int(method.mask_ratio * n)
        project = linear_flops(method.decoder.dim, method.decoder.outputs, 1)
        return (2 * n - 3 * seen) * embed + 3 * seen * project
    hidden = int(method.mask.target_ratio * n)
    seen = n - hidden if method.mask.context_ratio is None else n // 4
    unseen = n - hidden if method.target.input == "target_patches" else 0
    return (2 * n - 3 * seen + unseen) * embed


@pytest.mark.parametrize(("shape", "settings", "expected"), TABLE)
def test_methods_cost_what_an_independent_table_says(shape, settings, expected):
    method = method_at(shape, settings)
    count = sum(method.flops.values()) + done_beside(method, settings)
    assert count / 1e9 == pytest.approx(expected, abs=0.06)  # rounded to 0.1


def test_the_default_by_part():
    parts = method_at((224, 16, 3), {}).flops
    expected = {"context_encoder": 77.8, "target_encoder": 34.9, "predictor": 27.4}
    expected["regularisation"] = 0.0  # 3.5 MFLOP: the covariances of 768 features
    assert {part: round(count / 1e9, 1) for part, count in parts.items()} == expected


def test_one_call_of_the_predictor_a_target():
    """The table counts 49 calls for 49 tokens each; calls for one token each cost less."""
    method = method_at((224, 16, 3), {"model": {"predictor_mode": "per_token"}})
    calls = dataclasses.replace(method.predictor, mode="per_group")
    parts = method.flops
    table = 3 * predictor_flops(calls, method.encoder, 147, 49, 49)
    table += parts["context_encoder"] + parts["target_encoder"]
    assert table / 1e9 == pytest.approx(1445, abs=0.5)
    assert sum(parts.values()) / 1e9 == pytest.approx(1096.4, abs=0.05)


def test_two_views_cost_twice_as_much():
    one = method_at((224, 16, 3), {})
    two = method_at((224, 16, 3), {"vicreg": {"invariance": "two_view"}})
    assert two.flops == {part: 2 * count for part, count in one.flops.items()}
