// AVX-512 with VNNI and VBMI: one user's profile stands in tables of bytes, 64 of which are looked up by an instruction
// and multiplied by another.
#include <immintrin.h>

#include "../../kernels/macros.hpp"
#include "recommend_isa.hpp"

namespace prunus {
namespace recommend {
namespace avx512vbmi {
namespace {

#include "../kernels/body.inl"
#include "avx512.inl"

// Largest magnitude in units: below 2^23, so that rounding in its product with the inverse of a unit cannot reach that.
constexpr float most_units = 8388600.0f;

// The numbers of a profile as u = round(p / unit) + 2^23, an unsigned number of 24 bits whose bytes go to three tables
// for each block: [blocks][3][128]. Returns the unit, or 0 where the profile is 0 or not finite.
float fill_tables(const float* profile, uint32_t factors, char* tables) {
    Vec::Reg most = Vec::splat(0.0f);
    bool finite = true;
    for (uint32_t i = 0; i < factors; i += Vec::lanes) {
        const __m512 size = _mm512_abs_ps(Vec::load(profile + i));
        finite &= _mm512_cmp_ps_mask(size, Vec::splat(3.0e38f), _CMP_LT_OQ) == 0xffff;
        most = _mm512_max_ps(most, size);
    }
    const float largest = _mm512_reduce_max_ps(most);
    const float unit = largest / most_units;
    if (!finite || !(unit > 1.0e-37f)) return 0.0f;
    const Vec::Reg per_unit = Vec::splat(most_units / largest);
    for (uint32_t first = 0; first < factors; first += block) {
        char* table = tables + static_cast<size_t>(first) * byte_planes;
        PRUNUS_UNROLL
        for (uint32_t i = 0; i < block; i += Vec::lanes) {
            const __m512i u =
                _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(Vec::load(profile + first + i), per_unit)),
                                 _mm512_set1_epi32(1 << 23));
            for (uint32_t plane = 0; plane < byte_planes; ++plane)
                _mm_store_si128(reinterpret_cast<__m128i*>(table + plane * block + i),
                                _mm512_cvtepi32_epi8(_mm512_srli_epi32(u, 8 * plane)));
        }
    }
    return unit;
}

PRUNUS_INLINE __m512i table_of(const char* p) {
    return _mm512_load_si512(p);
}

// s = step unit (sum of levels u - 2^23 sum of levels) + bias: three sums of bytes, the highest of which starts at
// minus 128 times the sum of levels.
void score_quads(const PackedFactors& model, const float* profile, char* tables, float* scores) noexcept {
    const Quads& quads = model.quads;
    if (quads.blocks == 0) return score_one<Vec>(model, profile, tables, scores);
    const float unit = fill_tables(profile, model.factors, tables);
    if (unit == 0.0f) return score_one<Vec>(model, profile, tables, scores);
    const char* stream = quads.stream;
    const uint32_t* steps = quads.steps;
    for (uint32_t first = 0; first < model.items; first += group) {
        __m512i low = _mm512_setzero_si512(), mid = low, high = _mm512_load_si512(quads.level_sum + first);
        const char* table = tables;
        for (uint32_t b = 0; b < quads.blocks; ++b, table += block * byte_planes) {
            const __m512i low_0 = table_of(table), low_1 = table_of(table + 64);
            const __m512i mid_0 = table_of(table + 128), mid_1 = table_of(table + 192);
            const __m512i high_0 = table_of(table + 256), high_1 = table_of(table + 320);
            for (const char* end = stream + 128 * static_cast<size_t>(*steps++); stream != end; stream += 128) {
                const __m512i at = _mm512_load_si512(stream), levels = _mm512_load_si512(stream + 64);
                low = _mm512_dpbusd_epi32(low, _mm512_permutex2var_epi8(low_0, at, low_1), levels);
                mid = _mm512_dpbusd_epi32(mid, _mm512_permutex2var_epi8(mid_0, at, mid_1), levels);
                high = _mm512_dpbusd_epi32(high, _mm512_permutex2var_epi8(high_0, at, high_1), levels);
            }
        }
        const Vec::Reg sum = Vec::fma(_mm512_cvtepi32_ps(high), Vec::splat(65536.0f),
                                      Vec::fma(_mm512_cvtepi32_ps(mid), Vec::splat(256.0f), _mm512_cvtepi32_ps(low)));
        const Vec::Reg step = _mm512_mul_ps(Vec::load(quads.step + first), Vec::splat(unit));
        _mm512_store_ps(scores + first, Vec::fma(sum, step, Vec::load(model.bias + first)));
    }
}

}  // namespace

extern const RecommendIsa isa;
const RecommendIsa isa = {"avx512vbmi", Vec::lanes, 6, true, score_many<Vec>, score_quads, offer_scores<Vec>};

}  // namespace avx512vbmi
}  // namespace recommend
}  // namespace prunus
