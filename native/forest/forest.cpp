#include "forest.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <system_error>
#include <thread>

#include "../engine/network.hpp"
#include "../engine/scratch.hpp"

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
    return (std::max(row, slots + block * (4 * sizeof(float) + sizeof(double))) + 63) / 64 * 64;
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
    if (n == 0) return status_ok;
    const size_t block = isa_.block, blocks = (n + block - 1) / block;
    const size_t parts = std::min<size_t>(n_threads, blocks);
    if (parts <= 1) return run(X, n, out, nullptr);
    std::atomic<int> status{status_ok};
    const auto part = [&](size_t number) noexcept {
        const size_t begin = std::min(n, blocks * number / parts * block),
                     end = std::min(n, blocks * (number + 1) / parts * block);
        const int of_part = run(X + begin * packed_.features, end - begin, out + begin, nullptr);
        if (of_part != status_ok) status = of_part;
    };
    std::unique_ptr<std::thread[]> threads(new (std::nothrow) std::thread[parts]);
    size_t started = 1;  // this thread scores part 0
    if (threads) {
        try {
            for (; started < parts; ++started) threads[started] = std::thread(part, started);
        } catch (const std::exception&) {  // no more threads to be had: the rest is scored here
        }
    }
    part(0);
    for (size_t number = started; number < parts; ++number) part(number);
    for (size_t number = 1; number < started; ++number) threads[number].join();
    return status;
}

}  // namespace forest
}  // namespace prunus
