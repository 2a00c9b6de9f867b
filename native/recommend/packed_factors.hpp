// Item factors as the kernels read them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "top_k.hpp"

namespace prunus {
namespace recommend {

constexpr uint32_t group = 16;         // items of a group, and bits of a word of `allowed`
constexpr uint32_t block = 128;        // factors that one table of bytes holds
constexpr uint32_t nibble_groups = 8;  // groups whose levels of a factor stand together
constexpr uint32_t byte_planes = 3;    // bytes of a profile's number in such tables

// Rows of values on levels, for instructions that look bytes up. Items stand in groups of 16. For each group and each
// block of factors there are `steps` steps of 128 bytes: 64 factors inside the block, four for each item, and 64
// levels. What is not used is level 0 of factor 0.
struct Quads {
    uint32_t blocks;           // 0: there are none
    const uint32_t* steps;     // [groups][blocks]
    const char* stream;        // steps of group 0 block 0, group 0 block 1, ...
    const float* step;         // [groups * 16]: distance of two levels
    const int32_t* level_sum;  // [groups * 16]: -128 times the sum of an item's levels
    const float* reach;        // [groups * 16]: half the sum of an item's magnitudes, and 1 % more
    bool alike;                // one step for all items, and no biases
    // Or null: all levels plus 8, [groups / nibble_groups][factors / 4][nibble_groups / 2][16][4]: the low half of a
    // byte is of an even group, the high half of the odd one after it.
    const char* nibbles;
    bool nibbles_for_many;  // whether they take less time than steps that four users share
    // Or null, at most one of them: all levels by item, [items][stride], `stride` a multiple of 256 factors; of four
    // bits as in `add_nibbles`, a multiple of 128.
    const int8_t* levels;
    const char* level_nibbles;
    size_t stride;
};

// Items have places: the order in which they are scored, most popular first, so that thresholds rise early.
struct PackedFactors {
    uint32_t items, factors;
    const int32_t* item_at;  // [groups * 16] item of each place
    const float* bias;       // [groups * 16] by place
    const uint32_t* start;   // [items + 1] where each place's row starts, a multiple of 16
    const uint32_t* length;  // [items] stored values; up to the next start stand zeros of factor 0
    const int32_t* factor;   // [start[items]]
    const float* value;      // likewise
    Quads quads;
};

}  // namespace recommend
}  // namespace prunus
