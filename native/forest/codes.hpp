// The codes of a tree's leaves, and the operations that compute them.
#pragma once

#include <cstdint>
#include <vector>

#include "forest.hpp"
#include "tree.hpp"

namespace prunus {
namespace forest {

// Trees with more leaves are walked.
constexpr uint32_t max_leaves = 1024;

// Planes of a tree with max_leaves.
constexpr uint32_t max_planes = 10;

// Codes for the leaves of one tree, chosen so that few operations compute them; see codes.cpp.
class Codes {
  public:
    using Block = CodeBlock;

    Codes(const Description& description, size_t tree);

    uint32_t planes() const { return planes_; }
    // Codes of each leaf, counted inside the tree.
    const std::vector<Block>& blocks() const { return blocks_; }

    // Append the operations of the tree, given the slot of each of its nodes' masks, and say in `plane` which slots
    // then hold the bits of the leaf's code, the lowest first. Results go to slots from `root_slot` on, one for each
    // plane, and slots from `work_slot` on are written over; returns how many of these.
    uint32_t emit(const std::vector<uint16_t>& mask, uint16_t root_slot, uint16_t work_slot, std::vector<Op>& ops,
                  uint16_t* plane) const;

  private:
    using Child = Tree::Child;
    using Node = Tree::Node;
    struct Planes;
    class Choice;

    void assign(Choice& choice, Child child, uint32_t first, uint32_t end);
    Planes emit_child(Child child, const std::vector<uint16_t>& mask, WorkSlots& slots, std::vector<Op>& ops) const;

    Tree tree_;
    uint32_t planes_ = 0;
    std::vector<Block> blocks_;
};

}  // namespace forest
}  // namespace prunus
