/* The kernels, for vectors of LANES float32; included by decode.c once for each set of instructions. */

typedef float NAME(floats) __attribute__((vector_size(4 * LANES)));
typedef uint32_t NAME(words) __attribute__((vector_size(4 * LANES)));
typedef int32_t NAME(integers) __attribute__((vector_size(4 * LANES)));
#define floats NAME(floats)
#define words NAME(words)
#define integers NAME(integers)

/* Loads and stores at any address: compilers make single unaligned moves of these. */
INLINE floats NAME(load)(const float *from) {
    floats v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void NAME(store)(float *to, floats v) { memcpy(to, &v, sizeof v); }

/* LANES codes of int8, or values of bfloat16, as float32, and the rounding of what is finite or infinite (NaNs go through
 * to_bfloat16). Compilers make poor code of conversions between vectors of different lengths. */
#if LANES == 16
INLINE floats NAME(widened)(const uint8_t *from) {
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
}

INLINE floats NAME(from_bfloat16)(const uint8_t *from) {
    return (floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
}

INLINE words NAME(rounded)(floats v) {
    const words bits = (words)v;
    return bits + 0x7FFFu + (bits >> 16 & 1u);
}

INLINE void NAME(store_rounded)(uint8_t *to, floats v) {
    const __m512i bits = _mm512_srli_epi32((__m512i)NAME(rounded)(v), 16);
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(bits));
}

INLINE void NAME(store_two_rounded)(uint8_t *to, floats v, floats w) {
    /* The upper halves of 32 words, in one shuffle. */
    const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29,
                                         27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    const __m512i both = _mm512_permutex2var_epi16((__m512i)NAME(rounded)(v), odd, (__m512i)NAME(rounded)(w));
    _mm512_storeu_si512(to, both);
}
#elif LANES == 8
INLINE floats NAME(widened)(const uint8_t *from) {
    return (floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
}

INLINE floats NAME(from_bfloat16)(const uint8_t *from) {
    return (floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from)), 16);
}

INLINE __m256i NAME(rounded)(floats v) {
    const words bits = (words)v;
    return (__m256i)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

INLINE void NAME(store_rounded)(uint8_t *to, floats v) {
    const __m256i bits = NAME(rounded)(v);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(bits, bits), 0x08);
    _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(packed));
}

INLINE void NAME(store_two_rounded)(uint8_t *to, floats v, floats w) {
    const __m256i packed = _mm256_packus_epi32(NAME(rounded)(v), NAME(rounded)(w));
    _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(packed, 0xD8));
}
#else
INLINE floats NAME(widened)(const uint8_t *from) {
    const int8_t *codes = (const int8_t *)from;
    return (floats){codes[0], codes[1], codes[2], codes[3]};
}

INLINE floats NAME(from_bfloat16)(const uint8_t *from) {
    words bits;
    for (int k = 0; k < LANES; k++) {
        uint16_t half;
        memcpy(&half, from + 2 * k, sizeof half);
        bits[k] = (uint32_t)half << 16;
    }
    return (floats)bits;
}

INLINE void NAME(store_rounded)(uint8_t *to, floats v) {
    const words bits = (words)v;
    const words rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    for (int k = 0; k < LANES; k++) {
        const uint16_t half = (uint16_t)rounded[k];
        memcpy(to + 2 * k, &half, sizeof half);
    }
}

INLINE void NAME(store_two_rounded)(uint8_t *to, floats v, floats w) {
    NAME(store_rounded)(to, v);
    NAME(store_rounded)(to + 2 * LANES, w);
}
#endif

/* memcpy of what lies in memory and not in the caches: lines are asked for before they are needed, across the ends
 * of pages, where processors stop looking ahead themselves. */
