// AVX-512 (F, BW, DQ, VL): blocks of 128, 256 and 512 documents, or up to 64 as bytes.
#include <immintrin.h>

#include "../../kernels/macros.hpp"
#include "forest_isa.hpp"

namespace prunus {
namespace forest {
namespace avx512 {
namespace {

#include "../kernels/x86_bits.inl"

struct Bits512 {
    static constexpr uint32_t documents = 512, bytes = 64;
    using Reg = __m512i;
    static PRUNUS_INLINE Reg load(const char* p) { return _mm512_load_si512(p); }
    static PRUNUS_INLINE void store(char* p, Reg x) { _mm512_store_si512(p, x); }
    static PRUNUS_INLINE Reg zeros() { return _mm512_setzero_si512(); }
    static PRUNUS_INLINE Reg ones() { return _mm512_set1_epi32(-1); }
    static PRUNUS_INLINE Reg and_(Reg a, Reg b) { return _mm512_and_si512(a, b); }
    static PRUNUS_INLINE Reg or_(Reg a, Reg b) { return _mm512_or_si512(a, b); }
    static PRUNUS_INLINE Reg andnot(Reg a, Reg b) { return _mm512_andnot_si512(a, b); }
    static PRUNUS_INLINE Reg or_and(Reg a, Reg b, Reg c) { return _mm512_ternarylogic_epi64(a, b, c, 0xf8); }
    static PRUNUS_INLINE Reg blend(Reg mask, Reg a, Reg b) { return _mm512_ternarylogic_epi64(mask, a, b, 0xca); }
};

#include "../kernels/body.inl"

typedef uint64_t Word64 __attribute__((may_alias, aligned(8)));
typedef uint16_t Word16 __attribute__((may_alias, aligned(2)));

// Values as their variant wants them; `right` of the search does the rest. What is missing becomes NaN.
struct Prepare {
    __mmask16 keep_nan;  // all, or none where NaN is zero
    bool zero_is_missing;
    explicit PRUNUS_INLINE Prepare(Variant variant)
        : keep_nan(variant == Variant::nan_is_zero ? 0 : 0xffff),
          zero_is_missing(variant == Variant::zero_left || variant == Variant::zero_right) {}
    PRUNUS_INLINE __m512 operator()(const float* p) const {
        __m512 x = _mm512_load_ps(p);
        x = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q) | keep_nan, x);
        if (zero_is_missing)
            x = _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(largest_zero), _CMP_LE_OQ),
                                   _mm512_set1_ps(__builtin_nanf("")));
        return x;
    }
};

