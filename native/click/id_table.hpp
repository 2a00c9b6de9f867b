// The embeddings of one id field, and how an id finds its row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace prunus {
namespace click {

constexpr size_t line = 16;  // floats of a cache line

inline size_t lines(size_t floats) {
    return (floats + line - 1) / line * line;
}

// As the caller gives it; pointers are only read while the table is packed.
struct TableDescription {
    const uint64_t* keys;  // [ids], rising, from 1
    size_t ids;
    const float* rows;  // [ids + 1][dim]: that of the unknown id, then that of each key
};

// Keys stay sorted. A first look goes by the highest bits, which of hashed ids leave about one key; of any other keys
// the rest is a binary search, so that no choice of keys makes a look-up long.
class IdTable {
  public:
    static std::string check(const TableDescription& table, uint32_t dim);

    // Rows are padded with zeros to `stride` floats, and begin on a cache line. Throws std::bad_alloc only.
    IdTable(const TableDescription& table, uint32_t dim, size_t stride);

    // Ask for the memory that find() will read.
    void ask(uint64_t id) const noexcept { __builtin_prefetch(keys_.data() + start_[id >> shift_]); }

    // The id's row, float [stride].
    const float* find(uint64_t id) const noexcept {
        size_t first = start_[id >> shift_], last = start_[(id >> shift_) + 1];
        while (first < last) {
            const size_t middle = first + (last - first) / 2;
            if (keys_[middle] == id) return rows_.get() + (middle + 1) * stride_;
            if (keys_[middle] < id)
                first = middle + 1;
            else
                last = middle;
        }
        return rows_.get();
    }

  private:
    struct Free {
        void operator()(float* rows) const noexcept;
    };
    unsigned shift_;
    std::vector<uint32_t> start_;  // [2^(64 - shift) + 1]: first key of each value of the highest bits
    std::vector<uint64_t> keys_;
    size_t stride_;
    std::unique_ptr<float, Free> rows_;
};

}  // namespace click
}  // namespace prunus
