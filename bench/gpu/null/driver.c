/* A CUDA driver without a GPU: it reports an H100, takes every kernel, runs none, and counts what it is asked for.
 *
 * Built as libcuda.so by run.sh. Only what burn's runtime calls is here; a call that is missing ends the program with the name
 * of its symbol. Memory of the device is a number that nobody follows, up to the H100's 80 GiB; what is read back is zero.
 * Everything is done at once, so waiting costs nothing: the time that is left is the host's.
 *
 * At exit the counts are written as JSON into the file that NULL_DRIVER_COUNTS names, without it as a line on stderr.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef uint64_t Address;

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, INVALID_VALUE = 1 };

static const size_t CAPACITY = (size_t)80 << 30;

/* Copies of one direction. Rows are those of 2-D copies: a copy engine handles each on its own. */
struct copies {
    long calls, bytes, calls_2d, bytes_2d, rows_2d, largest_rows, row_bytes, row_pitch;
};

struct kernel {
    char *name;
    long launches;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct copies up, down, within;
static struct kernel **kernels;
static size_t n_kernels;
static long launches, waits, late_waits, allocations;
static size_t in_use, most_in_use;

/* Launches between one wait for all that was launched and the next; stretches without any are left out. A wait for an event that
 * was recorded before the latest launches is another thing: it only keeps the host from running far ahead. */
static long *stretches, since_wait;
static size_t n_stretches;

struct event {
    long launches; /* when it was recorded */
    int whole;     /* of a whole context, not of a stream */
    int products;  /* it comes after the latest product */
};

/* Products of the null cuBLASLt have a stream of their own. What is launched before one, that stream must wait for, and what is
 * launched after it must wait for the product: else the program ends. */
struct stream {
    long seen; /* launches that it waited for */
    int products;
};
static int product_open;

static void wrong(const char *what) {
    fprintf(stderr, "null driver: %s\n", what);
    abort();
}

static void ordered(void) {
    if (product_open) wrong("work that does not wait for the product before it");
}

/* Room for one more in a list that doubles. */
static void *room(void *list, size_t n, size_t size) {
    if (n & (n - 1)) return list;
    list = realloc(list, (n ? 2 * n : 1) * size);
    if (!list) abort();
    return list;
}

static void waited(const struct event *event) {
    pthread_mutex_lock(&lock);
    int late = event && event->launches < launches;
    *(late ? &late_waits : &waits) += 1;
    if (since_wait && !late) {
        stretches = room(stretches, n_stretches, sizeof *stretches);
        stretches[n_stretches++] = since_wait;
        since_wait = 0;
    }
    pthread_mutex_unlock(&lock);
}

/* ---- The device ---- */

Result cuInit(unsigned flags) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceGet(int *device, int index) { *device = index; return SUCCESS; }
Result cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "null driver (H100)"); return SUCCESS; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = CAPACITY; return SUCCESS; }

Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: case 2: case 3: case 4:            /* threads per block; its x, y, z */
        *value = attribute == 4 ? 64 : 1024; break;
    case 5: *value = 2147483647; break;        /* blocks per grid: x, y, z */
    case 6: case 7: *value = 65535; break;
    case 8: *value = 49152; break;             /* shared memory per block */
    case 10: *value = 32; break;               /* threads per warp */
    case 12: *value = 65536; break;            /* registers per block */
    case 16: *value = 132; break;              /* multiprocessors */
    case 39: *value = 2048; break;             /* threads per multiprocessor */
    case 75: *value = 9; break;                /* compute capability */
    case 76: *value = 0; break;
    case 97: *value = 232448; break;           /* shared memory per block, for those that ask */
    default: *value = 1;                       /* the rest are abilities */
    }
    return SUCCESS;
}

Result cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)&lock; return SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
Result cuCtxSetCurrent(void *context) { return SUCCESS; }
Result cuCtxGetCurrent(void **context) { *context = (void *)&lock; return SUCCESS; }
Result cuCtxSynchronize(void) { waited(NULL); return SUCCESS; }

/* ---- Streams and events: everything is done at once ---- */

Result cuStreamCreate(void **stream, unsigned flags) {
    *stream = calloc(1, sizeof(struct stream));
    return *stream ? SUCCESS : OUT_OF_MEMORY;
}

Result cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) { return cuStreamCreate(stream, flags); }
Result cuStreamDestroy_v2(void *stream) { free(stream); return SUCCESS; }
Result cuStreamSynchronize(void *stream) { waited(NULL); return SUCCESS; }

