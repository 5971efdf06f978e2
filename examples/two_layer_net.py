"""A two-layer net learns handwritten digits; forward, backward and update are one compiled C function."""

import numpy as np
from sklearn.datasets import load_digits

import graphc as gx

W1, b1 = gx.parameter("W1", gx.init.he_normal((64, 100), seed=0)), gx.parameter("b1", np.zeros(100))
W2, b2 = gx.parameter("W2", gx.init.he_normal((100, 10), seed=1)), gx.parameter("b2", np.zeros(10))


def scores(X):
    """A score for each of the ten digits; the model is a function, so it can be built for any batch size."""
    return gx.nn.relu(X @ W1 + b1) @ W2 + b2


X, labels = gx.input("X", (32, 64)), gx.input("labels", (32,), dtype="int32")
loss = gx.mean(gx.nn.softmax_cross_entropy(scores(X), labels)) + 1e-4 * gx.sum(W1 * W1)
step = gx.train_step(loss, gx.optim.SGD(learning_rate=0.05, momentum=0.9), name="two_layer_net")

if __name__ == "__main__":
    images, digits = load_digits(return_X_y=True)
    images, digits = images / 8 - 1, digits.astype(np.int32)  # pixels from -1 to 1
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1440], order[1440:]

    gx.check_grad(loss, at={"X": images[:32], "labels": digits[:32]})  # believe no gradient unchecked
    history = step.fit({"X": images[train], "labels": digits[train]}, epochs=30)
    print(f"loss {history.epochs[0]:.3f} in the first epoch, {history.epochs[-1]:.3f} in the last")

    # The same parameters serve another batch size: nothing is copied.
    Xt = gx.input("X", (len(test), 64))
    predict = gx.compile([Xt], gx.argmax(scores(Xt), axis=-1), name="predict")
    print(f"test accuracy: {np.mean(predict(images[test]) == digits[test]):.3f}")
