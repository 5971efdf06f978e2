"""Sample a banana with 1,000 walkers: Metropolis-adjusted Langevin steps, 25 million in all, inside of C."""

import numpy as np

import graphc as gx

walkers, stride = 1000, 0.35
place = gx.parameter("place", np.zeros((2, walkers)), trainable=False)


def log_density(z):
    """x is normal, and y is normal around x squared: thin, bent, and with moments that are known."""
    x, y = z
    return -(x**2) / 2 - 2 * (y - x**2) ** 2


def uphill(z):
    """Where the drift leads from z."""
    return z + stride**2 / 2 * gx.grad(gx.sum(log_density(z)), z)


def log_move(a, b):
    """The density of a proposal b from a."""
    return gx.sum((b - uphill(a)) ** 2, axis=0) / (-2 * stride**2)


proposal = uphill(place) + stride * gx.random.normal((2, walkers))
gain = log_density(proposal) + log_move(proposal, place) - log_density(place) - log_move(place, proposal)
accepted = gx.log(gx.random.uniform((walkers,))) < gain
walk = gx.compile(
    [],
    {"accepted": gx.mean(accepted), "mean": gx.mean(place, 1), "square": gx.mean(place**2, 1)},
    updates={place: gx.where(accepted, proposal, place)},
    name="walk",
)

if __name__ == "__main__":
    walk.run(5000)  # to forget where they started
    seen = walk.run(20_000)
    mean, square = (seen[key].mean(0, np.float64) for key in ("mean", "square"))
    print(f"{seen['accepted'].mean():.0%} of the proposals accepted")
    for axis, truth in ((0, "mean 0, variance 1"), (1, "mean 1, variance 2.25")):
        print(f"{'xy'[axis]}: mean {mean[axis]:.2f}, variance {square[axis] - mean[axis] ** 2:.2f}; in truth {truth}")
