/* Products whose sums are exact in fp64 (adaptr/algebra/exact.py), rounded to fp32: in any order, and fused or not, their
 * bits are the same. Here one element never leaves the registers before it is rounded, which no library offers. */
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* Rows of the left factor done at a time, vectors of so many columns of the right one, and the greatest rank: all columns of
 * one time lie in the nearest cache. */
enum { ROWS = 8, VECTORS = 2, LANES = 8, DEEPEST = 256 };

/* (height, rank) times (rank, width). -1 where a library is faster. */
__attribute__((target("avx512f,avx512vl")))
int64_t product(const double *restrict left, const double *restrict right, int64_t height, int64_t rank, int64_t width,
                float *restrict out)
{
    __m512d panel[DEEPEST][VECTORS];
    if (rank > DEEPEST || !__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl")) return -1;
    for (int64_t at = 0; at < width; at += VECTORS * LANES) {
        __mmask8 there[VECTORS];
        for (int v = 0; v < VECTORS; v++) {
            int64_t n = width - at - v * LANES;
            there[v] = n >= LANES ? 0xFF : n > 0 ? (__mmask8)((1 << n) - 1) : 0;
        }
        for (int64_t k = 0; k < rank; k++)
            for (int v = 0; v < VECTORS; v++)
                panel[k][v] = _mm512_maskz_loadu_pd(there[v], right + k * width + at + v * LANES);
        for (int64_t row = 0; row < height; row += ROWS) {
            const double *rows[ROWS];
            __m512d sum[ROWS][VECTORS];
            for (int i = 0; i < ROWS; i++) {
                rows[i] = left + (row + i < height ? row + i : row) * rank;
                for (int v = 0; v < VECTORS; v++) sum[i][v] = _mm512_setzero_pd();
            }
            for (int64_t k = 0; k < rank; k++)
                for (int i = 0; i < ROWS; i++)
                    for (int v = 0; v < VECTORS; v++)
                        sum[i][v] = _mm512_fmadd_pd(_mm512_set1_pd(rows[i][k]), panel[k][v], sum[i][v]);
            for (int i = 0; i < ROWS && row + i < height; i++)
                for (int v = 0; v < VECTORS; v++)
                    _mm256_mask_storeu_ps(out + (row + i) * width + at + v * LANES, there[v], _mm512_cvtpd_ps(sum[i][v]));
        }
    }
    return height * width;
}
#else
int64_t product(const double *left, const double *right, int64_t height, int64_t rank, int64_t width, float *out)
{
    return (void)left, (void)right, (void)height, (void)rank, (void)width, (void)out, -1;
}
#endif
