// NEON: four users, or four factors, in a vector.
#include <arm_neon.h>

#include "../../kernels/macros.hpp"
#include "recommend_isa.hpp"

namespace prunus {
namespace recommend {
namespace neon {
namespace {

#include "../kernels/body.inl"

struct Vec {
    static constexpr uint32_t lanes = 4;
    using Reg = float32x4_t;
    static PRUNUS_INLINE Reg load(const float* p) { return vld1q_f32(p); }
    static PRUNUS_INLINE Reg load_any(const float* p) { return vld1q_f32(p); }
    static PRUNUS_INLINE void store_any(float* p, Reg a) { vst1q_f32(p, a); }
    static PRUNUS_INLINE Reg splat(float x) { return vdupq_n_f32(x); }
    static PRUNUS_INLINE Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
    static PRUNUS_INLINE Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
    static PRUNUS_INLINE Reg gather(const float* p, const int32_t* at) {
        return Reg{p[at[0]], p[at[1]], p[at[2]], p[at[3]]};
    }
    static PRUNUS_INLINE float total(Reg a) { return vaddvq_f32(a); }
    static PRUNUS_INLINE uint32_t at_least(Reg a, Reg b) {
        return vaddvq_u32(vandq_u32(vcgeq_f32(a, b), uint32x4_t{1, 2, 4, 8}));
    }
};

}  // namespace

extern const RecommendIsa isa;
const RecommendIsa isa = {"neon",         Vec::lanes, 2,       false,   score_many<Vec>,
                          score_one<Vec>, nullptr,    nullptr, nullptr, offer_scores<Vec>};

}  // namespace neon
}  // namespace recommend
}  // namespace prunus