static void NAME(copy)(uint8_t *to, const uint8_t *from, int64_t bytes) {
    int64_t i = 0;
#if LANES > 4
    enum { LINE = 64, STEP = 4 * LINE, AHEAD = 4096 };
    typedef uint8_t NAME(line) __attribute__((vector_size(4 * LANES)));
    for (; i + STEP <= bytes; i += STEP) {
        NAME(line) v[STEP / (4 * LANES)];
        for (int k = 0; k < STEP; k += LINE) {
            __builtin_prefetch(from + i + AHEAD + k, 0);
            __builtin_prefetch(to + i + AHEAD / 2 + k, 1);
        }
        memcpy(v, from + i, sizeof v);
        memcpy(to + i, v, sizeof v);
    }
#endif
    memcpy(to + i, from + i, (size_t)(bytes - i));
}

/* int8 */

static int32_t NAME(int8_rows)(const uint8_t *stored, uint8_t *out, int64_t rows, int64_t width,
                               const float *scales) {
    /* Where no product with a channel's scale overflows and the token's scale is finite, no value is NaN. */
    int ordinary = 1;
    for (int64_t i = 0; i < width; i++)
        ordinary &= is_finite(scales[i] * 128.0f);
    for (int64_t row = 0; row < rows; row++) {
        const uint8_t *codes = stored + row * (width + 4);
        uint8_t *to = out + 2 * row * width;
        float scale = load_float(codes + width);
        int64_t i = 0;
        if (ordinary && is_finite(scale))
            for (; i + 2 * LANES <= width; i += 2 * LANES) {
                /* In this order, as in NumPy: float32 products do not associate. */
                const floats v = NAME(widened)(codes + i) * NAME(load)(scales + i) * scale;
                const floats w = NAME(widened)(codes + i + LANES) * NAME(load)(scales + i + LANES) * scale;
                __builtin_prefetch(to + 2 * i + WRITE_AHEAD, 1);
                NAME(store_two_rounded)(to + 2 * i, v, w);
            }
        for (; i < width; i++) {
            float channel = (float)(int8_t)codes[i] * scales[i];
            store_bfloat16(to + 2 * i, channel * scale);
        }
    }
    return 1;
}

/* pq: no vectors, but the moves of an item are as wide as the instructions allow. */

/* The sizes are constants wherever this is called. */
INLINE void NAME(gather)(const uint8_t *stored, uint8_t *out, int64_t rows, int64_t groups, int64_t codes,
                         int64_t code_bytes, int64_t item_bytes, const uint8_t *table) {
    /* Row by row, as it is written: group by group would keep a book in the first-level cache, but rows whose
     * length is a power of two fall on the same few lines of it, and that was slower for every width tried. */
    const int64_t book = codes * item_bytes;
    for (int64_t row = 0; row < rows; row++) {
        const uint8_t *books = table;
        int64_t g = 0;
        /* Four at a time, for what the loop itself costs. */
        for (; g + 4 <= groups; g += 4) {
            __builtin_prefetch(out + WRITE_AHEAD, 1);
            for (int64_t k = 0; k < 4; k++, books += book, out += item_bytes, stored += code_bytes) {
                uint16_t code = *stored;
                if (code_bytes == 2)
                    memcpy(&code, stored, sizeof code);
                memcpy(out, books + code * item_bytes, (size_t)item_bytes);
            }
        }
        for (; g < groups; g++, books += book, out += item_bytes, stored += code_bytes) {
            uint16_t code = *stored;
            if (code_bytes == 2)
                memcpy(&code, stored, sizeof code);
            memcpy(out, books + code * item_bytes, (size_t)item_bytes);
        }
    }
}

