// The shape of one tree, and slots for what is computed below its nodes.
#pragma once

#include <cstdint>
#include <vector>

#include "forest.hpp"

namespace prunus {
namespace forest {

struct Tree {
    struct Child {
        int32_t node;  // inside the tree, or -1 for a leaf
        uint32_t leaf, leaves;
    };
    struct Node {
        Child left, right;
    };

    Tree(const Description& description, size_t tree);

    std::vector<Node> nodes;
    Child root;
};

// Work slots that are free, the last one freed first.
struct WorkSlots {
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

// The operations of trees in turn, so that neighbours do not wait for each other's results.
template <class Operation>
void append_in_turn(const std::vector<std::vector<Operation>>& lanes, std::vector<Operation>& operations) {
    size_t longest = 0;
    for (const std::vector<Operation>& own : lanes) longest = own.size() > longest ? own.size() : longest;
    for (size_t i = 0; i < longest; ++i)
        for (const std::vector<Operation>& own : lanes)
            if (i < own.size()) operations.push_back(own[i]);
}

}  // namespace forest
}  // namespace prunus
