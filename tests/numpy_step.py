"""The training step written a second time, in plain numpy: objective, gradients, AdamW, average.

It takes the settings and the drawn masks; of the package's code it runs none. Tokens that are not
valid do not exist here: every image has lists of its own lengths. Images are looked at one by one.

Gradients are complex steps (Squire and Trapp 1998): for a tiny h the imaginary part of f(x + ih),
divided by h, is the derivative, with nothing subtracted and so to machine precision. Each array is
perturbed in all of its entries at once, along an axis in front, through which numpy broadcasts.
"""

import math
import types

import numpy as np
import numpy_vit

H = 1e-30


# --- pieces that take complex numbers


def absolute(x):
    return np.where(x.real < 0, -x, x)


def positive(x):
    return np.where(x.real > 0, x, 0)


def standard(x, axis, eps):
    """Zero mean and unit (biased) variance over some axes."""
    centred = x - x.mean(axis, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis, keepdims=True) + eps)


def distance(predicted, target, loss):
    """One number a token."""
    error = absolute(predicted - target)
    values = {
        "l2": error**2,
        "l1": error,
        "smooth_l1": np.where(error.real < 1, 0.5 * error**2, error - 0.5),
    }[loss.type]
    return values.mean(-1) if loss.reduction == "mean" else values.sum(-1)


def variance(x, std_target, eps):
    """Eq. 8 over rows [r d]."""
    centred = x - x.mean(-2, keepdims=True)
    spread = np.sqrt((centred**2).sum(-2) / (x.shape[-2] - 1) + eps)
    return positive(std_target - spread).mean(-1)


def covariance(x):
    """Eq. 9 over rows [r d]."""
    centred = x - x.mean(-2, keepdims=True)
    matrix = centred.swapaxes(-1, -2) @ centred / (x.shape[-2] - 1)
    d = x.shape[-1]
    return (matrix * (1 - np.eye(d))) ** 2 @ np.ones(d) @ np.ones(d) / d


def expand(x, arrays):
    """The MLP before VICReg: dense, batch norm and ReLU, as often as there are; a last dense."""
    for layer in range(sum(name.endswith("linear/kernel") for name in arrays)):
        x = standard(x @ arrays[f"hidden/{layer}/linear/kernel"], -2, 1e-5)
        x = positive(x * arrays[f"hidden/{layer}/scale"] + arrays[f"hidden/{layer}/bias"])
    return x @ arrays["project/kernel"]


def pooled(tokens, how="mean"):
    """One row an image."""
    rows = [part.mean(-2, keepdims=True) for part in tokens]
    if how == "mean_std":
        means, rows = rows, []
        for part, mean in zip(tokens, means, strict=True):
            std = np.sqrt(((part - mean) ** 2).mean(-2, keepdims=True) + 1e-4)
            rows.append(np.concatenate([mean, std], axis=-1))
    return numpy_vit.joined(rows)


# --- masks


def lists(masks):
    """Turns a pair of mask arrays into (context, [target group, ...]) for each image."""
    context, target = np.asarray(masks["context"]), np.asarray(masks["target"])
    context_valid, target_valid = (
        np.ones(array.shape, bool) if masks[name] is None else np.asarray(masks[name])
        for array, name in ((context, "context_valid"), (target, "target_valid"))
    )
    return [
        (seen[ok], [group[good] for group, good in zip(groups, goods, strict=True)])
        for seen, ok, groups, goods in zip(
            context, context_valid, target, target_valid, strict=True
        )
    ]


# --- the objectives


def part(arrays, name):
    return {k.removeprefix(f"{name}/"): a for k, a in arrays.items() if k.startswith(f"{name}/")}


def encode(config, image, arrays, indices=None):
    """Tokens of one image, a class token before the others if there is one."""
    return numpy_vit.encode(image, arrays, types.SimpleNamespace(**vars(config.model)), indices)


def grid_size(config):
    return config.data.image_size // config.model.patch_size


def guesses(config, tokens, seen, groups, arrays):
    """Predicted tokens of one image, one target group after the other."""
    model = config.model
    calls = {
        "joint": [np.concatenate(groups)],
        "per_group": groups,
        "per_token": [[index] for group in groups for index in group],
    }[model.predictor_mode]
    args = (arrays, grid_size(config), model.predictor_heads, model.query_attention != "joint")
    return numpy_vit.joined([numpy_vit.predict(tokens, seen, asked, *args) for asked in calls])