static int32_t NAME(gather_rows)(const uint8_t *stored, uint8_t *out, int64_t rows, int64_t groups,
                                 int64_t codes, int64_t code_bytes, int64_t item_bytes, const uint8_t *table) {
    if (codes < (int64_t)1 << 8 * code_bytes) {
        uint16_t most = 0;
        for (int64_t i = 0; i < rows * groups; i++) {
            uint16_t code = stored[i * code_bytes];
            if (code_bytes == 2)
                memcpy(&code, stored + 2 * i, sizeof code);
            most = code > most ? code : most;
        }
        if (most >= codes)
            return 0;
    }
    if (code_bytes == 1 && item_bytes == 8)
        NAME(gather)(stored, out, rows, groups, codes, 1, 8, table);
    else if (code_bytes == 1 && item_bytes == 16)
        NAME(gather)(stored, out, rows, groups, codes, 1, 16, table);
    else if (code_bytes == 1 && item_bytes == 32)
        NAME(gather)(stored, out, rows, groups, codes, 1, 32, table);
    else if (code_bytes == 2 && item_bytes == 16)
        NAME(gather)(stored, out, rows, groups, codes, 2, 16, table);
    else if (code_bytes == 2 && item_bytes == 32)
        NAME(gather)(stored, out, rows, groups, codes, 2, 32, table);
    else
        NAME(gather)(stored, out, rows, groups, codes, code_bytes, item_bytes, table);
    return 1;
}

/* rq */

/* The number of steps is a constant wherever this is called, so that all sums are on their way at once. */
INLINE void NAME(add)(const uint8_t *stored, uint8_t *out, int64_t rows, int64_t groups, int64_t steps, int64_t codes,
                      int64_t dims, const uint8_t *table) {
    const int64_t item = 2 * dims, book = codes * item;
    for (int64_t row = 0; row < rows; row++) {
        const uint8_t *books = table;
        for (int64_t g = 0; g < groups; g++, books += steps * book, out += item, stored += steps) {
            int64_t i = 0;
            for (; i + 2 * LANES <= dims; i += 2 * LANES) {
                const uint8_t *from = books + stored[0] * item + 2 * i;
                floats v = NAME(from_bfloat16)(from), w = NAME(from_bfloat16)(from + 2 * LANES);
                for (int64_t step = 1; step < steps; step++) {
                    /* In this order, as in NumPy: float32 sums do not associate. */
                    from = books + step * book + stored[step] * item + 2 * i;
                    v += NAME(from_bfloat16)(from);
                    w += NAME(from_bfloat16)(from + 2 * LANES);
                }
                __builtin_prefetch(out + 2 * i + WRITE_AHEAD, 1);
                NAME(store_two_rounded)(out + 2 * i, v, w);
            }
            for (; i + LANES <= dims; i += LANES) {
                floats v = NAME(from_bfloat16)(books + stored[0] * item + 2 * i);
                for (int64_t step = 1; step < steps; step++)
                    v += NAME(from_bfloat16)(books + step * book + stored[step] * item + 2 * i);
                NAME(store_rounded)(out + 2 * i, v);
            }
            for (; i < dims; i++) {
                float sum = load_bfloat16(books + stored[0] * item + 2 * i);
                for (int64_t step = 1; step < steps; step++)
                    sum += load_bfloat16(books + step * book + stored[step] * item + 2 * i);
                store_bfloat16(out + 2 * i, sum);
            }
        }
    }
}

static int32_t NAME(add_rows)(const uint8_t *stored, uint8_t *out, int64_t rows, int64_t groups, int64_t steps,
                              int64_t codes, int64_t dims, const uint8_t *table) {
    /* A code is a byte, and one of fewer codes than that may be beyond them. */
    if (codes < 256)
        for (int64_t i = 0; i < rows * groups * steps; i++)
            if (stored[i] >= codes)
                return 0;
    if (steps == 8)
        NAME(add)(stored, out, rows, groups, 8, codes, dims, table);
    else if (steps == 4)
        NAME(add)(stored, out, rows, groups, 4, codes, dims, table);
    else
        NAME(add)(stored, out, rows, groups, steps, codes, dims, table);
    return 1;
}

/* turbo */

