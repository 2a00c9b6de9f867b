// Each leaf of a tree has a code, and bit b of the code of the leaf that a document reaches is a plane: a vector with a
// bit for each document. Planes are computed from the bottom up. With m the mask of a node (1: left), L and R the
// planes below it,
//
//     plane b of the node = m ? L_b : R_b
//
// is one operation on a whole vector of documents. None is needed where both sides are the same constant, nor where L_b
// is always 1 and R_b always 0: then the plane is the mask itself. So codes matter. And where there are more codes than
// leaves, a leaf can have a block of 2^h codes whose last h bits do not matter to it: a side to which bit b does not
// matter leaves the plane to the other side, and that needs no operation either.
//
// The leaves below a node share an interval of codes, [first, end). Where to cut it, and which child gets the lower
// part, is chosen for the fewest operations, by dynamic programming over nodes and intervals (Choice) among the cuts
// that are multiples of the largest powers of two. Trees of 64 leaves as LambdaMART grows them take 125 operations with
// 64 codes, 86 with 128, and 73 with 256, whose tables cost as much as that saves; 85 is the best with 128 codes over
// all cuts.
#include "codes.hpp"

#include <algorithm>

namespace prunus {
namespace forest {
namespace {

// Larger trees put the left child in the higher half of what codes there are, without a search.
constexpr uint32_t most_leaves_to_choose = 256;

// Cuts that are tried for each order of the children. For trees of 64 leaves 1, 2, 3 and 4 cuts gave 106, 89, 86 and 85
// operations, and took 4, 15, 27 and 40 thousand pairs of node and interval.
uint32_t cuts_for(uint32_t leaves) {
    return leaves <= 64 ? 2 : 1;
}

uint32_t count_bits(uint32_t bits) {
    return static_cast<uint32_t>(__builtin_popcount(bits));
}

// The largest block of 2^h codes in an interval that starts at a multiple of its length.
Codes::Block largest_block(uint32_t first, uint32_t end) {
    for (uint32_t count = 1u << 15;; count /= 2) {
        const uint32_t start = (first + count - 1) / count * count;
        if (start + count <= end) return {start, count};
    }
}

// Up to `most` numbers of [low, high], multiples of larger powers of two before others.
template <class Try>
void try_cuts(uint32_t low, uint32_t high, uint32_t most, Try attempt) {
    uint32_t tried = 0;
    for (uint32_t step = 1u << 15; step > 0 && tried < most; step /= 2)
        for (uint32_t cut = (low + step - 1) / step * step; cut <= high && tried < most; cut += step) {
            if (cut / step % 2 == 0 && step != 1u << 15) continue;  // a multiple of more, tried before
            attempt(cut);
            ++tried;
        }
}

}  // namespace

// What the planes below a node are: varying, or fixed to a value, or of no matter.
struct Codes::Planes {
    uint32_t varying = 0, fixed = 0, value = 0;
    uint32_t owned = 0;         // varying planes in a work slot (the others are masks of nodes)
    uint16_t slot[max_planes];  // of each varying plane
};

// The cheapest way to give the leaves below a node an interval of codes.
class Codes::Choice {
  public:
    struct State {
        uint32_t key, operations;
        uint32_t varying, fixed, value;
        uint32_t cut;
        bool left_high;
    };

    explicit Choice(const Codes& codes) : codes_(codes), table_(1u << 12, 0) {}

    const State& of(uint32_t node, uint32_t first, uint32_t end) {
        const uint32_t key = (node * 512 + first) * 512 + end, found = table_[place(key)];
        if (found != 0) return states_[found - 1];
        const Node& children = codes_.tree_.nodes[node];
        const Child &left = children.left, &right = children.right;
        const uint32_t cuts = cuts_for(codes_.tree_.root.leaves);
        State best{};
        best.operations = UINT32_MAX;
        const auto attempt = [&](const State& l, const State& r, uint32_t cut, bool left_high) {
            State state = join(l, r);
            state.cut = cut;
            state.left_high = left_high;
            if (state.operations < best.operations ||
                (state.operations == best.operations &&
                 count_bits(state.varying | state.fixed) < count_bits(best.varying | best.fixed)))
                best = state;
        };
        try_cuts(first + right.leaves, end - left.leaves, cuts, [&](uint32_t cut) {
            const State l = of_child(left, cut, end);
            if (l.operations <= best.operations) attempt(l, of_child(right, first, cut), cut, true);
        });
        try_cuts(first + left.leaves, end - right.leaves, cuts, [&](uint32_t cut) {
            const State l = of_child(left, first, cut);
            if (l.operations <= best.operations) attempt(l, of_child(right, cut, end), cut, false);
        });
        best.key = key;
        states_.push_back(best);
        if (states_.size() * 2 > table_.size()) grow();
        table_[place(key)] = static_cast<uint32_t>(states_.size());
        return states_.back();
    }

  private:
    State of_child(const Child& child, uint32_t first, uint32_t end) {
        if (child.node >= 0) return of(static_cast<uint32_t>(child.node), first, end);
        const Block block = largest_block(first, end);
        State state{};
        state.fixed = ((1u << codes_.planes_) - 1) & ~(block.count - 1);
        state.value = block.first;
        return state;
    }