def normal(sets, norm):
    """Normalises sets of target tokens, each by itself or over all sets together."""
    if norm == "none":
        return sets
    if norm == "layer":
        return [standard(tokens, -1, 1e-5) for tokens in sets]
    every = standard(np.concatenate(sets), 0, 1e-5)
    return np.split(every, np.cumsum([len(tokens) for tokens in sets])[:-1])


def targets(config, images, drawn, average):
    """True tokens of each image, one target group after the other."""
    pairs = list(zip(images, drawn, strict=True))
    skip, norm = int(config.model.class_token), config.target.norm
    if config.target.input == "full":
        every = normal([encode(config, image, average)[skip:] for image in images], norm)
        indices = [np.concatenate(groups) for _, groups in drawn]
        return [tokens[index] for tokens, index in zip(every, indices, strict=True)]
    single = [
        encode(config, image, average, group)[skip:] for image, (_, many) in pairs for group in many
    ]
    single = iter(normal(single, norm))
    return [np.concatenate([next(single) for _ in groups]) for _, groups in drawn]


def vicreg_terms(config, contexts, predicted, truth, arrays):
    """The three terms of one pair of masks; contexts are in order of the views, then the images."""
    vicreg, num_views = config.vicreg, 2 if config.vicreg.invariance == "two_view" else 1
    used = (lambda x: expand(x, arrays)) if vicreg.expander else (lambda x: x)
    rows = {
        "context": lambda view: pooled(contexts[view], vicreg.pool),
        "prediction": lambda view: pooled(predicted[view]),
        "context_tokens": lambda view: numpy_vit.joined(contexts[view]),
    }
    size = len(contexts) // num_views
    views = [slice(start, start + size) for start in range(0, len(contexts), size)]
    spread = [used(rows[name](view)) for name in vicreg.on for view in views]
    every = slice(None)
    invariance = 0.0
    if vicreg.invariance != "none":
        first, second = {
            "pred_target": lambda: (rows["prediction"](every), pooled(truth)),
            "two_view": lambda: [rows["context"](view) for view in views],
        }[vicreg.invariance]()
        squares = (used(first) - used(second)) ** 2
        squares = squares.sum(-1) if config.loss.reduction == "sum_dim" else squares.mean(-1)
        invariance = squares.mean(-1)
    return {
        "variance_loss": sum(variance(x, vicreg.std_target, vicreg.eps) for x in spread)
        / len(spread),
        "covariance_loss": sum(covariance(x) for x in spread) / len(spread),
        "invariance_loss": invariance,
        "context_std": np.std(rows["context"](views[0]).real, axis=-2, ddof=1).mean(-1),
    }


def rejepa_terms(config, arrays, truth, images, drawn):
    """The objective and its parts for one pair of masks."""
    skip = int(config.model.class_token)
    encoder, predictor = part(arrays, "context_encoder"), part(arrays, "predictor")
    contexts = [
        encode(config, image, encoder, seen)[..., skip:, :]
        for image, (seen, _) in zip(images, drawn, strict=True)
    ]
    predicted = [
        guesses(config, tokens, seen, groups, predictor)
        for tokens, (seen, groups) in zip(contexts, drawn, strict=True)
    ]
    error = distance(numpy_vit.joined(predicted), numpy_vit.joined(truth), config.loss)
    terms = vicreg_terms(config, contexts, predicted, truth, part(arrays, "expander"))
    weights, prediction = config.vicreg, error.mean(-1)
    total = (
        weights.variance_weight * terms["variance_loss"]
        + weights.covariance_weight * terms["covariance_loss"]
        + weights.invariance_weight * terms["invariance_loss"]
    )
    loss = prediction + weights.weight * total
    return {"loss": loss, "prediction_loss": prediction, "vicreg_loss": total, **terms}


def mae_terms(config, arrays, images, drawn):
    """Mean squared error over the pixels of hidden patches."""
    errors = []
    for image, (seen, (hidden,)) in zip(images, drawn, strict=True):
        truth = numpy_vit.patches(image, config.model.patch_size)
        if config.mae.norm_pix:
            centred = truth - truth.mean(1, keepdims=True)
            unbiased = (centred**2).sum(1, keepdims=True) / (truth.shape[1] - 1)
            truth = centred / np.sqrt(unbiased + 1e-6)
        tokens = encode(config, image, part(arrays, "encoder"), seen)
        decoder, heads = part(arrays, "decoder"), config.mae.decoder_heads
        guess = numpy_vit.predict(tokens, seen, hidden, decoder, grid_size(config), heads)
        errors.append((guess - truth[hidden]) ** 2)
    return {"loss": numpy_vit.joined(errors).mean((-1, -2))}


