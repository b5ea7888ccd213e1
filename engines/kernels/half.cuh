// float16 without cuda_fp16.h, which NVRTC does not always find. Bits travel as unsigned short.
// Where there is no GPU compiler, whoever includes this defines the two functions beforehand.
#pragma once

#ifdef __CUDACC_RTC__
static __device__ __forceinline__ float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

static __device__ __forceinline__ unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif
