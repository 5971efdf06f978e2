/* A run of steps over the rows of a data set, for a program that is a C function of a frame.

   The batch of a step is rows of each data set, by number. Neighbours in order are read where they are; others are copied
   to a batch buffer, while the next ones are on their way from memory. */

#include <stdint.h>
#include <string.h>

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
