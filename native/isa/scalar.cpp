// Plain C: four documents side by side, with the compiler's portable vectors (SSE2 on x86-64, NEON on aarch64).
#include "../kernels/macros.hpp"
#include "isa.hpp"

namespace prunus {
namespace scalar {
namespace {

constexpr int two_thirds = 0x3f2aaaab, two = 0x40000000, exponent_mask = static_cast<int>(0xff800000u);

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));

// Bytes of four documents: see x86_int8.inl, whose words these are. A row holds the bytes of vectors 0 to 3 in each
// lane.
constexpr uint32_t int8_halves = 2;

struct Int8x16 {
    using Int = Ints;
    typedef int32_t Memory __attribute__((vector_size(16), may_alias));
    typedef int32_t Word __attribute__((may_alias));
    static constexpr int height(int) { return 2; }
    static constexpr int sums_of_few(int) { return 8; }

    static PRUNUS_INLINE Int zero() { return Int{}; }
    static PRUNUS_INLINE Int splat(int32_t x) { return Int{x, x, x, x}; }
    static PRUNUS_INLINE Int splat_at(const void* p) { return splat(*static_cast<const Word*>(p)); }
    static PRUNUS_INLINE Int load(const void* p) { return *static_cast<const Memory*>(p); }
    static PRUNUS_INLINE void store(void* p, Int x) { *static_cast<Memory*>(p) = x; }

#ifdef __SSE2__
    // Pairs of 16 bits, as in x86_int8.inl: SSE2 multiplies no 32-bit integers.
    typedef int16_t Shorts __attribute__((vector_size(16)));
    struct Quads {
        Int even, odd;
    };
    static PRUNUS_INLINE Quads quads(Int x) { return {x & 0x00ff00ff, x >> 8 & 0x00ff00ff}; }
    static PRUNUS_INLINE Quads pairs(Int even, Int odd) { return {even, odd}; }
    static PRUNUS_INLINE Int dot(Int sum, Quads x, Quads w) {
        const auto multiply = [](Int a, Int b) {
            return reinterpret_cast<Int>(
                __builtin_ia32_pmaddwd128(reinterpret_cast<Shorts>(a), reinterpret_cast<Shorts>(b)));
        };
        return sum + multiply(x.even, w.even) + multiply(x.odd, w.odd);
    }
#else
    struct Quads {
        Int byte[4];
    };
    static PRUNUS_INLINE Quads quads(Int x) { return {{x & 255, x >> 8 & 255, x >> 16 & 255, x >> 24 & 255}}; }
    static PRUNUS_INLINE Quads pairs(Int even, Int odd) {
        return {{(even << 16) >> 16, (odd << 16) >> 16, even >> 16, odd >> 16}};
    }
    static PRUNUS_INLINE Int dot(Int sum, Quads x, Quads w) {
        PRUNUS_UNROLL
        for (int i = 0; i < 4; ++i) sum += x.byte[i] * w.byte[i];
        return sum;
    }
#endif
    static PRUNUS_INLINE Quads weights(const int32_t* p, uint32_t odd) { return pairs(splat(p[0]), splat(p[odd])); }
    static PRUNUS_INLINE Quads weights_in_lanes(const int32_t* p, uint32_t odd) {
        return pairs(Int{p[0], p[1], p[2], p[3]}, Int{p[odd], p[odd + 1], p[odd + 2], p[odd + 3]});
    }
    static PRUNUS_INLINE Quads block(const int32_t* p, uint32_t& offset) {
        offset = static_cast<uint32_t>(p[2]);
        return pairs(splat(p[0]), splat(p[1]));
    }

    static PRUNUS_INLINE Int row(Int a, Int b, Int c, Int d) { return a | b << 8 | c << 16 | d << 24; }
    static PRUNUS_INLINE void store_quads_of_outputs(void* p, Int a, Int b, Int c, Int d) {
        const auto quad = [](Int q) { return q[0] | q[1] << 8 | q[2] << 16 | q[3] << 24; };
        store(p, Int{quad(a), quad(b), quad(c), quad(d)});
    }
    static PRUNUS_INLINE Int quads_of(Int a, Int b, Int c, Int d) { return row(a, b, c, d); }
    template <int vectors>
    static PRUNUS_INLINE void interleave(Int a, Int b, Int c, Int d, Int* out) {
        PRUNUS_UNROLL
        for (int g = 0; g < vectors; ++g) {
            const auto byte = [&](Int x) { return x >> 8 * g & 255; };
            out[g] = row(byte(a), byte(b), byte(c), byte(d));
        }
    }
};

struct Vec {
    static constexpr int lanes = 4;
    using Bytes = Int8x16;
    using Widest = Vec;
    using Reg = Floats;
    using Int = Ints;
    using Mask = Int;
    typedef float Memory __attribute__((vector_size(16), may_alias));
    struct Split {
        Reg scale, exponent;
    };
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
    // One rounding, as int8 layers demand. In double the product is exact and the sum is not: where something was cut
    // off (Knuth's TwoSum says what), its last bit is made odd, and an odd double rounds to float as the exact number.
    static PRUNUS_INLINE Reg fma_once(Reg a, Reg b, Reg c) {
        typedef double Doubles __attribute__((vector_size(32)));
        typedef int64_t Longs __attribute__((vector_size(32)));
        const Doubles product = __builtin_convertvector(a, Doubles) * __builtin_convertvector(b, Doubles),
                      added = __builtin_convertvector(c, Doubles), total = product + added, part = total - product,
                      error = (product - (total - part)) + (added - part);
        const Longs whole = reinterpret_cast<Longs>(total), outwards = (error > 0) == (total > 0),
                    cut = (error < 0) | (error > 0);
        const Longs odd = whole + (cut & ((whole & 1) - 1) & ((1 & outwards) | ~outwards));
        return __builtin_convertvector(reinterpret_cast<Doubles>(odd), Reg);
    }
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
    static PRUNUS_INLINE Int steps(Reg x, Reg scale, Reg zero) {
        return round(min(max(fma_once(x, scale, zero), splat(0.0f)), splat(255.0f)));  // NaN to 0
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

bool score_rest(const Packed& net, const float* X, uint32_t documents, float* out, float* scratch) {
    if (documents == 1) return score_tile<Vec, 1, wide_stream, true>(net, X, documents, 0, out, scratch);
    return score_vectors<Vec>(net, X, documents, out, scratch);
}

bool score(const Packed& net, const float* X, size_t n, float* out, float* scratch) noexcept {
    return score_batch<Vec, score_rest>(net, X, n, out, scratch);
}

}  // namespace

// Four vectors were faster than two up to the widest tried, 1600 rows of 128 bytes (by 5 to 19 %, tried with AVX2 on
// Zen 4).
constexpr size_t largest_tile = SIZE_MAX;

extern const Isa isa;
const Isa isa = {"scalar", Vec::lanes, false, int8_halves, largest_tile, score};

}  // namespace scalar
}  // namespace prunus
