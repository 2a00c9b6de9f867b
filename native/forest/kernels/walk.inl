// One document at a time: every tree is walked from its root, eight trees in turn so that their loads overlap.

constexpr float largest_zero = 1e-35f;  // LightGBM's kZeroThreshold

PRUNUS_INLINE bool in_category(const Category& category, float x) {
    if (!(x > -1.0f)) return x != x ? category.missing_left : false;
    if (x >= 2147483648.0f || (x < 0.0f && category.negative_is_no_code)) return false;
    const uint32_t code = static_cast<uint32_t>(x);
    if (category.bits != nullptr) return code < category.bit_count && (category.bits[code / 32] >> code % 32 & 1) != 0;
    uint32_t low = 0, high = category.count;  // the code is in [low, high) if anywhere
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (static_cast<uint32_t>(category.codes[middle]) < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < category.count && static_cast<uint32_t>(category.codes[low]) == code;
}

typedef uint32_t Bits32 __attribute__((may_alias));

// See NarrowNode; not for NaN.
PRUNUS_INLINE uint32_t key_of(float x) {
    x += 0.0f;
    const uint32_t bits = *reinterpret_cast<const Bits32*>(&x);
    return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
}

constexpr uint32_t least_key = 0, zero_key = 0x80000000u, greatest_key = 0xffffffffu;

// What nodes read of a document, behind the least key, which leaves read.
PRUNUS_INLINE void fill_row(const Walk& walk, const float* x, uint32_t* row) {
    *row++ = least_key;
    for (const Column *column = walk.columns, *end = column + walk.column_count; column != end; ++column) {
        const float value = x[column->feature];
        const uint32_t key = key_of(value);
        const bool is_nan = value != value, is_zero = value >= -largest_zero && value <= largest_zero;
        switch (column->variant) {
            case Variant::nan_is_zero:
                *row++ = is_nan ? zero_key : key;
                break;
            case Variant::nan_left:
                *row++ = is_nan ? least_key : key;
                break;
            case Variant::nan_right:
                *row++ = is_nan ? greatest_key : key;
                break;
            case Variant::zero_left:
                *row++ = is_nan || is_zero ? least_key : key;
                break;
            case Variant::zero_right:
                *row++ = is_nan || is_zero ? greatest_key : key;
                break;
            case Variant::category:
                *row++ = !in_category(walk.categories[column->category], value);
                break;
        }
    }
}

constexpr int walk_steps = 3;  // between two looks whether all trees are at their ends

// Walk `count` trees at once; `at` ends as their leaves. A tree's state is one pointer, so that eight fit the
// registers.
template <class Node, int count>
PRUNUS_INLINE void walk_trees(const Walk& walk, const Node* nodes, uint32_t tree, const uint32_t* row,
                              const Node** at) {
    uint32_t depth = 0;
    for (uint32_t i = 0; i < count; ++i) {
        at[i] = nodes + walk.first[tree + i];
        depth = depth > walk.depth[tree + i] ? depth : walk.depth[tree + i];
    }
    const Node* p[count];
    for (int i = 0; i < count; ++i) p[i] = at[i];
    const auto step = [&] {
        PRUNUS_UNROLL
        for (int i = 0; i < count; ++i)
            p[i] += static_cast<size_t>(p[i]->child) + (p[i]->threshold < row[p[i]->column]);
    };
    for (; depth > walk_steps; depth -= walk_steps) {
        for (int s = 0; s < walk_steps; ++s) step();
        uint32_t more = 0;
        for (int i = 0; i < count; ++i) more |= p[i]->column;
        if (more == 0) depth = walk_steps;  // all stand on leaves
    }
    for (; depth > 0; --depth) step();
    for (int i = 0; i < count; ++i) at[i] = p[i];
}

// Call found(group, tree, node of the leaf) for all trees in order, and after_group(group) after those of each group.
template <class Node, class Found, class AfterGroup>
PRUNUS_INLINE void walk_forest(const PackedForest& forest, const Node* nodes, const uint32_t* row, Found found,
                               AfterGroup after_group) {
    for (uint32_t g = 0; g < forest.group_count; ++g) {
        uint32_t t = forest.groups[g].first;
        const Node* at[8];
        const uint32_t last = forest.groups[g].last;
        for (; t + 8 <= last; t += 8) {
            walk_trees<Node, 8>(forest.walk, nodes, t, row, at);
            for (uint32_t i = 0; i < 8; ++i) found(t + i, static_cast<size_t>(at[i] - nodes));
        }
        for (; t < last; ++t) {
            walk_trees<Node, 1>(forest.walk, nodes, t, row, at);
            found(t, static_cast<size_t>(at[0] - nodes));
        }
        after_group(forest.groups[g]);
    }
}

template <class Node>
PRUNUS_NOINLINE float walk_score(const PackedForest& forest, const Node* nodes, const float* x, uint32_t* row) {
    fill_row(forest.walk, x, row);
    const int32_t *coarse = forest.walk.coarse, *fine = forest.walk.fine;
    double score = forest.base;
    int32_t sum = 0, fine_sum = 0;
    const auto found = [&](uint32_t, size_t node) {
        sum += coarse[node];
        if (fine != nullptr) fine_sum += fine[node];
    };
    const auto after_group = [&](const Group& group) {
        score += static_cast<double>(sum) * group.scale;
        if (fine != nullptr) score += static_cast<double>(fine_sum) * group.fine_scale;
        sum = fine_sum = 0;
    };
    walk_forest(forest, nodes, row, found, after_group);
    return static_cast<float>(score);
}

template <class Node>
PRUNUS_NOINLINE void walk_leaves(const PackedForest& forest, const Node* nodes, const float* x, int32_t* out,
                                 uint32_t* row) {
    fill_row(forest.walk, x, row);
    const auto found = [&](uint32_t tree, size_t node) { out[tree] = forest.walk.leaf_of[node]; };
    walk_forest(forest, nodes, row, found, [](const Group&) {});
}
