// AVX2: blocks of 128 and 256 documents.
#include <immintrin.h>

#include "../../kernels/macros.hpp"
#include "forest_isa.hpp"

namespace prunus {
namespace forest {
namespace avx2 {
namespace {

#include "../kernels/body.inl"
#include "../kernels/x86_bits.inl"

typedef uint32_t Word32 __attribute__((may_alias, aligned(4)));

// Values as their variant wants them; `right` of the search does the rest. What is missing becomes NaN.
struct Prepare {
    __m256 keep_nan;  // all ones, or zeros where NaN is zero
    bool zero_is_missing;
    explicit PRUNUS_INLINE Prepare(Variant variant)
        : keep_nan(_mm256_castsi256_ps(_mm256_set1_epi32(variant == Variant::nan_is_zero ? 0 : -1))),
          zero_is_missing(variant == Variant::zero_left || variant == Variant::zero_right) {}
    PRUNUS_INLINE __m256 operator()(const float* p) const {
        __m256 x = _mm256_load_ps(p);
        x = _mm256_and_ps(x, _mm256_or_ps(_mm256_cmp_ps(x, x, _CMP_ORD_Q), keep_nan));
        if (zero_is_missing) {
            const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
            x = _mm256_or_ps(x, _mm256_cmp_ps(magnitude, _mm256_set1_ps(largest_zero), _CMP_LE_OQ));
        }
        return x;
    }
};

// Search eight documents at a time: thresholds of the first levels stand in registers, later ones are gathered.
template <bool right>
PRUNUS_NOINLINE void search(const Search& what, const float* x, uint32_t used, uint32_t stride, char* planes) {
    constexpr int predicate = right ? _CMP_NLE_UQ : _CMP_GT_OQ;  // NaN lies beyond every threshold, or before
    const Prepare prepare(what.variant);
    const float* table = what.table;
    const uint32_t levels = what.levels;
    const __m256 level_1 = _mm256_load_ps(table + (levels > 1 ? 16 : 0));
    const __m256 level_2 = _mm256_load_ps(table + (levels > 2 ? 32 : 0));
    const __m256 level_3 = _mm256_load_ps(table + (levels > 3 ? 48 : 0));
    const float* low_4 = table + (levels > 4 ? 64 : 0);
    const __m256 level_4_low = _mm256_load_ps(low_4), level_4_high = _mm256_load_ps(low_4 + 8);
    for (uint32_t i = 0; i < used; i += 8) {
        const __m256 value = prepare(x + i);
        char* out = planes + i / 8;
        __m256 above;
        __m256i path = _mm256_setzero_si256();
        const auto decide = [&](uint32_t l, __m256 threshold) {
            above = _mm256_cmp_ps(value, threshold, predicate);
            out[l * stride] = static_cast<char>(_mm256_movemask_ps(above));
            path = _mm256_or_si256(
                path, _mm256_and_si256(_mm256_castps_si256(above), _mm256_set1_epi32(static_cast<int>(1u << l))));
        };
        decide(0, _mm256_set1_ps(table[0]));
        if (levels == 1) continue;
        decide(1, _mm256_permutevar8x32_ps(level_1, path));
        if (levels == 2) continue;
        decide(2, _mm256_permutevar8x32_ps(level_2, path));
        if (levels == 3) continue;
        decide(3, _mm256_permutevar8x32_ps(level_3, path));
        if (levels == 4) continue;
        decide(4, _mm256_blendv_ps(_mm256_permutevar8x32_ps(level_4_low, path),
                                   _mm256_permutevar8x32_ps(level_4_high, path), above));
        const float* level = table + 80;
        for (uint32_t l = 5; l < levels; ++l) {
            decide(l, _mm256_i32gather_ps(level, path, 4));
            level += size_t{1} << l;
        }
    }
}

// All ones in the bytes whose bit is set.
PRUNUS_INLINE __m256i spread(uint32_t bits) {
    const __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3,
                                          3, 3, 3, 3, 3, 3);
    const __m256i own = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
    const __m256i all = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)), byte);
    return _mm256_cmpeq_epi8(_mm256_and_si256(all, own), own);
}

PRUNUS_INLINE void add_scaled(__m256i whole, double scale, double* sums) {
    const __m256d by = _mm256_set1_pd(scale);
    const __m256d low = _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(whole)), by);
    const __m256d high = _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256(whole, 1)), by);
    _mm256_store_pd(sums, _mm256_add_pd(_mm256_load_pd(sums), low));
    _mm256_store_pd(sums + 4, _mm256_add_pd(_mm256_load_pd(sums + 4), high));
}

