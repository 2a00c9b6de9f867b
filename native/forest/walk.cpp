// Trees laid out for one document at a time: see Walk.
#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <tuple>

#include "forest.hpp"

namespace prunus {
namespace forest {
namespace {

// See NarrowNode.
uint32_t key_of(float x) {
    uint32_t bits;
    x += 0.0f;
    std::memcpy(&bits, &x, sizeof bits);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

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

namespace {

// One tree, laid out so that a walk meets few cache lines: the children of a node stand side by side, and up to four
// such pairs, a pair and those below it, stand in the eight places of a line.
class Layout {
  public:
    struct Place {
        int64_t reference;  // node or leaf of the ensemble; `nothing` for a place that is left out
        uint32_t child;     // places from here to the left child, 0 at a leaf
        uint32_t depth;
    };
    static constexpr int64_t nothing = std::numeric_limits<int64_t>::min();

    Layout(const Description& d, size_t tree) : d_(d) {
        add({d.root[tree], 0, 0});
        if (d.root[tree] < 0) return;
        add({nothing, 0, 0});
        std::vector<uint32_t> waiting{0};  // places of nodes whose children have no place yet
        uint32_t room = 3;                 // pairs, in the root's line
        for (size_t next = 0; next < waiting.size(); ++next, room = 4) {
            std::vector<uint32_t> line{waiting[next]};  // as `waiting`, for the pairs of this line
            reserve(line[0], room);
            for (size_t i = 0; i < line.size(); ++i) {
                const uint32_t parent = line[i], pair = add_children(parent);
                for (uint32_t place = pair; place < pair + 2; ++place) {
                    if (places[place].reference < 0) continue;
                    if (line.size() < room)
                        line.push_back(place);
                    else
                        waiting.push_back(place);
                }
            }
        }
    }

    std::vector<Place> places;

  private:
    void add(Place place) { places.push_back(place); }

    uint32_t add_children(uint32_t parent) {
        const uint32_t pair = static_cast<uint32_t>(places.size());
        const size_t node = static_cast<size_t>(places[parent].reference);
        const uint32_t depth = places[parent].depth + 1;
        places[parent].child = pair - parent;
        add({d_.left[node], 0, depth});
        add({d_.right[node], 0, depth});
        return pair;
    }

    // Go on in a new line where the pairs below a node, `room` at most, do not fit this one.
    void reserve(uint32_t parent, uint32_t room) {
        std::vector<int64_t> nodes{places[parent].reference};
        for (size_t i = 0; i < nodes.size(); ++i)
            for (const int64_t child : {d_.left[nodes[i]], d_.right[nodes[i]]})
                if (child >= 0 && nodes.size() < room) nodes.push_back(child);
        if (places.size() % 8 + 2 * nodes.size() > 8)
            while (places.size() % 8 != 0) add({nothing, 0, 0});
    }

    const Description& d_;
};

}  // namespace

void Forest::pack_walk(const Description& d) {
    constexpr uint32_t least = 0;
    std::vector<WideNode> nodes;
    std::vector<uint32_t> first, depth;
    std::vector<int32_t> coarse, fine, leaf_of;
    bool narrow = columns_.size() < 65535;
    const auto add = [&](WideNode node, int32_t value, int32_t fine_value, int32_t leaf) {
        nodes.push_back(node);
        coarse.push_back(value);
        if (!fine_of_.empty()) fine.push_back(fine_value);
        leaf_of.push_back(leaf);
    };
    for (size_t t = 0; t < d.trees; ++t) {
        while (nodes.size() % 8 != 0) add({least, 0, 0}, 0, 0, 0);
        first.push_back(static_cast<uint32_t>(nodes.size()));
        const Layout layout(d, t);
        uint32_t deepest = 0;
        for (const Layout::Place& place : layout.places) {
            if (place.reference >= 0) {
                const size_t node = static_cast<size_t>(place.reference);
                add({d.category[node] < 0 ? key_of(d.threshold[node]) : 0, 1 + column_of_[node], place.child}, 0, 0, 0);
            } else if (place.reference == Layout::nothing) {
                add({least, 0, 0}, 0, 0, 0);
            } else {
                const size_t leaf = static_cast<size_t>(-1 - place.reference);
                add({least, 0, 0}, coarse_of_[leaf], fine_of_.empty() ? 0 : fine_of_[leaf],
                    static_cast<int32_t>(leaf) - d.leaf_start[t]);
            }
            deepest = std::max(deepest, place.depth);
        }
        depth.push_back(deepest);
        narrow = narrow && layout.places.size() <= 65536;
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
