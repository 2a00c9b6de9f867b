// Each leaf of a tree has a code, and bit b of the code of the leaf that a document reaches is a plane: a vector with a
// bit for each document. Planes are computed from the bottom up. With m the mask of a node (1: left), L and R the
// planes below it,
//
//     plane b of the node = m ? L_b : R_b
//
// is one operation on a whole vector of documents. It is free where both sides are the same constant, and where L_b is
// always 1 and R_b always 0: then it is the mask itself. So codes matter. Leaves below a node get neighbouring codes
// first, first + 1, ...; then the planes that vary below it are those up to the highest bit in which its first and its
// last code differ. Which child gets the lower codes is chosen for the fewest operations, over all orders in all
// places, by dynamic programming from the leaves up (for trees of up to 256 leaves; larger ones put left above right).
// On LambdaMART trees of 64 leaves that is 126 operations; a balanced tree takes 57; 112 would do, were every subtree
// to have as few planes as its leaves need.
#include "codes.hpp"

#include <algorithm>

namespace prunus {
namespace forest {
namespace {

constexpr uint32_t most_leaves_to_choose = 256;

// Bits that differ somewhere among `leaves` neighbouring codes.
uint32_t varying(uint32_t first, uint32_t leaves) {
    uint32_t differ = first ^ (first + leaves - 1);
    for (uint32_t shift = 1; shift < 32; shift *= 2) differ |= differ >> shift;
    return differ;
}

uint32_t count_bits(uint32_t bits) {
    return static_cast<uint32_t>(__builtin_popcount(bits));
}

}  // namespace

// What is known of the planes below a node.
struct Codes::Planes {
    uint32_t varying, constant;  // bits that vary, and the values of the others
    uint16_t slot[10];           // of each varying plane
    uint32_t owned = 0;          // varying planes in a slot of work memory (the others are masks of nodes)
};

// Work slots that are free, the last one freed first.
struct Codes::Slots {
    uint16_t first;
    uint16_t used = 0;
    std::vector<uint16_t> free{};

