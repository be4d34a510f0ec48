/* Sums of one type of two bytes with fp32, under the names OF(...): included by kernels.c once for each. */

/* was + added, rounded. Whether anything is not finite: of the base too, which is not widened right then. */
static inline int OF(chunk)(const uint16_t *restrict was, const float *restrict added, int size,
                           uint16_t *restrict merged)
{
    int endless = 0;
    for (int i = 0; i < size; i++) {
        union one found = { .bits = WIDENED(was[i]) };
        found.value += added[i];
        endless |= ((int32_t)(found.bits & SIZE) >= LIMIT) | ((was[i] & EXPONENT) == EXPONENT);
        merged[i] = (uint16_t)ROUNDED(found.bits);
    }
    return endless;
}

/* The same in chunks: -1 if anything is not finite. */
EACH_PROCESSOR
int64_t OF(plus)(const uint16_t *restrict was, const float *restrict added, int64_t size, uint16_t *restrict merged)
{
    for (int64_t start = 0; start < size; start += CHUNK) {
        int n = size - start < CHUNK ? (int)(size - start) : CHUNK;
        if (OF(chunk)(was + start, added + start, n, merged + start)) return -1;
    }
    return size;
}

/* The same, and as `code_16` returns it, what to keep for when it is taken off again, of the elements that `find_16` would find. */
EACH_PROCESSOR
int64_t OF(add)(const uint16_t *restrict was, const float *restrict added, int64_t size, uint16_t *restrict merged,
                uint8_t *restrict planes, int64_t *restrict used, int64_t *restrict left, int16_t *restrict wrong)
{
    uint32_t exact[CHUNK];
    uint16_t below[CHUNK];
    uint8_t flags[CHUNK];
    int hits[CHUNK + 1];
    int64_t count = 0;
    memset(used, 0, DEEP * sizeof *used);
    for (int64_t start = 0; start < size; start += CHUNK) {
        int n = size - start < CHUNK ? (int)(size - start) : CHUNK;
        const uint16_t *w = was + start;
        const float *d = added + start;
        uint16_t *m = merged + start;
        if (OF(chunk)(w, d, n, m)) return -1;
        for (int i = 0; i < n; i++) {
            union one found = { .bits = WIDENED(m[i]) };
            found.value -= d[i];
            exact[i] = found.bits;
            below[i] = (uint16_t)ROUNDED(found.bits);
            flags[i] = ((below[i] & EXPONENT) < (m[i] & EXPONENT)) | (below[i] != w[i]);
        }
        int found = places(flags, n, hits);
        for (int h = 0; h < found; h++) {
            int i = hits[h];
            int16_t want = (int16_t)w[i];
            left[count] = start + i;
            wrong[count] = want ^ kept_16(want, (int16_t)m[i], (int16_t)below[i], CUT(exact[i]), EXPONENT, SHIFT,
                                          planes, size, used);
            count += wrong[count] != 0;
        }
    }
    return count;
}
