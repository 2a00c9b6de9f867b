// AVX-512 (F, BW, DQ, VL): 16 documents in a vector. Included by avx512.cpp and avx512vnni.cpp, each inside a namespace
// of its own: they differ in how int8 weights are multiplied, and in nothing else.

#include "x86_int8.inl"

// Bit patterns of floats that `split` works with: 2/3 begins the interval of 1 + f, and 2 starts the power 2^(1-e).
constexpr int two_thirds = 0x3f2aaaab, two = 0x40000000, exponent_mask = static_cast<int>(0xff800000u);

struct Vec {
    static constexpr int lanes = 16;
    using Reg = __m512;
    using Widest = Vec;
    using Bytes = Int8x64;
    using Int = __m512i;
    using Mask = __mmask16;
    struct Split {
        Reg scale, exponent;
    };
    // 24 sums, 4 inputs, 1 weight: 29 of the 32 registers.
    static constexpr int dense_height(int vectors) { return vectors >= 3 ? 6 : 12; }

    static PRUNUS_INLINE Reg load(const float* p) { return _mm512_load_ps(p); }
    static PRUNUS_INLINE Reg load_any(const float* p) { return _mm512_loadu_ps(p); }
    static PRUNUS_INLINE void store(float* p, Reg x) { _mm512_store_ps(p, x); }
    static PRUNUS_INLINE Reg splat(float x) { return _mm512_set1_ps(x); }
    typedef uint64_t Pair __attribute__((may_alias, aligned(4)));
    // The weight goes through a general register: on Zen 4 a 512-bit broadcast from memory takes as long as a 64-byte
    // load (both of the two vector load pipes), and loads are what bounds the sparse kernel. 4 to 13 % faster there.
    static PRUNUS_INLINE Reg weight(const Weight* weight, uint32_t& offset) {
        uint64_t both = *reinterpret_cast<const Pair*>(weight);
        PRUNUS_OPAQUE(both);
        offset = static_cast<uint32_t>(both >> 32);
        return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(both)));
    }
    static PRUNUS_INLINE Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
    static PRUNUS_INLINE Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
    static PRUNUS_INLINE Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
    static PRUNUS_INLINE Reg div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
    static PRUNUS_INLINE Reg min(Reg a, Reg b) { return _mm512_min_ps(a, b); }
    static PRUNUS_INLINE Reg max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
    static PRUNUS_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
    static PRUNUS_INLINE Reg fma_once(Reg a, Reg b, Reg c) { return fma(a, b, c); }
    static PRUNUS_INLINE Mask is_nan(Reg x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q); }
    static PRUNUS_INLINE Mask equal(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
    static PRUNUS_INLINE Reg select(Mask m, Reg yes, Reg no) { return _mm512_mask_blend_ps(m, no, yes); }
    static PRUNUS_INLINE Reg watch(Reg seen, Reg x) { return fma(x, _mm512_setzero_ps(), seen); }
    static PRUNUS_INLINE Reg watch_present(Reg seen, Reg x, Mask missing) {
        return _mm512_mask3_fmadd_ps(x, _mm512_setzero_ps(), seen, static_cast<Mask>(~missing));
    }
    static PRUNUS_INLINE bool any_nan(Reg x) { return is_nan(x) != 0; }

    static PRUNUS_INLINE Reg magnitude(Reg x, float most) {
        return _mm512_range_ps(x, splat(most), 0b1010);  // the smaller magnitude, sign cleared
    }
    static PRUNUS_INLINE Reg with_sign(Reg magnitude, Reg sign) {
        const Int bit = _mm512_set1_epi32(static_cast<int>(0x80000000u));
        return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(magnitude), _mm512_castps_si512(sign),
                                                             bit, 0xf8));  // a | (b & c)
    }
    static PRUNUS_INLINE Split split(Reg u) {
        const Int bits = _mm512_and_epi32(_mm512_sub_epi32(_mm512_castps_si512(u), _mm512_set1_epi32(two_thirds)),
                                          _mm512_set1_epi32(exponent_mask));
        return {_mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32(two), bits)), _mm512_cvtepi32_ps(bits)};
    }
    static PRUNUS_INLINE Int round(Reg x) { return _mm512_cvtps_epi32(x); }
    // Packing saturates; too large an x for int32 becomes the least one, and so does NaN.
    static PRUNUS_INLINE Int steps(Reg x, Reg scale, Reg zero) { return round(fma(x, scale, zero)); }
    static PRUNUS_INLINE Reg to_float(Int n) { return _mm512_cvtepi32_ps(n); }
    static PRUNUS_INLINE Reg times_power(Reg x, Int n) {
        return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(n, 23)));
    }

    // Document 4 l + i to 128-bit lane l of register i, then four 4x4 transposes at once. Two halves of 256 bits are
    // joined: loads of 128 bits run two a cycle on Zen 4, broadcasts into one lane of 512 bits one (28 % slower).
    template <class RowsOf>
    static PRUNUS_INLINE void columns(RowsOf rows, size_t feature, Reg* out) {
        const auto a = rows.four(0, feature), b = rows.four(1, feature), c = rows.four(2, feature),
                   d = rows.four(3, feature);
        Reg part[4];
        PRUNUS_UNROLL
        for (int i = 0; i < 4; ++i) {
            const __m256 ab = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(a(i))), _mm_loadu_ps(b(i)), 1);
            const __m256 cd = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(c(i))), _mm_loadu_ps(d(i)), 1);
            part[i] = _mm512_castpd_ps(
                _mm512_insertf64x4(_mm512_castps_pd(_mm512_castps256_ps512(ab)), _mm256_castps_pd(cd), 1));
        }
        const __m512d ab0 = _mm512_castps_pd(_mm512_unpacklo_ps(part[0], part[1])),
                      ab1 = _mm512_castps_pd(_mm512_unpackhi_ps(part[0], part[1]));
        const __m512d cd0 = _mm512_castps_pd(_mm512_unpacklo_ps(part[2], part[3])),
                      cd1 = _mm512_castps_pd(_mm512_unpackhi_ps(part[2], part[3]));
        out[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab0, cd0));
        out[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab0, cd0));
        out[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab1, cd1));
        out[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab1, cd1));
    }
    static PRUNUS_INLINE void store_first(float* p, Reg x, uint32_t count) {
        const Mask kept = static_cast<Mask>(count >= 16 ? 0xffffu : (1u << count) - 1u);
        _mm512_mask_storeu_ps(p, kept, x);
    }
};

