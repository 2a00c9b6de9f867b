// Trees laid out for one document at a time: see Walk.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "forest.hpp"

namespace prunus {
namespace forest {
namespace {

// Sets whose largest code is below this are bit sets too.
constexpr int32_t largest_bit_set = 1 << 16;

Variant variant_of(uint8_t missing) {
    const bool right = (missing & missing_right) != 0;
    switch (missing & missing_class) {
        case 0:
            return Variant::nan_is_zero;
        case 1:
            return right ? Variant::nan_right : Variant::nan_left;
        default:
            return right ? Variant::zero_right : Variant::zero_left;
    }
}

}  // namespace

// Give each node the column it reads. Columns are sorted by feature; nodes that read a feature in the same way share
// one.
void Forest::pack_columns(const Description& d) {
    using Key = std::tuple<int32_t, uint32_t, int32_t, uint8_t>;  // feature, variant, set, missing byte of a category
    const auto key = [&](size_t node) {
        const bool numeric = d.category[node] < 0;
        return Key{d.feature[node], static_cast<uint32_t>(numeric ? variant_of(d.missing[node]) : Variant::category),
                   d.category[node], numeric ? uint8_t{0} : d.missing[node]};
    };
    std::map<Key, uint32_t> number;
    for (size_t i = 0; i < d.nodes; ++i) number[key(i)] = 0;
    std::vector<std::vector<uint32_t>> bits(d.sets);
    for (auto& entry : number) {
        entry.second = static_cast<uint32_t>(columns_.size());
        const int32_t set = std::get<2>(entry.first);
        const uint8_t missing = std::get<3>(entry.first);
        columns_.push_back({static_cast<uint32_t>(std::get<0>(entry.first)),
                            static_cast<Variant>(std::get<1>(entry.first)), static_cast<uint32_t>(categories_.size())});
        if (set < 0) continue;
        const int32_t first = d.set_start[set], count = d.set_start[set + 1] - first;
        Category category{};
        category.codes = keep(std::vector<int32_t>(d.set_code + first, d.set_code + first + count));
        category.count = static_cast<uint32_t>(count);
        if (count > 0 && d.set_code[first + count - 1] < largest_bit_set) {
            const uint32_t end = static_cast<uint32_t>(d.set_code[first + count - 1]) + 1;
            std::vector<uint32_t> words((end + 31) / 32);
            for (int32_t i = first; i < first + count; ++i)
                words[static_cast<uint32_t>(d.set_code[i]) / 32] |= 1u << (d.set_code[i] % 32);
            category.bits = keep(words);
            category.bit_count = end;
        }
        category.missing_left = (missing & missing_right) == 0;
        category.negative_is_no_code = (missing & negative_is_no_code) != 0;
        categories_.push_back(category);
    }
    column_of_.resize(d.nodes);
    for (size_t i = 0; i < d.nodes; ++i) column_of_[i] = number[key(i)];
}

void Forest::pack_walk(const Description& d) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    std::vector<WideNode> nodes;
    std::vector<uint32_t> first, depth;
    std::vector<int32_t> coarse, fine, leaf_of;
    bool narrow = columns_.size() < 65535;
    struct Place {
        int64_t child;
        uint32_t depth;
    };
    std::vector<Place> queue;  // breadth first: the two children of a node are neighbours, and the top stands together
    for (size_t t = 0; t < d.trees; ++t) {
        first.push_back(static_cast<uint32_t>(nodes.size()));
        queue.assign(1, {d.root[t], 0});
        uint32_t deepest = 0;
        for (size_t place = 0; place < queue.size(); ++place) {
            const int64_t child = queue[place].child;
            const uint32_t level = queue[place].depth;
            if (child >= 0) {
                const size_t node = static_cast<size_t>(child);
                const float threshold = d.category[node] < 0 ? d.threshold[node] : 0.5f;
                nodes.push_back({threshold, 1 + column_of_[node], static_cast<uint32_t>(queue.size())});
                queue.push_back({d.left[node], level + 1});
                queue.push_back({d.right[node], level + 1});
                coarse.push_back(0);
                if (!fine_of_.empty()) fine.push_back(0);
                leaf_of.push_back(0);
            } else {
                const size_t leaf = static_cast<size_t>(-1 - child);
                nodes.push_back({infinity, 0, static_cast<uint32_t>(place)});
                coarse.push_back(coarse_of_[leaf]);
                if (!fine_of_.empty()) fine.push_back(fine_of_[leaf]);
                leaf_of.push_back(static_cast<int32_t>(leaf) - d.leaf_start[t]);
                deepest = std::max(deepest, level);
            }
        }
        depth.push_back(deepest);
        narrow = narrow && queue.size() <= 65536;
    }
    Walk& walk = packed_.walk;
    walk.column_count = static_cast<uint32_t>(columns_.size());
    walk.columns = keep(columns_);
    walk.categories = keep(categories_);
    if (narrow) {
        std::vector<NarrowNode> small;
        for (const WideNode& node : nodes)
            small.push_back({node.threshold, static_cast<uint16_t>(node.column), static_cast<uint16_t>(node.child)});
        walk.narrow = keep(small);
    } else {
        walk.wide = keep(nodes);
    }
    walk.first = keep(first);
    walk.depth = keep(depth);
    walk.coarse = keep(coarse);
    if (!fine_of_.empty()) walk.fine = keep(fine);
    walk.leaf_of = keep(leaf_of);
}

}  // namespace forest
}  // namespace prunus
