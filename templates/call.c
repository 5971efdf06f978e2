/* A call from Python.

   Python hands over its objects. Arrays are compared with what a program was compiled for, and their data become words of
   its frame (a program is a C function of a frame, whose words are the addresses of its tensors); numbers go into cells, whose
   addresses are in the frame already; the program runs; what it computed becomes the result. Whatever does not fit exactly
   (another dtype, a copy to be made, an error to be told) goes to a Python function that takes the same arguments, before
   anything has happened. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gx_object gx_object; /* Python's; only the functions below know what is inside */

/* What is asked of Python: functions of its stable interface, in the order in which gx_meet gets their addresses from the
   interpreter. So neither its headers nor its libraries are needed to build this file. */
struct gx_method;

typedef struct gx_python {
    void (*take)(gx_object *);
    void (*drop)(gx_object *);
    void (*forget_error)(void);
    gx_object *(*error)(void);
    gx_object *(*call)(gx_object *function, gx_object *const *given, size_t count, gx_object *names);
    gx_object *(*call_plain)(gx_object *function);
    gx_object *(*from_double)(double);
    double (*to_double)(gx_object *);
    gx_object *(*from_integer)(long long);
    long long (*to_integer)(gx_object *);
    gx_object *(*from_truth)(long);
    int (*to_truth)(gx_object *);
    gx_object *(*list)(intptr_t length);
    intptr_t (*list_length)(gx_object *);
    gx_object *(*list_item)(gx_object *, intptr_t at);
    int (*list_put)(gx_object *, intptr_t at, gx_object *item);
    int (*list_append)(gx_object *, gx_object *item);
    int (*list_replace)(gx_object *, intptr_t from, intptr_t to, gx_object *items);
    gx_object *(*tuple)(intptr_t length);
    intptr_t (*tuple_length)(gx_object *);
    gx_object *(*tuple_item)(gx_object *, intptr_t at);
    int (*tuple_put)(gx_object *, intptr_t at, gx_object *item);
    gx_object *(*dict)(void);
    intptr_t (*dict_length)(gx_object *);
    int (*dict_put)(gx_object *, gx_object *key, gx_object *item);
    gx_object *(*function)(struct gx_method *, gx_object *self, gx_object *module);
    gx_object *(*empty)(int rank, const intptr_t *shape, gx_object *dtype, int by_columns); /* NumPy's; takes over the dtype */
} gx_python;

/* What describes a function in C to Python. */
struct gx_method {
    const char *name;
    gx_object *(*function)(gx_object *self, gx_object *const *given, intptr_t count, gx_object *names);
    int flags;
    const char *doc;
};

enum { GX_KEYWORDS = 0x82 }; /* Python's flags METH_FASTCALL and METH_KEYWORDS */

static gx_python py;               /* the interpreter of this process */
static const void *py_array_class; /* numpy.ndarray */
static int64_t py_header;          /* bytes of an object before its own fields; the last of them point to its class */

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

/* An input: its name, and what the object has to be. */
typedef struct gx_input {
    gx_object *name;
    void *cell;                 /* where a number goes; NULL for an array */
    int64_t code;               /* of a number: f, d, i, q or ?, as in Python's struct */
    int64_t classes;            /* how many there are */
    const void *const *class_;  /* [classes] of which a number may be, float first where it is one */
    const void *dtype;
    int64_t rank;
    const int64_t *shape;
    int64_t bytes;
    int64_t word;               /* of the frame */
} gx_input;

/* An output: what makes an array, or where a number is. */
typedef struct gx_output {
    gx_object *name;
    const void *cell;           /* NULL for an array */
    int64_t code;
    gx_object *empty, *arguments[2]; /* a function that makes it, and of what; NULL for NumPy's own */
    int64_t rank;
    const int64_t *shape;
    int64_t word;
} gx_output;

/* Memory that the program writes. */
typedef struct gx_span {
    const char *begin, *end;
} gx_span;

/* Of some parameters: dicts of those at work with them. */
typedef struct gx_guard {
    gx_object *readers, *writers;
    int64_t writes; /* whether the program does */
} gx_guard;

typedef struct gx_caller {
    int (*program)(void **frame);
    void **frame;
    gx_object *lane, *lanes;    /* to whom frame and cells belong, and the list in which it is while nobody calls; or NULL */
    gx_object *otherwise;       /* takes what is refused here */
    gx_object *run;             /* runs the program with the GIL released; NULL: it is short, and runs with the GIL held */
    int64_t by_position;        /* whether inputs may come so */
    int64_t inputs, outputs, spans, guards;
    const gx_input *input;
    const gx_output *output;
    const gx_span *span;
    const gx_guard *guard;
    int64_t form;               /* of the result: GX_ONE, ... */
    gx_object *result;          /* of GX_FIXED */
} gx_caller;

