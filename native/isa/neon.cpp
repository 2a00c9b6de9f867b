// NEON, as every AArch64 CPU has it: 4 documents in a vector. Nothing of Armv8.2 and later, so that one build runs on
// all of them.
#include <arm_neon.h>

#include "../kernels/macros.hpp"
#include "isa.hpp"

namespace prunus {
namespace neon {
namespace {

// Bit patterns of floats that `split` works with: 2/3 begins the interval of 1 + f, and 2 starts the power 2^(1-e).
constexpr int two_thirds = 0x3f2aaaab, two = 0x40000000, exponent_mask = static_cast<int>(0xff800000u);

// No instruction of Armv8.0 multiplies unsigned bytes with signed ones: pairs of 16 bits, as in x86_int8.inl.
constexpr uint32_t int8_halves = 2;

// Bytes of four documents: see x86_int8.inl, whose words and layout these are.
struct Int8x16 {
    using Int = int32x4_t;
    typedef int32x4_t Memory __attribute__((may_alias, aligned(4)));
    typedef int32_t Word __attribute__((may_alias));
    struct Quads {
        int16x8_t even, odd;
    };
    // 8 to 16 sums, 8 or 16 registers of weights, 2 of inputs, 2 of products: the 32 registers, nearly.
    static constexpr int height(int vectors) { return vectors >= 3 ? 4 : 8; }
    static constexpr int sums_of_few(int) { return 8; }

    static PRUNUS_INLINE Int zero() { return vdupq_n_s32(0); }
    static PRUNUS_INLINE Int splat(int32_t x) { return vdupq_n_s32(x); }
    static PRUNUS_INLINE Int splat_at(const void* p) { return splat(*static_cast<const Word*>(p)); }
    static PRUNUS_INLINE Int load(const void* p) { return *static_cast<const Memory*>(p); }
    static PRUNUS_INLINE void store(void* p, Int x) { *static_cast<Memory*>(p) = x; }

    static PRUNUS_INLINE Quads pairs(Int even, Int odd) {
        return {vreinterpretq_s16_s32(even), vreinterpretq_s16_s32(odd)};
    }
    static PRUNUS_INLINE Quads quads(Int x) {
        return {vandq_s16(vreinterpretq_s16_s32(x), vdupq_n_s16(255)),
                vreinterpretq_s16_u16(vshrq_n_u16(vreinterpretq_u16_s32(x), 8))};
    }
    static PRUNUS_INLINE Quads weights(const int32_t* p, uint32_t odd) { return pairs(splat(p[0]), splat(p[odd])); }
    static PRUNUS_INLINE Quads weights_in_lanes(const int32_t* p, uint32_t odd) {
        return pairs(load(p), load(p + odd));
    }
    static PRUNUS_INLINE Quads block(const int32_t* p, uint32_t& offset) {
        offset = static_cast<uint32_t>(p[2]);
        return weights(p, 1);
    }
    static PRUNUS_INLINE Int dot(Int sum, const Quads& x, const Quads& w) {
        const Int low = vmlal_s16(vmull_s16(vget_low_s16(x.even), vget_low_s16(w.even)), vget_low_s16(x.odd),
                                  vget_low_s16(w.odd)),
                  high = vmlal_high_s16(vmull_high_s16(x.even, w.even), x.odd, w.odd);
        return vaddq_s32(sum, vpaddq_s32(low, high));
    }

