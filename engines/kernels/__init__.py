"""The kernels room: CUDA C for what no library does as we need it, compiled at run time for the GPU that is there."""
