"""The optimizers. Each is its settings, its formula, and the same formula in nodes.

In the formulas ``W`` is a parameter, ``g`` its gradient, ``t`` the number of the step, from 1. Unless a formula says
otherwise, ``g`` stands for ``g + weight_decay * W``. Running averages begin at zero and are slots of the state, named
``W.exp_avg`` and the like; those of the gradient itself have no denormal numbers (:func:`settled`).
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir import Node, Parameter
from graphc.ops.pointwise import cast, maximum, sign, sqrt, where
from graphc.optim.optimizer import LearningRate, Optimizer, Scalar, Step, settled
from graphc.types import FLOAT64, GraphError

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "NAdam", "RAdam", "RMSprop"]


def _penalized(gradient: Node, weights: Node, weight_decay: float) -> Node:
    """The gradient with that of ``weight_decay / 2 * sum(W * W)``."""
    return gradient + weight_decay * weights if weight_decay else gradient


def _shrunk(step: Step, weights: Node, weight_decay: float) -> Node:
    """Decoupled weight decay: the weights themselves, without a gradient (Loshchilov and Hutter)."""
    return weights * step.at(weights, 1 - step.rate * weight_decay) if weight_decay else weights


def _first_moment(step: Step, weights: Parameter, g: Node, beta: float, name: str = "exp_avg") -> Node:
    """The running average of the gradient."""
    slot = step.slot(weights, name)
    step.updates[slot] = average = settled(beta * slot + (1 - beta) * g)
    return average


def _second_moment(step: Step, weights: Parameter, g: Node, beta: float, name: str = "exp_avg_sq") -> Node:
    """The running average of the squares of the gradient."""
    slot = step.slot(weights, name)
    step.updates[slot] = average = beta * slot + (1 - beta) * (g * g)
    return average


@dataclass(frozen=True, eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum, Nesterov's momentum and weight decay.

    As ``torch.optim.SGD`` has it (Sutskever et al., *On the importance of initialization and momentum in deep learning*,
    2013)::

        v = momentum * v + (1 - dampening) * g   # the slot `W.momentum`, `g` itself at the first step
        W = W - learning_rate * (g + momentum * v  if nesterov else  v)
    """

    learning_rate: LearningRate = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (not self.momentum or self.dampening):
            raise GraphError("nesterov=True needs a momentum > 0 and no dampening")

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        g = _penalized(gradient, weights, self.weight_decay)
        if self.momentum:
            slot = step.slot(weights, "momentum")
            added = g * step.at(weights, 1 - self.dampening * cast(step.done > 0, FLOAT64)) if self.dampening else g
            step.updates[slot] = velocity = settled(self.momentum * slot + added)
            g = g + self.momentum * velocity if self.nesterov else velocity
        return weights - step.at(weights, step.rate) * g


@dataclass(frozen=True, eq=False)
class Adagrad(Optimizer):
    """Duchi, Hazan and Singer, *Adaptive Subgradient Methods for Online Learning and Stochastic Optimization*, 2011::

        s = s + g * g                            # the slot `W.sum`, begins at initial_accumulator_value
        W = W - learning_rate / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)
    """

    learning_rate: LearningRate = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        g = _penalized(gradient, weights, self.weight_decay)
        slot = step.slot(weights, "sum", self.initial_accumulator_value)
        step.updates[slot] = total = slot + g * g
        rate = step.rate / (1 + step.done * self.lr_decay) if self.lr_decay else step.rate
        return weights - step.at(weights, rate) * g / (sqrt(total) + self.eps)


@dataclass(frozen=True, eq=False)
class RMSprop(Optimizer):
    """Hinton, *Lecture 6e of Neural Networks for Machine Learning*, 2012; centered: Graves, *Generating Sequences*, 2013::

        s = alpha * s + (1 - alpha) * g * g      # the slot `W.square_avg`
        a = alpha * a + (1 - alpha) * g          # with centered, the slot `W.grad_avg`
        d = sqrt(s - a * a  if centered else  s) + eps
        v = momentum * v + g / d                 # with a momentum, the slot `W.momentum`
        W = W - learning_rate * (v  if momentum else  g / d)

    ``s - a * a``, where rounding makes it negative, counts as 0.
    """

    learning_rate: LearningRate = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        g = _penalized(gradient, weights, self.weight_decay)
        variance = _second_moment(step, weights, g, self.alpha, "square_avg")
        if self.centered:
            average = _first_moment(step, weights, g, self.alpha, "grad_avg")
            variance = maximum(variance - average * average, 0)
        deviation, rate = sqrt(variance) + self.eps, step.at(weights, step.rate)
        if not self.momentum:
            return weights - rate * g / deviation
        slot = step.slot(weights, "momentum")
        step.updates[slot] = velocity = settled(self.momentum * slot + g / deviation)
        return weights - rate * velocity


