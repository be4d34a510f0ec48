/* The kernels for one type of ELEMENT, each under the name OF(...): included by kernels.c once for each. */

/* Which elements to look at: those that moved up, and those that are not computed right. Returns how many. */
EACH_PROCESSOR
int64_t OF(find)(const ELEMENT *restrict was, const ELEMENT *restrict merged, const ELEMENT *restrict computed,
                 int64_t size, int64_t mask, int64_t *restrict at)
{
    const ELEMENT e = (ELEMENT)mask;
    uint8_t flags[CHUNK];
    int hits[CHUNK + 1];
    int64_t count = 0;
    for (int64_t start = 0; start < size; start += CHUNK) {
        int n = size - start < CHUNK ? (int)(size - start) : CHUNK;
        const ELEMENT *w = was + start, *m = merged + start, *v = computed + start;
        for (int i = 0; i < n; i++) flags[i] = ((v[i] & e) < (m[i] & e)) | (v[i] != w[i]);
        int found = places(flags, n, hits);
        for (int h = 0; h < found; h++) at[count++] = start + hits[h];
    }
    return count;
}

/* One element of which `cut` is what was computed, cut off towards zero: its bits are put into the planes, `size` bytes
 * each. Returns what it is with these. */
static inline ELEMENT OF(kept)(ELEMENT want, ELEMENT merged, ELEMENT computed, int32_t cut, int64_t mask, int64_t shift,
                               uint8_t *restrict planes, int64_t size, int64_t *restrict used)
{
    int64_t k = ((merged & mask) - (computed & mask)) >> shift;
    if (k <= 0 || k > DEEP) return computed;
    /* unsigned, so that it wraps around */
    uint32_t half = 1u << (k - 1), lowest = (uint32_t)cut - (half - 1), code = (uint32_t)want - lowest;
    if (code >= 2 * half) code = 0;
    planes[used[0]++] = code & 1;
    for (int64_t plane = 1; plane < k; plane++) planes[plane * size + used[plane]++] = code >> plane & 1;
    return (ELEMENT)(lowest + code);
}

/* The bits to keep of the elements `at`, a byte each; where they are still wrong with these, and the exclusive-or there.
 * Returns how many that are. */
int64_t OF(code)(const ELEMENT *restrict was, const ELEMENT *restrict merged, const int64_t *restrict at,
                 const ELEMENT *restrict computed, const int32_t *restrict cut, int64_t size, int64_t mask,
                 int64_t shift, uint8_t *restrict planes, int64_t *restrict used, int64_t *restrict left,
                 ELEMENT *restrict wrong)
{
    int64_t count = 0;
    memset(used, 0, DEEP * sizeof *used);
    for (int64_t h = 0; h < size; h++) {
        ELEMENT want = was[at[h]];
        left[count] = at[h];
        wrong[count] = want ^ OF(kept)(want, merged[at[h]], computed[h], cut[h], mask, shift, planes, size, used);
        count += wrong[count] != 0;
    }
    return count;
}
