// Trees laid out for 64 documents, each a byte: see Pair.
//
// A vector holds, for each document, the number of the leaf that it reaches below some node: below the node itself
// that is `mask ? left : right`, bytes of two other vectors, or of a leaf's, whose bytes are one number. A node and one
// of its inner children are one operation, which saves a store and a load; which child, is chosen for the fewest
// operations. Trees of 64 leaves as LambdaMART grows them take 34.
#include <algorithm>
#include <array>

#include "forest.hpp"
#include "tree.hpp"

namespace prunus {
namespace forest {
namespace {

constexpr uint32_t most_leaves = 256;

class Emitter {
  public:
    // `mask`: the slot of each node's mask; `negated`: how many slots behind it the mask's negation stands.
    Emitter(const Tree& tree, const std::vector<uint16_t>& mask, uint32_t negated)
        : tree_(tree), mask_(mask), negated_(negated), choices_(tree.nodes.size()) {
        for (size_t i = tree.nodes.size(); i-- > 0;) {  // children stand behind their parents
            const Child &left = tree.nodes[i].left, &right = tree.nodes[i].right;
            Choice& best = choices_[i];
            best = {{left, right, right}, -1, 1 + operations(left) + operations(right)};
            const auto attempt = [&](const Child& inner, const Child& other) {
                if (inner.node < 0) return;
                const Tree::Node& node = tree.nodes[static_cast<size_t>(inner.node)];
                const uint32_t all = 1 + operations(other) + operations(node.left) + operations(node.right);
                if (all < best.operations) best = {{other, node.left, node.right}, inner.node, all};
            };
            attempt(right, left);
            attempt(left, right);
        }
    }

    // Append the tree's operations: the last one writes vector `root`, others write vectors from `work` on.
    void emit(uint32_t root, uint32_t work, std::vector<Pair>& pairs) const {
        WorkSlots slots{static_cast<uint16_t>(work)};
        const uint16_t vector = emit_child(tree_.root, slots, pairs);
        if (tree_.root.node < 0)
            pairs.push_back({slot(slot_zeros), slot(slot_zeros), eighths(vector), eighths(vector), eighths(vector), 0});
        pairs.back().dst = eighths(root);
    }

  private:
    using Child = Tree::Child;

    struct Choice {
        std::array<Child, 3> parts;  // dst = outer ? parts[0] : (inner ? parts[1] : parts[2])
        int32_t inner;               // the child that is part of the node's operation, or -1
        uint32_t operations;
    };

    static uint16_t eighths(uint32_t vector) { return static_cast<uint16_t>(vector * 8); }
    static uint16_t slot(uint32_t number) { return static_cast<uint16_t>(byte_vectors * 8 + number); }

    uint32_t operations(const Child& child) const {
        return child.node < 0 ? 0 : choices_[static_cast<size_t>(child.node)].operations;
    }

    // The vector of what is reached below a child.
    uint16_t emit_child(const Child& child, WorkSlots& slots, std::vector<Pair>& pairs) const {
        if (child.node < 0) return static_cast<uint16_t>(child.leaf);
        const size_t node = static_cast<size_t>(child.node);
        const Choice& choice = choices_[node];
        const std::array<Child, 3>& parts = choice.parts;
        const size_t count = choice.inner < 0 ? 2 : 3;
        // The largest first: then the others find most slots free.
        std::vector<size_t> order{0, 1};
        if (count == 3) order.push_back(2);
        std::stable_sort(order.begin(), order.end(),
                         [&](size_t i, size_t j) { return parts[i].leaves > parts[j].leaves; });
        std::array<uint16_t, 3> vector{};
        for (size_t i : order) vector[i] = emit_child(parts[i], slots, pairs);
        for (size_t i = 0; i < count; ++i)
            if (parts[i].node >= 0) slots.free.push_back(vector[i]);
        if (count == 2) vector[2] = vector[1];
        const bool inner_left = choice.inner >= 0 && choice.inner == tree_.nodes[node].left.node;
        const uint16_t dst = slots.take();
        pairs.push_back({slot(mask_[node] + (inner_left ? negated_ : 0)),
                         slot(mask_[choice.inner < 0 ? node : static_cast<size_t>(choice.inner)]), eighths(vector[0]),
                         eighths(vector[1]), eighths(vector[2]), eighths(dst)});
        return dst;
    }

    const Tree& tree_;
    const std::vector<uint16_t>& mask_;
    uint32_t negated_;
    std::vector<Choice> choices_;
};

}  // namespace

// Tables from the number of a leaf to its value, one behind the other, each as long as its group's index is wide.
void Forest::pack_bytes(const Description& d) {
    const auto leaves = [&](size_t t) { return static_cast<uint32_t>(d.leaf_start[t + 1] - d.leaf_start[t]); };
    uint32_t most = 0;
    for (size_t t = 0; t < d.trees; ++t) most = std::max(most, leaves(t));
    if (!isa_.bytes || most > most_leaves) return;
    std::vector<uint32_t> widths, tables;
    std::vector<int32_t> coarse, fine;
    for (uint32_t g = 0; g < packed_.group_count; ++g) {
        uint32_t width = 5;
        for (uint32_t t = packed_.groups[g].first; t < packed_.groups[g].last; ++t)
            while (1u << width < leaves(t)) ++width;
        widths.push_back(width);
        for (uint32_t t = packed_.groups[g].first; t < packed_.groups[g].last; ++t) {
            const size_t first = coarse.size(), own = static_cast<size_t>(d.leaf_start[t]);
            tables.push_back(static_cast<uint32_t>(first));
            const auto append = [&](const std::vector<int32_t>& of, std::vector<int32_t>& table) {
                table.resize(first + (size_t{1} << width));
                std::copy_n(of.begin() + static_cast<ptrdiff_t>(own), leaves(t),
                            table.begin() + static_cast<ptrdiff_t>(first));
            };
            append(coarse_of_, coarse);
            if (!fine_of_.empty()) append(fine_of_, fine);
        }
    }
    ByteTables& bytes = packed_.bytes;
    bytes.leaves = most;
    bytes.width = keep(widths);
    bytes.table = keep(tables);
    keep_halves(coarse, bytes.words);
    if (!fine_of_.empty()) keep_halves(fine, bytes.words + 2);
}

// `masks`: the slots of the masks of each tree's nodes.
void Forest::pack_pairs(const Description& d, const std::vector<std::vector<uint16_t>>& masks, Part& part) {
    part.negated = (part.slots + 7) / 8 * 8;
    const uint32_t first = packed_.groups[part.first_group].first;
    std::vector<Pair> pairs;
    std::vector<uint32_t> ends;
    for (uint32_t g = part.first_group; g < part.last_group; ++g) {
        const Group& group = packed_.groups[g];
        std::vector<std::vector<Pair>> lanes(byte_lanes);
        for (uint32_t t = group.first; t < group.last; ++t) {
            const uint32_t number = t - group.first, lane = number % byte_lanes;
            const Tree tree(d, t);
            Emitter(tree, masks[t - first], part.negated)
                .emit(byte_roots + number, byte_work + lane * byte_work_each, lanes[lane]);
        }
        append_in_turn(lanes, pairs);
        ends.push_back(static_cast<uint32_t>(pairs.size()));
    }
    part.pairs = keep(pairs);
    part.pair_end = keep(ends);
}

}  // namespace forest
}  // namespace prunus
