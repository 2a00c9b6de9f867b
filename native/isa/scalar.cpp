// Plain C: four documents side by side, with the compiler's portable vectors (SSE2 on x86-64, NEON on aarch64).
#include "../kernels/macros.hpp"
#include "isa.hpp"

namespace prunus {
namespace scalar {
namespace {

constexpr int two_thirds = 0x3f2aaaab, two = 0x40000000, exponent_mask = static_cast<int>(0xff800000u);

struct Vec {
    static constexpr int lanes = 4;
    typedef float Reg __attribute__((vector_size(16)));
    typedef int32_t Int __attribute__((vector_size(16)));
    using Mask = Int;
    typedef float Memory __attribute__((vector_size(16), may_alias));
    struct Split {
        Reg scale, exponent;
    };
    static constexpr float exponent_to_log = 0x1p-23f * 0.693147180559945f;
    static constexpr int dense_height(int vectors) { return vectors >= 3 ? 3 : 12 / vectors; }

    static PRUNUS_INLINE Reg load(const float* p) { return *reinterpret_cast<const Memory*>(p); }
    static PRUNUS_INLINE void store(float* p, Reg x) { *reinterpret_cast<Memory*>(p) = x; }
    static PRUNUS_INLINE Reg splat(float x) { return Reg{x, x, x, x}; }
    static PRUNUS_INLINE Int splat_int(int x) { return Int{x, x, x, x}; }
    static PRUNUS_INLINE Reg weight(const Weight* weight, uint32_t& offset) {
        offset = weight->offset;
        return splat(weight->value);
    }
    static PRUNUS_INLINE Reg add(Reg a, Reg b) { return a + b; }
    static PRUNUS_INLINE Reg sub(Reg a, Reg b) { return a - b; }
    static PRUNUS_INLINE Reg mul(Reg a, Reg b) { return a * b; }
    static PRUNUS_INLINE Reg div(Reg a, Reg b) { return a / b; }
    static PRUNUS_INLINE Reg min(Reg a, Reg b) { return a < b ? a : b; }
    static PRUNUS_INLINE Reg max(Reg a, Reg b) { return a > b ? a : b; }
    static PRUNUS_INLINE Reg fma(Reg a, Reg b, Reg c) {
        return a * b + c;
    }  // two roundings: this CPU may have no fused one
    static PRUNUS_INLINE Mask is_nan(Reg x) { return x != x; }
    static PRUNUS_INLINE Mask equal(Reg a, Reg b) { return a == b; }
    static PRUNUS_INLINE Reg select(Mask m, Reg yes, Reg no) { return m ? yes : no; }
    static PRUNUS_INLINE Reg watch(Reg seen, Reg x) { return x * 0.0f + seen; }
    static PRUNUS_INLINE Reg watch_present(Reg seen, Reg x, Mask missing) {
        return watch(seen, missing ? splat(0.0f) : x);
    }
    static PRUNUS_INLINE bool any_nan(Reg x) {
        const Mask m = is_nan(x);
        return (m[0] | m[1] | m[2] | m[3]) != 0;
    }

    static PRUNUS_INLINE Reg from_bits(Int x) { return reinterpret_cast<Reg>(x); }
    static PRUNUS_INLINE Int bits(Reg x) { return reinterpret_cast<Int>(x); }
    static PRUNUS_INLINE Reg magnitude(Reg x, float most) { return min(from_bits(bits(x) & 0x7fffffff), splat(most)); }
    static PRUNUS_INLINE Reg with_sign(Reg magnitude, Reg sign) {
        return from_bits(bits(magnitude) | (bits(sign) & splat_int(static_cast<int>(0x80000000u))));
    }
    static PRUNUS_INLINE Split split(Reg u) {
        const Int whole = (bits(u) - two_thirds) & exponent_mask;
        return {from_bits(two - whole), __builtin_convertvector(whole, Reg)};
    }
    static PRUNUS_INLINE Int round(Reg x) {
        const Reg magic = splat(0x1.8p23f);  // adding it leaves the nearest integer in the low bits
        return bits(x + magic) - bits(magic);
    }
    static PRUNUS_INLINE Reg to_float(Int n) { return __builtin_convertvector(n, Reg); }
    static PRUNUS_INLINE Reg times_power(Reg x, Int n) { return from_bits(bits(x) + (n << 23)); }

    template <int lane>
    static PRUNUS_INLINE Reg spread(Reg x) {
        return splat(x[lane]);
    }
    static PRUNUS_INLINE Reg load_any(const float* p) { return Reg{p[0], p[1], p[2], p[3]}; }

    template <class RowsOf>
    static PRUNUS_INLINE void columns(RowsOf rows, size_t feature, Reg* out) {
        const auto row = rows.four(0, feature);
        const float *a = row(0), *b = row(1), *c = row(2), *d = row(3);
        PRUNUS_UNROLL
        for (int j = 0; j < 4; ++j) out[j] = Reg{a[j], b[j], c[j], d[j]};
    }
    static PRUNUS_INLINE void store_first(float* p, Reg x, uint32_t count) {
        for (uint32_t i = 0; i < 4; ++i)
            if (i < count) p[i] = x[i];
    }
};

#include "../kernels/body.inl"

bool score_few(const Packed& net, const float* X, uint32_t documents, float* out, float* scratch) {
    if (documents == 1) return score_tile<Vec, 1, wide_stream, true>(net, X, documents, out, scratch);
    return score_tile<Vec, 1, wide_stream, false>(net, X, documents, out, scratch);
}

bool score(const Packed& net, const float* X, size_t n, float* out, float* scratch) noexcept {
    return score_batch<Vec, score_few>(net, X, n, out, scratch);
}

}  // namespace

// Four vectors were faster than two up to the widest tried, 1600 rows of 128 bytes (by 5 to 19 %, tried with AVX2 on
// Zen 4).
constexpr size_t largest_tile = SIZE_MAX;

extern const Isa isa;
const Isa isa = {"scalar", Vec::lanes, false, largest_tile, score};

}  // namespace scalar
}  // namespace prunus
