#include "cuda_on_host.h"

#include "letterbox.cu"

extern "C" void run_letterbox(const Picture *pictures, int count, const float *constants, void *out, int out_width,
                              int out_height, int out_half) {
    Place block = {32, 8, 1};
    unsigned across = 32 * PIXELS;
    Place grid = {(out_width + across - 1) / across, (out_height + 7u) / 8, (unsigned)count};
    run_blocks(grid, block, [&] { letterbox(pictures, constants, out, out_width, out_height, out_half); }, false);
}
