// Outputs of a batch -> the few boxes of each picture, in source pixels. Two kernels, for every family of heads:
//
//   collect   one thread a candidate (x -> candidate, y -> picture): best class, threshold, compaction
//   suppress  one block a picture, any number of threads: the strongest, in order; boxes; suppression by class; the way back
//
// Same result as pipeline/postprocess (heads, suppress.py, postprocess.py), to the bit but for exp(): compiled without
// contraction into fused multiply-adds, in the same order of operations. Equal scores keep the order of the candidates.

#include "half.cuh"

#define MOST 1024  // candidates that are sorted and compared; a power of two

enum Type { FLOAT32 = 0, FLOAT16 = 1, INT32 = 2, INT64 = 3 };
enum BoxKind { CORNERS = 0, CENTRED = 1, CENTRED_PARTS = 2, GRID = 3, DISTRIBUTION = 4 };

// Where values lie: element ``picture * by_picture + candidate * by_candidate + value * by_value`` from ``address`` (0: there
// is no such tensor).
struct Values {
    unsigned long long address;
    long long by_picture, by_candidate, by_value;
    int type, unused;
};

struct Head {
    Values boxes, scores, objectness, labels, counts, pictures;
    unsigned long long cells;    // GRID, DISTRIBUTION: float [A, 3]: column, row, stride
    unsigned long long wanted;   // unsigned char [wanted_count], 1 for class ids to keep; 0: all
    int candidates, classes, wanted_count, max_candidates, max_detections;
    int box_kind, suppresses, logits;
    int checks_all;              // refuse infinite scores of all candidates (1), and their boxes (2)
    float iou_threshold, input_width, input_height;
};

// What suppress needs of a Picture of letterbox.cu.
struct Picture {
    unsigned long long addresses[7];
    int layout[8];
    int left, top, inner_width, inner_height;
    float matrix[12];
    float scale_x, scale_y, source_width, source_height;
    float threshold;  // on what is compared: a logit where ``logits``
    float confident;  // score from which on a candidate is missed when it is left out
};

struct Tally {
    int found, confident, not_a_number, unused;
};

static __device__ __forceinline__ float at(const Values &values, int picture, int candidate, int value) {
    long long place = picture * values.by_picture + candidate * values.by_candidate + value * values.by_value;
    switch (values.type) {
        case FLOAT32: return ((const float *)values.address)[place];
        case FLOAT16: return half_to_float(((const unsigned short *)values.address)[place]);
        case INT32: return (float)((const int *)values.address)[place];
        default: return (float)((const long long *)values.address)[place];
    }
}

static __device__ __forceinline__ bool finite(float value) { return fabsf(value) <= 3.402823466e38f; }

extern "C" __global__ void collect(const Head *heads, const Picture *pictures, Tally *tallies,
                                   unsigned long long *keys, int *class_ids) {
    const Head &head = *heads;
    int candidate = (int)(blockIdx.x * blockDim.x + threadIdx.x), picture = (int)blockIdx.y;
    if (candidate >= head.candidates) return;
    Tally &tally = tallies[picture];
    float threshold = pictures[picture].threshold;

    float object = 1.0f;
    if (head.objectness.address) {
        object = at(head.objectness, picture, candidate, 0);
        if (!finite(object)) tally.not_a_number = 1;
        if (!(object >= threshold)) return;  // no class score exceeds 1
    }
    if (head.checks_all == 2)
        for (int side = 0; side < 4; side++)
            if (!finite(at(head.boxes, picture, candidate, side))) tally.not_a_number = 1;
    if (head.counts.address && candidate >= (int)at(head.counts, picture, 0, 0)) return;

    int class_id = 0;
    float best = at(head.scores, picture, candidate, 0);
    bool broken = best != best;
    for (int other = 1; other < head.classes; other++) {
        float score = at(head.scores, picture, candidate, other);
        broken |= score != score;
        if (score > best) {
            best = score;
            class_id = other;
        }
    }
    if (head.labels.address) {
        float label = at(head.labels, picture, candidate, 0);
        broken |= !finite(label);
        class_id = label >= 0.0f ? (int)label : -1;
    }
    if (broken || (!finite(best) && (best > 0.0f || head.checks_all))) {
        tally.not_a_number = 1;
        return;
    }
    if (head.objectness.address) best = best * object;
    if (head.pictures.address && (int)at(head.pictures, 0, candidate, 0) != picture) return;
    if (!(best >= threshold) || class_id < 0) return;
    if (head.wanted && (class_id >= head.wanted_count || !((const unsigned char *)head.wanted)[class_id])) return;
    if (head.logits) best = 1.0f / (1.0f + expf(-best));
    best += 0.0f;  // no negative zero: scores are ordered by their bits

    long long row = (long long)picture * head.candidates;
    class_ids[row + candidate] = class_id;
    int place = atomicAdd(&tally.found, 1);
    keys[row + place] = ((unsigned long long)__float_as_uint(best) << 32) | (0xffffffffu - (unsigned)candidate);
    if (best >= pictures[picture].confident) atomicAdd(&tally.confident, 1);
}

