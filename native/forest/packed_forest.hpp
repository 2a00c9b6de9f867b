// What a tree kernel sees of an ensemble: plain structs and pointers into memory that Forest owns.
//
// No inline function stands here, for the reason given in engine/packed.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace prunus {
namespace forest {

// What a node reads of a feature, made so that "value <= threshold goes left" is the whole decision.
enum class Variant : uint32_t {
    nan_is_zero,  // NaN becomes 0
    nan_left,     // NaN becomes -infinity
    nan_right,    // NaN stays: no comparison with it holds
    zero_left,    // NaN and |x| <= 1e-35 become -infinity
    zero_right,   // NaN and |x| <= 1e-35 become NaN
    category      // 0 where the code of x is in the set, else 1, as keys; the threshold is 0
};

struct Category {
    const int32_t* codes;  // rising
    uint32_t count;
    const uint32_t* bits;  // bit c of word c / 32, for codes below bit_count
    uint32_t bit_count;
    bool missing_left, negative_is_no_code;
};

struct Column {
    uint32_t feature;
    Variant variant;
    uint32_t category;
};

// --- one document at a time ---

// Numbers as uint32 in the same order, so that a comparison takes a cycle and not four, and its carry is the step to
// the right: the bits of a float, all turned over where it is negative, else the sign only, with one zero; and NaN
// where its variant wants it.
//
// The children of a node stand side by side: the right one behind the left one. A leaf is its own child: its column 0
// and its threshold are both 0, the least key, so that a step from it stays on it. `child` counts from the node itself.
struct NarrowNode {
    uint32_t threshold;
    uint16_t column, child;
};
struct WideNode {
    uint32_t threshold;
    uint32_t column, child;
};

struct Walk {
    uint32_t column_count;
    const Column* columns;  // node->column is 1 + an index here
    const Category* categories;
    const NarrowNode* narrow;  // null where some tree or the columns need wide nodes
    const WideNode* wide;
    const uint32_t* first;   // [trees] first node of each
    const uint32_t* depth;   // [trees] edges to its deepest leaf
    const int32_t* coarse;   // [nodes] value of a leaf, in units of its group's scale
    const int32_t* fine;     // [nodes] what is left of it, in units of the fine scale; null where that is too little
    const int32_t* leaf_of;  // [nodes] index of a leaf inside its tree
};

// Trees whose values share one scale: the sum of coarse (and of fine) over the group fits int32 for any document.
struct Group {
    uint32_t first, last;  // trees
    double scale, fine_scale;
};

// --- many documents at a time ---

// All masks and planes are slots: vectors with a bit for each document of a block.
constexpr uint32_t slot_zeros = 0, slot_ones = 1, slot_planes = 2, max_levels = 16,
                   slot_work = slot_planes + max_levels;
constexpr uint32_t slot_limit = 1u << 16;

// dst = mask ? a : b, in slots; or in eighths of slots, where a part has few enough: then an operand times 1, 2, 4 or 8
// is the address of a slot of 64, 128, 256 or 512 documents, which costs x86 nothing.
struct alignas(8) Op {
    uint16_t mask, a, b, dst;
};

// Up to 64 documents can be bytes instead: a vector holds the number of the leaf that each reaches below some node. The
// vectors are the leaves themselves (all bytes one number), the roots of a group's trees, and work; what Part calls
// slots, here words of 64 bits, stand behind them, and behind these their negations. A tree of 256 leaves needs nine
// work vectors at most.
constexpr uint32_t group_trees = 16, byte_lanes = 8, byte_roots = 256, byte_work = byte_roots + group_trees,
                   byte_work_each = 9, byte_vectors = byte_work + byte_lanes * byte_work_each;

// dst = outer ? a : (inner ? b : c), byte by byte: two nodes, or one where b is c. Operands count eight bytes each, so
// that an operand times 8 is an address, which costs x86 nothing.
struct alignas(4) Pair {
    uint16_t outer, inner, a, b, c, dst;
};

// Bin of a value: how many of the thresholds lie below it, found from the middle, one level of a search tree at a time.
// The decisions x > threshold are the bits of the bin, the first the highest. Level l is a table of 2^l entries,
// indexed by the decisions so far with the first in the lowest bit, at search_level(l); tables are padded with +inf.
struct Search {
    uint32_t row;     // 0..3: of the loaded features
    Variant variant;  // not category
    uint32_t levels;  // 1..max_levels
    uint32_t count;   // thresholds
    const float* table;
    uint32_t slot;  // of the first threshold's mask; x <= threshold k is slot + k
};

struct Member {
    uint32_t row, category, slot;
};

// Four neighbouring features, loaded and transposed together, and what is computed of them.
struct Load {
    uint32_t feature;  // the first; at most features - 4 where there are that many
    uint32_t search_end, member_end;
};

// How the leaf of a tree is read off: its code is written in the planes, and tables go from a code to its value.
struct Lookup {
    uint16_t plane[10];  // slots; slot_zeros from `planes` on
    uint32_t planes;
    uint32_t table;  // first entry of the tree in the tables
};

// A run of trees whose masks are held at the same time.
struct Part {
    uint32_t first_group, last_group;
    uint32_t load_count, slots;
    bool eighths;  // see Op
    const Load* loads;
    const Search* searches;
    const Member* members;
    const Op* ops;
    const uint32_t* op_end;  // [groups of the part] end of each group's operations
    const Pair* pairs;
    const uint32_t* pair_end;  // [groups of the part]
    uint32_t negated;          // words from a mask to its negation
};

// From the number of a leaf inside its tree to its value.
struct ByteTables {
    uint32_t leaves;           // of the largest tree; 0 where nothing is packed for bytes
    const uint32_t* width;     // [groups] bits of the number of a leaf, >= 5
    const uint32_t* table;     // [trees] first entry of each in the tables
    const uint16_t* words[4];  // low and high halves of coarse, then of fine
};

struct PackedForest {
    uint32_t features, trees;
    double base;  // with the middle of each tree's values in it
    uint32_t group_count;
    const Group* groups;
    Walk walk;
    // Empty where a tree has too many leaves: then every document walks.
    uint32_t part_count;
    const Part* parts;
    uint32_t slots;            // the most that a part needs
    const Lookup* lookups;     // [trees]
    const uint32_t* width;     // [groups] bits of an index into a table: the planes of the group's largest tree, >= 5
    const uint16_t* words[4];  // low and high halves of coarse, then of fine, by code
    const int32_t* coarse;     // by code
    const int32_t* fine;       // null where unused
    const int32_t* leaf_of;    // by code
    ByteTables bytes;
};

}  // namespace forest
}  // namespace prunus
