"""Keras's CIFAR-10 example, rebuilt from its description, on the backend that is asked for.

ResNet-20 v1 with biased convolutions and l2, Adam, one-hot classes, the pixel mean subtracted; fed
by ImageDataGenerator (shifts by a tenth, flips), as the example does, or by the bare arrays.
"""

import os
from typing import Any

import numpy as np
from harness.workers import Window
from numpy.typing import NDArray


def resnet20(keras: Any) -> Any:
    """Return the example's ResNet-20 v1: conv-bn-relu, projections without norm."""
    layers = keras.layers

    def convolution(x: Any, width: int, size: int, stride: int) -> Any:
        penalty = keras.regularizers.L2(1e-4)
        return layers.Conv2D(
            width,
            size,
            strides=stride,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=penalty,
        )(x)

    def layer(x: Any, width: int, stride: int = 1) -> Any:
        return layers.BatchNormalization()(convolution(x, width, 3, stride))

    inputs = layers.Input((32, 32, 3))
    x = layers.ReLU()(layer(inputs, 16))
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if stage and not block else 1
            y = layer(layers.ReLU()(layer(x, width, stride)), width)
            x = convolution(x, width, 1, 2) if stride == 2 else x
            x = layers.ReLU()(layers.add([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return keras.Model(inputs, layers.Dense(10, "softmax", kernel_initializer="he_normal")(x))


def train(
    window: Window,
    images: NDArray[Any],
    labels: NDArray[Any],
    backend: str,
    batch_size: int,
    generator: bool,
) -> None:
    """Train until the window is closed."""
    os.environ["KERAS_BACKEND"] = backend
    import keras

    class Ticks(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            window.tick(batch_size)

    x = images.astype(np.float32) / 255
    x -= x.mean(0)
    y = keras.utils.to_categorical(labels, 10)
    # Whole batches only, so that each tick counts as many images.
    x, y = (part[: len(part) // batch_size * batch_size] for part in (x, y))
    network = resnet20(keras)
    network.compile(
        keras.optimizers.Adam(1e-3), loss="categorical_crossentropy", metrics=["accuracy"]
    )
    options = {"epochs": 1000, "verbose": 0, "callbacks": [Ticks()]}
    if not generator:
        network.fit(x, y, batch_size=batch_size, shuffle=True, **options)
        return
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    feed = ImageDataGenerator(width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True)
    feed.fit(x)
    network.fit(feed.flow(x, y, batch_size=batch_size), **options)
