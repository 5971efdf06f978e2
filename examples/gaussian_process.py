"""A Gaussian process learns its length scale, size and noise from 60 noisy points, then says what it knows in between."""

import numpy as np

import graphc as gx

# The data: a wave with noise of 0.2, at irregular times, and none between 4 and 6.
rng = np.random.default_rng(0)
times = np.sort(rng.choice(np.concatenate([np.linspace(0, 4, 200), np.linspace(6, 10, 200)]), 60, replace=False))
values = np.sin(times) + rng.normal(0, 0.2, times.shape)
t, y = gx.constant(times, dtype="float64"), gx.constant(values, dtype="float64")

# What is learnt, as logarithms, so that it stays positive.
log_scale, log_size, log_noise = (gx.parameter(name, 0.0, dtype="float64") for name in ("log_scale", "log_size", "log_noise"))


def covariance(a, b):
    """Of the wave at times a with the wave at times b: the nearer, the more alike."""
    apart = (a[:, None] - b[None, :]) * gx.exp(-log_scale)
    return gx.exp(2 * log_size - 0.5 * apart**2)


# The negative logarithm of how likely the data are: with K = L L^T, that of a normal distribution.
noisy = covariance(t, t) + gx.exp(2 * log_noise) * gx.eye(60, dtype="float64")
L = gx.linalg.cholesky(noisy)
white = gx.linalg.solve_triangular(L, y, lower=True)
loss = 0.5 * gx.sum(white**2) + gx.sum(gx.log(gx.diagonal(L))) + 30 * np.log(2 * np.pi)
step = gx.train_step(loss, gx.optim.Adam(learning_rate=0.02), name="gaussian_process")

# Mean and standard deviation of the wave at new times.
new = gx.input("new", (3,), dtype="float64")
seen = gx.linalg.solve_triangular(L, covariance(t, new), lower=True)
deviation = gx.sqrt(gx.exp(2 * log_size) - gx.sum(seen**2, axis=0))
predict = gx.compile([new], {"mean": gx.sum(seen * white[:, None], axis=0), "deviation": deviation})

if __name__ == "__main__":
    losses = step.run(500)  # all inside of C
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}; noise {np.exp(log_noise.value):.3f}, scale {np.exp(log_scale.value):.2f}")
    at = np.array([2.0, 5.0, 8.0])
    found = predict(at)
    for when, mean, error in zip(at, found["mean"], found["deviation"], strict=True):
        print(f"at {when}: {mean:+.2f} +- {error:.2f}, in truth {np.sin(when):+.2f}")
