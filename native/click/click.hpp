// A click model: rows of embeddings and their products in front of networks. See prunus.engine.click.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../engine/network.hpp"
#include "id_table.hpp"

namespace prunus {
namespace click {

// As the caller gives it. The networks must live as long as the model; all else is only read while it is packed.
struct Description {
    uint32_t n_dense;
    uint32_t dim;  // of every table
    std::vector<TableDescription> tables;
    bool interactions;
    const Network* bottom;  // or null
    const Network* top;
};

// What is done here is to bring rows from memory and to write them in order; a network's time is many times that. So
// there is one body for all instruction sets, with vectors of four, which every platform has.
class Click {
  public:
    // Check the description; returns what is wrong with it, or an empty string.
    static std::string check(const Description& description);

    // Pack a description that `check` passed. Throws std::bad_alloc only.
    explicit Click(const Description& description);

    Click(const Click&) = delete;
    Click& operator=(const Click&) = delete;

    // Score n events of ids [n][fields] and dense [n][n_dense] into out [n]; returns Status flags, those of x. Thread-
    // safe; allocates nothing after a thread's first call, unless n_threads > 1.
    int score(const uint64_t* ids, const float* dense, size_t n, float* out, unsigned n_threads) const noexcept;

    uint32_t n_dense() const noexcept { return n_dense_; }
    size_t fields() const noexcept { return tables_.size(); }

  private:
    struct Memory;
    int score_block(const uint64_t* ids, const float* dense, size_t n, float* out, const Memory& memory) const noexcept;
    void join(const Memory& memory, const float* dense, size_t n) const noexcept;

    uint32_t n_dense_, dim_;
    size_t stride_;  // floats from one row of a table to the next
    std::vector<IdTable> tables_;
    bool interactions_;
    const Network *bottom_, *top_;
};

}  // namespace click
}  // namespace prunus
