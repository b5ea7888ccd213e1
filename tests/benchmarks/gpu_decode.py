"""Decoding on the GPU: a bare loop over packets in memory, and the same through our source and decode stages."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np

from engines.device import Gpu, open_gpu
from pipeline.decode.nvdec import Nvdec
from pipeline.process import prepare_process
from pipeline.source.source import SourceOptions, open_source
from pipeline.workers.one_core import OneCore

_WARM_UP_SECONDS = 1.5
_BARE_PACKETS = 240
_CODECS = {"h264": ("H264", "h264_mp4toannexb"), "hevc": ("HEVC", "hevc_mp4toannexb")}


def packets_of(clip: Path) -> tuple[str, list[np.ndarray]]:
    """Return NVDEC's name of the codec, and the first packets of ``clip`` as NVDEC reads them."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        codec, name = _CODECS[stream.codec_context.name]
        annexb = av.bitstream.BitStreamFilterContext(name, stream)
        found = []
        for packet in container.demux(stream):
            found += [np.frombuffer(bytes(part), np.uint8) for part in annexb.filter(packet)]
            if len(found) >= _BARE_PACKETS:
                return codec, found
    return codec, found


class BareDecoder:
    """One NVDEC decoder, and nothing around it."""

    def __init__(self, gpu: Gpu, codec: str, *, at_once: bool = False) -> None:
        self._library = library = importlib.import_module("PyNvVideoCodec")
        self.stream = gpu.new_stream("bare")
        latency = library.DisplayDecodeLatencyType
        self._at_once = at_once
        self._decoder = library.CreateDecoder(
            gpuid=gpu.index,
            codec=getattr(library.cudaVideoCodec, codec),
            cudacontext=int(importlib.import_module("cuda.core").Device(gpu.index).context.handle),
            cudastream=self.stream.handle,
            usedevicememory=True,
            maxwidth=1920,
            maxheight=1088,
            latency=latency.LOW if at_once else latency.NATIVE,
        )

    def decode(self, data: np.ndarray) -> int:
        """Return how many pictures came out."""
        packet = self._library.PacketData()
        packet.bsl_data, packet.bsl = data.ctypes.data, data.nbytes
        if self._at_once:
            packet.decode_flag = self._library.VideoPacketFlag.ENDOFPICTURE
        return len(self._decoder.Decode(packet))


def bare(gpu: Gpu, clip: Path, threads: int, seconds: float) -> dict[str, float]:
    """Frames a second of ``threads`` decoders over packets in memory."""
    codec, packets = packets_of(clip)

    def work(count, stop) -> None:
        decoder = BareDecoder(gpu, codec)
        while not stop.is_set():
            for data in packets:
                count(decoder.decode(data))
                if stop.is_set():
                    return

    return _measured(gpu, work, threads, seconds)


def bare_milliseconds(gpu: Gpu, clip: Path) -> float:
    """Return the median time from one packet to its picture, one decoder alone at 30 pictures a second."""
    codec, packets = packets_of(clip)
    decoder = BareDecoder(gpu, codec, at_once=True)
    spent = []
    for data in packets[:150]:
        begun = time.perf_counter()
        decoder.decode(data)
        decoder.stream.synchronise()
        spent.append(time.perf_counter() - begun)
        time.sleep(1 / 30)
    return float(np.median(spent[30:])) * 1000


def stages(nvdec: Nvdec, clip: Path, threads: int, seconds: float, ready=lambda: None) -> dict[str, float]:
    """Frames a second of ``threads`` streams through source and decode, whose pictures are let go at once."""

    def work(count, stop) -> None:
        while not stop.is_set():
            source = open_source(str(clip), SourceOptions(), threading.Event())
            decoder = nvdec.open(source.open())
            while not stop.is_set() and (packet := source.read()) is not None:
                count(len(decoder.decode(packet)))
            decoder.close()
            source.close()

    return _measured(nvdec.gpu, work, threads, seconds, ready)


def stages_in_processes(clip: Path, streams: int, processes: int, seconds: float) -> dict[str, float]:
    """The same in several processes, each kept to one core as workers are; all are measured at the same time."""
    share = -(-streams // processes)
    command = [sys.executable, "-m", "tests.benchmarks.gpu_decode"]
    children = [
        subprocess.Popen(
            [*command, str(clip), str(share), str(seconds), str(number + 1), str(processes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    try:
        for child in children:
            child.stdout.readline()  # ready
        for child in children:
            print("go", file=child.stdin, flush=True)
        found = [json.loads(child.stdout.readline()) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    fps = sum(one["fps"] for one in found)
    spent = sum(one["fps"] * one["cpu_seconds_per_1000"] for one in found)
    return {"fps": fps, "cpu_seconds_per_1000": spent / fps}


def _one_of_several(clip: Path, streams: int, seconds: float, number: int, processes: int) -> None:
    prepare_process(alone=True)
    core = OneCore(number, processes)
    gpu = open_gpu()

    def ready() -> None:
        core.look()
        print("ready", flush=True)
        sys.stdin.readline()

    print(json.dumps(stages(Nvdec(gpu), clip, streams, seconds, ready)), flush=True)
    os._exit(0)


def _measured(gpu: Gpu, work, threads: int, seconds: float, ready=lambda: None) -> dict[str, float]:
    stop, counts = threading.Event(), [0] * threads
    failed: list[BaseException] = []

    def run(index: int) -> None:
        def count(frames: int) -> None:
            counts[index] += frames

        try:
            gpu.use()
            work(count, stop)
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    until = time.monotonic() + 30.0
    while min(counts) < 5 and time.monotonic() < until and not failed:
        time.sleep(0.05)
    time.sleep(_WARM_UP_SECONDS)
    ready()
    before, cpu, begun = sum(counts), time.process_time(), time.perf_counter()
    time.sleep(seconds)
    frames, cpu, took = sum(counts) - before, time.process_time() - cpu, time.perf_counter() - begun
    stop.set()
    for worker in workers:
        worker.join(20.0)
    if failed:
        raise failed[0]
    return {"fps": frames / took, "cpu_seconds_per_1000": cpu / frames * 1000}


def memory_of_sessions(nvdec: Nvdec, clip: Path, sessions: int = 8) -> dict[str, float]:
    """MiB of device memory that one stream's decoder takes."""
    opened, free = [], nvdec.gpu.free_bytes()
    for _ in range(sessions):
        source = open_source(str(clip), SourceOptions(), threading.Event())
        decoder = nvdec.open(source.open())
        for _ in range(5):
            decoder.decode(source.read())
        opened.append((source, decoder))
    used = (free - nvdec.gpu.free_bytes()) / sessions / 2**20
    for source, decoder in opened:
        decoder.close()
        source.close()
    return {"session_mib": used}


def pictures_on(gpu: Gpu, clip: Path, count: int) -> tuple[Nvdec, list]:
    """Return ``count`` decoded pictures of ``clip`` on the device, and what keeps them."""
    nvdec = Nvdec(gpu)
    source = open_source(str(clip), SourceOptions(), threading.Event())
    decoder = nvdec.open(source.open())
    pictures: list = []
    while len(pictures) < count:
        pictures += decoder.decode(source.read())
    decoder.close()
    source.close()
    return nvdec, pictures[:count]


if __name__ == "__main__":
    _one_of_several(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *map(int, sys.argv[4:]))