/* A stage of the Hadamard transform inside a vector: lanes i and i ^ h become their sum and their difference. */
#if defined(__clang__)
#define SHUFFLED(x, ...) __builtin_shufflevector(x, x, __VA_ARGS__)
#else
#define SHUFFLED(x, ...) __builtin_shuffle(x, (integers){__VA_ARGS__})
#endif
#if LANES == 16
#define STAGE1(x) (SHUFFLED(x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14) + \
    (x) * (floats){1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1})
#define STAGE2(x) (SHUFFLED(x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13) + \
    (x) * (floats){1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1})
#define STAGE4(x) (SHUFFLED(x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11) + \
    (x) * (floats){1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1})
#define STAGE8(x) (SHUFFLED(x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7) + \
    (x) * (floats){1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1})
#elif LANES == 8
#define STAGE1(x) (SHUFFLED(x, 1, 0, 3, 2, 5, 4, 7, 6) + (x) * (floats){1, -1, 1, -1, 1, -1, 1, -1})
#define STAGE2(x) (SHUFFLED(x, 2, 3, 0, 1, 6, 7, 4, 5) + (x) * (floats){1, 1, -1, -1, 1, 1, -1, -1})
#define STAGE4(x) (SHUFFLED(x, 4, 5, 6, 7, 0, 1, 2, 3) + (x) * (floats){1, 1, 1, 1, -1, -1, -1, -1})
#define STAGE8(x) (x)
#else
#define STAGE1(x) (SHUFFLED(x, 1, 0, 3, 2) + (x) * (floats){1, -1, 1, -1})
#define STAGE2(x) (SHUFFLED(x, 2, 3, 0, 1) + (x) * (floats){1, 1, -1, -1})
#define STAGE4(x) (x)
#define STAGE8(x) (x)
#endif

/* Those of the stages first <= h < run that lie inside a vector. */
INLINE floats NAME(inside)(floats x, int64_t first, int64_t run) {
    if (first <= 1 && run > 1)
        x = STAGE1(x);
    if (first <= 2 && run > 2)
        x = STAGE2(x);
    if (LANES > 4 && first <= 4 && run > 4)
        x = STAGE4(x);
    if (LANES > 8 && first <= 8 && run > 8)
        x = STAGE8(x);
    return x;
}
#undef SHUFFLED
#undef STAGE1
#undef STAGE2
#undef STAGE4
#undef STAGE8

/* Stages 1, 2, .. count / 2 among `count` vectors; count is a constant wherever this is called. */
INLINE void NAME(among)(floats *x, int count) {
    for (int h = 1; h < count; h *= 2)
        for (int i = 0; i < count; i++)
            if (!(i & h)) {
                floats a = x[i], b = x[i + h];
                x[i] = a + b;
                x[i + h] = a - b;
            }
}

/* Stages h, 2 h, .. of `count` vectors each that lie h apart, over all of values [width]. */
INLINE void NAME(apart)(float *values, int64_t width, int64_t h, int count) {
    for (int64_t at = 0; at < width; at += h * count)
        for (int64_t i = at; i < at + h; i += LANES) {
            floats x[8];
            for (int k = 0; k < count; k++)
                x[k] = NAME(load)(values + i + k * h);
            NAME(among)(x, count);
            for (int k = 0; k < count; k++)
                NAME(store)(values + i + k * h, x[k]);
        }
}

/* Those of the stages first <= h < run that lie among vectors; three at a time, so that values are loaded and
 * stored a third as often. */
static void NAME(stages)(float *values, int64_t width, int64_t first, int64_t run) {
    int64_t h = first < LANES ? LANES : first;
    for (; 8 * h <= run; h *= 8)
        NAME(apart)(values, width, h, 8);
    if (4 * h <= run)
        NAME(apart)(values, width, h, 4);
    else if (2 * h <= run)
        NAME(apart)(values, width, h, 2);
}