// Search 64 documents, four vectors in turn, level by level: one search waits for each of its decisions, and there is
// room for few instructions that wait. Thresholds are picked by the decisions so far: 0 to 4 are the index of a
// permutation of two registers, later ones choose among such permutations. Decision l is bit l of the result.
template <uint32_t levels, bool right>
PRUNUS_INLINE void search_64(const __m512* x, const float* table, __m512i* path) {
    constexpr int predicate = right ? _CMP_NLE_UQ : _CMP_GT_OQ;  // NaN lies beyond every threshold, or before
    constexpr uint32_t vectors = 4;
    const auto decide = [&](uint32_t l, uint32_t v, __m512 threshold) {
        const __mmask16 above = _mm512_cmp_ps_mask(x[v], threshold, predicate);
        path[v] = _mm512_mask_or_epi32(path[v], above, path[v], _mm512_set1_epi32(1 << l));
    };
    const __m512 first = _mm512_set1_ps(table[0]);
    PRUNUS_UNROLL
    for (uint32_t v = 0; v < vectors; ++v)
        path[v] = _mm512_maskz_set1_epi32(_mm512_cmp_ps_mask(x[v], first, predicate), 1);
    PRUNUS_UNROLL
    for (uint32_t l = 1; l < 5 && l < levels; ++l) {
        const __m512 level = _mm512_load_ps(table + 16 * l);
        PRUNUS_UNROLL
        for (uint32_t v = 0; v < vectors; ++v) decide(l, v, _mm512_permutexvar_ps(path[v], level));
    }
    const auto pick = [&](const float* p, uint32_t v) {
        return _mm512_permutex2var_ps(_mm512_load_ps(p), path[v], _mm512_load_ps(p + 16));
    };
    const auto choose = [&](uint32_t decision, uint32_t v, __m512 below, __m512 above) {
        return _mm512_mask_mov_ps(below, _mm512_test_epi32_mask(path[v], _mm512_set1_epi32(1 << decision)), above);
    };
    const auto pick_64 = [&](const float* p, uint32_t v) { return choose(5, v, pick(p, v), pick(p + 32, v)); };
    if constexpr (levels > 5) {
        PRUNUS_UNROLL
        for (uint32_t v = 0; v < vectors; ++v) decide(5, v, pick(table + 80, v));
    }
    if constexpr (levels > 6) {
        PRUNUS_UNROLL
        for (uint32_t v = 0; v < vectors; ++v) decide(6, v, pick_64(table + 112, v));
    }
    if constexpr (levels > 7) {
        PRUNUS_UNROLL
        for (uint32_t v = 0; v < vectors; ++v)
            decide(7, v, choose(6, v, pick_64(table + 176, v), pick_64(table + 240, v)));
    }
}

