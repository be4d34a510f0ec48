/* The kernels of plain.py over elements as integers: the same results, in one pass over a block where a block is a sum.
 *
 * Of floats there are only single sums and differences, so that there is nothing to fuse or to put in another order.
 */
#include <float.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "sums of floats are made in something wider here, which rounds twice"
#endif

#ifndef SOURCE
#define SOURCE ""
#endif

/* of one source for all processors of a kind, a copy for those with wider instructions */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_PROCESSOR
#endif

/* Elements done at a time, so that what lies between two loops stays in the nearest cache; binades that are kept; the
 * exponent of bf16. */
enum { CHUNK = 1024, EIGHTS = CHUNK / 8, DEEP = 8, EXPONENT = 0x7F80 };

/* The digest of the source that this was made of. */
const char *source(void) { return SOURCE; }

/* Where flags are up, without branches: most eights have none, but no processor guesses which. */
static int places(uint8_t *flags, int size, int *hits)
{
    int some[EIGHTS], full = 0, count = 0;
    memset(flags + size, 0, CHUNK - size);
    for (int eight = 0; eight < EIGHTS; eight++) {
        uint64_t any;
        memcpy(&any, flags + 8 * eight, 8);
        some[full] = 8 * eight;
        full += any != 0;
    }
    for (int eight = 0; eight < full; eight++)
        for (int i = some[eight]; i < some[eight] + 8; i++) {
            hits[count] = i;
            count += flags[i];
        }
    return count;
}

/* fp32 to bf16, to the nearest, ties to even: its upper half. Not for NaN. */
static inline uint16_t rounded(uint32_t bits) { return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16); }

#define ELEMENT int16_t
#define OF(name) name##_16
#include "each_size.h"
#undef ELEMENT
#undef OF

#define ELEMENT int32_t
#define OF(name) name##_32
#include "each_size.h"

/* bf16 + fp32: the sum, and as `code_16` what to keep for when it is taken off again, of the elements that `find_16` would
 * find. -1 if a sum is not finite. */
EACH_PROCESSOR
int64_t add_bf16(const uint16_t *restrict was, const float *restrict added, int64_t size, uint16_t *restrict merged,
                 uint8_t *restrict planes, int64_t *restrict used, int64_t *restrict left, int16_t *restrict wrong)
{
    union { uint32_t bits[CHUNK]; float values[CHUNK]; } sum;
    uint16_t below[CHUNK];
    uint8_t flags[CHUNK];
    int hits[CHUNK + 1];
    int64_t count = 0;
    memset(used, 0, DEEP * sizeof *used);
    for (int64_t start = 0; start < size; start += CHUNK) {
        int n = size - start < CHUNK ? (int)(size - start) : CHUNK;
        const uint16_t *w = was + start;
        const float *d = added + start;
        uint16_t *m = merged + start, endless = 0;
        /* one thing at a time, which compilers make wide instructions of */
        for (int i = 0; i < n; i++) sum.bits[i] = (uint32_t)w[i] << 16;
        for (int i = 0; i < n; i++) sum.values[i] += d[i];
        for (int i = 0; i < n; i++) m[i] = rounded(sum.bits[i]);
        /* of the sum too: rounded as numbers are, a NaN of all ones is zero */
        for (int i = 0; i < n; i++) endless |= ((m[i] & EXPONENT) == EXPONENT) | ((sum.bits[i] >> 16 & EXPONENT) == EXPONENT);
        if (endless) return -1;
        for (int i = 0; i < n; i++) sum.bits[i] = (uint32_t)m[i] << 16;
        for (int i = 0; i < n; i++) sum.values[i] -= d[i];
        for (int i = 0; i < n; i++) below[i] = rounded(sum.bits[i]);
        for (int i = 0; i < n; i++) flags[i] = ((below[i] & EXPONENT) < (m[i] & EXPONENT)) | (below[i] != w[i]);
        int found = places(flags, n, hits);
        for (int h = 0; h < found; h++) {
            int i = hits[h];
            int16_t want = (int16_t)w[i], cut = (int16_t)(sum.bits[i] >> 16);
            left[count] = start + i;
            wrong[count] = want ^ kept_16(want, (int16_t)m[i], (int16_t)below[i], cut, EXPONENT, 7, planes, size, used);
            count += wrong[count] != 0;
        }
    }
    return count;
}
