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

// What nodes read of a document, behind the 0 that leaves read.
PRUNUS_INLINE void fill_row(const Walk& walk, const float* x, float* row) {
    constexpr float infinity = __builtin_inff(), nan = __builtin_nanf("");
    *row++ = 0.0f;
    for (const Column *column = walk.columns, *end = column + walk.column_count; column != end; ++column) {
        const float value = x[column->feature];
        const bool is_nan = value != value, is_zero = value >= -largest_zero && value <= largest_zero;
        switch (column->variant) {
            case Variant::nan_is_zero:
                *row++ = is_nan ? 0.0f : value;
                break;
            case Variant::nan_left:
                *row++ = is_nan ? -infinity : value;
                break;
            case Variant::nan_right:
                *row++ = value;
                break;
            case Variant::zero_left:
                *row++ = is_nan || is_zero ? -infinity : value;
                break;
            case Variant::zero_right:
                *row++ = is_zero ? nan : value;
                break;
            case Variant::category:
                *row++ = in_category(walk.categories[column->category], value) ? 0.0f : 1.0f;
                break;
        }
    }
}

// Walk `count` trees at once; `at` ends as their leaves.
template <class Node, int count>
PRUNUS_INLINE void walk_trees(const Walk& walk, const Node* nodes, uint32_t tree, const float* row, uint32_t* at) {
    const Node* first[count];
    uint32_t depth = 0;
    for (int i = 0; i < count; ++i) {
        const uint32_t t = tree + static_cast<uint32_t>(i);
        first[i] = nodes + walk.first[t];
        at[i] = 0;
        depth = depth > walk.depth[t] ? depth : walk.depth[t];
    }
    for (; depth > 0; --depth) {
        PRUNUS_UNROLL
        for (int i = 0; i < count; ++i) {
            const Node& node = first[i][at[i]];
            at[i] = node.child + static_cast<uint32_t>(!(row[node.column] <= node.threshold));
        }
    }
    for (int i = 0; i < count; ++i) at[i] += walk.first[tree + static_cast<uint32_t>(i)];
}

// Call found(group, tree, node of the leaf) for all trees in order, and after_group(group) after those of each group.
template <class Node, class Found, class AfterGroup>
PRUNUS_INLINE void walk_forest(const PackedForest& forest, const Node* nodes, const float* row, Found found,
                               AfterGroup after_group) {
    for (uint32_t g = 0; g < forest.group_count; ++g) {
        uint32_t t = forest.groups[g].first, at[8];
        const uint32_t last = forest.groups[g].last;
        for (; t + 8 <= last; t += 8) {
            walk_trees<Node, 8>(forest.walk, nodes, t, row, at);
            for (uint32_t i = 0; i < 8; ++i) found(t + i, at[i]);
        }
        for (; t < last; ++t) {
            walk_trees<Node, 1>(forest.walk, nodes, t, row, at);
            found(t, at[0]);
        }
        after_group(forest.groups[g]);
    }
}

template <class Node>
PRUNUS_NOINLINE float walk_score(const PackedForest& forest, const Node* nodes, const float* x, float* row) {
    fill_row(forest.walk, x, row);
    const int32_t *coarse = forest.walk.coarse, *fine = forest.walk.fine;
    double score = forest.base;
    int32_t sum = 0, fine_sum = 0;
    const auto found = [&](uint32_t, uint32_t node) {
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
                                 float* row) {
    fill_row(forest.walk, x, row);
    const auto found = [&](uint32_t tree, uint32_t node) { out[tree] = forest.walk.leaf_of[node]; };
    walk_forest(forest, nodes, row, found, [](const Group&) {});
}
