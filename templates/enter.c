/* The way from a Python call into a program: takes the arrays of the call from where Python keeps them.

   graphc passes the addresses of the array objects. Each is compared with what the program was compiled for; its data
   become a word of the frame, and the program runs. Anything else than an exact, contiguous, aligned array that
   overlaps nothing the program writes is refused, and Python does what is to be done about it. */

#include <stdint.h>

/* What NumPy lays down for extension modules as PyArrayObject_fields, after the header that every object has. */
typedef struct gx_array {
    char *data;
    int rank;
    const intptr_t *shape;
    const intptr_t *strides;
    const void *base;
    const void *dtype;
    int flags;
} gx_array;

enum { GX_EXACT = 0x101 }; /* NumPy's flags C_CONTIGUOUS and ALIGNED */

/* What one array has to be, and the word of the frame that its data become. */
typedef struct gx_tensor {
    const void *dtype;
    int64_t rank;
    const int64_t *shape;
    int64_t bytes;
    int64_t word;
} gx_tensor;

/* Memory that the program writes. */
typedef struct gx_span {
    const char *begin, *end;
} gx_span;

typedef struct gx_program {
    int (*call)(void **frame);
    const void *array_class;
    int64_t header; /* bytes of an object before its own fields; the last of them point to its class */
    int64_t arrays, spans;
    const gx_tensor *array; /* [arrays] */
    const gx_span *span;    /* [spans] */
} gx_program;

/* lane: the program, a frame, then the address of each array. What the program gives, or -1: refused, nothing was done. */
int gx_enter(void **lane);
int gx_enter(void **lane)
{
    const gx_program *const program = lane[0];
    void **const frame = lane[1];
    for (int64_t k = 0; k < program->arrays; ++k) {
        const gx_tensor *const wanted = program->array + k;
        const gx_array *const a = (const gx_array *)((const char *)lane[2 + k] + program->header);
        if (((const void *const *)a)[-1] != program->array_class) return -1;
        if (a->dtype != wanted->dtype || a->rank != wanted->rank || (a->flags & GX_EXACT) != GX_EXACT) return -1;
        for (int64_t i = 0; i < wanted->rank; ++i) {
            if (a->shape[i] != wanted->shape[i]) return -1;
        }
        for (int64_t i = 0; i < program->spans; ++i) {
            if (a->data < program->span[i].end && program->span[i].begin < a->data + wanted->bytes) return -1;
        }
        frame[wanted->word] = a->data;
    }
    return program->call(frame);
}

/* A program that does nothing, to try the above with. */
int gx_nothing(void **frame);
int gx_nothing(void **frame)
{
    (void)frame;
    return 0;
}
