// As much of CUDA C as our kernels use, for a C++ compiler.
#pragma once

#include <algorithm>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

using std::max;
using std::min;

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static

struct Place {
    unsigned x = 0, y = 0, z = 0;
};
static thread_local Place blockIdx, threadIdx;
static thread_local Place blockDim;
static std::unique_ptr<std::barrier<>> block_barrier;

static inline void __syncthreads() { block_barrier->arrive_and_wait(); }
static inline int atomicAdd(int *place, int value) { return __atomic_fetch_add(place, value, __ATOMIC_RELAXED); }
static inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
static inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }

struct ushort4 {
    unsigned short x, y, z, w;
};
struct float4 {
    float x, y, z, w;
};
static inline ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z, unsigned short w) {
    return {x, y, z, w};
}
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static inline float half_to_float(unsigned short bits) {
    int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    float value;
    if (exponent == 0)
        value = std::ldexp((float)fraction, -24);
    else if (exponent == 31)
        value = fraction ? NAN : INFINITY;
    else
        value = std::ldexp((float)(fraction | 1024), exponent - 25);
    return bits & 0x8000 ? -value : value;
}

// To the nearest, ties to even; too large becomes infinite.
static inline unsigned short float_to_half(float value) {
    unsigned short sign = std::signbit(value) ? 0x8000 : 0;
    float size = std::fabs(value);
    if (std::isnan(value)) return sign | 0x7e00;
    if (size >= 65520.0f) return sign | 0x7c00;
    int exponent = size > 0 ? std::max(std::ilogb(size), -14) : -14;
    int units = (int)std::nearbyint(std::ldexp(size, 10 - exponent));  // of the last bit
    return sign + (unsigned short)(((exponent + 14) << 10) + units);
}

// Run ``kernel`` for every thread of one block after another.
static inline void run_blocks(Place grid, Place block, const std::function<void()> &kernel, bool synchronises) {
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                auto one = [&](unsigned tx, unsigned ty) {
                    blockIdx = {x, y, z};
                    blockDim = block;
                    threadIdx = {tx, ty, 0};
                    kernel();
                };
                if (!synchronises) {
                    for (unsigned ty = 0; ty < block.y; ty++)
                        for (unsigned tx = 0; tx < block.x; tx++) one(tx, ty);
                    continue;
                }
                block_barrier = std::make_unique<std::barrier<>>(block.x);
                std::vector<std::thread> threads;
                for (unsigned tx = 0; tx < block.x; tx++) threads.emplace_back(one, tx, 0);
                for (auto &thread : threads) thread.join();
            }
}