    // Steps of four vectors, saturated to bytes, as one row.
    static PRUNUS_INLINE Int row(Int a, Int b, Int c, Int d) {
        const int16x8_t ab = vqmovn_high_s32(vqmovn_s32(a), b), cd = vqmovn_high_s32(vqmovn_s32(c), d);
        return vreinterpretq_s32_u8(vqmovun_high_s16(vqmovun_s16(ab), cd));
    }
    static PRUNUS_INLINE void store_quads_of_outputs(void* p, Int a, Int b, Int c, Int d) { store(p, row(a, b, c, d)); }
    static PRUNUS_INLINE Int quads_of(Int a, Int b, Int c, Int d) {
        const uint8x16_t transpose = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
        return vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(row(a, b, c, d)), transpose));
    }
    // Rows of four inputs to the quads of the first `vectors` vectors of documents.
    template <int vectors>
    static PRUNUS_INLINE void interleave(Int a, Int b, Int c, Int d, Int* out) {
        const auto bytes = [](Int x) { return vreinterpretq_u8_s32(x); };
        const auto low = [](uint8x16_t x, uint8x16_t y) {
            return vreinterpretq_s32_u16(vzip1q_u16(vreinterpretq_u16_u8(x), vreinterpretq_u16_u8(y)));
        };
        const auto high = [](uint8x16_t x, uint8x16_t y) {
            return vreinterpretq_s32_u16(vzip2q_u16(vreinterpretq_u16_u8(x), vreinterpretq_u16_u8(y)));
        };
        const uint8x16_t ab = vzip1q_u8(bytes(a), bytes(b)), cd = vzip1q_u8(bytes(c), bytes(d));
        out[0] = low(ab, cd);
        if (vectors > 1) out[1] = high(ab, cd);
        const uint8x16_t ab2 = vzip2q_u8(bytes(a), bytes(b)), cd2 = vzip2q_u8(bytes(c), bytes(d));
        if (vectors > 2) out[2] = low(ab2, cd2);
        if (vectors > 3) out[3] = high(ab2, cd2);
    }
};

struct Vec {
    static constexpr int lanes = 4;
    using Reg = float32x4_t;
    using Bytes = Int8x16;
    using Widest = Vec;
    using Int = int32x4_t;
    using Mask = uint32x4_t;
    struct Split {
        Reg scale, exponent;
    };
    // 12 or 16 sums: with 24 GCC 12 spills, since it loads all weights first.
    static constexpr int dense_height(int vectors) { return vectors >= 3 ? 4 : 12 / vectors; }

