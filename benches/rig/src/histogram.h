// Latencies in nanoseconds, in buckets 1/64 of a power of two wide (error below 0.8 %).
#pragma once
#include <stdint.h>

enum { SUB_BITS = 6, SUB = 1 << SUB_BITS };

struct histogram {
    uint64_t buckets[64 * SUB];
    uint64_t count, sum, max;
};

static inline void histogram_add(struct histogram *h, uint64_t ns) {
    uint64_t value = ns < SUB ? SUB : ns;
    int power = 63 - __builtin_clzll(value);
    h->buckets[power * SUB + (int)((value >> (power - SUB_BITS)) & (SUB - 1))]++;
    h->count++;
    h->sum += ns;
    if (ns > h->max)
        h->max = ns;
}

// The latency in microseconds that `share` (0 to 1) of all samples did not exceed.
static inline double histogram_quantile_us(const struct histogram *h, double share) {
    uint64_t seen = 0, wanted = (uint64_t)((double)h->count * share);
    if (h->count == 0)
        return 0;
    if (wanted >= h->count)
        wanted = h->count - 1;
    for (int i = 0; i < 64 * SUB; i++) {
        seen += h->buckets[i];
        if (seen > wanted)
            return (SUB + i % SUB + 0.5) * (double)(1ull << (i / SUB)) / SUB / 1000.0;
    }
    return 0;
}

static inline double histogram_mean_us(const struct histogram *h) {
    return h->count ? (double)h->sum / (double)h->count / 1000.0 : 0;
}
