// An ensemble of trees packed for the tree kernels, and the calls that score documents with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "isa/forest_isa.hpp"
#include "packed_forest.hpp"

namespace prunus {
namespace forest {

// An ensemble as the caller gives it; see prunus.engine.ensemble. Pointers are only read while it is checked and
// packed.
struct Description {
    uint32_t features;
    double base;
    size_t trees, nodes, leaves, sets, codes;
    const int32_t *node_start, *leaf_start, *root;
    const int32_t* feature;
    const float* threshold;
    const int32_t *left, *right;
    const uint8_t* missing;
    const int32_t* category;
    const int32_t *set_start, *set_code;
    const double* value;
};

// Bits of Description::missing.
constexpr uint8_t missing_class = 3, missing_right = 4, negative_is_no_code = 8;

// Where level `level` of a search starts in its table; see Search.
size_t search_level(uint32_t level);

// The codes first, first + 1, ..., first + count - 1, which all mean one leaf.
struct CodeBlock {
    uint32_t first, count;
};

class Forest {
  public:
    // Check the description; returns what is wrong with it, or an empty string.
    static std::string check(const Description& description);

    // Pack a description that `check` passed. Throws std::bad_alloc only.
    Forest(const Description& description, const ForestIsa& isa);

    Forest(const Forest&) = delete;
    Forest& operator=(const Forest&) = delete;

    // Score n documents of X [n][features] into out [n]; returns 0, or status_no_memory. Thread-safe; allocates nothing
    // after a thread's first call, unless n_threads > 1.
    int score(const float* X, size_t n, float* out, unsigned n_threads) const noexcept;

    // Write the leaf that each document reaches in each tree, counted inside the tree, to out [n][trees].
    int leaves(const float* X, size_t n, int32_t* out) const noexcept;

    uint32_t features() const noexcept { return packed_.features; }
    uint32_t trees() const noexcept { return packed_.trees; }
    const ForestIsa& isa() const noexcept { return isa_; }

  private:
    void pack_values(const Description& d);
    void pack_columns(const Description& d);
    void pack_walk(const Description& d);
    void pack_blocks(const Description& d);
    void pack_part(const Description& d, Part& part, std::vector<Lookup>& lookups);
    void pack_inputs(const std::map<std::pair<uint32_t, float>, uint32_t>& questions, Part& part);
    void pack_tables(const Description& d, std::vector<Lookup>& lookups);
    void pack_bytes(const Description& d);
    void pack_pairs(const Description& d, const std::vector<std::vector<uint16_t>>& masks, Part& part);
    void keep_halves(const std::vector<int32_t>& values, const uint16_t** words);
    size_t scratch_bytes() const noexcept;
    int run(const float* X, size_t n, float* out, int32_t* leaves) const noexcept;

    // A copy of the values that lives as long as the forest, aligned to a cache line.
    template <class T>
    const T* keep(const std::vector<T>& values);

    const ForestIsa& isa_;
    PackedForest packed_{};
    std::vector<int32_t> coarse_of_;             // [leaves]
    std::vector<int32_t> fine_of_;               // [leaves] or empty
    std::vector<uint32_t> column_of_;            // [nodes]
    std::vector<std::vector<CodeBlock>> codes_;  // [trees][leaves] while packing
    std::vector<Column> columns_;
    std::vector<Category> categories_;
    std::vector<std::shared_ptr<void>> kept_;  // what the packed structs point into
};

template <class T>
const T* Forest::keep(const std::vector<T>& values) {
    constexpr std::align_val_t line{64};
    const std::shared_ptr<void> memory(::operator new(values.size() * sizeof(T) + 1, line),
                                       [](void* p) { ::operator delete(p, std::align_val_t{64}); });
    if (!values.empty()) std::memcpy(memory.get(), values.data(), values.size() * sizeof(T));
    kept_.push_back(memory);
    return static_cast<const T*>(memory.get());
}

}  // namespace forest
}  // namespace prunus
