// Item factors packed for the recommend kernels, and the call that makes lists with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "isa/recommend_isa.hpp"
#include "packed_factors.hpp"

namespace prunus {
namespace recommend {

// Sparse rows in CSR form, as the caller gives them.
struct Rows {
    size_t rows, stored;
    const int32_t *indptr, *factor;  // [rows + 1], [stored]
    const float* value;              // [stored]
};

// A recommender as the caller gives it; see prunus.engine.recommender. Pointers are only read while it is packed.
struct Description {
    uint32_t items, factors;
    Rows decode;
    const Rows* encode;        // null: item-item weights, whose encoder is the identity
    const float* scale;        // [items]
    const float* bias;         // [items]
    const int32_t* order;      // [items] item of each place
    const float* step;         // [items], or null: values of the decoder are on no levels
    const float* encode_step;  // likewise of the encoder
};

// Users' histories in CSR form, and what may stand in their lists.
struct Request {
    size_t users;
    const int32_t *indptr, *items;  // [users + 1], [indptr[users]]
    const uint8_t* allowed;         // [items], or null: all
    uint32_t k;
    bool mask_seen;
};

class Recommender {
  public:
    // Check the description; returns what is wrong with it, or an empty string.
    static std::string check(const Description& description);

    // Pack a description that `check` passed. Throws std::bad_alloc only.
    Recommender(const Description& description, const RecommendIsa& isa);

    Recommender(const Recommender&) = delete;
    Recommender& operator=(const Recommender&) = delete;

    // What is wrong with histories, or an empty string.
    std::string check(const Request& request, size_t n_items) const;

    // Write each user's k best items and their scores, [users][k]; returns 0, or status_no_memory. Thread-safe.
    int recommend(const Request& request, int32_t* items, float* scores, unsigned n_threads) const noexcept;

    // Write the scores of all items, [users][items].
    int score(const Request& request, float* scores, unsigned n_threads) const noexcept;

    uint32_t items() const noexcept { return packed_.items; }
    const RecommendIsa& isa() const noexcept { return isa_; }
    bool quads() const noexcept { return packed_.quads.blocks != 0; }

  private:
    struct Memory;
    void pack_rows(const Description& d);
    void pack_quads(const Description& d);
    void pack_nibbles(const Description& d, size_t steps);
    void pack_encoder(const Description& d);
    void pack_encoder_levels(const Description& d);
    void pack_encoder_dense(const Description& d);
    size_t scratch_floats(uint32_t k) const noexcept;
    void encode(const Request& request, size_t user, float* profile) const noexcept;
    void scores_by_place(const Request& request, size_t user, const Memory& memory) const noexcept;
    void allow(const Request& request, size_t user, uint16_t* allowed) const noexcept;
    void recommend_few(const Request& request, size_t first, size_t count, const Memory& memory, int32_t* items,
                       float* scores) const noexcept;
    void recommend_one(const Request& request, size_t user, const Memory& memory, int32_t* items,
                       float* scores) const noexcept;
    void recommend_many(const Request& request, size_t first, size_t count, const Memory& memory, int32_t* items,
                        float* scores) const noexcept;

    template <class T>
    const T* keep(const std::vector<T>& values);
    char* room(size_t bytes);

    const RecommendIsa& isa_;
    PackedFactors packed_{};
    bool item_item_;
    // Encoder rows by item, or, of item-item weights, what an item adds to each place.
    // Levels take three bytes a value instead of eight, all of a row in one place: rows of a history come from L2, not
    // from L3, on a catalogue of a few thousand items.
    const uint32_t* encode_start_ = nullptr;  // [items + 1] in values
    const int32_t* encode_at_ = nullptr;
    const float* encode_value_ = nullptr;
    const char* encode_rows_ = nullptr;   // or null: a row's factors in 16 bits, then its levels in 8
    const size_t* encode_row_ = nullptr;  // [items + 1] in bytes, multiples of 64
    const float* encode_step_ = nullptr;  // [items], scale included
    // Or null, at most one of them: levels of every factor, [items][encode_stride_].
    const int8_t* encode_dense_ = nullptr;
    const char* encode_nibbles_ = nullptr;  // as in RecommendIsa::add_nibbles
    size_t encode_stride_ = 0;
    const int32_t* place_of_ = nullptr;
    std::vector<std::shared_ptr<void>> kept_;
    char* free_ = nullptr;  // what is left of the last large pages
    size_t free_bytes_ = 0;
};

template <class T>
const T* Recommender::keep(const std::vector<T>& values) {
    char* const memory = room(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(memory, values.data(), values.size() * sizeof(T));
    return reinterpret_cast<const T*>(memory);
}

}  // namespace recommend
}  // namespace prunus