#include "../kernels/body.inl"
#include "x86_eight.inl"
#include "x86_quad.inl"

// Up to eight documents take a vector of 256 bits, and so do 17 to 24, three of them, where the CPU runs 512 bits as
// two halves: on Zen 4 a dense network took 36 % less time for 8 documents and 19 % less for 17 to 24, a sparse one 20
// to 23 % and 6 to 11 %.
bool score_rest(const Packed& net, const float* X, uint32_t documents, float* out, float* scratch) {
    const bool fours = documents <= 4 || documents <= net.few;
    if (!fours && documents <= 8) return score_tile<Eight, 1, narrow_stream, false>(net, X, documents, 0, out, scratch);
    if (net.halves_512 && documents > 16 && documents <= 24)
        return score_tile<Eight, 3, narrow_stream, false>(net, X, documents, 0, out, scratch);
    return documents <= 16 ? score_few(net, X, documents, out, scratch)
                           : score_vectors<Vec>(net, X, documents, out, scratch);
}

bool score(const Packed& net, const float* X, size_t n, float* out, float* scratch) noexcept {
    return score_batch<Vec, score_rest>(net, X, n, out, scratch);
}

// Tiles of two and four vectors, networks a -> b -> 1 of 3 and 10 % density, on Zen 4 (32 KiB L1d): four are 1-4 %
// faster at 288 rows (72 KiB) and below, equal at 384 (96 KiB), 7-19 % slower from 480 to 1600. A weight's broadcast is
// shared by more vectors, but the activations leave L1, and an L2 load costs more than that.
constexpr size_t largest_tile = 96 * 1024;
