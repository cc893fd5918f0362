"""The data plane: Open Inference Protocol v2, metering, routing, names."""