enum { GX_ONE, GX_LIST, GX_TUPLE, GX_DICT, GX_FIXED };
enum { GX_DONE = 0, GX_REFUSED = -1, GX_RAISED = -2 }; /* a positive status is the program's */

static const gx_array *gx_fields(const gx_object *object)
{
    return (const void *)((const char *)object + py_header);
}

static const void *gx_class(const gx_object *object)
{
    return ((const void *const *)(const void *)gx_fields(object))[-1];
}

static int gx_takes_array(const gx_caller *c, const gx_input *in, const gx_object *object)
{
    const gx_array *const a = gx_fields(object);
    if (gx_class(object) != py_array_class) return GX_REFUSED;
    if (a->dtype != in->dtype || a->rank != in->rank || (a->flags & GX_EXACT) != GX_EXACT) return GX_REFUSED;
    for (int64_t i = 0; i < in->rank; ++i) {
        if (a->shape[i] != in->shape[i]) return GX_REFUSED;
    }
    for (int64_t i = 0; i < c->spans; ++i) {
        if (a->data < c->span[i].end && c->span[i].begin < a->data + in->bytes) return GX_REFUSED;
    }
    c->frame[in->word] = a->data;
    return GX_DONE;
}

static int gx_takes_number(const gx_input *in, gx_object *object)
{
    int64_t k = 0;
    while (k < in->classes && gx_class(object) != in->class_[k]) ++k;
    if (k == in->classes) return GX_REFUSED;
    if (in->code == 'f' || in->code == 'd') {
        const double x = py.to_double(object);
        if (x == -1 && py.error()) goto unfit;
        if (k && !(fabs(x) < 9223372036854775808.0)) return GX_REFUSED; /* an int of more than 64 bits is an error */
        if (in->code == 'd') {
            *(double *)in->cell = x;
        } else {
            if (isinf((float)x) && !isinf(x)) return GX_REFUSED;
            *(float *)in->cell = (float)x;
        }
    } else if (in->code == '?') {
        const int x = py.to_truth(object);
        if (x < 0) goto unfit;
        *(unsigned char *)in->cell = (unsigned char)x;
    } else {
        const long long x = py.to_integer(object);
        if (x == -1 && py.error()) goto unfit;
        if (in->code == 'q') {
            *(int64_t *)in->cell = x;
        } else {
            if (x < INT32_MIN || x > INT32_MAX) return GX_REFUSED;
            *(int32_t *)in->cell = (int32_t)x;
        }
    }
    return GX_DONE;
unfit:
    py.forget_error();
    return GX_REFUSED;
}

/* All inputs, each once. Names are interned, as keywords are: the same name is the same object. */
static int gx_takes(const gx_caller *c, gx_object *const *given, int64_t count, gx_object *names)
{
    const int64_t named = names ? py.tuple_length(names) : 0;
    if (count + named != c->inputs || (count && !c->by_position)) return GX_REFUSED;
    for (int64_t k = 0; k < c->inputs; ++k) {
        int64_t place = k;
        if (k >= count) {
            const gx_object *const name = py.tuple_item(names, k - count);
            if (name != c->input[k].name) { /* another order */
                for (place = count; place < c->inputs && name != c->input[place].name; ++place) continue;
                if (place == c->inputs) return GX_REFUSED;
            }
        }
        const gx_input *const in = c->input + place;
        if (in->cell ? gx_takes_number(in, given[k]) : gx_takes_array(c, in, given[k])) return GX_REFUSED;
    }
    return GX_DONE;
}

/* Puts an item, of which the result becomes the owner, where it belongs. */
static void gx_put(const gx_caller *c, gx_object **result, int64_t k, gx_object *item)
{
    if (c->form == GX_ONE) *result = item;
    else if (c->form == GX_TUPLE) (void)py.tuple_put(*result, (intptr_t)k, item);
    else (void)py.list_put(*result, (intptr_t)k, item);
}

/* A new array for an output. */
static gx_object *gx_array_of(const gx_output *out)
{
    if (out->empty) return py.call(out->empty, out->arguments, 2, NULL);
    py.take(out->arguments[1]);
    return py.empty((int)out->rank, (const intptr_t *)out->shape, out->arguments[1], 0);
}

