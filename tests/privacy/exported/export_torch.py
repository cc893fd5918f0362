"""Made ``torch_convolutions.onnx`` and ``torch_gelu.onnx`` with PyTorch 1.13; run again only to add a graph.

Weights are random with a fixed seed: what is tested is the graph that the exporter writes.
"""

import torch
from torch import nn

torch.manual_seed(1)
convolutions = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1),
    nn.BatchNorm2d(4),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(4, 6, 3),
    nn.LeakyReLU(0.1),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Dropout(0.5),
    nn.Linear(6, 10),
    nn.Softmax(1),
)
gelu = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 3), nn.Tanh())
convolutions(torch.randn(32, 1, 8, 8))  # so that the running averages are not 0 and 1
for name, network, shape in (("convolutions", convolutions, (3, 1, 8, 8)), ("gelu", gelu, (4, 6))):
    torch.onnx.export(network.eval(), torch.randn(*shape), f"torch_{name}.onnx", opset_version=13, input_names=["rows"])
