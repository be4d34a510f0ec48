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

/* The bits to keep of the elements `at`, a byte each, `size` bytes a plane; where they are still wrong with these, and
 * the exclusive-or there. Returns how many that are. */
int64_t OF(code)(const ELEMENT *restrict was, const ELEMENT *restrict merged, const int64_t *restrict at,
                 const ELEMENT *restrict computed, const int32_t *restrict cut, int64_t size, int64_t mask,
                 int64_t shift, uint8_t *restrict planes, int64_t *restrict used, int64_t *restrict left,
                 ELEMENT *restrict wrong)
{
    int64_t count = 0;
    for (int64_t h = 0; h < size; h++) {
        ELEMENT want = was[at[h]], got = computed[h];
        int64_t k = ((merged[at[h]] & mask) - (got & mask)) >> shift;
        if (0 < k && k <= DEEP) {
            /* unsigned, so that it wraps around */
            uint32_t half = 1u << (k - 1), lowest = (uint32_t)cut[h] - (half - 1), code = (uint32_t)want - lowest;
            if (code >= 2 * half) code = 0;
            planes[used[0]++] = code & 1;
            for (int64_t plane = 1; plane < k; plane++) planes[plane * size + used[plane]++] = code >> plane & 1;
            got = (ELEMENT)(lowest + code);
        }
        left[count] = at[h];
        wrong[count] = want ^ got;
        count += want != got;
    }
    return count;
}
