// AVX2 and FMA: eight users, or eight factors, in a vector.
#include <immintrin.h>

#include "../../kernels/macros.hpp"
#include "recommend_isa.hpp"

namespace prunus {
namespace recommend {
namespace avx2 {
namespace {

#include "../kernels/body.inl"

struct Vec {
    static constexpr uint32_t lanes = 8;
    using Reg = __m256;
    static PRUNUS_INLINE Reg load(const float* p) { return _mm256_load_ps(p); }
    static PRUNUS_INLINE Reg load_any(const float* p) { return _mm256_loadu_ps(p); }
    static PRUNUS_INLINE void store_any(float* p, Reg a) { _mm256_storeu_ps(p, a); }
    static PRUNUS_INLINE Reg splat(float x) { return _mm256_set1_ps(x); }
    static PRUNUS_INLINE Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
    static PRUNUS_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
    static PRUNUS_INLINE Reg gather(const float* p, const int32_t* at) {
        return _mm256_i32gather_ps(p, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)), 4);
    }
    static PRUNUS_INLINE float total(Reg a) {
        __m128 sum = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
        return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
    }
    static PRUNUS_INLINE uint32_t at_least(Reg a, Reg b) {
        return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
    }
};

}  // namespace

extern const RecommendIsa isa;
const RecommendIsa isa = {"avx2",         Vec::lanes, 2,       false,   score_many<Vec>,
                          score_one<Vec>, nullptr,    nullptr, nullptr, offer_scores<Vec>};

}  // namespace avx2
}  // namespace recommend
}  // namespace prunus
