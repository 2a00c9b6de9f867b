// NEON: blocks of 128 and 256 documents.
#include <arm_neon.h>

#include "../../kernels/macros.hpp"
#include "forest_isa.hpp"

namespace prunus {
namespace forest {
namespace neon {
namespace {

// A bit for each of 128 documents in each of `count` registers.
template <int count>
struct Bits {
    static constexpr uint32_t documents = 128 * count, bytes = 16 * count;
    struct Reg {
        uint8x16_t part[count];
    };
    template <class Of>
    static PRUNUS_INLINE Reg each(Of of) {
        Reg x;
        PRUNUS_UNROLL
        for (int i = 0; i < count; ++i) x.part[i] = of(i);
        return x;
    }
    static PRUNUS_INLINE Reg load(const char* p) {
        return each([&](int i) { return vld1q_u8(reinterpret_cast<const uint8_t*>(p) + 16 * i); });
    }
    static PRUNUS_INLINE void store(char* p, const Reg& x) {
        PRUNUS_UNROLL
        for (int i = 0; i < count; ++i) vst1q_u8(reinterpret_cast<uint8_t*>(p) + 16 * i, x.part[i]);
    }
    static PRUNUS_INLINE Reg splat(uint8_t byte) {
        return each([&](int) { return vdupq_n_u8(byte); });
    }
    static PRUNUS_INLINE Reg zeros() { return splat(0); }
    static PRUNUS_INLINE Reg ones() { return splat(255); }
    static PRUNUS_INLINE Reg and_(const Reg& a, const Reg& b) {
        return each([&](int i) { return vandq_u8(a.part[i], b.part[i]); });
    }
    static PRUNUS_INLINE Reg or_(const Reg& a, const Reg& b) {
        return each([&](int i) { return vorrq_u8(a.part[i], b.part[i]); });
    }
    static PRUNUS_INLINE Reg andnot(const Reg& a, const Reg& b) {
        return each([&](int i) { return vbicq_u8(b.part[i], a.part[i]); });
    }
    static PRUNUS_INLINE Reg or_and(const Reg& a, const Reg& b, const Reg& c) { return or_(a, and_(b, c)); }
    static PRUNUS_INLINE Reg blend(const Reg& mask, const Reg& a, const Reg& b) {
        return each([&](int i) { return vbslq_u8(mask.part[i], a.part[i], b.part[i]); });
    }
};

#include "../kernels/body.inl"

// Values as their variant wants them; `right` of the search does the rest. What is missing becomes NaN.
PRUNUS_INLINE float32x4_t prepare(Variant variant, float32x4_t x) {
    uint32x4_t bits = vreinterpretq_u32_f32(x);
    if (variant == Variant::nan_is_zero) bits = vandq_u32(bits, vceqq_f32(x, x));
    if (variant == Variant::zero_left || variant == Variant::zero_right)
        bits = vorrq_u32(bits, vcaleq_f32(x, vdupq_n_f32(largest_zero)));
    return vreinterpretq_f32_u32(bits);
}

// Entries of a table of 4 * count floats, in registers.
template <int count>
struct Table {
    uint8x16x4_t part;
    explicit PRUNUS_INLINE Table(const float* p) {
        for (int i = 0; i < count; ++i) part.val[i] = vreinterpretq_u8_f32(vld1q_f32(p + 4 * i));
    }
    PRUNUS_INLINE float32x4_t operator()(uint32x4_t index) const {
        // Bytes 4 i to 4 i + 3.
        const uint8x16_t at = vreinterpretq_u8_u32(vmlaq_n_u32(vdupq_n_u32(0x03020100), index, 0x04040404));
        if (count == 1) return vreinterpretq_f32_u8(vqtbl1q_u8(part.val[0], at));
        if (count == 2) return vreinterpretq_f32_u8(vqtbl2q_u8({{part.val[0], part.val[1]}}, at));
        return vreinterpretq_f32_u8(vqtbl4q_u8(part, at));
    }
};

// Search four documents at a time: thresholds of the first levels stand in registers, later ones are loaded one by one.
// Gives the decisions of four documents, the first in the lowest bit.
struct Levels {
    const float* table;
    uint32_t levels;
    Table<1> level_1, level_2;
    Table<2> level_3;
    Table<4> level_4;
    explicit PRUNUS_INLINE Levels(const Search& what)
        : table(what.table),
          levels(what.levels),
          level_1(table + (levels > 1 ? 16 : 0)),
          level_2(table + (levels > 2 ? 32 : 0)),
          level_3(table + (levels > 3 ? 48 : 0)),
          level_4(table + (levels > 4 ? 64 : 0)) {}

