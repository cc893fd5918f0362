"""A simple convnet for digits (after keras.io/examples/vision/mnist_convnet)."""

import keras
from keras import layers
from sklearn.datasets import load_digits

num_classes = 10
input_shape = (8, 8, 1)

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
split = len(images) * 8 // 10
x_train, x_test = images[:split], images[split:]
y_train, y_test = keras.utils.to_categorical(labels[:split]), keras.utils.to_categorical(labels[split:])

keras.utils.set_random_seed(1)
model = keras.Sequential(
    [
        keras.Input(shape=input_shape),
        layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dropout(0.25),
        layers.Dense(num_classes, activation="softmax"),
    ]
)
model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
history = model.fit(x_train, y_train, batch_size=128, epochs=2, validation_split=0.1)

score = model.evaluate(x_test, y_test, verbose=0)
print("Test loss:", score[0])
print("Test accuracy:", score[1])
