"""Fit a sum of two exponentials to noisy data in float64: 100,000 small gradient steps, all inside of C."""

import numpy as np

import graphc as gx

# The data: y = 2 exp(-0.5 t) + exp(-3 t), and a little noise.
t = np.linspace(0, 5, 40)
y = 2 * np.exp(-0.5 * t) + np.exp(-3 * t) + np.random.default_rng(0).normal(0, 0.01, t.shape)

# The model. Rates are fitted as logarithms, so that they stay positive.
size = gx.parameter("size", [1.0, 1.0], dtype="float64")
log_rate = gx.parameter("log_rate", np.log([0.3, 5.0]), dtype="float64")
times = gx.constant(t, dtype="float64").reshape(-1, 1)  # (40, 1) against (2,) broadcasts to (40, 2)
curve = gx.sum(size * gx.exp(-times * gx.exp(log_rate)), axis=1)

# float64 throughout: mixed with float32 it would win.
loss = gx.mean(gx.nn.squared_error(curve, gx.constant(y, dtype="float64")))
step = gx.train_step(loss, gx.optim.SGD(learning_rate=0.1, momentum=0.9), name="curve_fit")

if __name__ == "__main__":
    gx.check_grad(loss)
    losses = step.run(100_000)  # there is no input, so a step takes no argument
    print(f"loss {losses[0]:.5f} -> {losses[-1]:.7f}")
    for a, rate in zip(size.value, np.exp(log_rate.value), strict=True):
        print(f"{a:.3f} * exp(-{rate:.3f} t)")
