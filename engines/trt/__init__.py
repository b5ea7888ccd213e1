"""A thin adapter over TensorRT 8.6, 10 and 11 and TensorRT for RTX: by what the library has, not by its number."""
