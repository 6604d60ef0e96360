/* A cuBLASLt for the null driver: it knows an algorithm for every product that is well described, computes none, and ends the
 * program for one that is not, or that reads or writes beyond its buffers. Built as libcublasLt.so by run.sh.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Status;
enum { OK = 0 };
enum { TRANSPOSE_A = 3, TRANSPOSE_B = 4 };       /* attributes of a product */
enum { BATCH_COUNT = 5, BATCH_OFFSET = 6 };      /* and of a matrix */
enum { TYPE_F32 = 0, TYPE_BF16 = 14 };

struct product { int transposed[2]; };
struct matrix { int type; uint64_t rows, columns; int64_t leading, offset; int32_t count; };
struct heuristic { uint64_t algorithm[8]; size_t workspace; Status state; float waves; int reserved[4]; };

/* Of driver.c. */
int null_driver_holds(uint64_t address, size_t bytes);
void null_driver_product(void *stream);

static void wrong(const char *what) {
    fprintf(stderr, "null cuBLASLt: %s\n", what);
    abort();
}

Status cublasLtCreate(void **handle) { *handle = malloc(1); return OK; }
Status cublasLtDestroy(void *handle) { free(handle); return OK; }

Status cublasLtMatmulDescCreate(struct product **product, int compute, int scale) {
    *product = calloc(1, sizeof **product);
    return OK;
}

Status cublasLtMatmulDescSetAttribute(struct product *product, int attribute, const void *value, size_t size) {
    if (attribute != TRANSPOSE_A && attribute != TRANSPOSE_B) wrong("an attribute of a product that it does not know");
    if (size != sizeof(int32_t)) wrong("the size of an operation");
    product->transposed[attribute - TRANSPOSE_A] = *(const int32_t *)value;
    return OK;
}

Status cublasLtMatrixLayoutCreate(struct matrix **matrix, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    *matrix = malloc(sizeof **matrix);
    **matrix = (struct matrix){type, rows, columns, leading, 0, 1};
    return OK;
}

Status cublasLtMatrixLayoutSetAttribute(struct matrix *matrix, int attribute, const void *value, size_t size) {
    if (attribute == BATCH_COUNT && size == sizeof(int32_t)) matrix->count = *(const int32_t *)value;
    else if (attribute == BATCH_OFFSET && size == sizeof(int64_t)) matrix->offset = *(const int64_t *)value;
    else wrong("an attribute of a matrix that it does not know, or its size");
    return OK;
}

Status cublasLtMatmulPreferenceCreate(void **preference) { *preference = malloc(1); return OK; }
Status cublasLtMatmulPreferenceDestroy(void *preference) { free(preference); return OK; }
Status cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t size) { return OK; }

static void check(const struct product *product, const struct matrix *a, const struct matrix *b, const struct matrix *d) {
    const struct matrix *all[] = {a, b, d};
    for (int i = 0; i < 3; i++) {
        if (all[i]->leading < (int64_t)all[i]->rows) wrong("columns that overlap");
        if (all[i]->type != TYPE_F32 && all[i]->type != TYPE_BF16) wrong("a type that it does not know");
        if (all[i]->count != d->count) wrong("batches of different sizes");
    }
    int *t = (int *)product->transposed;
    uint64_t n = t[0] ? a->columns : a->rows, k = t[0] ? a->rows : a->columns;
    uint64_t inner = t[1] ? b->columns : b->rows, m = t[1] ? b->rows : b->columns;
    if (n != d->rows || m != d->columns || k != inner) wrong("sizes that do not fit together");
    if (a->type != b->type || (d->type != a->type && d->type != TYPE_F32)) wrong("types that do not go together");
}

Status cublasLtMatmulAlgoGetHeuristic(void *handle, const struct product *product, const struct matrix *a, const struct matrix *b,
                                      const struct matrix *c, const struct matrix *d, void *preference, int wanted,
                                      struct heuristic *found, int *count) {
    check(product, a, b, d);
    memset(found, 0, sizeof *found);
    *count = 1;
    return OK;
}

static void within(const struct matrix *matrix, uint64_t address) {
    size_t last = (size_t)(matrix->count - 1) * matrix->offset + (matrix->columns - 1) * matrix->leading + matrix->rows;
    if (!null_driver_holds(address, last * (matrix->type == TYPE_F32 ? 4 : 2))) wrong("a matrix beyond its buffer");
}

Status cublasLtMatmul(void *handle, const struct product *product, const float *alpha, uint64_t a, const struct matrix *of_a, uint64_t b,
                      const struct matrix *of_b, const float *beta, uint64_t c, const struct matrix *of_c, uint64_t d,
                      const struct matrix *of_d, const void *algorithm, uint64_t workspace, size_t bytes, void *stream) {
    check(product, of_a, of_b, of_d);
    within(of_a, a);
    within(of_b, b);
    within(of_d, d);
    if (*alpha != 1 || *beta != 0 || c != d) wrong("more than a product");
    if (!null_driver_holds(workspace, bytes)) wrong("a workspace beyond its buffer");
    null_driver_product(stream);
    return OK;
}