    uint16_t take() {
        if (free.empty()) return static_cast<uint16_t>(first + used++);
        const uint16_t slot = free.back();
        free.pop_back();
        return slot;
    }
};

Codes::Codes(const Description& d, size_t tree) {
    const int32_t first_node = d.node_start[tree], first_leaf = d.leaf_start[tree];
    const size_t count = static_cast<size_t>(d.node_start[tree + 1] - first_node);
    nodes_.resize(count);
    const auto child_of = [&](int32_t reference) -> Child {
        if (reference < 0) return {-1, static_cast<uint32_t>(-1 - reference - first_leaf), 1};
        const Node& node = nodes_[static_cast<size_t>(reference - first_node)];
        return {reference - first_node, 0, node.left.leaves + node.right.leaves};
    };
    for (size_t i = count; i-- > 0;) {  // children stand behind their parents
        const size_t node = static_cast<size_t>(first_node) + i;
        nodes_[i] = {child_of(d.left[node]), child_of(d.right[node])};
    }
    root_ = child_of(d.root[tree]);
    while ((1u << planes_) < root_.leaves) ++planes_;
    code_.resize(root_.leaves);
    first_.resize(count);
    chosen_ = root_.leaves <= most_leaves_to_choose;
    if (chosen_) choose();
    assign(root_, root_first_);
}

// Operations of a node, whose children have these first codes.
uint32_t Codes::pair_cost(uint32_t left, uint32_t left_leaves, uint32_t right, uint32_t right_leaves) const {
    const uint32_t vary = varying(left, left_leaves) | varying(right, right_leaves);
    const uint32_t inverted = ~vary & ~left & right & ((1u << planes_) - 1);
    return count_bits(vary) + count_bits(inverted);
}

void Codes::choose() {
    const uint32_t codes = 1u << planes_;
    std::vector<uint16_t> cost(nodes_.size() << planes_);
    left_high_.resize(cost.size());
    const auto cost_of = [&](const Child& child, uint32_t first) {
        return child.node < 0 ? 0u : cost[(static_cast<size_t>(child.node) << planes_) + first];
    };
    for (size_t i = nodes_.size(); i-- > 0;) {
        const Child &left = nodes_[i].left, &right = nodes_[i].right;
        for (uint32_t first = 0; first + left.leaves + right.leaves <= codes; ++first) {
            const uint32_t after_left = first + left.leaves, after_right = first + right.leaves;
            const uint32_t high = pair_cost(after_right, left.leaves, first, right.leaves) +
                                  cost_of(left, after_right) + cost_of(right, first);
            const uint32_t low = pair_cost(first, left.leaves, after_left, right.leaves) + cost_of(left, first) +
                                 cost_of(right, after_left);
            cost[(i << planes_) + first] = static_cast<uint16_t>(std::min(high, low));
            left_high_[(i << planes_) + first] = high <= low;
        }
    }
    for (uint32_t first = 1; first + root_.leaves <= codes; ++first)
        if (cost_of(root_, first) < cost_of(root_, root_first_)) root_first_ = first;
}

void Codes::assign(Child child, uint32_t first) {
    if (child.node < 0) {
        code_[child.leaf] = first;
        return;
    }
    const size_t i = static_cast<size_t>(child.node);
    const Node& node = nodes_[i];
    first_[i] = first;
    const bool high = !chosen_ || left_high_[(i << planes_) + first];
    assign(node.left, high ? first + node.right.leaves : first);
    assign(node.right, high ? first : first + node.left.leaves);
}

Codes::Planes Codes::emit_child(Child child, const std::vector<uint16_t>& mask, Slots& slots, std::vector<Op>& ops,
                                const uint16_t* roots) const {
    Planes result{};
    if (child.node < 0) {
        result.constant = code_[child.leaf];
        return result;
    }
    const Node& node = nodes_[static_cast<size_t>(child.node)];
    // The larger side first: then the other one finds most slots free.
    Planes left, right;
    if (node.left.leaves >= node.right.leaves) {
        left = emit_child(node.left, mask, slots, ops, nullptr);
        right = emit_child(node.right, mask, slots, ops, nullptr);
    } else {
        right = emit_child(node.right, mask, slots, ops, nullptr);
        left = emit_child(node.left, mask, slots, ops, nullptr);
    }
    const uint16_t node_mask = mask[static_cast<size_t>(child.node)];
    const auto slot_of = [](const Planes& planes, uint32_t b) -> uint16_t {
        if (planes.varying >> b & 1) return planes.slot[b];
        return planes.constant >> b & 1 ? slot_ones : slot_zeros;
    };
    for (uint32_t b = 0; b < planes_; ++b) {
        const uint32_t bit = 1u << b;
        if (((left.varying | right.varying) & bit) == 0) {
            if (((left.constant ^ right.constant) & bit) == 0) {
                result.constant |= left.constant & bit;
                continue;
            }
            if (left.constant & bit) {
                result.varying |= bit;
                result.slot[b] = node_mask;
                continue;
            }
        }
        const uint16_t a = slot_of(left, b), c = slot_of(right, b);
        if (left.owned & bit) slots.free.push_back(a);
        if (right.owned & bit) slots.free.push_back(c);
        const uint16_t dst = roots == nullptr ? slots.take() : roots[b];
        ops.push_back({node_mask, a, c, dst});
        result.varying |= bit;
        result.owned |= bit;
        result.slot[b] = dst;
    }
    return result;
}

uint32_t Codes::emit(const std::vector<uint16_t>& mask, uint16_t root_slot, uint16_t work_slot, std::vector<Op>& ops,
                     uint16_t* plane) const {
    uint16_t roots[10];
    for (uint32_t b = 0; b < planes_; ++b) roots[b] = static_cast<uint16_t>(root_slot + b);
    Slots slots{work_slot};
    const Planes planes = emit_child(root_, mask, slots, ops, roots);
    for (uint32_t b = 0; b < planes_; ++b)
        plane[b] = planes.varying >> b & 1 ? planes.slot[b] : planes.constant >> b & 1 ? slot_ones : slot_zeros;
    return slots.used;
}

}  // namespace forest
}  // namespace prunus
