// What a profiler puts into a process to hear NVTX: it writes a line for each call to the file NVTX_HEARD. Built by a test
// as a shared library; the numbers are NVTX 3's (nvtxDetail/nvtxTypes.h).
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef void (*Function)(void);
typedef struct {
    size_t size;
    int (*functions_of)(int module, Function ***table, unsigned *count);
} Callbacks;

enum { CALLBACKS = 1, CORE = 1, CUDA = 2, RANGE_PUSH = 9, RANGE_POP = 11, NAME_THREAD = 14, NAME_STREAM = 5 };

static FILE *heard;

static int push(const char *name) { return fprintf(heard, "push %s\n", name); }
static int pop(void) { return fprintf(heard, "pop\n"); }
static void name_thread(uint32_t id, const char *name) { fprintf(heard, "thread %u %s\n", id, name); }
static void name_stream(void *handle, const char *name) { fprintf(heard, "stream %zu %s\n", (size_t)handle, name); }

int InitializeInjectionNvtx2(const void *(*export_table)(uint32_t)) {
    const Callbacks *callbacks = export_table(CALLBACKS);
    Function **table;
    unsigned count;
    heard = fopen(getenv("NVTX_HEARD"), "w");
    if (!heard || !callbacks || !callbacks->functions_of(CORE, &table, &count)) return 0;
    setvbuf(heard, NULL, _IOLBF, 0);
    *table[RANGE_PUSH] = (Function)push;
    *table[RANGE_POP] = (Function)pop;
    *table[NAME_THREAD] = (Function)name_thread;
    if (callbacks->functions_of(CUDA, &table, &count)) *table[NAME_STREAM] = (Function)name_stream;
    return 1;
}
