// The k best items of one user, found in one pass over the scores.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>

namespace prunus {
namespace recommend {

// Items are offered in any order. A score below `threshold`, which rises whenever the room for 2k + 64 is used up,
// cannot be among the best: kernels compare with it before they offer, so that most scores cost a comparison. NaN never
// passes.
struct TopK {
    uint64_t* keys;  // room for capacity(k)
    uint32_t k, room, count;
    float threshold;

    static size_t capacity(uint32_t k) { return 2 * static_cast<size_t>(k) + 64; }

    void start(uint64_t* memory, uint32_t length) {
        keys = memory;
        k = length;
        room = static_cast<uint32_t>(capacity(length));
        count = 0;
        threshold = k == 0 ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
    }

    void offer(float score, int32_t item) {
        keys[count++] = key(score, item);
        if (count == room) shrink();
    }

    void shrink() {
        if (count <= k) return;
        std::nth_element(keys, keys + k, keys + count, std::greater<uint64_t>());
        count = k;
        if (k > 0) threshold = score_of(*std::min_element(keys, keys + k));
    }

    // Write the best, best first; -1 and -infinity after the last of them.
    void write(int32_t* items, float* scores, uint32_t length) {
        shrink();
        if (!std::is_sorted(keys, keys + count, std::greater<uint64_t>()))
            std::sort(keys, keys + count, std::greater<uint64_t>());
        for (uint32_t i = 0; i < length; ++i) {
            items[i] = i < count ? static_cast<int32_t>(~static_cast<uint32_t>(keys[i])) : -1;
            scores[i] = i < count ? score_of(keys[i]) : -std::numeric_limits<float>::infinity();
        }
    }

  private:
    // Keys are ordered as (score, lower item number first); -0 becomes 0, so that the two tie.
    static uint64_t key(float score, int32_t item) {
        const float x = score + 0.0f;
        uint32_t bits;
        std::memcpy(&bits, &x, 4);
        bits = bits >> 31 ? ~bits : bits | 0x80000000u;
        return static_cast<uint64_t>(bits) << 32 | ~static_cast<uint32_t>(item);
    }
    static float score_of(uint64_t key) {
        uint32_t bits = static_cast<uint32_t>(key >> 32);
        bits = bits >> 31 ? bits & 0x7fffffffu : ~bits;
        float x;
        std::memcpy(&x, &bits, 4);
        return x;
    }
};

}  // namespace recommend
}  // namespace prunus
