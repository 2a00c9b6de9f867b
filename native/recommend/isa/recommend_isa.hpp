// The instruction sets of the recommend kernels: one entry, one file, one namespace each.
#pragma once

#include "../packed_factors.hpp"

namespace prunus {
namespace recommend {

constexpr uint32_t together = 4;  // users that share the loads of a pass over Quads

// Vectors of maxima from which the k-th best score is bounded: the k-th of 4 k maxima of parts of the catalogue is
// seldom far below it.
constexpr uint32_t maxima_of(uint32_t k) {
    return k / 4 + 1;
}

// A user for whom `best` looks.
struct User {
    const float* profile;
    char* tables;             // as in `one`
    float* scores;            // [groups * 16]
    const uint16_t* allowed;  // as in `offer`
    float* maxima;            // [maxima_of(list.k) * 16]
    int32_t* found;           // [groups * 16]
    TopK list;
};

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
    // Offer to the lists of up to `together` users the items that can be among the best, or null; where there are Quads
    // only.
    void (*best)(const PackedFactors& model, User* users, uint32_t count) noexcept;
    // Add `step` times the rows of some items to a profile, or null: levels [items][stride], both of whole cache lines.
    void (*add_levels)(const int8_t* levels, size_t stride, const int32_t* first, const int32_t* last, float step,
                       float* profile) noexcept;
    // The same of levels of four bits: a byte of a row has those of factors 128 b + i (low) and 128 b + 64 + i (high)
    // plus 8.
    void (*add_nibbles)(const char* levels, size_t stride, const int32_t* first, const int32_t* last, float step,
                        float* profile) noexcept;
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

#ifdef PRUNUS_ARM64
namespace prunus {
namespace recommend {
namespace neon {
extern const RecommendIsa isa;
}
}  // namespace recommend
}  // namespace prunus
#endif