@dataclass(frozen=True, eq=False)
class Adadelta(Optimizer):
    """Zeiler, *ADADELTA: An Adaptive Learning Rate Method*, 2012::

        s = rho * s + (1 - rho) * g * g          # the slot `W.square_avg`
        d = sqrt((u + eps) / (s + eps)) * g
        u = rho * u + (1 - rho) * d * d          # the slot `W.acc_delta`
        W = W - learning_rate * d
    """

    learning_rate: LearningRate = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        g = _penalized(gradient, weights, self.weight_decay)
        square = _second_moment(step, weights, g, self.rho, "square_avg")
        slot = step.slot(weights, "acc_delta")
        delta = sqrt(slot + self.eps) / sqrt(square + self.eps) * g
        step.updates[slot] = self.rho * slot + (1 - self.rho) * (delta * delta)
        return weights - step.at(weights, step.rate) * delta


@dataclass(frozen=True, eq=False)
class Adam(Optimizer):
    """Kingma and Ba, *Adam: A Method for Stochastic Optimization*, 2015::

        m = betas[0] * m + (1 - betas[0]) * g        # the slot `W.exp_avg`
        v = betas[1] * v + (1 - betas[1]) * g * g    # the slot `W.exp_avg_sq`
        x = max(x, v)  if amsgrad else  v            # with amsgrad the slot `W.max_exp_avg_sq`
        W = W - learning_rate / (1 - betas[0] ** t) * m / (sqrt(x / (1 - betas[1] ** t)) + eps)

    amsgrad: Reddi, Kale and Kumar, *On the Convergence of Adam and Beyond*, 2018.
    """

    learning_rate: LearningRate = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        return self._moved(step, weights, weights, _penalized(gradient, weights, self.weight_decay))

    def _moved(self, step: Step, weights: Parameter, start: Node, g: Node) -> Node:
        """The step of Adam from ``start``."""
        average = _first_moment(step, weights, g, self.betas[0])
        square = _second_moment(step, weights, g, self.betas[1])
        if self.amsgrad:
            slot = step.slot(weights, "max_exp_avg_sq")
            step.updates[slot] = square = maximum(slot, square)
        size = step.at(weights, step.rate / step.correction(self.betas[0]))
        scale = step.at(weights, 1 / _root(step.correction(self.betas[1])))
        return start - size * average / (sqrt(square) * scale + self.eps)


@dataclass(frozen=True, eq=False)
class AdamW(Adam):
    """Adam with ``W * (1 - learning_rate * weight_decay)`` in place of ``W``, and ``g`` without weight decay.

    Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, 2019.
    """

    weight_decay: float = 1e-2

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        return self._moved(step, weights, _shrunk(step, weights, self.weight_decay), gradient)


@dataclass(frozen=True, eq=False)
class Adamax(Optimizer):
    """Adam with the largest gradient in place of their mean square (Kingma and Ba, 2015, section 7)::

        m = betas[0] * m + (1 - betas[0]) * g    # the slot `W.exp_avg`
        u = max(betas[1] * u, |g| + eps)         # the slot `W.exp_inf`
        W = W - learning_rate / (1 - betas[0] ** t) * m / u
    """

    learning_rate: LearningRate = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        g = _penalized(gradient, weights, self.weight_decay)
        average = _first_moment(step, weights, g, self.betas[0])
        slot = step.slot(weights, "exp_inf")
        step.updates[slot] = largest = maximum(self.betas[1] * slot, abs(g) + self.eps)
        return weights - step.at(weights, step.rate / step.correction(self.betas[0])) * average / largest


