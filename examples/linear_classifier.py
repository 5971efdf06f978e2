"""A linear classifier of handwritten digits, with the two losses of the lecture: softmax and hinge."""

import numpy as np
from sklearn.datasets import load_digits

import graphc as gx

images, labels = load_digits(return_X_y=True)  # 1797 images of 8x8 pixels, 0 .. 16
images, labels = images / 16, labels.astype(np.int32)
train, test = slice(0, 1440), slice(1440, None)

X, y = gx.input("X", (48, 64)), gx.input("y", (48,), dtype="int32")  # one batch


def classifier(loss_of, learning_rate):
    """Parameters and a train step for one loss."""
    W, b = gx.parameter("W", np.zeros((64, 10))), gx.parameter("b", np.zeros(10))
    # Losses are per example; their mean, and a little weight decay, is what is minimised.
    loss = gx.mean(loss_of(X @ W + b, y)) + 1e-4 * gx.sum(W * W)
    return W, b, gx.train_step(loss, gx.optim.SGD(learning_rate), name="linear")


if __name__ == "__main__":
    for loss_of, rate in ((gx.nn.softmax_cross_entropy, 0.5), (gx.nn.multiclass_hinge, 0.05)):
        W, b, step = classifier(loss_of, rate)
        history = step.fit({"X": images[train], "y": labels[train]}, epochs=40)
        guesses = np.argmax(images[test] @ W.value + b.value, axis=1)  # W.value is the live parameter
        accuracy = np.mean(guesses == labels[test])
        print(f"{loss_of.__name__}: loss {history.epochs[0]:.3f} -> {history.epochs[-1]:.3f}, test accuracy {accuracy:.3f}")
