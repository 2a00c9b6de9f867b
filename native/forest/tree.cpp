#include "tree.hpp"

namespace prunus {
namespace forest {

Tree::Tree(const Description& d, size_t tree) {
    const int32_t first_node = d.node_start[tree], first_leaf = d.leaf_start[tree];
    const size_t count = static_cast<size_t>(d.node_start[tree + 1] - first_node);
    nodes.resize(count);
    const auto child_of = [&](int32_t reference) -> Child {
        if (reference < 0) return {-1, static_cast<uint32_t>(-1 - reference - first_leaf), 1};
        const Node& node = nodes[static_cast<size_t>(reference - first_node)];
        return {reference - first_node, 0, node.left.leaves + node.right.leaves};
    };
    for (size_t i = count; i-- > 0;) {  // children stand behind their parents
        const size_t node = static_cast<size_t>(first_node) + i;
        nodes[i] = {child_of(d.left[node]), child_of(d.right[node])};
    }
    root = child_of(d.root[tree]);
}

}  // namespace forest
}  // namespace prunus
