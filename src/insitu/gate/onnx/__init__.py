"""What an ONNX file says, read from its bytes: operators, trees, neurons, and writing it again."""
