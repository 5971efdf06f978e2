/* product: written by graphc. This file and its C belong to you. */
#ifndef PRODUCT_H
#define PRODUCT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define product_ARENA_BYTES 0

/* All that a call touches. Arrays are row-major; none may overlap another. */
typedef struct product_args {
    const float *x; /* input float32 */
    const float *y; /* input float32 */
    const float *z; /* input float32 */
    float *output_0; /* output float32 */
    float *output_1; /* output float32 */
    float *output_2; /* output float32 */
    float *output_3; /* output float32 */
    void *arena;     /* product_ARENA_BYTES bytes on a multiple of 64; may be null if that is 0 */
    int64_t threads; /* how many threads a call may use */
} product_args;

/* By how many elements each array moves on after a step; 0 stays. */
typedef struct product_strides {
    int64_t x;
    int64_t y;
    int64_t z;
    int64_t output_0;
    int64_t output_1;
    int64_t output_2;
    int64_t output_3;
} product_strides;

/* One call. 0, or the number of the index check that failed; then no parameter was changed. */
int product(const product_args *args);

/* `steps` calls in a row. Stops at the first that fails; *done of them took place. */
int product_run(const product_args *args, const product_strides *strides, int64_t steps, int64_t *done);

#ifdef __cplusplus
}
#endif

#endif

/* output_3 = x + y
   output_0 = output_3 * z
   output_1 = z
   output_2 = z */
static void product_output_2(
    float x, float y, float z, float *restrict output_3, float *restrict output_0, float *restrict output_1,
    float *restrict output_2)
{
    const float output_3_value = x + y;
    *output_3 = output_3_value;
    *output_0 = output_3_value * z;
    *output_1 = z;
    *output_2 = z;
}

static int product_once(const product_args *args)
{
    product_output_2(
        *args->x, *args->y, *args->z, args->output_3, args->output_0, args->output_1, args->output_2);
    return 0;
}

int product(const product_args *args) { return product_once(args); }

int product_run(const product_args *args, const product_strides *strides, int64_t steps, int64_t *done)
{
    product_args now = *args;
    for (*done = 0; *done < steps; ++*done) {
        const int status = product_once(&now);
        if (status) return status;
        now.x += strides->x;
        now.y += strides->y;
        now.z += strides->z;
        now.output_0 += strides->output_0;
        now.output_1 += strides->output_1;
        now.output_2 += strides->output_2;
        now.output_3 += strides->output_3;
    }
    return 0;
}