// Four times 16 results as bytes of 64 documents, in order: see Vec::columns. `shift` says which byte.
PRUNUS_INLINE __m512i bytes_of(const __m512i* path, uint32_t shift) {
    const __m512i byte = _mm512_set1_epi32(0xff);
    const auto part = [&](int i) {
        return _mm512_and_si512(_mm512_srl_epi32(path[i], _mm_cvtsi32_si128(static_cast<int>(shift))), byte);
    };
    const __m512i low = _mm512_or_si512(part(0), _mm512_slli_epi32(part(1), 8));
    const __m512i high = _mm512_or_si512(part(2), _mm512_slli_epi32(part(3), 8));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

template <uint32_t levels, bool right>
PRUNUS_NOINLINE void search(const Search& what, const float* x, uint32_t used, uint32_t stride, char* planes) {
    const Prepare prepare(what.variant);
    for (uint32_t i = 0; i < used; i += 64) {
        const __m512 value[4] = {prepare(x + i), prepare(x + i + 16), prepare(x + i + 32), prepare(x + i + 48)};
        __m512i path[4];
        search_64<levels, right>(value, what.table, path);
        const __m512i low = _mm512_or_si512(path[0], _mm512_slli_epi32(path[1], 8));
        const __m512i high = _mm512_or_si512(path[2], _mm512_slli_epi32(path[3], 8));
        const __m512i found = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
        PRUNUS_UNROLL
        for (uint32_t l = 0; l < levels; ++l)
            *reinterpret_cast<Word64*>(planes + l * stride + i / 8) =
                _mm512_test_epi8_mask(found, _mm512_set1_epi8(static_cast<char>(1u << l)));
    }
}

// More than 255 thresholds: levels after the eighth are gathered.
template <bool right>
PRUNUS_NOINLINE void deep_search(const Search& what, const float* x, uint32_t used, uint32_t stride, char* planes) {
    constexpr int predicate = right ? _CMP_NLE_UQ : _CMP_GT_OQ;
    const Prepare prepare(what.variant);
    for (uint32_t i = 0; i < used; i += 64) {
        const __m512 value[4] = {prepare(x + i), prepare(x + i + 16), prepare(x + i + 32), prepare(x + i + 48)};
        __m512i path[4];
        search_64<8, right>(value, what.table, path);
        for (uint32_t j = 0; j < 4; ++j) {
            const float* level = what.table + 304;
            for (uint32_t l = 8; l < what.levels; ++l) {
                const __mmask16 above = _mm512_cmp_ps_mask(value[j], _mm512_i32gather_ps(path[j], level, 4), predicate);
                path[j] = _mm512_mask_or_epi32(path[j], above, path[j], _mm512_set1_epi32(static_cast<int>(1u << l)));
                level += size_t{1} << l;
            }
        }
        for (uint32_t l = 0; l < what.levels; ++l)
            *reinterpret_cast<Word64*>(planes + l * stride + i / 8) =
                _mm512_test_epi8_mask(bytes_of(path, l / 8 * 8), _mm512_set1_epi8(static_cast<char>(1u << l % 8)));
    }
}

template <bool right, uint32_t levels = 1>
PRUNUS_INLINE void search_any(const Search& what, const float* x, uint32_t used, uint32_t stride, char* planes) {
    if constexpr (levels > 8)
        deep_search<right>(what, x, used, stride, planes);
    else if (what.levels == levels)
        search<levels, right>(what, x, used, stride, planes);
    else
        search_any<right, levels + 1>(what, x, used, stride, planes);
}

// Entries of a table of 2^width words; only the low `width` bits of an index are read.
template <uint32_t width>
PRUNUS_INLINE __m512i look_up(const uint16_t* table, __m512i index) {
    if constexpr (width == 5) {
        return _mm512_permutexvar_epi16(index, _mm512_load_si512(table));
    } else if constexpr (width == 6) {
        return _mm512_permutex2var_epi16(_mm512_load_si512(table), index, _mm512_load_si512(table + 32));
    } else {
        constexpr uint32_t half = 1u << (width - 1);
        const __mmask32 high = _mm512_test_epi16_mask(index, _mm512_set1_epi16(half));
        return _mm512_mask_mov_epi16(look_up<width - 1>(table, index), high, look_up<width - 1>(table + half, index));
    }
}

// Add a tree's whole values for 64 documents. Codes of even documents are the low bytes of words, those of odd ones the
// high bytes; a value is put together from two tables of words, because a permutation of words finds 32 at once.
template <uint32_t width>
PRUNUS_INLINE void add_values_64(__m512i code, const uint16_t* low, const uint16_t* high, __m512i* sum) {
    const __m512i odd = _mm512_srli_epi16(code, 8);
    const __m512i even_low = look_up<width>(low, code), even_high = look_up<width>(high, code);
    const __m512i odd_low = look_up<width>(low, odd), odd_high = look_up<width>(high, odd);
    sum[0] = _mm512_add_epi32(sum[0], _mm512_unpacklo_epi16(even_low, even_high));
    sum[1] = _mm512_add_epi32(sum[1], _mm512_unpackhi_epi16(even_low, even_high));
    sum[2] = _mm512_add_epi32(sum[2], _mm512_unpacklo_epi16(odd_low, odd_high));
    sum[3] = _mm512_add_epi32(sum[3], _mm512_unpackhi_epi16(odd_low, odd_high));
}

// Sums over a group.
template <class B, uint32_t width>
PRUNUS_INLINE void sum_64(const PackedForest& forest, const Group& group, const char* slots, uint32_t first,
                          const uint16_t* const* words, __m512i* sum) {
    for (uint32_t t = group.first; t < group.last; ++t) {
        const Lookup& lookup = forest.lookups[t];
        __m512i code = _mm512_setzero_si512();
        PRUNUS_UNROLL
        for (uint32_t b = 0; b < width; ++b) {
            const __mmask64 plane =
                *reinterpret_cast<const Word64*>(slots + static_cast<size_t>(lookup.plane[b]) * B::bytes + first / 8);
            code = _mm512_mask_add_epi8(code, plane, code, _mm512_set1_epi8(static_cast<char>(1u << b)));
        }
        add_values_64<width>(code, words[0] + lookup.table, words[1] + lookup.table, sum);
    }
}

PRUNUS_INLINE void add_scaled(__m512i whole, double scale, double* sums) {
    const __m512d by = _mm512_set1_pd(scale);
    const __m512d low = _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(whole)), by);
    const __m512d high = _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(whole, 1)), by);
    _mm512_store_pd(sums, _mm512_add_pd(_mm512_load_pd(sums), low));
    _mm512_store_pd(sums + 8, _mm512_add_pd(_mm512_load_pd(sums + 8), high));
}

