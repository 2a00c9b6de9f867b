// Leaf values as whole numbers.
//
// Trees are taken in groups. Inside a group a value v of tree t becomes q = rint((v - middle_t) / scale), with one
// power of two for scale, chosen so that the sum of q over the group fits int32 whatever the leaves. Sums of int32 are
// exact, so neither the order of the trees nor the number of documents at a time can change a bit of a score; a
// rounding error of scale / 2 a tree is all that is lost, less than float32 values would lose. Where even that is too
// much (scores that are small against the values they sum) a second number holds what the first left over.
#include <algorithm>
#include <cmath>
#include <limits>

#include "forest.hpp"

namespace prunus {
namespace forest {
namespace {

// Largest error of a score, in sums over all trees, that int32 alone may make.
constexpr double tolerance = 4e-6;

// 2^-26 of the scale: what is left over is at most half a scale, so 16 trees sum to 2^29 at most.
constexpr int fine_bits = 26;

// The smallest power of two that lets values of at most `bound` in sum be held.
double scale_for(double bound) {
    if (bound <= 0) return 1;
    int exponent;
    const double mantissa = std::frexp(bound, &exponent);
    return std::ldexp(1.0, std::max(exponent - (mantissa > 0.99 ? 30 : 31), -900));
}

}  // namespace

void Forest::pack_values(const Description& d) {
    coarse_of_.resize(d.leaves);
    std::vector<int32_t> fine(d.leaves);
    std::vector<Group> groups;
    double base = d.base, lost = 0;
    for (size_t first = 0; first < d.trees; first += group_trees) {
        const size_t last = std::min<size_t>(first + group_trees, d.trees);
        std::vector<double> middle;
        double bound = 0;
        for (size_t t = first; t < last; ++t) {
            const auto ends = std::minmax_element(d.value + d.leaf_start[t], d.value + d.leaf_start[t + 1]);
            middle.push_back(*ends.first / 2 + *ends.second / 2);
            bound += std::max(*ends.second - middle.back(), middle.back() - *ends.first);
            base += middle.back();
        }
        const double scale = scale_for(bound), fine_scale = std::ldexp(scale, -fine_bits);
        for (size_t t = first; t < last; ++t)
            for (int32_t leaf = d.leaf_start[t]; leaf < d.leaf_start[t + 1]; ++leaf) {
                const double value = d.value[leaf] - middle[t - first], whole = std::nearbyint(value / scale);
                coarse_of_[static_cast<size_t>(leaf)] = static_cast<int32_t>(whole);
                fine[static_cast<size_t>(leaf)] =
                    static_cast<int32_t>(std::nearbyint((value - whole * scale) / fine_scale));
            }
        if (bound > 0) lost += scale / 2 * static_cast<double>(last - first);
        groups.push_back({static_cast<uint32_t>(first), static_cast<uint32_t>(last), scale, fine_scale});
    }
    if (lost > tolerance) fine_of_ = std::move(fine);
    packed_.features = d.features;
    packed_.trees = static_cast<uint32_t>(d.trees);
    packed_.base = base;
    packed_.group_count = static_cast<uint32_t>(groups.size());
    packed_.groups = keep(groups);
}

}  // namespace forest
}  // namespace prunus
