# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A signal of your own, from the variant to accuracy against minutes
#
# `gm_jax` condenses by matching a *signal* of a network between real and synthetic images: by
# default the loss gradient. Here the signal is the change of the parameters after two steps of
# training, and the question is the one that matters: what does it bring for the same minutes?
#
# The source is `docs/notebooks/signals.py`; `make notebooks` runs it again.

# %%
import dataclasses
import time

import jax
import matplotlib.pyplot as plt
import numpy as np

import gm_jax
from gm_jax.core.signals import k_step, together

data = gm_jax.load("digits")
config = gm_jax.Config(dataset="digits", ipc=1, width=64, iterations=160, batch_real=64, seeds=3)

# %% [markdown]
# ## The variant
#
# A variant is a function from `Method` to `Method`. After $k$ steps of learning rate $\eta$ the
# parameters have changed by about $-k\eta$ times the gradient; divided by that, the signal has the
# gradient's size, and the paper's distance (angle and magnitude) means the same for both.
#
# The rate is a tenth of the inner epochs' 0.01: at that rate, the first step on images of one class
# takes nearly all of their loss, and the second adds next to nothing to it.


# %%
def two_steps(method):
    lr = method.network_lr / 10
    return method._replace(signal=together(k_step(2, lr), weights=(-1 / (2 * lr),)))


variants = {"gradient": lambda method: method, "two steps": two_steps}

# %% [markdown]
# ## Condensing, with a look at the images on the way
#
# `gm_jax.iterations` is a generator, so the loop is ours. Three seeds are condensed at once. After
# some of the iterations we keep a copy of the sets and stop the clock; compilation is not counted.

# %%
SNAPSHOTS = (10, 20, 40, 80, 160)


def snapshots(variant):
    """[(minutes, condensed sets)] after each number of iterations in SNAPSHOTS."""
    found, seconds, begun = [], 0.0, time.perf_counter()
    for number, state, _ in gm_jax.iterations(config, data, variant):
        jax.block_until_ready(state)
        seconds += time.perf_counter() - begun if number else 0.0  # the first one warms up
        if number + 1 in SNAPSHOTS:
            done = dataclasses.replace(config, iterations=number + 1)
            found.append((seconds / 60, gm_jax.finish(done, data, state, variant)))
        begun = time.perf_counter()
    return found


runs = {name: snapshots(variant) for name, variant in variants.items()}

# %% [markdown]
# ## What networks learn from them
#
# Fresh networks are trained on each set, and tested on the real test images. The spread is over
# sets: the standard deviation of the three seeds' means.

# %%
settings = gm_jax.Evaluation(count=3, epochs=100, skip_random_real=True)


def accuracies(condensed):
    """Mean accuracy in percent of each set's networks."""
    (score,) = gm_jax.evaluate(condensed, data, settings)
    return 100 * score.accuracies[..., -1].mean(1)


curves = {
    name: [(minutes, accuracies(condensed)) for minutes, condensed in run]
    for name, run in runs.items()
}
for name, curve in curves.items():
    for minutes, of_sets in curve:
        print(f"{name:<10} {minutes:5.2f} min  {of_sets.mean():.1f} ± {of_sets.std(ddof=1):.1f} %")

# %%
fig, ax = plt.subplots(figsize=(6, 3.5))
for name, curve in curves.items():
    minutes, of_sets = (np.array(part) for part in zip(*curve))
    ax.errorbar(minutes, of_sets.mean(1), of_sets.std(1, ddof=1), marker="o", capsize=3, label=name)
ax.set(xlabel="minutes for three sets", ylabel="test accuracy, %", xscale="log")
ax.minorticks_off()
ax.set_xticks(ticks := (0.01, 0.02, 0.05, 0.1, 0.2, 0.5), labels=[f"{tick:g}" for tick in ticks])
ax.legend()
plt.show()

# %% [markdown]
# ## The images
#
# One image of each class, of the first seed: the gradient's above, two steps' below.

# %%
fig, axes = plt.subplots(2, 10, figsize=(8, 1.8))
for row, run in zip(axes, runs.values()):
    for ax, image in zip(row, run[-1][1].images[0]):
        ax.imshow(image[..., 0], cmap="gray")
        ax.axis("off")
plt.show()

# %% [markdown]
# ## In pairs
#
# Both runs start each seed from the same images and draw the same real ones, so their difference is
# measured in pairs: its standard error is what decides, not the two spreads.

# %%
difference = curves["two steps"][-1][1] - curves["gradient"][-1][1]
error = difference.std(ddof=1) / len(difference) ** 0.5
print(f"two steps less gradient at the end: {difference.mean():+.1f} ± {error:.1f} %")
