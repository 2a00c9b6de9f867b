#include "click.hpp"

#include <algorithm>
#include <cstring>

#include "../engine/scratch.hpp"
#include "../engine/threads.hpp"

namespace prunus {
namespace click {
namespace {

constexpr size_t block = 128;  // events, of which x stays in L2; whole tiles of every instruction set

typedef float Four __attribute__((vector_size(16)));

// <a, b> of padded vectors: both aligned, zeros behind their ends.
float product(const float* a, const float* b, size_t stride) {
    Four sum = {0.0f, 0.0f, 0.0f, 0.0f};
    for (size_t k = 0; k < stride; k += 4)
        sum += *reinterpret_cast<const Four*>(a + k) * *reinterpret_cast<const Four*>(b + k);
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

}  // namespace

std::string Click::check(const Description& d) {
    if (d.top->outputs() != 1) return "the top network gives several outputs; expected 1, the log-odds";
    const size_t first = d.bottom == nullptr ? d.n_dense : d.bottom->outputs();
    if (d.bottom != nullptr && d.bottom->features() != d.n_dense)
        return "the bottom network takes another number of features than there are";
    const size_t vectors = d.tables.size() + (d.bottom != nullptr);
    const bool multiplied = d.interactions && vectors > 1;
    if (multiplied && d.bottom != nullptr && first != d.dim)
        return "the bottom network is not as wide as embeddings, which it is multiplied with";
    const size_t inputs = first + d.tables.size() * d.dim + (multiplied ? vectors * (vectors - 1) / 2 : 0);
    if (d.top->features() != inputs)
        return "the top network takes " + std::to_string(d.top->features()) + " features; expected " +
               std::to_string(inputs);
    for (const TableDescription& table : d.tables) {
        const std::string problem = IdTable::check(table, d.dim);
        if (!problem.empty()) return problem;
    }
    return {};
}

Click::Click(const Description& d)
    : n_dense_(d.n_dense),
      dim_(d.dim),
      stride_(lines(d.dim)),
      interactions_(d.interactions && d.tables.size() + (d.bottom != nullptr) > 1),
      bottom_(d.bottom),
      top_(d.top) {
    for (const TableDescription& table : d.tables) tables_.emplace_back(table, dim_, stride_);
}

// One thread's scratch, cut into parts; each begins on a cache line.
struct Click::Memory {
    float* x;             // [block][top's features]
    float* v0;            // [block][bottom's outputs]
    float* padded;        // [stride]: v_0 of one event
    const float** found;  // [block][fields]: embeddings
    const float** pool;   // [fields + 1]: what is multiplied, of one event
    float* rest;          // of the networks

    // Cut it, or (base null) only count: returns the floats that it takes.
    size_t cut(float* base, const Click& model) {
        size_t used = 0;
        const auto part = [&](auto*& pointer, size_t floats) {
            pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + (base == nullptr ? 0 : used));
            used += lines(floats);
        };
        constexpr size_t floats_a_pointer = sizeof(const float*) / sizeof(float);
        const size_t fields = model.tables_.size();
        part(x, block * model.top_->features());
        part(v0, model.bottom_ == nullptr ? 0 : block * model.bottom_->outputs());
        part(padded, model.stride_);
        part(found, block * fields * floats_a_pointer);
        part(pool, (fields + 1) * floats_a_pointer);
        const size_t bottom = model.bottom_ == nullptr ? 0 : model.bottom_->scratch_floats();
        part(rest, std::max(bottom, model.top_->scratch_floats()));
        return used;
    }
};

// x of each event, from what was found.
void Click::join(const Memory& memory, const float* dense, size_t n) const noexcept {
    const size_t fields = tables_.size();
    const size_t first = bottom_ == nullptr ? n_dense_ : bottom_->outputs();
    const float* from = bottom_ == nullptr ? dense : memory.v0;
    const float** pool = memory.pool;
    if (stride_ != 0) std::fill_n(memory.padded, stride_, 0.0f);
    float* x = memory.x;
    for (size_t event = 0; event < n; ++event, from += first) {
        const float* const* found = memory.found + event * fields;
        x = std::copy_n(from, first, x);
        for (size_t field = 0; field < fields; ++field) x = std::copy_n(found[field], dim_, x);
        if (!interactions_) continue;
        size_t vectors = 0;
        if (bottom_ != nullptr) {
            std::copy_n(from, first, memory.padded);
            pool[vectors++] = memory.padded;
        }
        for (size_t field = 0; field < fields; ++field) pool[vectors++] = found[field];
        for (size_t i = 0; i + 1 < vectors; ++i)
            for (size_t j = i + 1; j < vectors; ++j) *x++ = product(pool[i], pool[j], stride_);
    }
}

int Click::score_block(const uint64_t* ids, const float* dense, size_t n, float* out,
                       const Memory& memory) const noexcept {
    const size_t fields = tables_.size(), all = n * fields;
    // Three rounds, so that what one asks for has come from memory when the next one needs it.
    for (size_t i = 0, field = 0; i < all; ++i, field = field + 1 == fields ? 0 : field + 1) tables_[field].ask(ids[i]);
    for (size_t i = 0, field = 0; i < all; ++i, field = field + 1 == fields ? 0 : field + 1) {
        memory.found[i] = tables_[field].find(ids[i]);
        for (size_t k = 0; k < stride_; k += line) __builtin_prefetch(memory.found[i] + k);
    }
    const int status = bottom_ == nullptr ? status_ok : bottom_->run(dense, n, memory.v0, memory.rest);
    join(memory, dense, n);
    return status | top_->run(memory.x, n, out, memory.rest);
}

int Click::score(const uint64_t* ids, const float* dense, size_t n, float* out, unsigned n_threads) const noexcept {
    return split(n, block, n_threads, [&](size_t begin, size_t count) noexcept {
        Memory memory;
        float* scratch = thread_scratch(memory.cut(nullptr, *this));
        if (scratch == nullptr) return static_cast<int>(status_no_memory);
        memory.cut(scratch, *this);
        int status = status_ok;
        for (size_t first = begin; first < begin + count; first += block)
            status |= score_block(ids + first * tables_.size(), dense + first * n_dense_,
                                  std::min(block, begin + count - first), out + first, memory);
        return status;
    });
}

}  // namespace click
}  // namespace prunus
