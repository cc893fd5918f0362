"""Made ``tensorflow_convolutions.onnx`` and ``tensorflow_perceptron.onnx`` with TensorFlow 2.21 and tf2onnx 1.17.

Weights are random with a fixed seed: what is tested is the graph that the exporter writes.
"""

import numpy as np
import tensorflow as tf
import tf2onnx

random = np.random.default_rng(1)


def weights(*shape: int) -> np.ndarray:
    return (random.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)


filters, bias, dense = weights(3, 3, 1, 4), weights(4), weights(36, 5)
first, second, shift = weights(6, 12), weights(12, 3), weights(12)


@tf.function
def convolutions(rows: tf.Tensor) -> tf.Tensor:
    maps = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(rows, tf.constant(filters), 1, "VALID"), tf.constant(bias)))
    pooled = tf.nn.max_pool2d(maps, 2, 2, "VALID")
    return tf.nn.softmax(tf.reshape(pooled, (3, 36)) @ tf.constant(dense))


@tf.function
def perceptron(rows: tf.Tensor) -> tf.Tensor:
    return tf.sigmoid(tf.tanh(rows @ tf.constant(first) + tf.constant(shift)) @ tf.constant(second))


for name, function, shape in (("convolutions", convolutions, (3, 8, 8, 1)), ("perceptron", perceptron, (4, 6))):
    signature = [tf.TensorSpec(shape, tf.float32, name="rows")]
    tf2onnx.convert.from_function(function, input_signature=signature, opset=15, output_path=f"tensorflow_{name}.onnx")
