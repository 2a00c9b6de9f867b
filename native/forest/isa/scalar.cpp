// Plain C++, for every CPU: a block is the 64 bits of a general register.
#include "../../kernels/macros.hpp"
#include "forest_isa.hpp"

namespace prunus {
namespace forest {
namespace scalar {
namespace {

struct Bits64 {
    static constexpr uint32_t documents = 64, bytes = 8;
    using Reg = uint64_t;
    typedef uint64_t Word __attribute__((may_alias));
    static PRUNUS_INLINE Reg load(const char* p) { return *reinterpret_cast<const Word*>(p); }
    static PRUNUS_INLINE void store(char* p, Reg x) { *reinterpret_cast<Word*>(p) = x; }
    static PRUNUS_INLINE Reg zeros() { return 0; }
    static PRUNUS_INLINE Reg ones() { return ~uint64_t{0}; }
    static PRUNUS_INLINE Reg and_(Reg a, Reg b) { return a & b; }
    static PRUNUS_INLINE Reg or_(Reg a, Reg b) { return a | b; }
    static PRUNUS_INLINE Reg andnot(Reg a, Reg b) { return ~a & b; }
    static PRUNUS_INLINE Reg or_and(Reg a, Reg b, Reg c) { return a | (b & c); }
    static PRUNUS_INLINE Reg blend(Reg mask, Reg a, Reg b) { return ((a ^ b) & mask) ^ b; }
};

#include "../kernels/body.inl"

struct Vec {
    static constexpr uint32_t fewest = 24;
    static PRUNUS_INLINE uint32_t place(uint32_t document) { return document; }
    static PRUNUS_INLINE uint32_t element(uint32_t document) { return document; }

    template <uint32_t documents>
    static PRUNUS_INLINE void columns(Rows rows, size_t feature, float* raw) {
        const size_t width = rows.stride - feature < 4 ? rows.stride - feature : 4;
        for (uint32_t i = 0; i < rows.used; ++i) {
            const float* x = rows(i) + feature;
            for (size_t j = 0; j < width; ++j) raw[j * documents + i] = x[j];
        }
    }

    template <uint32_t documents>
    static PRUNUS_INLINE void bins(const Search& search, const float* x, uint32_t used, char* planes) {
        uint64_t plane[max_levels] = {};
        const bool zero_is_missing = search.variant == Variant::zero_left || search.variant == Variant::zero_right;
        const bool right = search.variant == Variant::nan_right || search.variant == Variant::zero_right;
        for (uint32_t i = 0; i < used; ++i) {
            float value = x[i];
            if (zero_is_missing && value >= -largest_zero && value <= largest_zero) value = __builtin_nanf("");
            if (search.variant == Variant::nan_is_zero && value != value) value = 0.0f;
            const bool beyond = right && value != value;  // of every threshold
            uint32_t path = 0;
            const float* level = search.table;
            for (uint32_t l = 0; l < search.levels; ++l) {
                const uint32_t above = value > level[path] || beyond;
                path |= above << l;
                plane[l] |= static_cast<uint64_t>(above) << i;
                level += l < 4 ? 16 : size_t{1} << l;
            }
        }
        for (uint32_t l = 0; l < search.levels; ++l) Bits64::store(planes + l * Bits64::bytes, plane[l]);
    }

    template <class B>
    static PRUNUS_INLINE void add_values(const PackedForest& forest, uint32_t g, const char* slots, uint32_t used,
                                         double* sums) {
        add_any_values<B, Vec>(forest, g, slots, used, sums);
    }

    template <class Out>
    static PRUNUS_INLINE size_t block(const PackedForest& forest, const float* X, size_t n, Out* out, void* scratch) {
        const uint32_t count = n < 64 ? static_cast<uint32_t>(n) : 64;
        one_block<Bits64, Vec>(forest, Rows{X, forest.features, count, (count + 7) / 8 * 8}, out, scratch);
        return count;
    }
};

}  // namespace

extern const ForestIsa isa;
const ForestIsa isa = {"scalar", 64, false, score<Vec>, leaves<Vec>};

}  // namespace scalar
}  // namespace forest
}  // namespace prunus
