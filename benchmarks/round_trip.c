/* Built and called by limits.py. */
#include <omp.h>

double round_trip(void);

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