@dataclass(frozen=True, eq=False)
class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, *Incorporating Nesterov Momentum into Adam*, 2016)::

        mu(t) = betas[0] * (1 - 0.96 ** (t * momentum_decay) / 2)
        p = p * mu(t)                                # one scalar for all parameters, `mu_product`, begins at 1
        m = betas[0] * m + (1 - betas[0]) * g        # the slot `W.exp_avg`
        v = betas[1] * v + (1 - betas[1]) * g * g    # the slot `W.exp_avg_sq`
        d = g * (1 - mu(t)) / (1 - p) + m * mu(t + 1) / (1 - p * mu(t + 1))
        W = W - learning_rate * d / (sqrt(v / (1 - betas[1] ** t)) + eps)

    decoupled_weight_decay: as in :class:`AdamW`.
    """

    learning_rate: LearningRate = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        g, start = gradient, _shrunk(step, weights, self.weight_decay)
        if not self.decoupled_weight_decay:
            g, start = _penalized(gradient, weights, self.weight_decay), weights
        mu, mu_next = self._mu(step.number), self._mu(step.number + 1)
        slot = step.shared("mu_product", 1.0, "float64")
        step.updates[slot] = product = slot * mu
        average = _first_moment(step, weights, g, self.betas[0])
        square = _second_moment(step, weights, g, self.betas[1])
        of_gradient = step.at(weights, step.rate * (1 - mu) / (1 - product))
        of_average = step.at(weights, step.rate * mu_next / (1 - product * mu_next))
        scale = step.at(weights, 1 / _root(step.correction(self.betas[1])))
        return start - (of_gradient * g + of_average * average) / (sqrt(square) * scale + self.eps)

    def _mu(self, t: Node) -> Node:
        return self.betas[0] * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))


@dataclass(frozen=True, eq=False)
class RAdam(Optimizer):
    """Liu et al., *On the Variance of the Adaptive Learning Rate and Beyond*, 2020::

        m = betas[0] * m + (1 - betas[0]) * g        # the slot `W.exp_avg`
        v = betas[1] * v + (1 - betas[1]) * g * g    # the slot `W.exp_avg_sq`
        end = 2 / (1 - betas[1]) - 1
        r = end - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
        s = sqrt((r - 4) * (r - 2) * end / ((end - 4) * (end - 2) * r))
        a = s * sqrt(1 - betas[1] ** t) / (sqrt(v) + eps)  if r > 5 else  1
        W = W - learning_rate / (1 - betas[0] ** t) * m * a

    decoupled_weight_decay: as in :class:`AdamW`.
    """

    learning_rate: LearningRate = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        g, start = gradient, _shrunk(step, weights, self.weight_decay)
        if not self.decoupled_weight_decay:
            g, start = _penalized(gradient, weights, self.weight_decay), weights
        beta = self.betas[1]
        average = _first_moment(step, weights, g, self.betas[0])
        square = _second_moment(step, weights, g, beta)
        correction, end = step.correction(beta), 2 / (1 - beta) - 1
        length = end - 2 * step.number * step.power(beta) / correction
        adapts = length > 5
        safe = where(adapts, length, 6.0)  # no root of a negative number
        factor = (safe - 4) * (safe - 2) / safe * (end / ((end - 4) * (end - 2))) if end > 5 else 1.0
        size = step.rate / step.correction(self.betas[0])
        adapted = step.at(weights, size * _root(factor * correction)) / (sqrt(square) + self.eps)
        return start - where(adapts, adapted, step.at(weights, size)) * average


@dataclass(frozen=True, eq=False)
class Lion(Optimizer):
    """Chen et al., *Symbolic Discovery of Optimization Algorithms*, 2023; settings as in the authors' code::

        W = W * (1 - learning_rate * weight_decay) - learning_rate * sign(betas[0] * m + (1 - betas[0]) * g)
        m = betas[1] * m + (1 - betas[1]) * g    # the slot `W.exp_avg`; afterwards

    ``g`` is without weight decay.
    """

    learning_rate: LearningRate = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        slot = step.slot(weights, "exp_avg")
        step.updates[slot] = settled(self.betas[1] * slot + (1 - self.betas[1]) * gradient)
        direction = sign(self.betas[0] * slot + (1 - self.betas[0]) * gradient)
        return _shrunk(step, weights, self.weight_decay) - step.at(weights, step.rate) * direction


def _root(scalar: Scalar) -> Scalar:
    return sqrt(scalar) if isinstance(scalar, Node) else scalar**0.5
