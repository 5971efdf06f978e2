/* The two ways from Python into a program: a call on arrays, which are taken from where Python keeps them, and a run of
   steps over the rows of a data set. A program is a C function of a frame, whose words are the addresses of its tensors. */

#include <stdint.h>
#include <string.h>

/* ---- A call ------------------------------------------------------------------------------------------------------

   Python passes the addresses of its array objects. Each is compared with what the program was compiled for; its data
   become a word of the frame, and the program runs. Anything else than an exact, contiguous, aligned array that
   overlaps nothing the program writes is refused, and Python does what is to be done about it. */

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

/* ---- Steps over a data set ----------------------------------------------------------------------------------------

   The batch of a step is rows of each data set, by number. Neighbours in order are read where they are; others are
   copied to a batch buffer, while the next ones are on their way from memory. */

#if defined(__GNUC__)
#define GX_PREFETCH(p) __builtin_prefetch(p)
#else
#define GX_PREFETCH(p) ((void)(p))
#endif

/* An input that takes its batches from a data set. */
typedef struct gx_rows {
    const char *rows;
    int64_t row_bytes;
    char *batch; /* room for one batch */
    int64_t word;
} gx_rows;

/* An output of which step k writes the k-th part. */
typedef struct gx_moving {
    int64_t bytes;
    int64_t word;
} gx_moving;

typedef struct gx_feed {
    int (*call)(void **frame);
    void **frame;
    int64_t batch; /* rows of a batch */
    int64_t inputs, outputs;
    const gx_rows *input;    /* [inputs] */
    const gx_moving *output; /* [outputs] */
} gx_feed;

enum {
    GX_AHEAD = 8192, /* so many bytes ahead, the first lines of a row are asked for; the hardware follows with the rest */
    GX_FIRST = 256   /* those lines */
};

/* Copies the rows of a batch; `known` numbers of rows follow from `order` on. */
static void gx_gather(const gx_rows *in, const int64_t *order, int64_t batch, int64_t known)
{
    const int64_t bytes = in->row_bytes, ahead = 1 + GX_AHEAD / (bytes + 1);
    const int64_t first = bytes < GX_FIRST ? bytes : GX_FIRST;
    for (int64_t r = 0; r < batch; ++r) {
        if (r + ahead < known) {
            const char *const soon = in->rows + order[r + ahead] * bytes;
            for (int64_t at = 0; at < first; at += 64) GX_PREFETCH(soon + at);
        }
        memcpy(in->batch + r * bytes, in->rows + order[r] * bytes, (size_t)bytes);
    }
}

/* `steps` calls on the batches that `order` (steps, batch) names. Stops at the first that fails; *done took place. */
int gx_run_rows(const gx_feed *feed, const int64_t *order, int64_t steps, int64_t *done);
int gx_run_rows(const gx_feed *feed, const int64_t *order, int64_t steps, int64_t *done)
{
    for (*done = 0; *done < steps; ++*done, order += feed->batch) {
        int64_t together = 1;
        while (together < feed->batch && order[together] == order[0] + together) ++together;
        for (int64_t k = 0; k < feed->inputs; ++k) {
            const gx_rows *const in = feed->input + k;
            if (together == feed->batch) {
                /* A frame has no const; a program only reads its inputs. */
                feed->frame[in->word] = (char *)(uintptr_t)(in->rows + order[0] * in->row_bytes);
            } else {
                gx_gather(in, order, feed->batch, (steps - *done) * feed->batch);
                feed->frame[in->word] = in->batch;
            }
        }
        const int status = feed->call(feed->frame);
        if (status) return status;
        for (int64_t k = 0; k < feed->outputs; ++k) {
            char *const here = feed->frame[feed->output[k].word];
            feed->frame[feed->output[k].word] = here + feed->output[k].bytes;
        }
    }
    return 0;
}
