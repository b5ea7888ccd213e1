"""Onpace's streams, frames and time: source -> decode -> preprocess -> infer -> postprocess -> track -> publish."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("onpace")
except PackageNotFoundError:  # running from a tree that was never installed
    __version__ = "0+unknown"
