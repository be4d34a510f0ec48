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

/* Elements done at a time, so that what lies between two loops stays in the nearest cache; binades that are kept. Of fp32
 * all but the sign, and a half; of fp16 the least number that is not denormal, and how far its exponent is from fp32's. */
enum { CHUNK = 1024, EIGHTS = CHUNK / 8, DEEP = 8, SIZE = 0x7FFFFFFF, HALF = 0x3F000000, LEAST = 0x400, MOVED = 112 << 23 };

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

/* Numbers and their bits. */
union one { uint32_t bits; float value; };
union wide { uint32_t bits[CHUNK]; float values[CHUNK]; };

/* fp32 to bf16, to the nearest, ties to even: its upper half. Not for NaN. */
static inline uint32_t rounded_bf16(uint32_t bits) { return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16; }

/* Bits of fp16 in fp32: the exponent moved, or so many units of 2^-24 where it is denormal. Not for what is not finite. */
static inline uint32_t widened_fp16(uint16_t half)
{
    int32_t size = half & 0x7FFF;
    union one units = { .value = (float)size * 0x1p-24f };
    return (uint32_t)(half & 0x8000) << 16 | (size < LEAST ? units.bits : (uint32_t)(size << 13) + MOVED);
}

/* fp32 to fp16, to the nearest, ties to even: the exponent moved, or units of 2^-24 by adding what has them as its own.
 * More than 16 bits where it is far beyond what fp16 holds. */
static inline uint32_t rounded_fp16(uint32_t bits)
{
    union one size = { .bits = bits & SIZE }, units = { .value = size.value + 0.5f };
    uint32_t near = (size.bits - MOVED + 0xFFF + (size.bits >> 13 & 1)) >> 13;
    return (bits >> 16 & 0x8000) + ((int32_t)size.bits < MOVED + (LEAST << 13) ? units.bits - HALF : near);
}

/* fp32 to fp16, cut off towards zero. */
static inline int32_t cut_fp16(uint32_t bits)
{
    uint16_t near = (uint16_t)rounded_fp16(bits);
    return (int16_t)near - ((widened_fp16(near) & SIZE) > (bits & SIZE));
}

#define ELEMENT int16_t
#define OF(name) name##_16
#include "each_size.h"
#undef ELEMENT
#undef OF

#define ELEMENT int32_t
#define OF(name) name##_32
#include "each_size.h"
#undef OF


/* LIMIT: the least number that is rounded to infinity. */
#define OF(name) name##_bf16
#define LIMIT 0x7F7F8000
#define WIDENED(half) ((uint32_t)(half) << 16)
#define ROUNDED rounded_bf16
#define CUT(bits) ((int16_t)((bits) >> 16))
#define EXPONENT 0x7F80
#define SHIFT 7
#include "each_half.h"
#undef OF
#undef LIMIT
#undef WIDENED
#undef ROUNDED
#undef CUT
#undef EXPONENT
#undef SHIFT

#define OF(name) name##_fp16
#define LIMIT 0x477FF000
#define WIDENED widened_fp16
#define ROUNDED rounded_fp16
#define CUT cut_fp16
#define EXPONENT 0x7C00
#define SHIFT 10
#include "each_half.h"

#include "product.h"
