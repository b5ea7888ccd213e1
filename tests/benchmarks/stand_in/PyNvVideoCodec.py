"""NVDEC without a GPU, for bench_host_path: every packet becomes a picture at once, after the decoder's time asleep."""

import ctypes
import enum

_driver = ctypes.CDLL("libcuda.so.1")
_WIDTH, _HEIGHT = 1920, 1080
_ADDRESS = 1 << 28


class cudaVideoCodec(enum.Enum):
    H264 = 4
    HEVC = 8


class DisplayDecodeLatencyType(enum.Enum):
    NATIVE = 0
    LOW = 1


class VideoPacketFlag(enum.Enum):
    ENDOFPICTURE = 8


class PacketData:
    __slots__ = ("bsl", "bsl_data", "decode_flag", "pts")


class _Memory:
    __cuda_array_interface__ = {"strides": (_WIDTH, 1, 1)}  # noqa: RUF012


class _Picture:
    __slots__ = ("_pts", "shape")

    def __init__(self, pts):
        self.shape = (_HEIGHT * 3 // 2, _WIDTH)
        self._pts = pts

    def GetPtrToPlane(self, plane):
        return _ADDRESS + plane * _WIDTH * _HEIGHT

    def getPTS(self):
        return self._pts

    def cuda(self):
        return [_Memory]


class _Decoder:
    def Decode(self, packet):
        if not packet.bsl:
            return []
        _driver.stand_in_decode()
        return [_Picture(packet.pts)]


def cudaVideoChromaFormat(number):
    return number


def CreateDecoder(**_):
    return _Decoder()


def GetDecoderCaps(**_):
    least, most = {"width_min": 48, "height_min": 16}, {"width_max": 8192, "height_max": 8192, "mb_num_max": 262144}
    return {"num_decoder_engines": 7, **least, **most}
