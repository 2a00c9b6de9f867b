#include "forest.hpp"

#include <algorithm>

#include "../engine/network.hpp"
#include "../engine/scratch.hpp"
#include "../engine/threads.hpp"

namespace prunus {
namespace forest {

Forest::Forest(const Description& description, const ForestIsa& isa) : isa_(isa) {
    pack_values(description);
    pack_columns(description);
    pack_walk(description);
    pack_blocks(description);
}

// One row of columns for documents that walk; slots, raw features and sums for blocks (see kernels/body.inl).
size_t Forest::scratch_bytes() const noexcept {
    const size_t block = isa_.block, row = (static_cast<size_t>(packed_.walk.column_count) + 1) * sizeof(float);
    const size_t slots = static_cast<size_t>(packed_.slots) * block / 8;
    const size_t documents = 4 * sizeof(float) + sizeof(double);
    const size_t bytes = byte_vectors * 64 + static_cast<size_t>(packed_.slots + 8) * 16 + 64 * documents;
    return (std::max({row, slots + block * documents, packed_.bytes.leaves == 0 ? 0 : bytes}) + 63) / 64 * 64;
}

int Forest::run(const float* X, size_t n, float* out, int32_t* leaves) const noexcept {
    void* scratch = thread_scratch(scratch_bytes() / sizeof(float));
    if (scratch == nullptr) return status_no_memory;
    if (leaves != nullptr)
        isa_.leaves(packed_, X, n, leaves, scratch);
    else
        isa_.score(packed_, X, n, out, scratch);
    return status_ok;
}

int Forest::leaves(const float* X, size_t n, int32_t* out) const noexcept {
    return n == 0 ? status_ok : run(X, n, nullptr, out);
}

int Forest::score(const float* X, size_t n, float* out, unsigned n_threads) const noexcept {
    return split(n, isa_.block, n_threads, [&](size_t first, size_t count) noexcept {
        return run(X + first * packed_.features, count, out + first, nullptr);
    });
}

}  // namespace forest
}  // namespace prunus