// Where add_values_64 leaves the sum of a document.
PRUNUS_INLINE uint32_t place_of(uint32_t document) {
    return (document & ~63u) | (document & 1) << 5 | (document & 8) << 1 | (document & 48) >> 2 | (document & 6) >> 1;
}

template <class B, uint32_t width>
PRUNUS_NOINLINE void add_group(const PackedForest& forest, const Group& group, const char* slots, uint32_t used,
                               double* sums) {
    for (uint32_t first = 0; first < used; first += 64)
        for (int part = 0; part < (forest.fine == nullptr ? 1 : 2); ++part) {
            __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                              _mm512_setzero_si512()};
            sum_64<B, width>(forest, group, slots, first, forest.words + 2 * part, sum);
            for (int i = 0; i < 4; ++i)
                add_scaled(sum[i], part == 0 ? group.scale : group.fine_scale, sums + first + 16 * i);
        }
}

#include "../kernels/bytes.inl"

// Codes of more than eight bits.
template <class B>
PRUNUS_NOINLINE void add_wide_group(const PackedForest& forest, const Group& group, const char* slots, uint32_t used,
                                    double* sums) {
    for (uint32_t first = 0; first < used; first += 16) {
        __m512i sum = _mm512_setzero_si512(), fine_sum = _mm512_setzero_si512();
        for (uint32_t t = group.first; t < group.last; ++t) {
            const Lookup& lookup = forest.lookups[t];
            __m512i code = _mm512_set1_epi32(static_cast<int>(lookup.table));
            for (uint32_t b = 0; b < lookup.planes; ++b) {
                const __mmask16 plane = *reinterpret_cast<const Word16*>(
                    slots + static_cast<size_t>(lookup.plane[b]) * B::bytes + first / 8);
                code = _mm512_mask_add_epi32(code, plane, code, _mm512_set1_epi32(1 << b));
            }
            sum = _mm512_add_epi32(sum, _mm512_i32gather_epi32(code, forest.coarse, 4));
            if (forest.fine != nullptr)
                fine_sum = _mm512_add_epi32(fine_sum, _mm512_i32gather_epi32(code, forest.fine, 4));
        }
        alignas(64) int32_t found[32];
        _mm512_store_si512(found, sum);
        _mm512_store_si512(found + 16, fine_sum);
        for (uint32_t i = 0; i < 16; ++i) {
            double& score = sums[place_of(first + i)];
            score += found[i] * group.scale;
            if (forest.fine != nullptr) score += found[16 + i] * group.fine_scale;
        }
    }
}

struct Vec {
    static constexpr uint32_t fewest = 8, fewest_bits = 12;

    static PRUNUS_INLINE uint32_t place(uint32_t document) { return place_of(document); }

    // Element e of vector j of 64 documents is document 4 e + j: so four results of a search, shifted by j bytes and
    // joined, are the bytes of 64 documents in order.
    static PRUNUS_INLINE uint32_t element(uint32_t document) {
        return (document & ~63u) | (document & 3) << 4 | (document & 63) >> 2;
    }

