#include "cuda_on_host.h"

#include "heads.cu"

extern "C" void run_heads(const Head *head, int count, Tally *tallies, unsigned long long *keys, int *class_ids,
                          const Picture *pictures, int *results, int threads) {
    Place grid = {(head->candidates + 127u) / 128, (unsigned)count, 1};
    run_blocks(grid, {128, 1, 1}, [&] { collect(head, pictures, tallies, keys, class_ids); }, false);
    run_blocks({(unsigned)count, 1, 1}, {(unsigned)threads, 1, 1},
               [&] { suppress(head, tallies, keys, class_ids, pictures, results); }, true);
}