/* The same, and those inside vectors, one after the other: where rows are no whole vectors. */
static void NAME(slow_stages)(float *values, int64_t width, int64_t first, int64_t run) {
    for (int64_t h = first; h < run; h *= 2)
        for (int64_t at = 0; at < width; at += 2 * h)
            for (int64_t i = at; i < at + h; i++) {
                float a = values[i], b = values[i + h];
                values[i] = a + b;
                values[i + h] = a - b;
            }
}

/* What is left after the first product: H, the signs, H, the signs, the scale and the rounding, in registers,
 * where a run is `count` vectors or lies in one. */
INLINE void NAME(finish)(const float *values, uint8_t *out, int64_t width, int64_t run, int count,
                         const rotation *turn, float scale) {
    for (int64_t at = 0; at < width; at += count * LANES) {
        floats x[8];
        for (int k = 0; k < count; k++)
            x[k] = NAME(inside)(NAME(load)(values + at + k * LANES), 1, run);
        NAME(among)(x, count);
        for (int k = 0; k < count; k++)
            x[k] = NAME(inside)(x[k] * NAME(load)(turn->second + at + k * LANES), 1, run);
        NAME(among)(x, count);
        for (int k = 0; k < count; k++)
            x[k] = x[k] * NAME(load)(turn->first + at + k * LANES) * scale;
        if (count == 1)
            NAME(store_rounded)(out + 2 * at, x[0]);
        for (int k = 0; k + 1 < count; k += 2)
            NAME(store_two_rounded)(out + 2 * (at + k * LANES), x[k], x[k + 1]);
    }
}

