/* What the machine can do at best: fused multiply-adds in registers, and the triad a[i] = b[i] + s * c[i].
   Built and called by limits.py; every thread works on its own data and measures the whole of the others' time too. */
#include <omp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

/* As many independent accumulators as hide the latency, and still fit the registers. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define CHAINS 24
#else
#define CHAINS 12
#endif

#define PEAK(real)                                                                                                      \
    double peak_##real(int threads, double seconds)                                                                     \
    {                                                                                                                   \
        typedef real lanes __attribute__((vector_size(BYTES)));                                                         \
        double flops = 0, start = 0, end = 0;                                                                           \
        _Pragma("omp parallel num_threads(threads) reduction(+ : flops)")                                               \
        {                                                                                                               \
            lanes c[CHAINS], a = {0}, b = {0};                                                                          \
            for (int i = 0; i < CHAINS; i++) c[i] = a + (real)i;                                                        \
            a += (real)0.999f;                                                                                          \
            b += (real)0.001f;                                                                                          \
            __asm__ volatile("" : "+x"(a), "+x"(b));                                                                    \
            _Pragma("omp barrier") _Pragma("omp master") start = omp_get_wtime();                                       \
            _Pragma("omp barrier") while (omp_get_wtime() - start < seconds)                                            \
            {                                                                                                           \
                for (int n = 0; n < 10000; n++) {                                                                       \
                    _Pragma("GCC unroll 32") for (int i = 0; i < CHAINS; i++) c[i] = c[i] * a + b;                      \
                }                                                                                                       \
                flops += 2.0 * 10000 * CHAINS * (BYTES / sizeof(real));                                                 \
            }                                                                                                           \
            for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "x"(c[i]));                                        \
            _Pragma("omp barrier") _Pragma("omp master") end = omp_get_wtime();                                         \
        }                                                                                                               \
        return flops / (end - start);                                                                                   \
    }

#if !defined(__x86_64__)
#error "limits.c names x86 registers in its asm; add your machine's class beside x"
#endif

PEAK(float)
PEAK(double)

/* Bytes per second of the triad over three arrays of `bytes` in total, shared by the threads. */
double triad(int threads, size_t bytes, double seconds)
{
    double moved = 0, start = 0, end = 0;
    int failed = 0;
    size_t n = bytes / 3 / sizeof(float) / threads / 16 * 16;
    if (n < 16) n = 16;
#pragma omp parallel num_threads(threads) reduction(+ : moved) reduction(| : failed)
    {
        float *a = aligned_alloc(64, n * sizeof(float)), *b = aligned_alloc(64, n * sizeof(float)),
              *c = aligned_alloc(64, n * sizeof(float));
        if (a && b && c) {
            memset(a, 0, n * sizeof(float)), memset(b, 0, n * sizeof(float)), memset(c, 0, n * sizeof(float));
        } else {
            failed = 1;
        }
#pragma omp barrier
#pragma omp master
        start = omp_get_wtime();
#pragma omp barrier
        while (!failed && omp_get_wtime() - start < seconds) {
            size_t times = n < 100000 ? 100000 / n : 1;
            for (size_t t = 0; t < times; t++) {
                float s = 0.5f;
                __asm__ volatile("" : "+x"(s) : : "memory");
                for (size_t i = 0; i < n; i++) a[i] = b[i] + s * c[i];
                __asm__ volatile("" : : : "memory");
            }
            moved += 3.0 * n * sizeof(float) * times;
        }
#pragma omp barrier
#pragma omp master
        end = omp_get_wtime();
        free(a), free(b), free(c);
    }
    return failed ? 0 : moved / (end - start);
}

/* Seconds until what one core writes has come back from another, at best. A host that moves virtual cores changes it: some 50 ns
   where they share a last-level cache, 300 where they do not. */
double round_trip(void)
{
    enum { ROUNDS = 20, TRIPS = 100 };
    static int turn[64] __attribute__((aligned(256)));
    double best = 1;
    turn[0] = 0;
#pragma omp parallel num_threads(2)
    if (omp_get_num_threads() == 2) {
        const int me = omp_get_thread_num();
        for (int round = 0; round < ROUNDS; round++) {
            const double start = omp_get_wtime();
            for (int trip = round * TRIPS; trip < (round + 1) * TRIPS; trip++) {
                while (__atomic_load_n(turn, __ATOMIC_ACQUIRE) != 2 * trip + me) {}
                __atomic_store_n(turn, 2 * trip + me + 1, __ATOMIC_RELEASE);
            }
            const double took = (omp_get_wtime() - start) / TRIPS;
            if (me == 0 && took < best) best = took;
        }
    }
    return best;
}