    template <bool right>
    PRUNUS_INLINE uint32x4_t decisions(float32x4_t value) const {
        uint32x4_t path = vdupq_n_u32(0);
        const auto decide = [&](uint32_t l, float32x4_t threshold) {
            // NaN lies beyond every threshold, or before.
            const uint32x4_t above = right ? vmvnq_u32(vcleq_f32(value, threshold)) : vcgtq_f32(value, threshold);
            path = vorrq_u32(path, vandq_u32(above, vdupq_n_u32(1u << l)));
        };
        decide(0, vdupq_n_f32(table[0]));
        if (levels > 1) decide(1, level_1(path));
        if (levels > 2) decide(2, level_2(path));
        if (levels > 3) decide(3, level_3(path));
        if (levels > 4) decide(4, level_4(path));
        const float* level = table + 80;
        for (uint32_t l = 5; l < levels; ++l) {
            const float32x4_t threshold = {level[path[0]], level[path[1]], level[path[2]], level[path[3]]};
            decide(l, threshold);
            level += size_t{1} << l;
        }
        return path;
    }
};

constexpr uint8x16_t bit_of_byte = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};

typedef uint16_t Half __attribute__((may_alias));

// One bit of each of 16 bytes.
PRUNUS_INLINE Half gather_bits(uint8x16_t x, uint8_t bit) {
    uint8x16_t own = vandq_u8(vtstq_u8(x, vdupq_n_u8(bit)), bit_of_byte);
    for (int i = 0; i < 3; ++i) own = vpaddq_u8(own, own);
    return vgetq_lane_u16(vreinterpretq_u16_u8(own), 0);
}

template <bool right>
PRUNUS_NOINLINE void search(const Search& what, const float* x, uint32_t used, uint32_t stride, char* planes) {
    const Levels levels(what);
    for (uint32_t i = 0; i < used; i += 16) {
        uint16x8_t path[2];
        for (uint32_t j = 0; j < 2; ++j) {
            const float* at = x + i + 8 * j;
            const uint32x4_t low = levels.decisions<right>(prepare(what.variant, vld1q_f32(at))),
                             high = levels.decisions<right>(prepare(what.variant, vld1q_f32(at + 4)));
            path[j] = vcombine_u16(vmovn_u32(low), vmovn_u32(high));
        }
        const uint8x16_t first = vreinterpretq_u8_u16(path[0]), second = vreinterpretq_u8_u16(path[1]),
                         byte[2] = {vuzp1q_u8(first, second), vuzp2q_u8(first, second)};
        for (uint32_t l = 0; l < what.levels; ++l)
            *reinterpret_cast<Half*>(planes + l * stride + i / 8) =
                gather_bits(byte[l / 8], static_cast<uint8_t>(1u << l % 8));
    }
}

PRUNUS_INLINE void add_scaled(int32x4_t whole, double scale, double* sums) {
    const float64x2_t low = vcvtq_f64_s64(vmovl_s32(vget_low_s32(whole))), high = vcvtq_f64_s64(vmovl_high_s32(whole));
    vst1q_f64(sums, vaddq_f64(vld1q_f64(sums), vmulq_n_f64(low, scale)));
    vst1q_f64(sums + 2, vaddq_f64(vld1q_f64(sums + 2), vmulq_n_f64(high, scale)));
}

// Codes of up to eight bits: planes become bytes, 16 documents at a time, and bytes the places that are read.
template <class B>
PRUNUS_NOINLINE void add_group(const PackedForest& forest, const Group& group, const char* slots, uint32_t used,
                               double* sums) {
    for (uint32_t first = 0; first < used; first += 16)
        for (int part = 0; part < (forest.fine == nullptr ? 1 : 2); ++part) {
            const int32_t* table = part == 0 ? forest.coarse : forest.fine;
            int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
            for (uint32_t t = group.first; t < group.last; ++t) {
                const Lookup& lookup = forest.lookups[t];
                uint8x16_t code = vdupq_n_u8(0);
                for (uint32_t b = 0; b < lookup.planes; ++b) {
                    const uint8_t* plane = reinterpret_cast<const uint8_t*>(
                        slots + static_cast<size_t>(lookup.plane[b]) * B::bytes + first / 8);
                    const uint8x16_t bits = vcombine_u8(vdup_n_u8(plane[0]), vdup_n_u8(plane[1]));
                    code = vorrq_u8(code,
                                    vandq_u8(vtstq_u8(bits, bit_of_byte), vdupq_n_u8(static_cast<uint8_t>(1u << b))));
                }
                alignas(16) uint8_t at[16];
                vst1q_u8(at, code);
                const int32_t* values = table + lookup.table;
                PRUNUS_UNROLL
                for (int i = 0; i < 4; ++i) {
                    const int32x4_t found = {values[at[4 * i]], values[at[4 * i + 1]], values[at[4 * i + 2]],
                                             values[at[4 * i + 3]]};
                    sum[i] = vaddq_s32(sum[i], found);
                }
            }
            for (int i = 0; i < 4; ++i)
                add_scaled(sum[i], part == 0 ? group.scale : group.fine_scale, sums + first + 4 * i);
        }
}

struct Vec {
    static constexpr uint32_t fewest = 14;  // as for AVX2, whose blocks these are; not timed on a CPU of this kind
    static PRUNUS_INLINE uint32_t place(uint32_t document) { return document; }
    static PRUNUS_INLINE uint32_t element(uint32_t document) { return document; }

    template <uint32_t documents>
    static PRUNUS_INLINE void columns(Rows rows, size_t feature, float* raw) {
        const size_t width = rows.stride < 4 ? rows.stride : 4;
        for (uint32_t i = 0; i < rows.used; ++i) {
            const float* x = rows(i) + feature;
            for (size_t j = 0; j < width; ++j) raw[j * documents + i] = x[j];
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
        const Rows rows{X, forest.features, count, (count + 15) / 16 * 16};
        if (count > 128)
            one_block<Bits<2>, Vec>(forest, rows, out, scratch);
        else
            one_block<Bits<1>, Vec>(forest, rows, out, scratch);
        return count;
    }
};

}  // namespace

extern const ForestIsa isa;
const ForestIsa isa = {"neon", 256, false, score<Vec>, leaves<Vec>};

}  // namespace neon
}  // namespace forest
}  // namespace prunus
