// Letterbox + colour + normalise: pictures of any size and layout -> one NCHW batch, in one launch.
// Same result as pipeline/preprocess/host.py, within 1/255 a channel: the planes are resized in the same fixed-point
// arithmetic as OpenCV's (weights of 11 bits, rounded to 8-bit samples), and only the small picture is coloured.
//
// One thread writes PIXELS neighbours of one row of one picture, three planes each; the edge is masked.
//   x -> out column / PIXELS, y -> out row, z -> picture of the batch. Nothing is shared, nothing synchronises.

#include "half.cuh"

#define PIXELS 4

enum Layout { PLANAR = 0, NV12 = 1, P010 = 2 };

// One picture. Addresses are of the device; pitches are bytes per row, padding included. Axis tables hold an int for each
// target column or row of the picture as it was coded (before rotation): (source index + 1) << 12 | weight of the next
// sample, 0-2048.
struct Picture {
    unsigned long long luma, blue, red;  // NV12, P010: blue and red interleaved at ``blue``
    unsigned long long luma_columns, luma_rows, chroma_columns, chroma_rows;
    int luma_pitch, chroma_pitch, layout, rotation;
    int width, height, chroma_width, chroma_height;
    int left, top, inner_width, inner_height;  // where the upright picture lies in the target
    float matrix[12];  // rows: the model's channels; columns: Y, U, V, offset; 0-255 to 0-255
    float scale_x, scale_y, source_width, source_height;  // for the way back, and
    float threshold, confident;                           // the scores that count: see heads.cu
};

struct Taps {
    int first, second, weight;
};

static __device__ __forceinline__ Taps taps_at(unsigned long long table, int place, int length) {
    int entry = ((const int *)table)[place];
    int first = (entry >> 12) - 1;
    Taps taps;
    taps.first = min(max(first, 0), length - 1);
    taps.second = min(first + 1, length - 1);
    taps.weight = entry & 4095;
    return taps;
}

static __device__ __forceinline__ int blend(int a, int b, int c, int d, int across, int down) {
    int upper = a * (2048 - across) + b * across;
    int lower = c * (2048 - across) + d * across;
    return ((((2048 - down) * (upper >> 4)) >> 16) + ((down * (lower >> 4)) >> 16) + 2) >> 2;
}

// 10 bits to 8 as FFmpeg does it on the host: an ordered dither of 2 x 2, so that slopes stay smooth.
static __device__ __forceinline__ int narrow(unsigned short word, int x, int y) {
    int dither = (y & 1) ? ((x & 1) ? 0 : 3) : ((x & 1) ? 2 : 1);
    return min(((word >> 6) + dither) >> 2, 255);
}

// ``step`` samples lie between neighbours of one plane, the wanted one ``offset`` samples in.
static __device__ __forceinline__ int sample(unsigned long long plane, int pitch, Taps x, Taps y, bool wide, int step,
                                             int offset) {
    const unsigned char *upper = (const unsigned char *)plane + (long long)y.first * pitch;
    const unsigned char *lower = (const unsigned char *)plane + (long long)y.second * pitch;
    int a = x.first * step + offset, b = x.second * step + offset;
    if (!wide) return blend(upper[a], upper[b], lower[a], lower[b], x.weight, y.weight);
    const unsigned short *high = (const unsigned short *)upper, *low = (const unsigned short *)lower;
    return blend(narrow(high[a], x.first, y.first), narrow(high[b], x.second, y.first),
                 narrow(low[a], x.first, y.second), narrow(low[b], x.second, y.second), x.weight, y.weight);
}

static __device__ __forceinline__ float level(const float *row, float y, float u, float v) {
    return fminf(fmaxf(rintf(row[0] * y + row[1] * u + row[2] * v + row[3]), 0.0f), 255.0f);
}

// ``constants``: gain, bias, padding (already normalised), three floats each, in the model's channel order.
extern "C" __global__ void letterbox(const Picture *pictures, const float *constants, void *out, int out_width,
                                     int out_height, int out_half) {
    int begin = (int)(blockIdx.x * blockDim.x + threadIdx.x) * PIXELS;
    int row = (int)(blockIdx.y * blockDim.y + threadIdx.y);
    if (begin >= out_width || row >= out_height) return;
    const Picture &picture = pictures[blockIdx.z];
    bool lying = picture.rotation == 90 || picture.rotation == 270;
    int turned_width = lying ? picture.inner_height : picture.inner_width;
    int turned_height = lying ? picture.inner_width : picture.inner_height;
    bool wide = picture.layout == P010;
    int step = picture.layout == PLANAR ? 1 : 2;
    unsigned long long red = picture.layout == PLANAR ? picture.red : picture.blue;

    float values[3][PIXELS];
    for (int pixel = 0; pixel < PIXELS; pixel++) {
        int x = begin + pixel - picture.left, y = row - picture.top;
        if (x < 0 || y < 0 || x >= picture.inner_width || y >= picture.inner_height) {
            for (int channel = 0; channel < 3; channel++) values[channel][pixel] = constants[6 + channel];
            continue;
        }
        int column = x, line = y;  // in the picture as it was coded
        if (picture.rotation == 90) {
            column = y;
            line = turned_height - 1 - x;
        } else if (picture.rotation == 180) {
            column = turned_width - 1 - x;
            line = turned_height - 1 - y;
        } else if (picture.rotation == 270) {
            column = turned_width - 1 - y;
            line = x;
        }
        Taps across = taps_at(picture.luma_columns, column, picture.width);
        Taps down = taps_at(picture.luma_rows, line, picture.height);
        float luma = (float)sample(picture.luma, picture.luma_pitch, across, down, wide, 1, 0);
        across = taps_at(picture.chroma_columns, column, picture.chroma_width);
        down = taps_at(picture.chroma_rows, line, picture.chroma_height);
        float u = (float)sample(picture.blue, picture.chroma_pitch, across, down, wide, step, 0);
        float v = (float)sample(red, picture.chroma_pitch, across, down, wide, step, step - 1);
        for (int channel = 0; channel < 3; channel++)
            values[channel][pixel] =
                level(picture.matrix + 4 * channel, luma, u, v) * constants[channel] + constants[3 + channel];
    }

    for (int channel = 0; channel < 3; channel++) {
        long long place = (((long long)blockIdx.z * 3 + channel) * out_height + row) * out_width + begin;
        const float *from = values[channel];
        if (out_width % PIXELS == 0) {  // whole and aligned: one store for all
            if (out_half)
                *(ushort4 *)((unsigned short *)out + place) = make_ushort4(
                    float_to_half(from[0]), float_to_half(from[1]), float_to_half(from[2]), float_to_half(from[3]));
            else
                *(float4 *)((float *)out + place) = make_float4(from[0], from[1], from[2], from[3]);
            continue;
        }
        for (int pixel = 0; pixel < PIXELS && begin + pixel < out_width; pixel++) {
            if (out_half)
                ((unsigned short *)out)[place + pixel] = float_to_half(from[pixel]);
            else
                ((float *)out)[place + pixel] = from[pixel];
        }
    }
}
