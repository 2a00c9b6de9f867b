// The instruction sets of the tree kernels: one entry, one file, one namespace each.
#pragma once

#include "../packed_forest.hpp"

namespace prunus {
namespace forest {

struct ForestIsa {
    const char* name;
    uint32_t block;  // documents in the largest block
    bool bytes;      // whether up to 64 documents are bytes; see Pair
    // Score n documents, or (out null) find their leaves. `scratch` is 64-byte aligned and holds scratch_bytes() bytes.
    void (*score)(const PackedForest& forest, const float* X, size_t n, float* out, void* scratch) noexcept;
    void (*leaves)(const PackedForest& forest, const float* X, size_t n, int32_t* out, void* scratch) noexcept;
};

namespace scalar {
extern const ForestIsa isa;
}
namespace avx2 {
extern const ForestIsa isa;
}
namespace avx512 {
extern const ForestIsa isa;
}

}  // namespace forest
}  // namespace prunus

#ifdef PRUNUS_ARM64
namespace prunus {
namespace forest {
namespace neon {
extern const ForestIsa isa;
}
}  // namespace forest
}  // namespace prunus
#endif