    static PRUNUS_INLINE Reg load(const float* p) { return vld1q_f32(p); }
    static PRUNUS_INLINE Reg load_any(const float* p) { return vld1q_f32(p); }
    static PRUNUS_INLINE void store(float* p, Reg x) { vst1q_f32(p, x); }
    static PRUNUS_INLINE Reg splat(float x) { return vdupq_n_f32(x); }
    static PRUNUS_INLINE Reg weight(const Weight* weight, uint32_t& offset) {
        offset = weight->offset;
        return vld1q_dup_f32(&weight->value);
    }
    static PRUNUS_INLINE Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
    static PRUNUS_INLINE Reg sub(Reg a, Reg b) { return vsubq_f32(a, b); }
    static PRUNUS_INLINE Reg mul(Reg a, Reg b) { return vmulq_f32(a, b); }
    static PRUNUS_INLINE Reg div(Reg a, Reg b) { return vdivq_f32(a, b); }
    // Where either is NaN, NaN, whichever stands first: on x86 the second.
    static PRUNUS_INLINE Reg min(Reg a, Reg b) { return vminq_f32(a, b); }
    static PRUNUS_INLINE Reg max(Reg a, Reg b) { return vmaxq_f32(a, b); }
    static PRUNUS_INLINE Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
    static PRUNUS_INLINE Reg fma_once(Reg a, Reg b, Reg c) { return fma(a, b, c); }
    static PRUNUS_INLINE Mask is_nan(Reg x) { return vmvnq_u32(vceqq_f32(x, x)); }
    static PRUNUS_INLINE Mask equal(Reg a, Reg b) { return vceqq_f32(a, b); }
    static PRUNUS_INLINE Reg select(Mask m, Reg yes, Reg no) { return vbslq_f32(m, yes, no); }
    static PRUNUS_INLINE Reg watch(Reg seen, Reg x) { return fma(x, splat(0.0f), seen); }
    static PRUNUS_INLINE Reg watch_present(Reg seen, Reg x, Mask missing) {
        return watch(seen, vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), missing)));
    }
    static PRUNUS_INLINE bool any_nan(Reg x) { return vmaxvq_u32(is_nan(x)) != 0; }

    // NaN to `most`.
    static PRUNUS_INLINE Reg magnitude(Reg x, float most) { return vminnmq_f32(vabsq_f32(x), splat(most)); }
    static PRUNUS_INLINE Reg with_sign(Reg magnitude, Reg sign) {
        return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude);
    }
    static PRUNUS_INLINE Split split(Reg u) {
        const Int bits =
            vandq_s32(vsubq_s32(vreinterpretq_s32_f32(u), vdupq_n_s32(two_thirds)), vdupq_n_s32(exponent_mask));
        return {vreinterpretq_f32_s32(vsubq_s32(vdupq_n_s32(two), bits)), vcvtq_f32_s32(bits)};
    }
    static PRUNUS_INLINE Int round(Reg x) { return vcvtnq_s32_f32(x); }
    // The conversion saturates, and so does packing; NaN becomes 0.
    static PRUNUS_INLINE Int steps(Reg x, Reg scale, Reg zero) { return round(fma(x, scale, zero)); }
    static PRUNUS_INLINE Reg to_float(Int n) { return vcvtq_f32_s32(n); }
    static PRUNUS_INLINE Reg times_power(Reg x, Int n) {
        return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), vshlq_n_s32(n, 23)));
    }

    // Lane `lane` in every lane.
    template <int lane>
    static PRUNUS_INLINE Reg spread(Reg x) {
        return vdupq_laneq_f32(x, lane);
    }

    template <class RowsOf>
    static PRUNUS_INLINE void columns(RowsOf rows, size_t feature, Reg* out) {
        const auto row = rows.four(0, feature);
        const float64x2_t ab0 = vreinterpretq_f64_f32(vtrn1q_f32(vld1q_f32(row(0)), vld1q_f32(row(1)))),
                          ab1 = vreinterpretq_f64_f32(vtrn2q_f32(vld1q_f32(row(0)), vld1q_f32(row(1)))),
                          cd0 = vreinterpretq_f64_f32(vtrn1q_f32(vld1q_f32(row(2)), vld1q_f32(row(3)))),
                          cd1 = vreinterpretq_f64_f32(vtrn2q_f32(vld1q_f32(row(2)), vld1q_f32(row(3))));
        out[0] = vreinterpretq_f32_f64(vtrn1q_f64(ab0, cd0));
        out[1] = vreinterpretq_f32_f64(vtrn1q_f64(ab1, cd1));
        out[2] = vreinterpretq_f32_f64(vtrn2q_f64(ab0, cd0));
        out[3] = vreinterpretq_f32_f64(vtrn2q_f64(ab1, cd1));
    }
    static PRUNUS_INLINE void store_first(float* p, Reg x, uint32_t count) {
        if (count >= 4) return store(p, x);
        alignas(16) float lane[4];
        store(lane, x);
        for (uint32_t i = 0; i < count; ++i) p[i] = lane[i];
    }
};

#include "../kernels/body.inl"

bool score_rest(const Packed& net, const float* X, uint32_t documents, float* out, float* scratch) {
    if (documents == 1) return score_tile<Vec, 1, wide_stream, true>(net, X, documents, 0, out, scratch);
    return score_vectors<Vec>(net, X, documents, out, scratch);
}

bool score(const Packed& net, const float* X, size_t n, float* out, float* scratch) noexcept {
    return score_batch<Vec, score_rest>(net, X, n, out, scratch);
}

}  // namespace

// As for the other narrow vectors: see avx2.cpp. Not timed on a CPU of this kind.
constexpr size_t largest_tile = SIZE_MAX;

extern const Isa isa;
const Isa isa = {"neon", Vec::lanes, false, int8_halves, largest_tile, score};

}  // namespace neon
}  // namespace prunus