struct Box {
    float left, top, right, bottom;
};

static __device__ Box box_of(const Head &head, int picture, int candidate) {
    const Values &from = head.boxes;
    const float *cell = (const float *)head.cells + 3 * candidate;
    float v[4];
    if (head.box_kind == DISTRIBUTION) {
        for (int side = 0; side < 4; side++) {
            float logits[8], most = -3.4e38f, sum = 0.0f, mean = 0.0f;
            for (int bin = 0; bin < 8; bin++) {
                logits[bin] = at(from, picture, candidate, 8 * side + bin);
                most = fmaxf(most, logits[bin]);
            }
            for (int bin = 0; bin < 8; bin++) {
                float likely = expf(logits[bin] - most);
                sum += likely;
                mean += likely * (float)bin;
            }
            v[side] = mean / sum * cell[2];
        }
        float x = cell[0] * cell[2], y = cell[1] * cell[2];
        return {x - v[0], y - v[1], x + v[2], y + v[3]};
    }
    for (int side = 0; side < 4; side++) v[side] = at(from, picture, candidate, side);
    if (head.box_kind == CORNERS) return {v[0], v[1], v[2], v[3]};
    if (head.box_kind == GRID) {
        v[0] = (v[0] + cell[0]) * cell[2];
        v[1] = (v[1] + cell[1]) * cell[2];
        v[2] = expf(v[2]) * cell[2];
        v[3] = expf(v[3]) * cell[2];
    } else if (head.box_kind == CENTRED_PARTS) {
        v[0] *= head.input_width;
        v[1] *= head.input_height;
        v[2] *= head.input_width;
        v[3] *= head.input_height;
    }
    float half_width = v[2] * 0.5f, half_height = v[3] * 0.5f;
    return {v[0] - half_width, v[1] - half_height, v[0] + half_width, v[1] + half_height};
}

static __device__ __forceinline__ float area(const Box &box) {
    return fmaxf(box.right - box.left, 0.0f) * fmaxf(box.bottom - box.top, 0.0f);
}

static __device__ __forceinline__ float overlap(const Box &a, const Box &b) {
    float width = fmaxf(fminf(a.right, b.right) - fmaxf(a.left, b.left), 0.0f);
    float height = fmaxf(fminf(a.bottom, b.bottom) - fmaxf(a.top, b.top), 0.0f);
    float shared = width * height;
    float joined = area(a) + area(b) - shared;
    return joined > 0.0f ? shared / joined : 0.0f;
}

static __device__ __forceinline__ Box to_source(const Box &box, const Picture &picture) {
    float left = (float)picture.left, top = (float)picture.top;
    return {fminf(fmaxf((box.left - left) / picture.scale_x, 0.0f), picture.source_width),
            fminf(fmaxf((box.top - top) / picture.scale_y, 0.0f), picture.source_height),
            fminf(fmaxf((box.right - left) / picture.scale_x, 0.0f), picture.source_width),
            fminf(fmaxf((box.bottom - top) / picture.scale_y, 0.0f), picture.source_height)};
}

// Return the key of which exactly ``wanted`` of ``count`` distinct keys are at least as large: digit by digit from the top.
static __device__ unsigned long long least_of_strongest(const unsigned long long *keys, int count, int wanted,
                                                        int *histogram, unsigned long long *prefix, int *left) {
    if (threadIdx.x == 0) {
        *prefix = 0;
        *left = wanted;
    }
    for (int shift = 56; shift >= 0; shift -= 8) {
        for (int digit = (int)threadIdx.x; digit < 256; digit += (int)blockDim.x) histogram[digit] = 0;
        __syncthreads();
        unsigned long long above = shift == 56 ? 0 : ~0ull << (shift + 8);
        for (int index = (int)threadIdx.x; index < count; index += (int)blockDim.x)
            if ((keys[index] & above) == *prefix) atomicAdd(&histogram[(keys[index] >> shift) & 255], 1);
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = 255;
            while (histogram[digit] < *left) *left -= histogram[digit--];
            *prefix |= (unsigned long long)digit << shift;
        }
        __syncthreads();
    }
    return *prefix;
}