    // Four features of all documents, transposed: loads under a mask need no shuffle, four 4x4 transposes are done at
    // once.
    template <uint32_t documents>
    static PRUNUS_INLINE void columns(Rows rows, size_t feature, float* raw) {
        if (rows.stride < 4) {
            for (uint32_t i = 0; i < rows.used; ++i)
                for (size_t j = 0; j < rows.stride; ++j) raw[j * documents + element(i)] = rows(i)[j];
            return;
        }
        for (uint32_t i = 0; i < rows.used; i += 16) {
            const uint32_t first = (i & ~63u) + i % 64 / 16;
            __m512 part[4];
            PRUNUS_UNROLL
            for (uint32_t j = 0; j < 4; ++j) {
                const uint32_t row = first + 4 * j;
                part[j] = _mm512_castps128_ps512(_mm_loadu_ps(rows(row) + feature));
                part[j] = _mm512_mask_broadcast_f32x4(part[j], 0x00f0, _mm_loadu_ps(rows(row + 16) + feature));
                part[j] = _mm512_mask_broadcast_f32x4(part[j], 0x0f00, _mm_loadu_ps(rows(row + 32) + feature));
                part[j] = _mm512_mask_broadcast_f32x4(part[j], 0xf000, _mm_loadu_ps(rows(row + 48) + feature));
            }
            const __m512d ab0 = _mm512_castps_pd(_mm512_unpacklo_ps(part[0], part[1])),
                          ab1 = _mm512_castps_pd(_mm512_unpackhi_ps(part[0], part[1]));
            const __m512d cd0 = _mm512_castps_pd(_mm512_unpacklo_ps(part[2], part[3])),
                          cd1 = _mm512_castps_pd(_mm512_unpackhi_ps(part[2], part[3]));
            _mm512_store_pd(raw + i, _mm512_unpacklo_pd(ab0, cd0));
            _mm512_store_pd(raw + documents + i, _mm512_unpackhi_pd(ab0, cd0));
            _mm512_store_pd(raw + 2 * documents + i, _mm512_unpacklo_pd(ab1, cd1));
            _mm512_store_pd(raw + 3 * documents + i, _mm512_unpackhi_pd(ab1, cd1));
        }
    }

    template <uint32_t documents>
    static PRUNUS_INLINE void bins(const Search& what, const float* x, uint32_t used, char* planes) {
        constexpr uint32_t stride = documents / 8;
        if (what.variant == Variant::nan_right || what.variant == Variant::zero_right)
            search_any<true>(what, x, used, stride, planes);
        else
            search_any<false>(what, x, used, stride, planes);
    }

    template <class B>
    static PRUNUS_INLINE void add_values(const PackedForest& forest, uint32_t g, const char* slots, uint32_t used,
                                         double* sums) {
        const Group& group = forest.groups[g];
        switch (forest.width[g]) {
            case 5:
                return add_group<B, 5>(forest, group, slots, used, sums);
            case 6:
                return add_group<B, 6>(forest, group, slots, used, sums);
            case 7:
                return add_group<B, 7>(forest, group, slots, used, sums);
            case 8:
                return add_group<B, 8>(forest, group, slots, used, sums);
            default:
                return add_wide_group<B>(forest, group, slots, used, sums);
        }
    }

    template <class Out>
    static PRUNUS_INLINE size_t block(const PackedForest& forest, const float* X, size_t n, Out* out, void* scratch) {
        if (n <= Words::documents && forest.bytes.leaves != 0) {
            bytes_block<Vec>(forest, Rows{X, forest.features, static_cast<uint32_t>(n), Words::documents}, out,
                             scratch);
            return n;
        }
        if (n < fewest_bits) return 0;
        const uint32_t count = n < 512 ? static_cast<uint32_t>(n) : 512;
        const Rows rows{X, forest.features, count, (count + 63) / 64 * 64};
        if (count > 256)
            one_block<Bits512, Vec>(forest, rows, out, scratch);
        else if (count > 128)
            one_block<Bits256, Vec>(forest, rows, out, scratch);
        else
            one_block<Bits128, Vec>(forest, rows, out, scratch);
        return count;
    }
};

}  // namespace

extern const ForestIsa isa;
const ForestIsa isa = {"avx512", 512, true, score<Vec>, leaves<Vec>};

}  // namespace avx512
}  // namespace forest
}  // namespace prunus