def objective(config, average, images, pairs):
    """Returns the function from parameters to the loss and its parts, averaged over mask pairs."""
    drawn = [lists(masks) for masks in pairs]
    if config.method == "mae":
        terms = [lambda arrays: mae_terms(config, arrays, images, drawn[0])]
    else:
        truths = [targets(config, images, one, average) for one in drawn]
        terms = [
            lambda arrays, truth=truth, one=one: rejepa_terms(config, arrays, truth, images, one)
            for truth, one in zip(truths, drawn, strict=True)
        ]

    def metrics(arrays):
        out = [term(arrays) for term in terms]
        return {name: sum(one[name] for one in out) / len(out) for name in out[0]}

    return metrics


# --- the step


def gradients(loss, arrays):
    """Derivatives of a number by every entry of every array; `blocks` have a layer axis."""
    out = {}
    for name, array in arrays.items():
        is_stacked = "blocks/" in name
        layers = list(array) if is_stacked else [array]
        slopes = []
        for number, layer in enumerate(layers):
            bent = layer + 1j * H * np.eye(layer.size).reshape(-1, *layer.shape)
            bent = bent[:, None] if layer.ndim == 1 else bent
            given = [bent if other == number else a for other, a in enumerate(layers)]
            value = loss(arrays | {name: given if is_stacked else given[0]})
            slope = np.broadcast_to(np.imag(value) / H, (layer.size,))
            slopes.append(slope.reshape(layer.shape))
        out[name] = np.stack(slopes) if is_stacked else slopes[0]
    return out


def rise(start, end, share):
    """Half a cosine from start to end."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def schedules(config, step):
    """Learning rate, weight decay and EMA momentum of a step counted from 0."""
    optim, ema, steps = config.optim, config.ema, config.train.steps
    if step < optim.warmup_steps:
        rate = optim.start_lr + (optim.peak_lr - optim.start_lr) * step / optim.warmup_steps
    else:
        share = (step - optim.warmup_steps) / (steps - optim.warmup_steps)
        rate = rise(optim.peak_lr, optim.end_lr, share)
    decay = rise(optim.weight_decay_start, optim.weight_decay_end, step / steps)
    return rate, decay, ema.start + (ema.end - ema.start) * step / steps


def is_decayed(name):
    """Weight decay leaves biases, norms and learned positions alone."""
    return name.rsplit("/", 1)[-1] not in ("bias", "scale", "positions")


class AdamW:
    """Decoupled AdamW (Loshchilov and Hutter 2019) of one array."""

    def __init__(self, optim):
        self.optim, self.first, self.second, self.count = optim, 0.0, 0.0, 0

    def __call__(self, array, gradient, rate, decay):
        b1, b2 = self.optim.beta1, self.optim.beta2
        self.count += 1
        self.first = b1 * self.first + (1 - b1) * gradient
        self.second = b2 * self.second + (1 - b2) * gradient**2
        first, second = self.first / (1 - b1**self.count), self.second / (1 - b2**self.count)
        return array - rate * (first / (np.sqrt(second) + self.optim.eps) + decay * array)


def train(config, arrays, average, batches):
    """Yields each step's metrics, gradients, parameters and average.

    `batches` gives (images, mask pairs); the average is None or arrays of the context encoder.
    """
    moments = {name: AdamW(config.optim) for name in arrays}
    for step, (images, pairs) in enumerate(batches):
        terms = objective(config, average, images, pairs)
        slopes = gradients(lambda given, terms=terms: terms(given)["loss"], arrays)
        metrics = terms(arrays)
        rate, decay, momentum = schedules(config, step)
        arrays = {
            name: moments[name](array, slopes[name], rate, decay if is_decayed(name) else 0.0)
            for name, array in arrays.items()
        }
        if average is not None:
            followed = part(arrays, "context_encoder")
            average = {
                name: momentum * old + (1 - momentum) * followed[name]
                for name, old in average.items()
            }
        yield metrics, slopes, arrays, average
