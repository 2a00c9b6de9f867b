// Whether a description is an ensemble of trees: model files come from strangers, and nothing after this looks again.
#include <algorithm>
#include <cmath>
#include <limits>

#include "forest.hpp"

namespace prunus {
namespace forest {
namespace {

constexpr size_t most = size_t{1} << 30;

std::string at(const char* what, size_t index) {
    return std::string(what) + " " + std::to_string(index);
}

// Whether starts rise from 0 to `count`.
bool rises(const int32_t* start, size_t steps, size_t count) {
    if (start[0] != 0 || static_cast<size_t>(start[steps]) != count) return false;
    for (size_t i = 0; i < steps; ++i)
        if (start[i] > start[i + 1]) return false;
    return true;
}

std::string check_sizes(const Description& d) {
    if (d.features < 1 || d.features > (1u << 16)) return std::to_string(d.features) + " features; expected 1 to 65536";
    if (d.trees < 1 || d.trees > most) return std::to_string(d.trees) + " trees; expected 1 to 2^30";
    if (d.nodes > most || d.leaves > most || d.sets > most || d.codes > most)
        return "more than 2^30 nodes, leaves, sets or codes";
    if (!rises(d.node_start, d.trees, d.nodes)) return "node_start must rise from 0 to the number of nodes";
    if (!rises(d.leaf_start, d.trees, d.leaves)) return "leaf_start must rise from 0 to the number of leaves";
    if (!rises(d.set_start, d.sets, d.codes)) return "set_start must rise from 0 to the number of codes";
    for (size_t t = 0; t < d.trees; ++t)
        if (d.leaf_start[t + 1] - d.leaf_start[t] != d.node_start[t + 1] - d.node_start[t] + 1)
            return at("tree", t) + " has not one leaf more than nodes";
    return {};
}

std::string check_sets(const Description& d) {
    for (size_t s = 0; s < d.sets; ++s)
        for (int32_t i = d.set_start[s]; i < d.set_start[s + 1]; ++i) {
            if (d.set_code[i] < 0) return at("set", s) + " holds a negative code";
            if (i > d.set_start[s] && d.set_code[i] <= d.set_code[i - 1])
                return at("set", s) + ": its codes do not rise";
        }
    return {};
}

std::string check_nodes(const Description& d) {
    for (size_t i = 0; i < d.nodes; ++i) {
        if (d.feature[i] < 0 || static_cast<uint32_t>(d.feature[i]) >= d.features)
            return at("node", i) + " reads feature " + std::to_string(d.feature[i]) + " of " +
                   std::to_string(d.features);
        const uint8_t kind = d.missing[i] & missing_class;
        if (d.category[i] < 0) {
            if (d.category[i] != -1)
                return at("node", i) + " has category " + std::to_string(d.category[i]) + "; expected -1 or a set";
            if (std::isnan(d.threshold[i])) return at("node", i) + " has the threshold NaN";
            if (kind == missing_class || d.missing[i] > (missing_right | missing_class))
                return at("node", i) + " has the unknown missing byte " + std::to_string(d.missing[i]);
        } else {
            if (static_cast<size_t>(d.category[i]) >= d.sets)
                return at("node", i) + " names set " + std::to_string(d.category[i]) + " of " + std::to_string(d.sets);
            if (kind != 1 || d.missing[i] > (missing_class | missing_right | negative_is_no_code))
                return at("node", i) + " has the unknown missing byte " + std::to_string(d.missing[i]);
        }
    }
    return {};
}

// Every node but the first, and every leaf, is the child of one earlier node of its tree: so there are no cycles, and
// everything hangs on the root.
std::string check_links(const Description& d) {
    std::vector<bool> node_seen(d.nodes), leaf_seen(d.leaves);
    for (size_t t = 0; t < d.trees; ++t) {
        const int64_t first = d.node_start[t], end = d.node_start[t + 1];
        const int64_t first_leaf = d.leaf_start[t], end_leaf = d.leaf_start[t + 1];
        if (d.root[t] != (first < end ? first : -1 - first_leaf))
            return at("tree", t) + ": its root must be its first node, or its only leaf";
        for (int64_t i = first; i < end; ++i) {
            for (const int64_t child : {d.left[i], d.right[i]}) {
                const int64_t leaf = -1 - child;
                const bool inside = child >= 0 ? child > i && child < end : leaf >= first_leaf && leaf < end_leaf;
                if (!inside)
                    return at("node", static_cast<size_t>(i)) + " has the child " + std::to_string(child) +
                           ", which is no later node and no leaf of its tree";
                std::vector<bool>::reference seen =
                    child >= 0 ? node_seen[static_cast<size_t>(child)] : leaf_seen[static_cast<size_t>(leaf)];
                if (seen)
                    return at("node", static_cast<size_t>(i)) + " has the child " + std::to_string(child) +
                           ", which has another parent";
                seen = true;
            }
        }
    }
    return {};
}

std::string check_values(const Description& d) {
    if (!std::isfinite(d.base)) return "base is NaN or infinite";
    double sum = std::abs(d.base);
    for (size_t t = 0; t < d.trees; ++t) {
        double largest = 0;
        for (int32_t i = d.leaf_start[t]; i < d.leaf_start[t + 1]; ++i) {
            if (!std::isfinite(d.value[i]))
                return at("leaf", static_cast<size_t>(i)) + " holds NaN or infinity; expected finite values";
            largest = std::max(largest, std::abs(d.value[i]));
        }
        sum += largest;
    }
    if (!(sum < std::numeric_limits<double>::max() / 4)) return "the values are too large: their sum leaves float64";
    return {};
}

}  // namespace

std::string Forest::check(const Description& description) {
    for (const auto check_part : {check_sizes, check_sets, check_nodes, check_links, check_values}) {
        std::string problem = check_part(description);
        if (!problem.empty()) return problem;
    }
    return {};
}

}  // namespace forest
}  // namespace prunus
