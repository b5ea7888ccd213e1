"""Decoding on the GPU through our source and decode stages, and the time of our kernels.

python -m tests.benchmarks.bench_gpu CLIP.mp4: ``CLIP`` is played again and again in 1, 14 and 28 threads. Needs a GPU.
"""

from __future__ import annotations

import argparse
import threading
import time
from types import SimpleNamespace

import numpy as np

from engines.buffers import DeviceBuffer
from engines.device import checked, driver, open_gpu
from engines.model_spec import ModelSpec, PixelSpec, TensorSpec
from pipeline.decode.nvdec import Nvdec
from pipeline.detections import ScoreLimits
from pipeline.frame import Frame
from pipeline.postprocess.device import DevicePostprocess, Keeps
from pipeline.preprocess.device import DevicePreprocess
from pipeline.source.source import SourceOptions, open_source

BATCH = 16


def decode(nvdec, clip, threads, seconds=4.0):
    """Return frames a second and CPU seconds per 1,000 frames; opening the clip again counts."""
    stop, counts = threading.Event(), [0] * threads

    def work(index):
        nvdec.gpu.use()
        while not stop.is_set():
            source = open_source(clip, SourceOptions(), threading.Event())
            decoder = nvdec.open(source.open())
            while not stop.is_set() and (packet := source.read()) is not None:
                counts[index] += len(decoder.decode(packet))
            counts[index] += len(decoder.drain())
            decoder.close()
            source.close()

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    time.sleep(3.0)
    before, cpu, begun = sum(counts), time.process_time(), time.perf_counter()
    time.sleep(seconds)
    frames, cpu, took = sum(counts) - before, time.process_time() - cpu, time.perf_counter() - begun
    stop.set()
    for worker in workers:
        worker.join(20.0)
    return frames / took, cpu / frames * 1000


def kernels(nvdec, clip, dtype):
    """Return microseconds of the letterbox and of the heads for a batch of 16, YOLOv8's shape, and bytes moved."""
    gpu, stream = nvdec.gpu, nvdec.gpu.new_stream("bench")
    image = DeviceBuffer(gpu, (BATCH, 3, 640, 640), dtype)
    slot = SimpleNamespace(gpu=gpu, cuda_stream=stream, device_input=image.tensor)
    outputs = (TensorSpec("output", dtype, (None, 84, 8400)),)
    names = tuple(map(str, range(80)))
    source_input = TensorSpec("images", dtype, (None, 3, 640, 640))
    spec = ModelSpec("bench", "", "yolov8", source_input, 640, 640, None, outputs, names, PixelSpec())
    prepare = DevicePreprocess(spec, slot)
    read = DevicePostprocess(spec, slot, prepare.pictures, Keeps(0.5, 300))
    source = open_source(clip, SourceOptions(), threading.Event())
    decoder = nvdec.open(source.open())
    pictures = []
    while len(pictures) < BATCH:
        pictures += decoder.decode(source.read())
    scores = read.scores(ScoreLimits(0.25, 0.25))
    for row, one in enumerate(pictures[:BATCH]):
        frame = Frame("bench", 1, 0, one.planes, one.colour, one.rotation, 0.0, 0.0, 0.0, 0.0, "file", 0.0)
        prepare.add(frame, row, scores)
    random = np.random.default_rng(0)
    values = random.uniform(0, 0.2, (BATCH, 84, 8400))
    values[:, :4] = random.uniform(0, 600, (BATCH, 4, 8400))
    values[:, 4:, :40] += 0.5 * (random.uniform(size=(BATCH, 80, 40)) > 0.98)
    values = np.ascontiguousarray(values.astype(dtype))
    output = DeviceBuffer(gpu, values.shape, dtype)
    stream.upload(output.tensor.pointer, values.ctypes.data, values.nbytes)
    stream.synchronise()
    preparing = timed(stream, lambda: prepare.enqueue(BATCH))
    reading = timed(stream, lambda: read.enqueue({"output": output.tensor}, BATCH))
    size = pictures[0].planes.size
    moved = BATCH * (size.width * size.height * 1.5 + 3 * 640 * 640 * np.dtype(dtype).itemsize)
    return preparing, reading, moved


def timed(stream, enqueue, runs=200):
    """Return the GPU's microseconds for one ``enqueue``, by events."""
    first, last = (checked(driver().cuEventCreate(0)) for _ in range(2))
    for _ in range(20):
        enqueue()
    stream.synchronise()
    checked(driver().cuEventRecord(first, stream.handle))
    for _ in range(runs):
        enqueue()
    checked(driver().cuEventRecord(last, stream.handle))
    stream.synchronise()
    return checked(driver().cuEventElapsedTime(first, last)) / runs * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    clip = parser.parse_args().clip
    nvdec = Nvdec(open_gpu())
    print(nvdec.gpu.name)
    for threads in (1, 14, 28):
        fps, cpu = decode(nvdec, clip, threads)
        print(f"decode, {threads:2} threads: {fps:5.0f} fps, {cpu:.2f} CPU-seconds per 1,000 frames")
    for dtype in ("float16", "float32"):
        preparing, reading, moved = kernels(nvdec, clip, dtype)
        print(f"{dtype}, batch {BATCH}: letterbox {preparing:.1f} us for {moved / 1e6:.1f} MB, heads {reading:.1f} us")


if __name__ == "__main__":
    main()
