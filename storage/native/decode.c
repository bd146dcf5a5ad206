/* Decoding of stored rows to bfloat16: what storage/codecs does in NumPy, to the bit.
 *
 * One shared library for every Python, loaded with ctypes (storage/native/__init__.py). The kernels are written
 * once, in lanes.h, with the vector types of GCC and clang, and compiled here for each set of instructions; which
 * is run is decided when the library is loaded, by what the processor says of itself. So the library may be
 * built on one machine and run on any other of its architecture.
 *
 * Compile with -ffp-contract=off, and never with -ffast-math: a product and a sum that become one operation
 * round once instead of twice, and the bits are others than NumPy's.
 *
 * Nothing is allocated, nothing is kept, no lengths are guessed: who calls has checked that each pointer leads
 * to as many bytes as are told. Codes and places that are stored are not trusted, they are checked here: a
 * function that finds one out of range returns 0, and the caller has NumPy say what is wrong.
 */
/* Of glibc all: what mapped.h asks of the system. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "stored rows are little-endian, and are read as they lie"
#endif

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(a) JOIN(a, SUFFIX)

#ifndef MEMCORPUS_SOURCE
#error "build with `python -m storage.native`"
#endif

enum { OUTLIERS = 4 };

/* How far ahead of where values are written their lines are asked for. What is asked for beyond an array is not
 * looked at. */
enum { WRITE_AHEAD = 2048 };

/* A rotation as storage/codecs/rotation.py has it; width = blocks * block, and run divides block. */
typedef struct {
    int64_t blocks; /* m, the odd part of the width */
    int64_t block;  /* the largest power of two in the width */
    int64_t run;    /* q, a power of two */
    float norm;
    const float *mix;    /* [m, m] */
    const float *first;  /* signs [width] */
    const float *second; /* signs [width] */
} rotation;

INLINE float load_float(const uint8_t *from) {
    float value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE uint32_t load_bits(const uint8_t *from) {
    uint32_t bits;
    memcpy(&bits, from, sizeof bits);
    return bits;
}

/* Is it neither infinite nor no number? */
INLINE int is_finite(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7F800000u) != 0x7F800000u;
}

/* To nearest, halves to even; what is no number becomes the quiet one of its sign, as in ml_dtypes. */
INLINE uint16_t to_bfloat16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)((bits >> 16 & 0x8000u) | 0x7FC0u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

INLINE float load_bfloat16(const uint8_t *from) {
    uint16_t half;
    memcpy(&half, from, sizeof half);
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE void store_bfloat16(uint8_t *to, float value) {
    uint16_t bits = to_bfloat16(value);
    memcpy(to, &bits, sizeof bits);
}

/* Plain C, and what every processor of the architecture has: SSE2 on x86-64, NEON on AArch64. */
#define LANES 4
#define SUFFIX plain
#include "lanes.h"
#undef LANES
#undef SUFFIX

#if defined(__x86_64__)
#define HAVE_X86 1

#define LANES 8
#define SUFFIX avx2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
#include "lanes.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef LANES
#undef SUFFIX

#define LANES 16
#define SUFFIX avx512
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif
#include "lanes.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef LANES
#undef SUFFIX
#endif

/* As storage/native/__init__.py numbers them. */
enum { PLAIN, AVX2, AVX512 };

/* What this was built of: a caller of other sources must not call it. */
EXPORT uint64_t memcorpus_source(void) { return MEMCORPUS_SOURCE; }

/* The widest set of instructions that this processor has, and its system lets programs use. */
EXPORT int32_t memcorpus_widest(void) {
#ifdef HAVE_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return AVX512;
    if (__builtin_cpu_supports("avx2"))
        return AVX2;
#endif
    return PLAIN;
}

#ifdef HAVE_X86
#define DISPATCH(function, ...)                    \
    switch (isa) {                                 \
    case AVX512: return function##_avx512(__VA_ARGS__); \
    case AVX2: return function##_avx2(__VA_ARGS__);     \
    default: return function##_plain(__VA_ARGS__);      \
    }
#else
#define DISPATCH(function, ...) (void)isa; return function##_plain(__VA_ARGS__);
#endif

/* stored [rows, width + 4]; scales float32 [width]; out bfloat16 [rows, width]. */
EXPORT int32_t memcorpus_int8(int32_t isa, const uint8_t *stored, uint8_t *out, int64_t rows, int64_t width,
                              const float *scales) {
    DISPATCH(int8_rows, stored, out, rows, width, scales)
}

/* stored [rows, groups] of code_bytes (1 or 2) each; table [groups, codes] items of item_bytes; out [rows, groups]
 * items. Returns 0 if a code is `codes` or more. */
EXPORT int32_t memcorpus_gather(int32_t isa, const uint8_t *stored, uint8_t *out, int64_t rows, int64_t groups,
                                int64_t codes, int64_t code_bytes, int64_t item_bytes, const uint8_t *table) {
    DISPATCH(gather_rows, stored, out, rows, groups, codes, code_bytes, item_bytes, table)
}

/* stored [rows, groups, steps] of a byte each; table bfloat16 [groups, steps, codes, dims], finite, and so their sums;
 * out bfloat16 [rows, groups, dims]. Returns 0 if a code is `codes` or more. */
EXPORT int32_t memcorpus_add(int32_t isa, const uint8_t *stored, uint8_t *out, int64_t rows, int64_t groups,
                             int64_t steps, int64_t codes, int64_t dims, const uint8_t *table) {
    DISPATCH(add_rows, stored, out, rows, groups, steps, codes, dims, table)
}

/* stored [rows, width * bits / 8 + 20]; out bfloat16 [rows, width]; levels [1 << bits]; scratch float32
 * [2, width]. Returns 0 if a place is `width` or more. */
EXPORT int32_t memcorpus_turbo(int32_t isa, const uint8_t *stored, uint8_t *out, int64_t rows, int64_t bits,
                               const float *levels, int64_t blocks, int64_t block, int64_t run, float norm,
                               const float *mix, const float *first, const float *second, float *scratch) {
    const rotation turn = {blocks, block, run, norm, mix, first, second};
    DISPATCH(turbo_rows, stored, out, rows, bits, levels, &turn, scratch)
}

#include "mapped.h"