/* Levels of LANES codes that begin in byte `from`. Only as many bytes are read as hold them. */
#if LANES == 16
INLINE floats NAME(level)(const uint8_t *from, int64_t bits, floats low, floats high) {
    /* `low` holds all 16 levels, and a shuffle looks at the low four bits of an index alone. */
    (void)high;
    __m512i index;
    if (bits == 2) {
        const __m512i some = _mm512_set1_epi32((int32_t)load_bits(from));
        index = _mm512_srlv_epi32(some, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
    } else {
        /* A byte a word, twice; the odd ones' codes are the upper halves. */
        const __m256i some = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
        const __m512i twice = _mm512_cvtepu32_epi64(some);
        index = _mm512_or_si512(twice, _mm512_slli_epi64(twice, 28));
    }
    return (floats)_mm512_permutexvar_ps(index, (__m512)low);
}
#elif LANES == 8
INLINE floats NAME(level)(const uint8_t *from, int64_t bits, floats low, floats high) {
    if (bits == 2) {
        uint16_t some;
        memcpy(&some, from, sizeof some);
        const __m256i shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
        return (floats)_mm256_permutevar8x32_ps((__m256)low, _mm256_srlv_epi32(_mm256_set1_epi32(some), shifts));
    }
    const __m256i some = _mm256_set1_epi32((int32_t)load_bits(from));
    const __m256i index = _mm256_srlv_epi32(some, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    /* By the sign bit: bit 3 tells whether the level is among the upper eight. */
    return (floats)_mm256_blendv_ps(_mm256_permutevar8x32_ps((__m256)low, index),
                                    _mm256_permutevar8x32_ps((__m256)high, index),
                                    _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}
#endif

static int32_t NAME(turbo_rows)(const uint8_t *stored, uint8_t *out, int64_t rows, int64_t bits,
                                const float *levels, const rotation *turn, float *scratch) {
    const int64_t block = turn->block, run = turn->run, width = turn->blocks * block;
    const int64_t packed = width * bits / 8;
    const int64_t row_bytes = packed + 4 + 4 * OUTLIERS;
    const int whole = block >= LANES;
    /* All or nothing: who gets 0 decodes anew. */
    for (int64_t row = 0; row < rows; row++)
        for (int k = 0; k < OUTLIERS; k++) {
            uint16_t place;
            memcpy(&place, stored + row * row_bytes + packed + 4 + 2 * OUTLIERS + 2 * k, sizeof place);
            if (place >= width)
                return 0;
        }
#if LANES > 4
    /* Of few levels, the same ones again: then no bits of an index need to be masked. */
    float table[16];
    for (int k = 0; k < 16; k++)
        table[k] = levels[k & ((1 << bits) - 1)];
    const floats low = NAME(load)(table), high = NAME(load)(table + 16 - LANES);
#endif
    for (int64_t row = 0; row < rows; row++) {
        const uint8_t *codes = stored + row * row_bytes;
        uint8_t *to = out + 2 * row * width;
        float *values = scratch;
#if LANES > 4
        if (whole) {
            if (bits == 4)
                for (int64_t i = 0; i < width; i += LANES)
                    NAME(store)(values + i, NAME(inside)(NAME(level)(codes + i / 2, 4, low, high), run, block));
            else
                for (int64_t i = 0; i < width; i += LANES)
                    NAME(store)(values + i, NAME(inside)(NAME(level)(codes + i / 4, 2, low, high), run, block));
        } else
#endif
        {
            const int64_t in_byte = 8 / bits, mask = (1 << bits) - 1;
            for (int64_t i = 0; i < width; i++)
                values[i] = levels[codes[i / in_byte] >> bits * (i % in_byte) & mask];
            if (whole)
                for (int64_t i = 0; i < width; i += LANES)
                    NAME(store)(values + i, NAME(inside)(NAME(load)(values + i), run, block));
        }
        if (whole)
            NAME(stages)(values, width, run, block);
        else
            NAME(slow_stages)(values, width, run, block);
        if (turn->blocks > 1) {
            /* The blocks are mixed by a matrix, its rows one after the other, as in NumPy. */
            float *mixed = scratch + width;
            for (int64_t b = 0; b < turn->blocks; b++) {
                float *sums = mixed + b * block;
                for (int64_t a = 0; a < turn->blocks; a++) {
                    const float factor = turn->mix[a * turn->blocks + b];
                    const float *from = values + a * block;
                    int64_t i = 0;
                    if (a == 0) {
                        for (; i + LANES <= block; i += LANES)
                            NAME(store)(sums + i, NAME(load)(from + i) * factor);
                        for (; i < block; i++)
                            sums[i] = from[i] * factor;
                    } else {
                        for (; i + LANES <= block; i += LANES)
                            NAME(store)(sums + i, NAME(load)(sums + i) + NAME(load)(from + i) * factor);
                        for (; i < block; i++)
                            sums[i] += from[i] * factor;
                    }
                }
            }
            values = mixed;
        }
        const float scale = load_float(codes + packed) * turn->norm;
        if (whole && run <= 8 * LANES && is_finite(scale)) {
            if (run <= LANES)
                NAME(finish)(values, to, width, run, 1, turn, scale);
            else if (run == 2 * LANES)
                NAME(finish)(values, to, width, run, 2, turn, scale);
            else if (run == 4 * LANES)
                NAME(finish)(values, to, width, run, 4, turn, scale);
            else
                NAME(finish)(values, to, width, run, 8, turn, scale);
        } else {
            NAME(slow_stages)(values, width, 1, run);
            for (int64_t i = 0; i < width; i++)
                values[i] *= turn->second[i];
            NAME(slow_stages)(values, width, 1, run);
            for (int64_t i = 0; i < width; i++)
                store_bfloat16(to + 2 * i, values[i] * turn->first[i] * scale);
        }
        /* Last: the rotation leaves something of the other dimensions in their places. */
        for (int k = 0; k < OUTLIERS; k++) {
            uint16_t place;
            const uint8_t *kept = codes + packed + 4;
            memcpy(&place, kept + 2 * OUTLIERS + 2 * k, sizeof place);
            memcpy(to + 2 * (int64_t)place, kept + 2 * k, 2);
        }
    }
    return 1;
}

#undef floats
#undef words
#undef integers
