"""Logistic regression by its gradient (after JAX's "Autodiff Cookbook")."""

import jax.numpy as jnp
from jax import grad, lax
from jax import jit


def sigmoid(x):
    return 0.5 * (jnp.tanh(x / 2) + 1)


def predict(W, b, inputs):
    return sigmoid(jnp.dot(inputs, W) + b)


@jit
def train(inputs, targets):
    def loss(W, b):
        preds = predict(W, b, inputs)
        label_probs = preds * targets + (1 - preds) * (1 - targets)
        return -jnp.mean(jnp.log(label_probs))

    def update(_, parameters):
        W, b = parameters
        W_grad, b_grad = grad(loss, (0, 1))(W, b)
        return W - 0.5 * W_grad, b - 0.5 * b_grad

    return lax.fori_loop(0, 10, update, (jnp.zeros(3), 0.0))


inputs = jnp.array([[0.52, 1.12, 0.77], [0.88, -1.08, 0.15], [0.52, 0.06, -1.30], [0.74, -2.49, 1.39]])
targets = jnp.array([True, True, False, True])
W, b = train(inputs, targets)
print("W:", W)
print("b:", b)
