// The instruction sets of this build: one entry, one file, one namespace each.
#pragma once

#include "../engine/packed.hpp"

namespace prunus {

struct Isa {
    const char* name;
    uint32_t lanes;        // documents in one vector
    bool has_narrow;       // whether the narrow stream of weights is read
    uint32_t int8_halves;  // 1: a quad of int8 weights is four bytes; 2: two pairs of 16 bits
    size_t largest_tile;   // bytes of two layers' activations for four vectors, above which a tile has two
    // Score n documents; returns whether a NaN where none is allowed, or an infinity, was met. `scratch` is 64-byte
    // aligned and holds (rows_even + rows_odd) * 4 * lanes floats.
    bool (*score)(const Packed& net, const float* X, size_t n, float* out, float* scratch) noexcept;
};

namespace scalar {
extern const Isa isa;
}
namespace avx2 {
extern const Isa isa;
}
namespace avx512 {
extern const Isa isa;
}
namespace avx512vnni {
extern const Isa isa;
}

}  // namespace prunus

#ifdef PRUNUS_ARM64
namespace prunus {
namespace neon {
extern const Isa isa;
}
}  // namespace prunus
#endif