/* The result with its arrays, of which the frame learns the data. What is not GX_DONE may leave a result to be dropped. */
static int gx_prepare(const gx_caller *c, gx_object **result)
{
    if (c->form == GX_TUPLE) *result = py.tuple((intptr_t)c->outputs);
    if (c->form == GX_LIST || c->form == GX_DICT) *result = py.list((intptr_t)c->outputs);
    if (c->form == GX_FIXED) py.take(*result = c->result);
    if (c->form != GX_ONE && !*result) return GX_RAISED;
    for (int64_t k = 0; k < c->outputs; ++k) {
        const gx_output *const out = c->output + k;
        if (out->cell) continue;
        gx_object *const array = gx_array_of(out);
        if (!array) {
            py.forget_error();
            return GX_REFUSED;
        }
        gx_put(c, result, k, array);
        c->frame[out->word] = gx_fields(array)->data;
    }
    return GX_DONE;
}

/* The numbers of the result, and its form. */
static int gx_finish(const gx_caller *c, gx_object **result)
{
    for (int64_t k = 0; k < c->outputs; ++k) {
        const void *const cell = c->output[k].cell;
        gx_object *number = NULL;
        if (!cell) continue;
        switch (c->output[k].code) {
        case 'f': number = py.from_double(*(const float *)cell); break;
        case 'd': number = py.from_double(*(const double *)cell); break;
        case 'i': number = py.from_integer(*(const int32_t *)cell); break;
        case 'q': number = py.from_integer(*(const int64_t *)cell); break;
        default: number = py.from_truth(*(const unsigned char *)cell); break;
        }
        if (!number) return GX_RAISED;
        gx_put(c, result, k, number);
    }
    if (c->form != GX_DICT) return GX_DONE;
    gx_object *const items = *result;
    gx_object *const dict = *result = py.dict();
    int status = dict ? GX_DONE : GX_RAISED;
    for (int64_t k = 0; k < c->outputs && status == GX_DONE; ++k) {
        if (py.dict_put(dict, c->output[k].name, py.list_item(items, (intptr_t)k))) status = GX_RAISED;
    }
    py.drop(items);
    return status;
}

/* Whether somebody has let go of the GIL while computing with parameters that the program uses. */
static int gx_disturbs(const gx_caller *c)
{
    for (int64_t k = 0; k < c->guards; ++k) {
        const gx_guard *const g = c->guard + k;
        if (py.dict_length(g->writers) || (g->writes && py.dict_length(g->readers))) return 1;
    }
    return 0;
}

static int gx_run(const gx_caller *c)
{
    if (!c->run) return gx_disturbs(c) ? GX_REFUSED : c->program(c->frame);
    gx_object *const status = py.call_plain(c->run);
    if (!status) return GX_RAISED;
    const int number = (int)py.to_integer(status);
    py.drop(status);
    return number;
}

/* Takes the lane, to which the frame belongs, if nobody else has it. */
static int gx_takes_lane(const gx_caller *c)
{
    if (!c->lanes) return GX_DONE;
    const intptr_t last = py.list_length(c->lanes) - 1;
    if (last < 0 || py.list_item(c->lanes, last) != c->lane) return GX_REFUSED;
    return py.list_replace(c->lanes, last, last + 1, NULL) ? GX_RAISED : GX_DONE;
}

/* What Python calls. The first item of `self` is an array with a gx_caller, the others keep alive what that refers to;
   `names` are those of the last ones `given`, which follow `count` others. */
static gx_object *gx_call(gx_object *self, gx_object *const *given, intptr_t count, gx_object *names)
{
    const gx_caller *const c = (const void *)gx_fields(py.tuple_item(self, 0))->data;
    gx_object *result = NULL;
    int status = gx_takes_lane(c);
    if (!status) {
        status = gx_takes(c, given, count, names);
        if (!status) status = gx_prepare(c, &result);
        if (!status) status = gx_run(c);
        if (!status) status = gx_finish(c, &result);
        if (c->lanes && py.list_append(c->lanes, c->lane)) status = GX_RAISED;
    }
    if (status == GX_DONE) return result;
    if (result) py.drop(result);
    return status == GX_RAISED ? NULL : py.call(c->otherwise, given, (size_t)count, names);
}

/* A function of Python's that calls what `self` holds. */
gx_object *gx_function(gx_object *self);
gx_object *gx_function(gx_object *self)
{
    static struct gx_method method = {"call", gx_call, GX_KEYWORDS, "A compiled function."};
    return py.function(&method, self, NULL);
}

/* To be called first. */
void gx_meet(const gx_python *functions, const void *array_class, int64_t header);
void gx_meet(const gx_python *functions, const void *array_class, int64_t header)
{
    py = *functions;
    py_array_class = array_class;
    py_header = header;
}

/* A program that does nothing, to try the above with. */
int gx_nothing(void **frame);
int gx_nothing(void **frame)
{
    (void)frame;
    return 0;
}
