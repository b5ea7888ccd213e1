"""Onpace's tensors, model files and devices. Never imports ``pipeline``."""
