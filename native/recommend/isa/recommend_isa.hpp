// The instruction sets of the recommend kernels: one entry, one file, one namespace each.
#pragma once

#include "../packed_factors.hpp"

namespace prunus {
namespace recommend {

struct RecommendIsa {
    const char* name;
    uint32_t users;   // users scored at once by `many`
    uint32_t fewest;  // users from which `many` takes less time than `one` for each
    bool quads;       // whether `one` reads Quads
    // Offer every allowed item to the users' lists. profiles [factors][users]; bit u of allowed [items] is for user u,
    // by place.
    void (*many)(const PackedFactors& model, const float* profiles, const uint16_t* allowed, TopK* lists) noexcept;
    // Write the scores of one user by place, [groups * 16]. `tables` is 64-byte aligned and has
    // table_bytes(model.factors) bytes.
    void (*one)(const PackedFactors& model, const float* profile, char* tables, float* scores) noexcept;
    // Offer the scores of one user to a list; bit i of allowed[g] is for place 16 g + i.
    void (*offer)(const PackedFactors& model, const float* scores, const uint16_t* allowed, TopK& list) noexcept;
};

constexpr size_t table_bytes(uint32_t factors) {
    return (static_cast<size_t>(factors) + block - 1) / block * block * byte_planes;
}

namespace scalar {
extern const RecommendIsa isa;
}
namespace avx2 {
extern const RecommendIsa isa;
}
namespace avx512 {
extern const RecommendIsa isa;
}
namespace avx512vbmi {
extern const RecommendIsa isa;
}

// The best of those above for an instruction set of the engine.
const RecommendIsa* recommend_isa_of(const char* name) noexcept;

}  // namespace recommend
}  // namespace prunus
