// Plain C++, for every CPU.
#include "../../kernels/macros.hpp"
#include "recommend_isa.hpp"

namespace prunus {
namespace recommend {
namespace scalar {
namespace {

#include "../kernels/body.inl"

struct Vec {
    static constexpr uint32_t lanes = 4;
    struct Reg {
        float x[4];
    };
    template <class F>
    static PRUNUS_INLINE Reg each(const F& f) {
        return {{f(0), f(1), f(2), f(3)}};
    }
    static PRUNUS_INLINE Reg load(const float* p) { return load_any(p); }
    static PRUNUS_INLINE Reg load_any(const float* p) {
        return each([p](int i) { return p[i]; });
    }
    static PRUNUS_INLINE void store_any(float* p, Reg a) {
        for (int i = 0; i < 4; ++i) p[i] = a.x[i];
    }
    static PRUNUS_INLINE Reg splat(float x) { return {{x, x, x, x}}; }
    static PRUNUS_INLINE Reg add(Reg a, Reg b) {
        return each([&](int i) { return a.x[i] + b.x[i]; });
    }
    static PRUNUS_INLINE Reg fma(Reg a, Reg b, Reg c) {
        return each([&](int i) { return a.x[i] * b.x[i] + c.x[i]; });
    }
    static PRUNUS_INLINE Reg gather(const float* p, const int32_t* at) {
        return each([&](int i) { return p[at[i]]; });
    }
    static PRUNUS_INLINE float total(Reg a) { return (a.x[0] + a.x[1]) + (a.x[2] + a.x[3]); }
    static PRUNUS_INLINE uint32_t at_least(Reg a, Reg b) {
        uint32_t bits = 0;
        for (uint32_t i = 0; i < 4; ++i) bits |= static_cast<uint32_t>(a.x[i] >= b.x[i]) << i;
        return bits;
    }
};

}  // namespace

extern const RecommendIsa isa;
const RecommendIsa isa = {"scalar",       Vec::lanes, 3,       false,   score_many<Vec>,
                          score_one<Vec>, nullptr,    nullptr, nullptr, offer_scores<Vec>};

}  // namespace scalar
}  // namespace recommend
}  // namespace prunus
