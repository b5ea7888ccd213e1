/* A CUDA driver without a GPU, for bench_host_path: calls succeed, launches of graphs and pictures of the decoder take
 * their time asleep, and everything else takes none. Device memory is the host's.
 *
 *     gcc -O1 -shared -fPIC -o libcuda.so.1 libcuda.c -lpthread -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef void *Handle;
typedef uint64_t Pointer;

static const Handle CONTEXT = (Handle)0x777000;
static double graph_seconds, picture_seconds;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

static void sleep_until(double when) {
    struct timespec at = {(time_t)when, (long)((when - (time_t)when) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)) {
    }
}

static Handle fresh(void) {
    static uintptr_t latest = 0x1000;
    return (Handle)__sync_add_and_fetch(&latest, 16);
}

/* What the benchmark itself calls. */

void stand_in_set(double graph, double picture) {
    graph_seconds = graph;
    picture_seconds = picture;
}

/* Seven decoders, as an H100 has; the next one that is free takes the picture. */
int stand_in_decode(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static double free_at[7];
    pthread_mutex_lock(&lock);
    int first = 0;
    for (int one = 1; one < 7; one++)
        if (free_at[one] < free_at[first]) first = one;
    double begin = now();
    double end = (free_at[first] > begin ? free_at[first] : begin) + picture_seconds;
    free_at[first] = end;
    pthread_mutex_unlock(&lock);
    sleep_until(end);
    return 0;
}

/* One graph runs at a time; who launched it waits for it in cuEventSynchronize. */
static __thread double launched_until;

int cuGraphLaunch(Handle graph, Handle stream) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static double free_at;
    pthread_mutex_lock(&lock);
    double begin = now();
    free_at = (free_at > begin ? free_at : begin) + graph_seconds;
    launched_until = free_at;
    pthread_mutex_unlock(&lock);
    return 0;
}

int cuEventSynchronize(Handle event) {
    if (launched_until) sleep_until(launched_until);
    launched_until = 0;
    return 0;
}

/* What must answer something. */

int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return 0; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "stand-in"); return 0; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 1, 16); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1; return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)80 << 30; return 0; }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { *free_bytes = (size_t)70 << 30; *total = (size_t)80 << 30; return 0; }
int cuDevicePrimaryCtxRetain(Handle *context, int device) { *context = CONTEXT; return 0; }
int cuCtxGetCurrent(Handle *context) { *context = CONTEXT; return 0; }
int cuCtxPopCurrent_v2(Handle *context) { *context = CONTEXT; return 0; }
int cuCtxGetDevice(int *device) { *device = 0; return 0; }
int cuCtxGetDevice_v2(int *device, Handle context) { *device = 0; return 0; }
int cuCtxGetId(Handle context, unsigned long long *id) { *id = 1; return 0; }
int cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return 0; }
int cuStreamGetCtx(Handle stream, Handle *context) { *context = CONTEXT; return 0; }
int cuStreamGetCtx_v2(Handle stream, Handle *context, Handle *green) { *context = CONTEXT; if (green) *green = NULL; return 0; }
int cuStreamGetPriority(Handle stream, int *priority) { *priority = 0; return 0; }
int cuStreamGetFlags(Handle stream, unsigned *flags) { *flags = 1; return 0; }
int cuStreamGetDevice(Handle stream, int *device) { *device = 0; return 0; }
int cuStreamCreate(Handle *stream, unsigned flags) { *stream = fresh(); return 0; }
int cuStreamCreateWithPriority(Handle *stream, unsigned flags, int priority) { *stream = fresh(); return 0; }
int cuStreamIsCapturing(Handle stream, int *status) { *status = 0; return 0; }
int cuStreamEndCapture(Handle stream, Handle *graph) { *graph = fresh(); return 0; }
int cuEventCreate(Handle *event, unsigned flags) { *event = fresh(); return 0; }
int cuMemAlloc_v2(Pointer *pointer, size_t bytes) { *pointer = (Pointer)calloc(1, bytes); return 0; }
int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) { *pointer = calloc(1, bytes); return 0; }
int cuMemFree_v2(Pointer pointer) { free((void *)pointer); return 0; }
int cuMemFreeHost(void *pointer) { free(pointer); return 0; }
int cuGraphGetNodes(Handle graph, Handle *nodes, size_t *count) { *count = 0; return 0; }
int cuGraphInstantiateWithFlags(Handle *made, Handle graph, unsigned long long flags) { *made = fresh(); return 0; }
int cuGetErrorName(int code, const char **text) { *text = "CUDA_ERROR_STAND_IN"; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "the stand-in fails nothing"; return 0; }

/* What need not; some are called by their names, all others through cuGetProcAddress. */

static int succeed(void) { return 0; }
int cuInit(unsigned flags) { return 0; }
int cuMemcpyDtoDAsync_v2(Pointer target, Pointer source, size_t bytes, Handle stream) { return 0; }
int cuEventRecord(Handle event, Handle stream) { return 0; }
int cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) { return 0; }

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found) {
    static const char *const SUFFIXES[] = {"_v2", ""};
    char full[128];
    Dl_info here;
    dladdr((void *)cuInit, &here);
    void *self = dlopen(here.dli_fname, RTLD_NOW);
    *function = (void *)succeed;
    for (int place = 1; place >= 0; place--) {
        snprintf(full, sizeof full, "%s%s", name, SUFFIXES[place]);
        void *known = dlsym(self, full);
        if (known) *function = known;
    }
    if (found) *found = 0;
    return 0;
}

int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