Result cuStreamWaitEvent(struct stream *stream, const struct event *event, unsigned flags) {
    pthread_mutex_lock(&lock);
    if (stream && event->whole) stream->seen = event->launches;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

Result cuEventQuery(void *event) { return SUCCESS; }
Result cuEventSynchronize(void *event) { waited(event); return SUCCESS; }
Result cuEventElapsedTime(float *ms, void *start, void *end) { *ms = 0; return SUCCESS; }
Result cuEventElapsedTime_v2(float *ms, void *start, void *end) { *ms = 0; return SUCCESS; }
Result cuEventDestroy_v2(void *event) { free(event); return SUCCESS; }

Result cuEventCreate(void **event, unsigned flags) {
    *event = calloc(1, sizeof(struct event));
    return *event ? SUCCESS : OUT_OF_MEMORY;
}

static Result record(struct event *event, int whole, int products) {
    pthread_mutex_lock(&lock);
    *event = (struct event){launches, whole, products};
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

Result cuEventRecord(struct event *event, const struct stream *stream) { return record(event, 0, stream && stream->products); }
Result cuCtxRecordEvent(void *context, struct event *event) { return record(event, 1, 1); }

Result cuCtxWaitEvent(void *context, const struct event *event) {
    pthread_mutex_lock(&lock);
    if (event->products && event->launches == launches) product_open = 0;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

/* ---- Memory ---- */

/* The number of an allocation is the upper part of its address, so that its size is found again. */
enum { OFFSET_BITS = 40 };
static size_t *sizes;
static size_t n_sizes = 1; /* none is at address 0 */

Result cuMemAlloc_v2(Address *address, size_t bytes) {
    Result result = OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    if (in_use + bytes <= CAPACITY) {
        if (!sizes) sizes = room(NULL, 0, sizeof *sizes);
        sizes = room(sizes, n_sizes, sizeof *sizes);
        sizes[n_sizes] = bytes;
        *address = (Address)n_sizes++ << OFFSET_BITS;
        in_use += bytes;
        if (in_use > most_in_use) most_in_use = in_use;
        allocations++;
        result = SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

Result cuMemFree_v2(Address address) {
    size_t at = address >> OFFSET_BITS;
    Result result = INVALID_VALUE;
    pthread_mutex_lock(&lock);
    if (at && at < n_sizes) {
        in_use -= sizes[at];
        sizes[at] = 0;
        result = SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

Result cuMemAllocAsync(Address *address, size_t bytes, void *stream) { return cuMemAlloc_v2(address, bytes); }
Result cuMemFreeAsync(Address address, void *stream) { return cuMemFree_v2(address); }

Result cuMemGetInfo_v2(size_t *free, size_t *total) {
    pthread_mutex_lock(&lock);
    *free = CAPACITY - in_use;
    *total = CAPACITY;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

Result cuMemAllocHost_v2(void **memory, size_t bytes) {
    *memory = calloc(1, bytes ? bytes : 1);
    return *memory ? SUCCESS : OUT_OF_MEMORY;
}

Result cuMemFreeHost(void *memory) { free(memory); return SUCCESS; }
Result cuMemsetD8Async(Address address, unsigned char value, size_t n, void *stream) { return SUCCESS; }

int null_driver_holds(Address address, size_t bytes) {
    size_t at = address >> OFFSET_BITS, offset = address & (((Address)1 << OFFSET_BITS) - 1);
    pthread_mutex_lock(&lock);
    int holds = at && at < n_sizes && offset + bytes <= sizes[at];
    pthread_mutex_unlock(&lock);
    return holds;
}

static void copied(struct copies *copies, size_t bytes) {
    pthread_mutex_lock(&lock);
    ordered();
    copies->calls++;
    copies->bytes += bytes;
    pthread_mutex_unlock(&lock);
}

Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *stream) {
    copied(&up, bytes);
    return SUCCESS;
}

Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *stream) {
    copied(&down, bytes);
    memset(to, 0, bytes);
    return SUCCESS;
}

Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *stream) {
    copied(&within, bytes);
    return SUCCESS;
}

/* One end of a 2-D copy, and all of it, as cuda.h lays them out. */
struct end {
    size_t x, y;
    unsigned type; /* 1 host, 2 device */
    void *host;
    Address device;
    void *array;
    size_t pitch;
};
struct copy_2d {
    struct end from, to;
    size_t width, height;
};

Result cuMemcpy2DAsync_v2(const struct copy_2d *copy, void *stream) {
    struct copies *copies = copy->from.type == 1 ? &up : copy->to.type == 1 ? &down : &within;
    size_t pitch = copies == &up ? copy->to.pitch : copy->from.pitch;
    pthread_mutex_lock(&lock);
    ordered();
    copies->calls_2d++;
    copies->rows_2d += copy->height;
    copies->bytes_2d += copy->width * copy->height;
    if ((long)copy->height > copies->largest_rows) {
        copies->largest_rows = copy->height;
        copies->row_bytes = copy->width;
        copies->row_pitch = pitch;
    }
    pthread_mutex_unlock(&lock);
    if (copies == &down)
        for (size_t row = 0; row < copy->height; row++)
            memset((char *)copy->to.host + copy->to.x + (copy->to.y + row) * copy->to.pitch, 0, copy->width);
    return SUCCESS;
}

/* ---- Kernels ---- */

Result cuModuleLoadData(void **module, const void *image) { *module = (void *)&within; return SUCCESS; }
Result cuModuleUnload(void *module) { return SUCCESS; }

/* Under the lock. */
static struct kernel *known(const char *name) {
    struct kernel *kernel = malloc(sizeof *kernel);
    if (!kernel || !(kernel->name = strdup(name))) abort();
    kernel->launches = 0;
    kernels = room(kernels, n_kernels, sizeof *kernels);
    return kernels[n_kernels++] = kernel;
}

Result cuModuleGetFunction(void **function, void *module, const char *name) {
    pthread_mutex_lock(&lock);
    *function = known(name);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

Result cuFuncSetAttribute(void *function, int attribute, int value) { return SUCCESS; }

static void launched(struct kernel *kernel) {
    kernel->launches++;
    launches++;
    since_wait++;
}

Result cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                      unsigned block_z, unsigned shared, void *stream, void **parameters, void **extra) {
    pthread_mutex_lock(&lock);
    ordered();
    launched(function);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

void null_driver_product(struct stream *stream) {
    static struct kernel *product;
    pthread_mutex_lock(&lock);
    ordered();
    if (!stream || stream->seen != launches) wrong("a product that does not wait for what was launched before it");
    if (!product) product = known("cublaslt");
    launched(product);
    stream->products = product_open = 1;
    pthread_mutex_unlock(&lock);
}

Result cuLaunchKernelEx(const void *settings, void *function, void **parameters, void **extra) {
    return cuLaunchKernel(function, 0, 0, 0, 0, 0, 0, 0, NULL, parameters, extra);
}

/* A tensor map is 128 bytes; what these take beside it matters to nobody. */
Result cuTensorMapEncodeTiled(void *map) { memset(map, 0, 128); return SUCCESS; }
Result cuTensorMapEncodeIm2col(void *map) { memset(map, 0, 128); return SUCCESS; }
Result cuTensorMapEncodeIm2colWide(void *map) { memset(map, 0, 128); return SUCCESS; }

Result cuGetErrorName(int error, const char **name) {
    *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_INVALID_VALUE";
    return SUCCESS;
}

Result cuGetErrorString(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : "invalid argument";
    return SUCCESS;
}

/* ---- Counts ---- */

static void print_copies(FILE *out, const char *name, const struct copies *copies) {
    fprintf(out,
            "\"%s\": {\"calls\": %ld, \"bytes\": %ld, \"calls_2d\": %ld, \"bytes_2d\": %ld, \"rows_2d\": %ld, "
            "\"largest_2d\": {\"rows\": %ld, \"row_bytes\": %ld, \"pitch\": %ld}}, ",
            name, copies->calls, copies->bytes, copies->calls_2d, copies->bytes_2d, copies->rows_2d, copies->largest_rows,
            copies->row_bytes, copies->row_pitch);
}

__attribute__((destructor)) static void end_of_program(void) {
    const char *path = getenv("NULL_DRIVER_COUNTS");
    pthread_mutex_lock(&lock); /* and kept: nothing is counted any more */
    if (!path || !*path) {
        if (launches) fprintf(stderr, "null driver: %ld launches of %zu kernels, none of them run; %zu MiB\n", launches, n_kernels, most_in_use >> 20);
        return;
    }
    FILE *out = fopen(path, "w");
    if (!out) {
        fprintf(stderr, "null driver: cannot write the counts to %s, which NULL_DRIVER_COUNTS names\n", path);
        return;
    }
    fprintf(out, "{\"launches\": %ld, \"waits\": %ld, \"late_waits\": %ld, \"allocations\": %ld, \"peak_mib\": %zu, ", launches, waits,
            late_waits, allocations, most_in_use >> 20);
    print_copies(out, "up", &up);
    print_copies(out, "down", &down);
    print_copies(out, "within", &within);
    fprintf(out, "\"stretches\": [");
    for (size_t i = 0; i < n_stretches; i++) fprintf(out, "%s%ld", i ? ", " : "", stretches[i]);
    fprintf(out, "], \"kernels\": [");
    for (size_t i = 0; i < n_kernels; i++)
        fprintf(out, "%s[\"%s\", %ld]", i ? ", " : "", kernels[i]->name, kernels[i]->launches);
    fprintf(out, "]}\n");
    fclose(out);
}
