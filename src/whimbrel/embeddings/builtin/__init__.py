"""The built-in model: all-MiniLM-L6-v2, from the weights of a package, on ONNX Runtime."""
