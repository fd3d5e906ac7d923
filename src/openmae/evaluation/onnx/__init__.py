"""Networks as ONNX files, for programs without torch: written with proof, read with care, run by onnxruntime."""