// ``results``: for each picture 4 ints (boxes, truncated, not a number, unused), then ``max_detections`` rows of 6 floats:
// left, top, right, bottom, score, and the bits of the class id.
extern "C" __global__ void suppress(const Head *heads, const Tally *tallies, const unsigned long long *keys,
                                    const int *class_ids, const Picture *pictures, int *results) {
    __shared__ unsigned long long order[MOST];
    __shared__ Box boxes[MOST];
    __shared__ int classes[MOST];
    __shared__ int ranks[MOST];
    __shared__ unsigned char gone[MOST];
    __shared__ int histogram[256];
    __shared__ unsigned long long prefix;
    __shared__ int left, taken, broken, shown, truncated;

    const Head &head = *heads;
    int picture = (int)blockIdx.x, thread = (int)threadIdx.x, threads = (int)blockDim.x;
    const Tally &tally = tallies[picture];
    const unsigned long long *found = keys + (long long)picture * head.candidates;
    int *header = results + (long long)picture * (4 + 6 * head.max_detections);
    int count = min(tally.found, head.max_candidates);
    if (thread == 0) {
        taken = 0;
        broken = tally.not_a_number;
    }
    __syncthreads();
    if (count == 0) {
        if (thread == 0) {
            header[0] = header[1] = 0;
            header[2] = broken;
        }
        return;
    }

    int size = 1;  // of what is sorted: a power of two
    while (size < count) size *= 2;
    for (int index = thread; index < size; index += threads) order[index] = 0;
    __syncthreads();
    if (tally.found > count) {
        unsigned long long least = least_of_strongest(found, tally.found, count, histogram, &prefix, &left);
        for (int index = thread; index < tally.found; index += threads)
            if (found[index] >= least) order[atomicAdd(&taken, 1)] = found[index];
    } else {
        for (int index = thread; index < count; index += threads) order[index] = found[index];
    }
    __syncthreads();
    for (int span = 2; span <= size; span *= 2) {  // Batcher's bitonic sort, largest first
        for (int reach = span / 2; reach > 0; reach /= 2) {
            for (int index = thread; index < size; index += threads) {
                int other = index ^ reach;
                if (other > index && (order[index] < order[other]) == ((index & span) == 0)) {
                    unsigned long long key = order[index];
                    order[index] = order[other];
                    order[other] = key;
                }
            }
            __syncthreads();
        }
    }

    for (int index = thread; index < count; index += threads) {
        int candidate = (int)(0xffffffffu - (unsigned)order[index]);
        Box box = box_of(head, picture, candidate);
        if (!(finite(box.left) && finite(box.top) && finite(box.right) && finite(box.bottom))) broken = 1;
        boxes[index] = box;
        classes[index] = class_ids[(long long)picture * head.candidates + candidate];
        gone[index] = 0;
    }
    __syncthreads();
    if (head.suppresses) {
        for (int index = 0; index < count; index++) {
            if (gone[index]) continue;  // settled: every stronger one has had its say
            for (int other = index + 1 + thread; other < count; other += threads)
                if (classes[other] == classes[index] && !gone[other] &&
                    overlap(boxes[index], boxes[other]) > head.iou_threshold)
                    gone[other] = 1;
            __syncthreads();
        }
    }
    for (int index = thread; index < count; index += threads) {
        Box box = to_source(boxes[index], pictures[picture]);
        if (!(box.right > box.left && box.bottom > box.top)) gone[index] = 1;
        boxes[index] = box;
    }
    __syncthreads();
    if (thread == 0) {
        int rank = 0, next = count;
        for (int index = 0; index < count; index++) {
            ranks[index] = gone[index] ? -1 : rank;
            if (gone[index]) continue;
            if (rank == head.max_detections) {
                next = index;
                break;
            }
            rank++;
        }
        shown = rank;
        truncated = tally.confident > head.max_candidates ||
                    (next < count && __uint_as_float((unsigned)(order[next] >> 32)) >= pictures[picture].confident);
        left = next;
        header[0] = rank;
        header[1] = truncated;
        header[2] = broken;
    }
    __syncthreads();
    for (int index = thread; index < left; index += threads) {
        if (ranks[index] < 0) continue;
        float *row = (float *)(header + 4) + 6 * ranks[index];
        row[0] = boxes[index].left;
        row[1] = boxes[index].top;
        row[2] = boxes[index].right;
        row[3] = boxes[index].bottom;
        row[4] = __uint_as_float((unsigned)(order[index] >> 32));
        row[5] = __uint_as_float((unsigned)classes[index]);
    }
}