// Codes of up to eight bits: planes become bytes, 32 documents at a time, and bytes the places of a gather.
template <class B>
PRUNUS_NOINLINE void add_group(const PackedForest& forest, const Group& group, const char* slots, uint32_t used,
                               double* sums) {
    for (uint32_t first = 0; first < used; first += 32)
        for (int part = 0; part < (forest.fine == nullptr ? 1 : 2); ++part) {
            const int32_t* table = part == 0 ? forest.coarse : forest.fine;
            __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                              _mm256_setzero_si256()};
            for (uint32_t t = group.first; t < group.last; ++t) {
                const Lookup& lookup = forest.lookups[t];
                __m256i code = _mm256_setzero_si256();
                for (uint32_t b = 0; b < lookup.planes; ++b) {
                    const uint32_t plane = *reinterpret_cast<const Word32*>(
                        slots + static_cast<size_t>(lookup.plane[b]) * B::bytes + first / 8);
                    code = _mm256_or_si256(
                        code, _mm256_and_si256(spread(plane), _mm256_set1_epi8(static_cast<char>(1u << b))));
                }
                const __m128i low = _mm256_castsi256_si128(code), high = _mm256_extracti128_si256(code, 1);
                const __m128i eight[4] = {low, _mm_srli_si128(low, 8), high, _mm_srli_si128(high, 8)};
                PRUNUS_UNROLL
                for (int i = 0; i < 4; ++i)
                    sum[i] = _mm256_add_epi32(
                        sum[i], _mm256_i32gather_epi32(table + lookup.table, _mm256_cvtepu8_epi32(eight[i]), 4));
            }
            for (int i = 0; i < 4; ++i)
                add_scaled(sum[i], part == 0 ? group.scale : group.fine_scale, sums + first + 8 * i);
        }
}

struct Vec {
    static constexpr uint32_t fewest = 14;
    static PRUNUS_INLINE uint32_t place(uint32_t document) { return document; }
    static PRUNUS_INLINE uint32_t element(uint32_t document) { return document; }

    template <uint32_t documents>
    static PRUNUS_INLINE void columns(Rows rows, size_t feature, float* raw) {
        if (rows.stride < 4) {
            for (uint32_t i = 0; i < rows.used; ++i)
                for (size_t j = 0; j < rows.stride; ++j) raw[j * documents + i] = rows(i)[j];
            return;
        }
        for (uint32_t i = 0; i < rows.used; i += 8) {
            __m256 part[4];
            PRUNUS_UNROLL
            for (uint32_t j = 0; j < 4; ++j)
                part[j] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(rows(i + j) + feature)),
                                               _mm_loadu_ps(rows(i + j + 4) + feature), 1);
            const __m256d ab0 = _mm256_castps_pd(_mm256_unpacklo_ps(part[0], part[1])),
                          ab1 = _mm256_castps_pd(_mm256_unpackhi_ps(part[0], part[1]));
            const __m256d cd0 = _mm256_castps_pd(_mm256_unpacklo_ps(part[2], part[3])),
                          cd1 = _mm256_castps_pd(_mm256_unpackhi_ps(part[2], part[3]));
            _mm256_store_ps(raw + i, _mm256_castpd_ps(_mm256_unpacklo_pd(ab0, cd0)));
            _mm256_store_ps(raw + documents + i, _mm256_castpd_ps(_mm256_unpackhi_pd(ab0, cd0)));
            _mm256_store_ps(raw + 2 * documents + i, _mm256_castpd_ps(_mm256_unpacklo_pd(ab1, cd1)));
            _mm256_store_ps(raw + 3 * documents + i, _mm256_castpd_ps(_mm256_unpackhi_pd(ab1, cd1)));
        }
    }

    template <uint32_t documents>
    static PRUNUS_INLINE void bins(const Search& what, const float* x, uint32_t used, char* planes) {
        if (what.variant == Variant::nan_right || what.variant == Variant::zero_right)
            search<true>(what, x, used, documents / 8, planes);
        else
            search<false>(what, x, used, documents / 8, planes);
    }

    template <class B>
    static PRUNUS_INLINE void add_values(const PackedForest& forest, uint32_t g, const char* slots, uint32_t used,
                                         double* sums) {
        if (forest.width[g] <= 8)
            add_group<B>(forest, forest.groups[g], slots, used, sums);
        else
            add_any_values<B, Vec>(forest, g, slots, used, sums);
    }

    template <class Out>
    static PRUNUS_INLINE size_t block(const PackedForest& forest, const float* X, size_t n, Out* out, void* scratch) {
        const uint32_t count = n < 256 ? static_cast<uint32_t>(n) : 256;
        const Rows rows{X, forest.features, count, (count + 31) / 32 * 32};
        if (count > 128)
            one_block<Bits256, Vec>(forest, rows, out, scratch);
        else
            one_block<Bits128, Vec>(forest, rows, out, scratch);
        return count;
    }
};

}  // namespace

extern const ForestIsa isa;
const ForestIsa isa = {"avx2", 256, false, score<Vec>, leaves<Vec>};

}  // namespace avx2
}  // namespace forest
}  // namespace prunus