    static State join(const State& left, const State& right) {
        State state{};
        const uint32_t both_fixed = left.fixed & right.fixed;
        const uint32_t mixed = (left.varying & (right.varying | right.fixed)) | (right.varying & left.fixed);
        const uint32_t mask = both_fixed & left.value & ~right.value, inverted = both_fixed & ~left.value & right.value;
        state.operations = left.operations + right.operations + count_bits(mixed) + count_bits(inverted);
        state.varying = left.varying | right.varying | mask | inverted;
        state.fixed = (left.fixed | right.fixed) & ~state.varying;
        state.value = ((left.value & left.fixed) | (right.value & right.fixed)) & state.fixed;
        return state;
    }

    // Where a key stands in the table, or the free place where it belongs.
    uint32_t place(uint32_t key) const {
        const uint32_t last = static_cast<uint32_t>(table_.size()) - 1;
        uint32_t at = key * 2654435769u >> 8 & last;
        while (table_[at] != 0 && states_[table_[at] - 1].key != key) at = (at + 1) & last;
        return at;
    }

    void grow() {
        table_.assign(table_.size() * 4, 0);
        for (uint32_t i = 0; i + 1 < states_.size(); ++i) table_[place(states_[i].key)] = i + 1;
    }

    const Codes& codes_;
    std::vector<State> states_;
    std::vector<uint32_t> table_;  // 1 + the number of a state, 0 for none; its length is a power of two
};

Codes::Codes(const Description& description, size_t tree) : tree_(description, tree) {
    while ((1u << planes_) < tree_.root.leaves) ++planes_;
    // One plane more leaves room for blocks; from the ninth on tables are gathered from.
    if (planes_ > 1 && planes_ < 8) ++planes_;
    blocks_.resize(tree_.root.leaves);
    Choice choice(*this);
    assign(choice, tree_.root, 0, 1u << planes_);
}

void Codes::assign(Choice& choice, Child child, uint32_t first, uint32_t end) {
    if (child.node < 0) {
        blocks_[child.leaf] = largest_block(first, end);
        return;
    }
    const Node& node = tree_.nodes[static_cast<size_t>(child.node)];
    uint32_t cut = first + node.right.leaves;
    bool left_high = true;
    if (tree_.root.leaves <= most_leaves_to_choose) {
        const Choice::State& state = choice.of(static_cast<uint32_t>(child.node), first, end);
        cut = state.cut;
        left_high = state.left_high;
    }
    assign(choice, left_high ? node.right : node.left, first, cut);
    assign(choice, left_high ? node.left : node.right, cut, end);
}

Codes::Planes Codes::emit_child(Child child, const std::vector<uint16_t>& mask, WorkSlots& slots,
                                std::vector<Op>& ops) const {
    Planes result{};
    if (child.node < 0) {
        const Block block = blocks_[child.leaf];
        result.fixed = ((1u << planes_) - 1) & ~(block.count - 1);
        result.value = block.first;
        return result;
    }
    const Node& node = tree_.nodes[static_cast<size_t>(child.node)];
    // The larger side first: then the other one finds most slots free.
    Planes left, right;
    if (node.left.leaves >= node.right.leaves) {
        left = emit_child(node.left, mask, slots, ops);
        right = emit_child(node.right, mask, slots, ops);
    } else {
        right = emit_child(node.right, mask, slots, ops);
        left = emit_child(node.left, mask, slots, ops);
    }
    const uint16_t node_mask = mask[static_cast<size_t>(child.node)];
    const auto slot_of = [](const Planes& planes, uint32_t b) -> uint16_t {
        if (planes.varying >> b & 1) return planes.slot[b];
        return planes.value >> b & 1 ? slot_ones : slot_zeros;
    };
    const auto pass = [&](const Planes& planes, uint32_t b) {
        const uint32_t bit = 1u << b;
        result.varying |= planes.varying & bit;
        result.owned |= planes.owned & bit;
        result.fixed |= planes.fixed & bit;
        result.value |= planes.value & planes.fixed & bit;
        result.slot[b] = planes.slot[b];
    };
    for (uint32_t b = 0; b < planes_; ++b) {
        const uint32_t bit = 1u << b;
        const bool fixed = (left.fixed & right.fixed & bit) != 0;
        if (((left.varying | left.fixed) & bit) == 0) {
            pass(right, b);
        } else if (((right.varying | right.fixed) & bit) == 0 || (fixed && ((left.value ^ right.value) & bit) == 0)) {
            pass(left, b);
        } else if (fixed && (left.value & bit) != 0) {
            result.varying |= bit;
            result.slot[b] = node_mask;
        } else {
            const uint16_t a = slot_of(left, b), c = slot_of(right, b);
            if (left.owned & bit) slots.free.push_back(a);
            if (right.owned & bit) slots.free.push_back(c);
            result.slot[b] = slots.take();
            result.varying |= bit;
            result.owned |= bit;
            ops.push_back({node_mask, a, c, result.slot[b]});
        }
    }
    return result;
}

uint32_t Codes::emit(const std::vector<uint16_t>& mask, uint16_t root_slot, uint16_t work_slot, std::vector<Op>& ops,
                     uint16_t* plane) const {
    WorkSlots slots{work_slot};
    const Planes planes = emit_child(tree_.root, mask, slots, ops);
    for (uint32_t b = 0; b < planes_; ++b) {
        plane[b] = planes.value >> b & 1 ? slot_ones : slot_zeros;
        if (planes.varying >> b & 1) plane[b] = planes.slot[b];
        if (planes.owned >> b & 1) {  // the last to write the work slot writes the root slot instead
            size_t op = ops.size() - 1;
            while (ops[op].dst != planes.slot[b]) --op;
            plane[b] = ops[op].dst = static_cast<uint16_t>(root_slot + b);
        }
    }
    return slots.used;
}

}  // namespace forest
}  // namespace prunus
